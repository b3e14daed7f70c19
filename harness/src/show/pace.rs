//! How long cases took when they last ran on this host: what has become slow, and when the run may end.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::model::event::{Event, Observer};
use crate::model::outcome::{Outcome, Status};
use crate::show::running::{Process, Snapshot};

/// So many times as long as last time is slow. What runs beside a case may double its time, as the order of a run changes
/// with the selection; three times is more than that.
const SLOW_FACTOR: u32 = 3;

/// And this much longer: of a short one a busy machine makes any multiple.
const SLOW_BY: Duration = Duration::from_secs(2);

/// One in this many cases may be unknown for the end to be told.
const UNKNOWN: usize = 4;

/// Shorter than this there is no end worth telling.
const WORTH_TELLING: Duration = Duration::from_secs(2);

/// A case that will be run.
#[derive(Debug, Clone)]
pub struct Planned {
    /// How many of the run's workers it keeps busy.
    pub weight: u32,
    /// How long it will take if it does what it last did.
    pub expected: Option<Duration>,
    /// How long it took when it last ran to its end; `None` also where it was skipped.
    pub last: Option<Duration>,
}

/// What is known of the cases of a run, and what is left of them.
#[derive(Debug)]
pub struct Pace {
    /// The cases whose time is known.
    planned: HashMap<String, Planned>,
    workers: u32,
    left: Mutex<Left>,
}

/// The cases that have not ended.
#[derive(Debug, Default)]
struct Left {
    /// What those need that are known, in time of one worker.
    work: Duration,
    known: usize,
    unknown: usize,
}

impl Pace {
    /// That of a run of these cases, by their whole names, on so many workers.
    pub fn new(cases: impl IntoIterator<Item = (String, Planned)>, workers: usize) -> Self {
        let workers = u32::try_from(workers).unwrap_or(u32::MAX).max(1);
        let mut planned = HashMap::new();
        let mut left = Left::default();
        for (name, mut one) in cases {
            let Some(expected) = one.expected else {
                left.unknown += 1;
                continue;
            };
            one.weight = one.weight.clamp(1, workers);
            left.known += 1;
            left.work = left
                .work
                .saturating_add(expected.saturating_mul(one.weight));
            planned.insert(name, one);
        }
        Self {
            planned,
            workers,
            left: Mutex::new(left),
        }
    }

    /// How long the case `name` took last time.
    fn last(&self, name: &str) -> Option<Duration> {
        self.planned.get(name)?.last
    }

    /// How long the case `name` took last time, where `now` is far more than that.
    fn was_faster(&self, name: &str, now: Duration) -> Option<Duration> {
        let is_slow = |last: &Duration| {
            now > last.saturating_mul(SLOW_FACTOR) && now.saturating_sub(*last) >= SLOW_BY
        };
        self.last(name).filter(is_slow)
    }

    /// How long the case `name` has been running, beside how long it took last time: `32 s, last time 10 s`.
    pub fn compared(&self, name: &str, now: Duration) -> String {
        let mark = if self.was_faster(name, now).is_some() {
            "SLOW: "
        } else {
            ""
        };
        let last = self
            .last(name)
            .map(|last| format!(", {mark}last time {}", seconds(last)));
        format!("{} s{}", now.as_secs(), last.unwrap_or_default())
    }

    /// How long a case took last time that has ended, where it took far more now. Of one that timed out this is known.
    pub fn was_faster_than(&self, outcome: &Outcome) -> Option<Duration> {
        match outcome.status {
            Status::Passed | Status::Failed => {
                let now = Duration::try_from_secs_f64(outcome.duration_s).ok()?;
                self.was_faster(&outcome.name, now)
            }
            Status::Skipped | Status::TimedOut | Status::NoRun => None,
        }
    }

    /// How long the run may still take. `None` where too little is known for that.
    pub fn left(&self, snapshot: &Snapshot, now: Instant) -> Option<Duration> {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let count = left.known + left.unknown;
        if left.known == 0 || left.unknown * UNKNOWN > count {
            return None;
        }
        let mut work = left.work;
        let mut longest = Duration::ZERO;
        for (name, Process { since, .. }) in &snapshot.cases {
            let Some(Planned {
                weight,
                expected: Some(expected),
                ..
            }) = self.planned.get(name)
            else {
                continue;
            };
            let done = now.duration_since(*since).min(*expected);
            work = work.saturating_sub(done.saturating_mul(*weight));
            longest = longest.max(*expected - done);
        }
        // Those that are not known are taken to be like the others.
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let known = u32::try_from(left.known).unwrap_or(u32::MAX);
        let work = work.saturating_mul(count) / known;
        Some((work / self.workers).max(longest)).filter(|left| *left >= WORTH_TELLING)
    }
}

impl Observer for Pace {
    fn notify(&self, event: Event<'_>) {
        let Event::Finished(outcome) = event else {
            return;
        };
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        match self.planned.get(&outcome.name) {
            Some(Planned {
                expected: Some(expected),
                weight,
                ..
            }) => {
                left.known = left.known.saturating_sub(1);
                left.work = left.work.saturating_sub(expected.saturating_mul(*weight));
            }
            _ => left.unknown = left.unknown.saturating_sub(1),
        }
    }
}

/// A time in seconds, as people read it: `0.4 s`, `12 s`.
fn seconds(time: Duration) -> String {
    if time < Duration::from_secs(10) {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{} s", time.as_secs())
    }
}

/// A time until an end that is only guessed: `40 s`, `3 min`.
pub fn roughly(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..90 => format!("{seconds} s"),
        seconds @ 90..5400 => format!("{} min", (seconds + 30) / 60),
        seconds => format!(
            "{:.1} h",
            Duration::from_secs(seconds).as_secs_f64() / 3600.0
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::running::Counts;

    fn planned(name: &str, weight: u32, expected: Option<u64>) -> (String, Planned) {
        let expected = expected.map(Duration::from_secs);
        (
            name.to_owned(),
            Planned {
                weight,
                expected,
                last: expected,
            },
        )
    }

    /// What runs, with the second at which it began.
    fn left(pace: &Pace, begin: Instant, now: u64, running: &[(&str, u64)]) -> Option<u64> {
        let process = |since: u64| Process {
            pid: 1,
            worker: 0,
            output: None,
            since: begin + Duration::from_secs(since),
        };
        let cases = running
            .iter()
            .map(|(name, since)| ((*name).to_owned(), process(*since)))
            .collect();
        let snapshot = Snapshot {
            cases,
            ended: Counts::default(),
        };
        pace.left(&snapshot, begin + Duration::from_secs(now))
            .map(|left| left.as_secs())
    }

    #[test]
    fn the_end_depends_on_workers_weights_and_the_longest() {
        let begin = Instant::now();
        let cases = [
            planned("a", 1, Some(100)),
            planned("b", 1, Some(10)),
            planned("c", 9, Some(10)),
            planned("d", 1, Some(10)),
        ];
        let pace = Pace::new(cases, 2);
        // 100 + 10 + 2 × 10 + 10, on two workers.
        assert_eq!(left(&pace, begin, 0, &[]), Some(70));
        assert_eq!(left(&pace, begin, 0, &[("a", 0)]), Some(100));
        assert_eq!(left(&pace, begin, 30, &[("a", 0)]), Some(70));
        // One that takes longer than it did has no rest that is known.
        assert_eq!(left(&pace, begin, 300, &[("a", 0)]), Some(20));
    }

    #[test]
    fn nothing_is_said_where_little_is_known() {
        let begin = Instant::now();
        let of = |known: usize, unknown: usize| {
            let known = (0..known).map(|number| planned(&format!("k{number}"), 1, Some(10)));
            let unknown = (0..unknown).map(|number| planned(&format!("u{number}"), 1, None));
            left(&Pace::new(known.chain(unknown), 1), begin, 0, &[])
        };
        assert_eq!(
            [of(0, 0), of(0, 3), of(2, 1), of(3, 1), of(3, 0)],
            [None, None, None, Some(40), Some(30)]
        );
    }

    #[test]
    fn slow_is_several_times_as_long_and_seconds_more() {
        let pace = Pace::new(
            [planned("short", 1, Some(0)), planned("long", 1, Some(10))],
            1,
        );
        let is_slow = |name: &str, now: f64| {
            pace.was_faster(name, Duration::from_secs_f64(now))
                .is_some()
        };
        assert_eq!(
            [
                is_slow("short", 1.9),
                is_slow("short", 2.1),
                is_slow("long", 29.0),
                is_slow("long", 31.0)
            ],
            [false, true, false, true]
        );
        assert!(!is_slow("unknown", 1000.0));
    }
}
