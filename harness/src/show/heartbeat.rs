//! When a line about what still runs is due, where there is no live display: neither noise nor silence.

use std::time::{Duration, Instant};

/// How long nothing must have been shown before the first line.
const FIRST: Duration = Duration::from_secs(10);

/// The longest silence: each line waits twice as long as the one before. It is also the time after which a case is told
/// that runs on while others end, as libtest has it.
const LONGEST: Duration = Duration::from_secs(60);

/// The times of what was said.
#[derive(Debug)]
pub struct Heartbeat {
    shown: usize,
    quiet_since: Instant,
    silence: Duration,
    last: Instant,
}

impl Heartbeat {
    /// Nothing has been said by `now`.
    pub fn new(now: Instant) -> Self {
        Self {
            shown: 0,
            quiet_since: now,
            silence: FIRST,
            last: now,
        }
    }

    /// Whether a line is due `now`, when this many ends of cases have been shown, and the case that has been running longest
    /// began at `longest`. It is then taken to be said.
    pub fn is_due(&mut self, now: Instant, shown: usize, longest: Option<Instant>) -> bool {
        if shown > self.shown {
            (self.shown, self.quiet_since, self.silence) = (shown, now, FIRST);
        }
        let is_quiet = now.duration_since(self.quiet_since) >= self.silence;
        let is_long = longest.is_some_and(|since| now.duration_since(since) >= LONGEST);
        let is_due = is_quiet || is_long && now.duration_since(self.last) >= LONGEST;
        if is_due {
            if is_quiet {
                self.silence = (self.silence * 2).min(LONGEST);
            }
            (self.quiet_since, self.last) = (now, now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seconds at which lines come; `shown` and `longest` are told the second.
    fn lines(
        until: u64,
        shown: impl Fn(u64) -> usize,
        longest: impl Fn(u64) -> Option<u64>,
    ) -> Vec<u64> {
        let begin = Instant::now();
        let at = |second| begin + Duration::from_secs(second);
        let mut heartbeat = Heartbeat::new(begin);
        (1..=until)
            .filter(|&second| heartbeat.is_due(at(second), shown(second), longest(second).map(at)))
            .collect()
    }

    #[test]
    fn silence_is_broken_ever_more_rarely_but_at_least_each_minute() {
        assert_eq!(lines(240, |_| 0, |_| Some(0)), [10, 30, 70, 130, 190]);
        assert_eq!(
            lines(80, |second| usize::from(second >= 35), |_| None),
            [10, 30, 45, 65]
        );
    }

    #[test]
    fn where_cases_end_all_the_time_only_one_that_runs_long_is_told() {
        let shown = |second| usize::try_from(second).unwrap();
        assert_eq!(lines(300, shown, |second| Some(second - 1)), [0; 0]);
        assert_eq!(
            lines(300, shown, |second| (second < 150).then_some(20)),
            [80, 140]
        );
    }
}
