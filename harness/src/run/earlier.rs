//! An earlier run that says which cases run now: `--rerun` and `--git-bisect`.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::log::read;
use crate::model::case::Case;
use crate::model::outcome::signature::Signature;
use crate::model::outcome::{Outcome, Status};
use crate::model::state::State;
use crate::model::text::{named, plural};
use crate::options::Options;
use crate::plan::{Discovered, Selection};

/// What `git bisect run` takes for a good step, a bad one, and one of which nothing can be said.
const GOOD: u8 = 0;
const BAD: u8 = 1;
pub const UNTESTABLE: u8 = 125;

/// How many names a line has.
const NAMED: usize = 4;

/// An earlier run.
pub(super) struct Earlier {
    state: State,
    place: PathBuf,
    is_bisect: bool,
    /// What passed there, on each of its hosts that had it.
    passed: HashSet<String>,
    /// What failed there, is asked for, and is not here.
    missing: Vec<String>,
    /// The cases that do not run because of it, and how many do.
    left_out: Vec<String>,
    chosen: usize,
}

impl Earlier {
    /// Leaves of `cases`, those of `discovered` that `selection` asks for, the ones that are to run after the run that `options`
    /// name, where they name one; `latest` is that in the directory of all `results`.
    ///
    /// # Errors
    /// There is no such run, or nothing to run after it.
    pub(super) fn choose(
        options: &Options,
        results: &Path,
        (discovered, selection): (&Discovered, &Selection),
        cases: &mut Vec<Case>,
    ) -> anyhow::Result<Option<Self>> {
        let Some(run) = options.git_bisect.as_ref().or(options.rerun.as_ref()) else {
            return Ok(None);
        };
        let path = match run.to_str() {
            Some(name @ "latest") => &results.join(name),
            _ => run,
        };
        // The link will lead to this run.
        let path = path
            .canonicalize()
            .with_context(|| format!("find {}", path.display()))?;
        let (state, place) = read(&path)?;
        let mut earlier = Self {
            passed: passed(&state),
            state,
            place,
            is_bisect: options.git_bisect.is_some(),
            missing: Vec::new(),
            left_out: Vec::new(),
            chosen: 0,
        };
        let here = discovered.names(&Selection::everything());
        let failed = earlier.failed().map(Outcome::listed_there);
        let missing =
            failed.filter(|name| selection.has_name(name) && !here.iter().any(|one| one == name));
        earlier.missing = missing.map(str::to_owned).collect();
        let left_out = cases.iter().filter(|case| !earlier.wants(case));
        earlier.left_out = left_out.map(|case| case.name.to_string()).collect();
        cases.retain(|case| earlier.wants(case));
        earlier.chosen = cases.len();
        if cases.is_empty() {
            bail!("nothing to run again: {}", earlier.describe());
        }
        Ok(Some(earlier))
    }

    /// How many cases do not run because of it.
    pub(super) fn left_out(&self) -> usize {
        self.left_out.len()
    }

    /// What runs because of it, and what does not.
    pub(super) fn describe(&self) -> String {
        let (cases, place) = (plural(self.chosen, "case"), self.place.display());
        let (wanted, other) = match self.is_bisect {
            true => ("failed in", "did not fail there"),
            false => ("did not pass in, or is not of,", "passed there"),
        };
        let line = format!("{cases} that {wanted} {place}");
        match self.left_out.len() {
            0 => line,
            count => {
                let names = named(&self.left_out, NAMED);
                format!("{line}; {count} left out that {other}: {names}")
            }
        }
    }

    fn wants(&self, case: &Case) -> bool {
        match self.is_bisect {
            true => self.failed_as(&case.name.listed()).next().is_some(),
            false => !self.passed.contains(&case.name.to_string()),
        }
    }

    /// What failed there: it ran, and found something.
    fn failed(&self) -> impl Iterator<Item = &Outcome> {
        let outcomes = self.state.outcomes.iter();
        outcomes.filter(|one| matches!(one.status, Status::Failed | Status::TimedOut))
    }

    /// How the case that is listed so failed there.
    fn failed_as(&self, listed: &str) -> impl Iterator<Item = &Outcome> {
        self.failed()
            .filter(move |one| one.listed_there() == listed)
    }

    /// That some of what failed there cannot have been run here: for `--rerun` a failure.
    pub(super) fn vanished(&self) -> Option<String> {
        let is_any = !self.is_bisect && !self.missing.is_empty();
        let (names, place) = (named(&self.missing, NAMED), self.place.display());
        is_any.then(|| format!("VANISHED: failed in {place}, and is not here: {names}"))
    }

    /// For `git bisect run`, the exit status after a run that came to `state`, and why; `is_bad` says that something is wrong
    /// with that beside its cases.
    pub(super) fn answer(&self, state: &State, is_bad: bool) -> Option<(u8, String)> {
        let is_same = |one: &&Outcome| {
            let mut before = self.failed_as(one.listed());
            before.any(|before| Signature::of(before) == Signature::of(one))
        };
        let not_passed = |one: &&Outcome| one.status != Status::Passed;
        let mut others = state.outcomes.iter().filter(not_passed);
        let told =
            |one: &Outcome| format!("{}: {} {}", one.name, one.status.as_str(), one.first_line());
        if !self.is_bisect {
            return None;
        }
        let same = others.clone().find(is_same);
        if let Some(same) = same {
            return Some((BAD, format!("bad: the same failure: {}", told(same))));
        }
        let missing = self.missing.first();
        let why = others.next().map(told);
        let why = why.or_else(|| Some(format!("{}: it is not there", missing?)));
        let why = why.or_else(|| is_bad.then(|| "the run failed beside its cases".to_owned()));
        let why = why.map(|why| (UNTESTABLE, format!("cannot be tested: {why}")));
        Some(why.unwrap_or((GOOD, "good: what failed passes".to_owned())))
    }
}

/// The cases that passed on every host that had them, by their names there.
fn passed(state: &State) -> HashSet<String> {
    let names = |have_passed: bool| -> HashSet<String> {
        let outcomes = state.outcomes.iter();
        let outcomes = outcomes.filter(|one| (one.status == Status::Passed) == have_passed);
        outcomes.map(|one| one.name_there().to_owned()).collect()
    };
    &names(true) - &names(false)
}
