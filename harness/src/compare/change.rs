//! How a case of one run relates to the case of the same name in another.

use serde::Serialize;

use crate::compare::share::has_risen;
use crate::compare::tally::Tally;
use crate::model::outcome::Status;

/// What happened to a case between two runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
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
#[derive(Debug, Clone)]
pub struct Change<'a> {
    /// Its name, without iterations.
    pub name: &'a str,
    /// What happened to it.
    pub kind: Kind,
    /// What became of it in the old run, where it was there.
    pub old: Option<Tally<'a>>,
    /// And in the new one.
    pub new: Option<Tally<'a>>,
}

impl<'a> Change<'a> {
    /// Compares the case called `name`.
    pub fn of(name: &'a str, old: Option<Tally<'a>>, new: Option<Tally<'a>>) -> Self {
        let kind = match (&old, &new) {
            (None, None) => Kind::Unchanged,
            (Some(_), None) => Kind::Vanished,
            (None, Some(new)) if new.failures().is_empty() => Kind::Appeared,
            (None, Some(_)) => Kind::NewFailure,
            (Some(old), Some(new)) => of_both(old, new),
        };
        Self {
            name,
            kind,
            old,
            new,
        }
    }

    /// Whether it got worse: it fails as it did not before, or what had been tested is not tested any more.
    pub fn is_worse(&self) -> bool {
        match self.kind {
            Kind::NewFailure | Kind::DifferentFailure | Kind::FailsMoreOften => true,
            Kind::NewlySkipped | Kind::Vanished => {
                self.old.as_ref().is_some_and(|old| old.ran() > 0)
            }
            Kind::Fixed | Kind::NewlyRun | Kind::Appeared | Kind::SameFailure | Kind::Unchanged => {
                false
            }
        }
    }

    /// How long it took to pass, in seconds, in the old run and in the new one.
    pub fn durations_s(&self) -> Option<(f64, f64)> {
        Some((
            self.old.as_ref()?.duration_s()?,
            self.new.as_ref()?.duration_s()?,
        ))
    }
}

fn of_both(old: &Tally<'_>, new: &Tally<'_>) -> Kind {
    let (failures, known) = (new.failures(), old.failures());
    if !failures.is_empty() {
        let is_known = |signature| known.iter().any(|failure| failure.signature == signature);
        return match failures
            .into_iter()
            .all(|failure| is_known(failure.signature))
        {
            false if old.failed() > 0 => Kind::DifferentFailure,
            false => Kind::NewFailure,
            true if has_risen((old.failed(), old.ran()), (new.failed(), new.ran())) => {
                Kind::FailsMoreOften
            }
            true => Kind::SameFailure,
        };
    }
    let (skipped, was_skipped) = (new.count(Status::Skipped), old.count(Status::Skipped));
    if skipped > 0 && (was_skipped == 0 || (skipped == new.total() && was_skipped < old.total())) {
        Kind::NewlySkipped
    } else if old.failed() > 0 {
        Kind::Fixed
    } else if old.ran() == 0 && new.ran() > 0 {
        Kind::NewlyRun
    } else {
        Kind::Unchanged
    }
}
