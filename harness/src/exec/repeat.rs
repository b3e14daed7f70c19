//! What failed is run again, alone, when all others have ended: so a failure that comes and goes shows as one.

use std::collections::HashMap;

use super::executor::Executor;
use super::verdict;
use crate::model::case::Case;
use crate::model::event::Event;
use crate::model::outcome::{Outcome, Status};

/// The repetitions of a case: cases by themselves, beside which nothing runs.
pub fn repetitions(case: &Case, times: u32) -> impl Iterator<Item = Case> {
    (1..=times).map(|number| {
        let mut again = case.clone();
        again.name.retry = Some(number);
        again.exclusive = true;
        again
    })
}

/// Runs the repetitions that `executor` has of the `failed` (by their names), one after the other, and records what is
/// known of these then.
pub fn repeat(executor: &Executor, mut failed: HashMap<String, Outcome>) {
    for (place, case) in executor.cases.iter().enumerate() {
        let Some(first) = failed.get_mut(&case.name.repeated().to_string()) else {
            continue;
        };
        // That it comes and goes is known: one pass shows it.
        if first.known.is_some()
            && first
                .repetitions
                .iter()
                .any(|one| one.status == Status::Passed)
        {
            continue;
        }
        // Also where the run ends early by now: the last one tears its suite down.
        let repetition = executor.run_to_end(place);
        if repetition.status == Status::NoRun && executor.supervisors.ended_early().is_some() {
            continue;
        }
        first.repetitions.push(repetition);
        let outcome = Box::new(verdict::repeated(first));
        executor.context.sink.record(Event::Repeated(outcome));
    }
}
