//! What became of one case in a run, however many iterations of it there were.

use crate::compare::signature::Signature;
use crate::model::outcome::{Outcome, Status};

/// The outcomes of all iterations of a case; of a case without iterations, its one outcome.
#[derive(Debug, Clone, Default)]
pub struct Tally<'a> {
    /// At least one.
    pub outcomes: Vec<&'a Outcome>,
}

/// The outcomes of a case that failed in the same way.
#[derive(Debug, Clone)]
pub struct Failure<'a> {
    /// What they have in common.
    pub signature: Signature,
    /// The first of them.
    pub first: &'a Outcome,
    /// How many they are.
    pub count: usize,
}

impl<'a> Tally<'a> {
    /// How many iterations there were.
    pub fn total(&self) -> usize {
        self.outcomes.len()
    }

    /// How many ended so.
    pub fn count(&self, status: Status) -> usize {
        self.outcomes
            .iter()
            .filter(|outcome| outcome.status == status)
            .count()
    }

    /// How many ran, and found something or nothing.
    pub fn ran(&self) -> usize {
        self.count(Status::Passed) + self.failed()
    }

    /// How many ran, and found something.
    pub fn failed(&self) -> usize {
        self.count(Status::Failed) + self.count(Status::TimedOut)
    }

    /// All failures, `NO_RUN` among them, in the order in which each was first seen.
    pub fn failures(&self) -> Vec<Failure<'a>> {
        let mut failures: Vec<Failure<'a>> = Vec::new();
        for outcome in self
            .outcomes
            .iter()
            .filter(|outcome| outcome.status.is_failure())
        {
            let signature = Signature::of(outcome);
            match failures
                .iter_mut()
                .find(|failure| failure.signature == signature)
            {
                Some(failure) => failure.count += 1,
                None => failures.push(Failure {
                    signature,
                    first: outcome,
                    count: 1,
                }),
            }
        }
        failures
    }

    /// How long it takes to pass, in seconds: the median. `None` where it did not.
    pub fn duration_s(&self) -> Option<f64> {
        let passed = self
            .outcomes
            .iter()
            .filter(|outcome| outcome.status == Status::Passed);
        let mut durations: Vec<f64> = passed.map(|outcome| outcome.duration_s).collect();
        durations.sort_by(f64::total_cmp);
        durations.get(durations.len() / 2).copied()
    }
}
