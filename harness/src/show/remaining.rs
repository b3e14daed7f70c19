//! The cases that have not ended: how long the run may still take, and what has become slow.

use std::collections::HashMap;
use std::time::Duration;

use crate::model::outcome::{Outcome, Status, Step};
use crate::model::state::Running;
use crate::model::time::{is_slower, seconds};

/// One in this many cases may be unknown for the end to be told.
const UNKNOWN: usize = 4;

/// Shorter than this there is no end worth telling.
const WORTH_TELLING: Duration = Duration::from_secs(2);

/// What is known before of a case.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// What run_kselftest.sh calls it.
    pub title: String,
    /// How long it took when it last ran to its end; `None` also where it was skipped.
    pub last: Option<Duration>,
    /// How long it will take if it does what it last did.
    pub expected: Option<Duration>,
    /// How many of the run's workers it keeps busy; more than there are is all of them.
    pub weight: u32,
    /// After this time it is killed.
    pub timeout: Duration,
}

impl Expected {
    /// How long the case took last time, where it took far more now. Of one that timed out that is known.
    pub(super) fn was_faster(&self, outcome: &Outcome) -> Option<Duration> {
        let is_measured = matches!(outcome.status, Status::Passed | Status::Failed);
        let now = Duration::try_from_secs_f64(outcome.duration_s).ok()?;
        let is_slow = |last: &Duration| is_measured && is_slower(*last, now);
        self.last.filter(is_slow)
    }
}

/// The cases that have not ended, by their names.
#[derive(Debug, Default)]
pub(super) struct Remaining {
    pub(super) cases: HashMap<String, Expected>,
    pub(super) workers: usize,
}

impl Remaining {
    /// How long a selftest took last time that has been running for `now`: `, last time 10 s`.
    pub(super) fn compared(&self, name: &str, now: Duration) -> String {
        let Some(last) = self.cases.get(name).and_then(|one| one.last) else {
            return String::new();
        };
        let mark = if is_slower(last, now) { "SLOW: " } else { "" };
        format!(", {mark}last time {}", seconds(last))
    }

    /// How long the run may still take. `None` where too little is known for that.
    #[expect(clippy::cast_precision_loss, reason = "it is a guess")]
    pub(super) fn time(&self, running: &[(&str, &Running)], now_ms: u64) -> Option<Duration> {
        let workers = self.workers.max(1) as f64;
        let weight = |one: &Expected| f64::from(one.weight).clamp(1.0, workers);
        let expected = |one: &Expected| Some(one.expected?.as_secs_f64());
        let work_of = |one| Some(expected(one)? * weight(one));
        let (all, known) = (self.cases.len(), self.cases.values().filter_map(work_of));
        let (count, mut work) = known.fold((0, 0.0), |(count, work), one| (count + 1, work + one));
        if count == 0 || (all - count) * UNKNOWN > all {
            return None;
        }
        let mut longest = 0.0_f64;
        for (name, step) in running.iter().filter(|(_, one)| one.step == Step::Selftest) {
            let Some(one) = self.cases.get(*name) else {
                continue;
            };
            let Some(expected) = expected(one) else {
                continue;
            };
            let done = age(step, now_ms).as_secs_f64().min(expected);
            work -= done * weight(one);
            longest = longest.max(expected - done);
        }
        // Those that are not known are taken to be like the others.
        let seconds = (work * all as f64 / count as f64 / workers).max(longest);
        let left = Duration::try_from_secs_f64(seconds).ok();
        left.filter(|left| *left >= WORTH_TELLING)
    }
}

/// How long a step has been running.
pub(super) fn age(running: &Running, now_ms: u64) -> Duration {
    Duration::from_millis(now_ms.saturating_sub(running.since_ms))
}

/// How long nothing must have been shown before the first line about what still runs.
const FIRST: Duration = Duration::from_secs(10);

/// The longest silence: each line waits twice as long as the one before. It is also the time after which a case is told
/// that runs on while others end, as libtest has it.
const LONGEST: Duration = Duration::from_secs(60);

/// When a line about what still runs is due, where there is no live display: neither noise nor silence. All times are those
/// since the run began.
#[derive(Debug, Default)]
pub(super) struct Heartbeat {
    /// How many ends of cases have been shown, and how many lines have been said since then.
    shown: usize,
    said: u32,
    /// When something was shown or said, and when something was said.
    quiet_since: Duration,
    last: Duration,
}

impl Heartbeat {
    /// Whether a line is due `now`, when this many ends of cases have been shown, and the oldest step is of this age. It is
    /// then taken to be said.
    pub(super) fn is_due(&mut self, now: Duration, shown: usize, oldest: Duration) -> bool {
        if shown > self.shown {
            (self.shown, self.said, self.quiet_since) = (shown, 0, now);
        }
        let silence = FIRST
            .saturating_mul(2_u32.saturating_pow(self.said))
            .min(LONGEST);
        let is_quiet = now.saturating_sub(self.quiet_since) >= silence;
        let is_long = oldest >= LONGEST && now.saturating_sub(self.last) >= LONGEST;
        if is_quiet || is_long {
            self.said += u32::from(is_quiet);
            (self.quiet_since, self.last) = (now, now);
        }
        is_quiet || is_long
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(weight: u32, expected: Option<u64>) -> Expected {
        let expected = expected.map(Duration::from_secs);
        Expected {
            title: String::new(),
            last: expected,
            expected,
            weight,
            timeout: Duration::ZERO,
        }
    }

    /// How long is left at the second `now`, with what runs and the second at which it began.
    fn left(remaining: &Remaining, now: u64, running: &[(&str, u64)]) -> Option<u64> {
        let running = running.iter().map(|(name, since)| {
            let running = Running {
                step: Step::Selftest,
                pid: 1,
                worker: 0,
                since_ms: since * 1000,
            };
            (*name, running)
        });
        let running: Vec<_> = running.collect();
        let running: Vec<_> = running.iter().map(|(name, one)| (*name, one)).collect();
        remaining
            .time(&running, now * 1000)
            .map(|left| left.as_secs())
    }

    #[test]
    fn the_end_depends_on_workers_weights_and_the_longest() {
        let cases = [("a", 1, 100), ("b", 1, 10), ("c", 9, 10), ("d", 1, 10)];
        let cases =
            cases.map(|(name, weight, time)| (name.to_owned(), expected(weight, Some(time))));
        let remaining = Remaining {
            cases: cases.into(),
            workers: 2,
        };
        // 100 + 10 + 2 × 10 + 10, on two workers.
        assert_eq!(left(&remaining, 0, &[]), Some(70));
        assert_eq!(left(&remaining, 0, &[("a", 0)]), Some(100));
        assert_eq!(left(&remaining, 30, &[("a", 0)]), Some(70));
        // One that takes longer than it did has no rest that is known.
        assert_eq!(left(&remaining, 300, &[("a", 0)]), Some(20));
    }

    #[test]
    fn nothing_is_said_where_little_is_known() {
        let of = |known: usize, unknown: usize| {
            let known = (0..known).map(|number| (format!("k{number}"), expected(1, Some(10))));
            let unknown = (0..unknown).map(|number| (format!("u{number}"), expected(1, None)));
            let remaining = Remaining {
                cases: known.chain(unknown).collect(),
                workers: 1,
            };
            left(&remaining, 0, &[])
        };
        let told = [of(0, 0), of(0, 3), of(2, 1), of(3, 1), of(3, 0)];
        assert_eq!(told, [None, None, None, Some(40), Some(30)]);
    }

    /// The seconds at which lines come; `shown` and `begun` are told the second.
    fn lines(
        until: u64,
        shown: impl Fn(u64) -> usize,
        begun: impl Fn(u64) -> Option<u64>,
    ) -> Vec<u64> {
        let mut heartbeat = Heartbeat::default();
        let is_due = |second: &u64| {
            let age = begun(*second).map_or(0, |begun| second.saturating_sub(begun));
            let [now, age] = [*second, age].map(Duration::from_secs);
            heartbeat.is_due(now, shown(*second), age)
        };
        (1..=until).filter(is_due).collect()
    }

    #[test]
    fn silence_is_broken_ever_more_rarely_but_at_least_each_minute() {
        assert_eq!(lines(240, |_| 0, |_| Some(0)), [10, 30, 70, 130, 190]);
        let one_is_shown = |second| usize::from(second >= 35);
        assert_eq!(lines(80, one_is_shown, |_| None), [10, 30, 45, 65]);
    }

    #[test]
    fn where_cases_end_all_the_time_only_one_that_runs_long_is_told() {
        let shown = |second| usize::try_from(second).unwrap();
        assert_eq!(lines(300, shown, |second| Some(second - 1)), [0; 0]);
        let runs_long = |second| (second < 150).then_some(20);
        assert_eq!(lines(300, shown, runs_long), [80, 140]);
    }
}
