//! What a run looks like: pure functions of its state to text, and one [`Display`] that alone writes to the terminal.
//!
//! Where the standard output and the standard error are two, the standard output has libtest's own lines, byte for byte,
//! and what only we say of a case that fails goes to the standard error. Where they are one (a terminal, `2>&1`), a failure
//! is told once when it happens, and once at the end.

mod display;
mod failures;
mod keys;
mod ktap_stream;
mod libtest;
mod options;
mod output;
mod progress;
mod remaining;
mod screen;
mod stream;
mod summary;

pub use display::{Display, Setup};
pub use keys::{Keyboard, Wish};
#[cfg(test)]
pub use options::Level;
pub use options::{Color, Format, Levels, Rule};
pub use remaining::Expected;
pub use screen::{destination, print};
pub use summary::{header_of, summary};

#[cfg(test)]
mod stage {
    //! A run made of events, to be shown.

    use crate::model::case::name::CaseName;
    use crate::model::event::{Event, KernelEnd, Part, PartEnd};
    use crate::model::outcome::{Outcome, Status, Step};
    use crate::model::state::State;

    /// When everything begins, in milliseconds since the epoch.
    pub(super) const BEGIN_MS: u64 = 1_000_000;

    /// The name of a case, with its environment where it has three segments.
    pub(super) fn case(name: &str) -> CaseName {
        match *name.split("::").collect::<Vec<_>>() {
            [suite, variant] => CaseName::new(suite, variant),
            [environment, suite, variant] => CaseName {
                environment: Some(environment.to_owned()),
                ..CaseName::new(suite, variant)
            },
            _ => panic!("{name}"),
        }
    }

    pub(super) fn outcome(name: &str, status: Status, reason: &str) -> Outcome {
        let was_run = matches!(status, Status::Passed | Status::Failed | Status::TimedOut);
        Outcome {
            status,
            pid: was_run.then_some(7),
            output: was_run.then(|| name.replace("::", "/").into()),
            duration_s: 0.5,
            reproduce: "cd /s && /s/a_test".to_owned(),
            ..Outcome::no_run(&case(name), BEGIN_MS, reason)
        }
    }

    pub(super) fn part(words: &[&str], options: usize) -> Part {
        let words: Vec<_> = words.iter().map(Into::into).collect();
        Part {
            version: "0.1.0".to_owned(),
            options: words[words.len() - options..].to_vec(),
            command_line: words,
            ..Part::default()
        }
    }

    pub(super) fn end(interrupted_by: Option<i32>, kernel: KernelEnd) -> PartEnd {
        PartEnd {
            part: String::new(),
            at_ms: BEGIN_MS,
            duration_s: 1.0,
            interrupted_by,
            ended_early: None,
            kernel,
            left_behind: Vec::new(),
            not_restored: Vec::new(),
            died: None,
        }
    }

    pub(super) fn step(case: &str, step: Step, pid: i32, after_s: u64) -> Event {
        Event::StepStarted {
            case: case.to_owned(),
            step,
            pid,
            worker: 0,
            at_ms: BEGIN_MS + after_s * 1000,
        }
    }

    pub(super) fn finished(outcome: Outcome) -> Event {
        Event::Finished(Box::new(outcome))
    }

    /// The state of a run of `kvm-tests run` with these cases, after these events.
    pub(super) fn state(cases: &[&str], events: &[Event]) -> State {
        let first = Event::PartStarted {
            part: Box::new(part(&["./kvm-tests", "run", "dirty"], 1)),
            cases: cases.iter().map(|name| case(name)).collect(),
        };
        State::of([&first].into_iter().chain(events))
    }
}
