//! How a case of one run relates to the case of the same name in another.

use std::borrow::Cow;

use serde::Serialize;

use crate::model::outcome::signature::Signature;
use crate::model::outcome::{Counts, Outcome, Status};

/// The probability below which a rise is not taken for chance.
const SIGNIFICANT: f64 = 0.05;

/// What became of a case in a run, however many iterations of it there were.
#[derive(Debug, Serialize)]
pub(super) struct Tally<'a> {
    pub(super) counts: Counts,
    /// How long it takes to pass, in seconds: the median; `None` where it did not.
    duration_s: Option<f64>,
    pub(super) skip_reason: Option<&'a str>,
    /// All its failures, `NO_RUN` among them, in the order in which each was first seen.
    pub(super) failures: Vec<Failure<'a>>,
}

/// The iterations of a case that failed in the same way.
#[derive(Debug, Serialize)]
pub(super) struct Failure<'a> {
    pub(super) count: usize,
    pub(super) reason: &'a str,
    pub(super) signature: Signature,
    reproduce: &'a str,
}

impl<'a> Tally<'a> {
    pub(super) fn of(outcomes: &[&'a Outcome]) -> Self {
        let with = |status| outcomes.iter().filter(move |one| one.status == status);
        let passed = with(Status::Passed).map(|one| one.duration_s);
        let mut passed: Vec<f64> = passed.collect();
        passed.sort_by(f64::total_cmp);
        let mut failures: Vec<Failure<'a>> = Vec::new();
        for outcome in outcomes.iter().filter(|one| one.status.is_failure()) {
            let signature = Signature::of(outcome);
            let known = failures
                .iter_mut()
                .find(|known| known.signature == signature);
            match known {
                Some(known) => known.count += 1,
                None => failures.push(Failure {
                    count: 1,
                    reason: outcome.reason.as_deref().unwrap_or_default(),
                    signature,
                    reproduce: &outcome.reproduce,
                }),
            }
        }
        let skipped = with(Status::Skipped).next();
        Self {
            counts: Counts::of_all(outcomes.iter().map(|outcome| outcome.status)),
            duration_s: passed.get(passed.len() / 2).copied(),
            skip_reason: skipped.and_then(|outcome| outcome.reason.as_deref()),
            failures,
        }
    }

    /// How many ran, and found something.
    pub(super) fn failed(&self) -> usize {
        self.counts.of(Status::Failed) + self.counts.of(Status::TimedOut)
    }

    /// How many ran.
    fn ran(&self) -> usize {
        self.counts.of(Status::Passed) + self.failed()
    }
}

/// What happened to a case between two runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ChangeKind {
    /// It fails, and did not before: it passed, was skipped or not run, or was not there.
    NewFailure,
    /// It failed before, and fails in another way now.
    DifferentFailure,
    /// Of its iterations more fail, in no new way, than chance explains.
    FailsMoreOften,
    /// It is skipped, and was not before.
    NewlySkipped,
    /// It is not there any more.
    Vanished,
    /// It failed and passes now.
    Fixed,
    /// It was skipped or not run, and passes now.
    NewlyRun,
    /// It was not there before, and does not fail.
    Appeared,
    /// It fails as it failed before.
    SameFailure,
    /// It passes, or is skipped, as before.
    Unchanged,
}

/// A case of two runs.
#[derive(Debug, Serialize)]
pub(super) struct CaseChange<'a> {
    /// Its name, without iterations.
    pub(super) name: Cow<'a, str>,
    pub(super) kind: ChangeKind,
    /// It fails as it did not before, or what had been tested is not tested any more.
    pub(super) worse: bool,
    /// What became of it in the old run; `None` where it was not there.
    pub(super) old: Option<Tally<'a>>,
    /// And in the new one.
    pub(super) new: Option<Tally<'a>>,
}

impl<'a> CaseChange<'a> {
    /// Compares the case called `name`.
    pub(super) fn of(name: Cow<'a, str>, old: Option<Tally<'a>>, new: Option<Tally<'a>>) -> Self {
        let kind = match (&old, &new) {
            (None, None) => ChangeKind::Unchanged,
            (Some(_), None) => ChangeKind::Vanished,
            (None, Some(new)) if new.failures.is_empty() => ChangeKind::Appeared,
            (None, Some(_)) => ChangeKind::NewFailure,
            (Some(old), Some(new)) => of_both(old, new),
        };
        let had_run = old.as_ref().is_some_and(|old| old.ran() > 0);
        let worse = match kind {
            ChangeKind::NewFailure | ChangeKind::DifferentFailure | ChangeKind::FailsMoreOften => {
                true
            }
            ChangeKind::NewlySkipped | ChangeKind::Vanished => had_run,
            ChangeKind::Fixed
            | ChangeKind::NewlyRun
            | ChangeKind::Appeared
            | ChangeKind::SameFailure
            | ChangeKind::Unchanged => false,
        };
        Self {
            name,
            kind,
            worse,
            old,
            new,
        }
    }

    /// How long it took to pass, in seconds, in the old run and in the new one.
    pub(super) fn durations_s(&self) -> Option<[f64; 2]> {
        let (old, new) = (self.old.as_ref()?, self.new.as_ref()?);
        Some([old.duration_s?, new.duration_s?])
    }
}

fn of_both(old: &Tally<'_>, new: &Tally<'_>) -> ChangeKind {
    let known = old.failures.iter().map(|known| &known.signature);
    let is_known = |failure: &Failure<'_>| known.clone().any(|known| *known == failure.signature);
    let [was_skipped, skipped] = [old, new].map(|tally| tally.counts.of(Status::Skipped));
    let all_are_skipped = skipped == new.counts.total() && was_skipped < old.counts.total();
    let [was_failed, failed] = [old, new].map(|tally| (tally.failed(), tally.ran()));
    match new.failures.iter().all(is_known) {
        false if old.failed() > 0 => ChangeKind::DifferentFailure,
        false => ChangeKind::NewFailure,
        true if has_risen(was_failed, failed) => ChangeKind::FailsMoreOften,
        true if !new.failures.is_empty() => ChangeKind::SameFailure,
        true if skipped > 0 && (was_skipped == 0 || all_are_skipped) => ChangeKind::NewlySkipped,
        true if old.failed() > 0 => ChangeKind::Fixed,
        true if old.ran() == 0 && new.ran() > 0 => ChangeKind::NewlyRun,
        true => ChangeKind::Unchanged,
    }
}

/// Whether `new` = (failures, of how many) is more than chance makes of `old`: Fisher's exact test, one-sided.
fn has_risen(old: (usize, usize), new: (usize, usize)) -> bool {
    let (failed, total) = (old.0 + new.0, old.1 + new.1);
    // The logarithms of the factorials of 0 to `total`.
    let mut logarithms = vec![0.0];
    for number in 1..=u32::try_from(total).unwrap_or(u32::MAX) {
        logarithms.push(logarithms.last().unwrap_or(&0.0) + f64::from(number).ln());
    }
    let choose = |of: usize, count: usize| match of.checked_sub(count) {
        Some(others) => logarithms[of] - logarithms[count] - logarithms[others],
        None => f64::NEG_INFINITY,
    };
    // Of all ways to spread the failures over the iterations: those that give as many to `new`, or more.
    let share = |in_new| {
        (choose(new.1, in_new) + choose(old.1, failed - in_new) - choose(total, failed)).exp()
    };
    let probability: f64 = (new.0..=failed.min(new.1)).map(share).sum();
    probability < SIGNIFICANT
}
