//! What a case or a run leaves on the host besides processes: found, attributed as far as that is certain, and removed
//! where it is.
//!
//! The kernel knows which process made a segment of System V shared memory, so that is looked for after each case, which is
//! one read of a file that is all but empty. Of everything else it knows the time at most: that is compared once, before the
//! first case and after the last, and told with the cases that ran when it was made. Tests see the host as it is, so there
//! are no namespaces that would hide one case from another.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::exec::traces::{Segments, Trace, Traces};
use crate::model::event::{Event, Observer};
use crate::model::outcome::{LeftBehind, Outcome};
use crate::model::printable::printable;
use crate::supervise::keeper::remove_shared_memory;

/// How many cases are named that may have left something.
const NAMED: usize = 4;

/// Removes the shared memory that the process `pid`, which began at `started` and has just ended, made and left, and returns
/// it, without a case; what another process has attached is left alone. `segments` are the host's.
pub fn of_process(pid: i32, started: SystemTime, segments: &Segments) -> Vec<LeftBehind> {
    let of_case = segments
        .read()
        .filter(|segment| segment.is_of(pid, started));
    let left = of_case.map(|segment| LeftBehind {
        what: segment.trace().what,
        made_ms: segment.trace().made_ms.map(|(from, _)| from),
        cases: Vec::new(),
        removed: segment.attached == 0
            && i32::try_from(segment.id).is_ok_and(|id| remove_shared_memory(id).is_ok()),
    });
    left.collect()
}

/// Compares the host after a run with the host before it.
#[derive(Debug)]
pub struct Watch {
    before: Traces,
    ran: Mutex<Vec<Ran>>,
}

/// A case, and from when to when it ran, in milliseconds since the epoch.
#[derive(Debug)]
struct Ran {
    name: String,
    from_ms: u64,
    to_ms: u64,
}

impl Watch {
    /// Begins, before the first case.
    pub fn start() -> Self {
        Self {
            before: Traces::read(),
            ran: Mutex::default(),
        }
    }

    /// What has appeared since, after the last case and when the environments are restored.
    pub fn end(&self) -> Vec<LeftBehind> {
        let ran = self.ran.lock().unwrap_or_else(PoisonError::into_inner);
        Traces::read()
            .since(&self.before)
            .into_iter()
            .map(|trace| attribute(trace, &ran))
            .collect()
    }
}

impl Observer for Watch {
    fn notify(&self, event: Event<'_>) {
        let Event::Finished(outcome) = event else {
            return;
        };
        if outcome.exit.is_some() {
            self.ran
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(Ran::of(outcome));
        }
    }
}

impl Ran {
    fn of(outcome: &Outcome) -> Self {
        let duration = Duration::try_from_secs_f64(outcome.duration_s).unwrap_or_default();
        let duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        // One more, for what both times leave out of a millisecond.
        let to_ms = outcome
            .started_ms
            .saturating_add(duration_ms)
            .saturating_add(1);
        Self {
            name: outcome.name.clone(),
            from_ms: outcome.started_ms,
            to_ms,
        }
    }
}

fn attribute(trace: Trace, ran: &[Ran]) -> LeftBehind {
    let Trace { what, made_ms } = trace;
    let cases = made_ms.map_or_else(Vec::new, |(from, to)| {
        ran.iter()
            .filter(|case| case.from_ms <= to && case.to_ms >= from)
            .map(|case| case.name.clone())
            .collect()
    });
    LeftBehind {
        what,
        made_ms: made_ms.map(|(from, _)| from),
        cases,
        removed: false,
    }
}

/// What is certain to be of a case, as a line.
pub fn describe_certain(left: &LeftBehind) -> String {
    let removed = if left.removed {
        ", removed"
    } else {
        ", still in use"
    };
    format!(
        "{}{removed}: left by {}",
        printable(left.what.as_bytes()),
        left.cases.join(", ")
    )
}

/// What appeared during a run, as a line.
pub fn describe(left: &LeftBehind) -> String {
    let what = printable(left.what.as_bytes());
    let named = left
        .cases
        .iter()
        .take(NAMED)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    let more = left.cases.len().saturating_sub(NAMED);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    let when = left
        .made_ms
        .map(|made_ms| made_at(UNIX_EPOCH + Duration::from_millis(made_ms)));
    match (when, left.cases.is_empty()) {
        (Some(when), true) => format!("{what}: made at {when}, while no case ran"),
        (Some(when), false) => format!("{what}: made at {when}, when {named}{more} ran"),
        (None, _) => what,
    }
}

fn made_at(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time)
        .map_or_else(|_| "?".to_owned(), |time| time.strftime("%TZ").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_cases_that_ran_when_it_was_made_may_have_left_it() {
        let ran = |name: &str, from_ms, to_ms| Ran {
            name: name.to_owned(),
            from_ms,
            to_ms,
        };
        let ran = [ran("a", 0, 1000), ran("b", 900, 2000), ran("c", 2500, 3000)];
        let told = |made_ms| {
            let left = attribute(
                Trace {
                    what: "/dev/shm/\0x".to_owned(),
                    made_ms,
                },
                &ran,
            );
            describe(&left)
        };
        assert_eq!(
            told(Some((950, 960))),
            "/dev/shm/\\x00x: made at 00:00:00Z, when a, b ran"
        );
        assert_eq!(
            told(Some((1001, 1010))),
            "/dev/shm/\\x00x: made at 00:00:01Z, when b ran"
        );
        assert_eq!(
            told(Some((2100, 2110))),
            "/dev/shm/\\x00x: made at 00:00:02Z, while no case ran"
        );
        assert_eq!(told(None), "/dev/shm/\\x00x");
    }
}
