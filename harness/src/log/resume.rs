//! `--resume RUN`: goes on with a run that ended early, in its directory and as its command line had it.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::directory::{RunDirectory, is_in_use};
use super::journal::RUN_JSON;
use super::read;
use crate::model::case::Case;
use crate::model::event::Part;
use crate::model::outcome::{Outcome, Status};
use crate::model::state::State;
use crate::model::text::named;

/// How many cases a line names.
const NAMED: usize = 6;

/// A run that is to go on.
#[derive(Debug)]
pub struct Resumed {
    /// Its directory, in which nobody else writes.
    pub directory: RunDirectory,
    /// What its journals add up to: the cases that have not ended are missing.
    pub state: State,
    /// The same, with `NO_RUN` for these.
    closed: State,
    /// The cases that are there no more, with their outcomes.
    pub gone: Vec<Outcome>,
}

impl Resumed {
    /// Opens the run in a directory.
    ///
    /// # Errors
    /// There is none, it cannot be read, it has not ended, or is one of nextest's.
    pub fn open(root: &Path) -> anyhow::Result<Self> {
        let directory = RunDirectory::reopen(root)?;
        let state = read::fold(directory.root())?;
        let mut closed = state.clone();
        closed.close();
        let resumed = Self {
            directory,
            state,
            closed,
            gone: Vec::new(),
        };
        if resumed.first()?.place.is_some() {
            bail!(
                "{} ran at places: they go on by themselves, and it cannot be resumed",
                resumed.directory.root().display()
            );
        }
        if resumed.closed.is_merged() {
            bail!(
                "{} was merged of several runs: resume these, where they are, and merge them again",
                resumed.directory.root().display()
            );
        }
        if resumed.first()?.nextest_run_id.is_some() {
            bail!(
                "{} is a run of nextest: let nextest run again what has not run",
                resumed.directory.root().display()
            );
        }
        Ok(resumed)
    }

    /// What was known when the run began.
    ///
    /// # Errors
    /// Nothing is known of that.
    pub fn first(&self) -> anyhow::Result<&Part> {
        self.closed.first().context("find how the run began")
    }

    /// Leaves of the cases that the run selected those that have not run; suspects are marked, and run alone. Those that
    /// are there no more are [`Self::gone`]. `sources` are the directories of the selftests that are there now.
    ///
    /// # Errors
    /// The selftests are not those of the run: with none of its own, a variable may have brought in others.
    pub fn retain(&mut self, cases: &mut Vec<Case>, sources: &[PathBuf]) -> anyhow::Result<()> {
        if self.first()?.selftests.is_empty() && !sources.is_empty() {
            bail!(
                "the run used the selftests built into this program: unset KVM_SELFTESTS and KERNEL_SRC to resume it"
            );
        }
        let not_run = self.closed.of_kind(Status::NoRun);
        let mut to_run: HashMap<&str, &Outcome> = not_run
            .map(|outcome| (outcome.name.as_str(), outcome))
            .collect();
        cases.retain_mut(|case| {
            let Some(outcome) = to_run.remove(case.name.to_string().as_str()) else {
                return false;
            };
            case.suspect = outcome.suspect;
            case.exclusive |= outcome.suspect;
            true
        });
        let reason = "it is there no more: its suite or its selftest has changed";
        let gone = to_run.into_values().map(|outcome| Outcome {
            reason: Some(reason.to_owned()),
            ..outcome.clone()
        });
        self.gone = gone.collect();
        self.gone.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(())
    }

    /// From now on the journals tell how far it is.
    ///
    /// # Errors
    /// The old run.json cannot be removed.
    pub fn begin(&self) -> anyhow::Result<()> {
        let path = self.directory.root().join(RUN_JSON);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// What is to be said when `part` goes on with it, with so many cases to run.
    pub fn describe(&self, part: &Part, to_run: usize) -> Vec<String> {
        let not_run = to_run + self.gone.len();
        let all = self.closed.outcomes.len();
        let mut lines = vec![format!(
            "  resumed      {not_run} of {all} cases have not run"
        )];
        let suspects = suspects(&self.closed);
        if !suspects.is_empty() {
            let named = names_of(&suspects);
            lines.push(format!(
                "  suspects     last and alone, as they ran when it died: {named}"
            ));
        }
        let before = self.closed.last().map(|share| &share.part.host.kernel);
        if let Some(before) = before.filter(|before| **before != part.host.kernel) {
            let now = &part.host.kernel;
            lines.push(format!("  kernel       {now} now, {before} before"));
        }
        lines
    }
}

fn suspects(state: &State) -> Vec<&Outcome> {
    let not_run = state.of_kind(Status::NoRun);
    not_run.filter(|outcome| outcome.suspect).collect()
}

/// What happened to the latest of the runs in `parent`, where it was killed or its host died; `None` where it ended, or goes
/// on. It is said once, as the next run is the latest then.
pub fn what_killed_the_latest(parent: &Path) -> Option<Vec<String>> {
    let directory = parent.join("latest").canonicalize().ok()?;
    if is_in_use(&directory) {
        return None;
    }
    let (state, _) = read::read(&directory).ok()?;
    if state.finished {
        return None;
    }
    let suspects = suspects(&state);
    let running = match suspects.as_slice() {
        [] => "while no case ran".to_owned(),
        some => format!("while these ran, or may have: {}", names_of(some)),
    };
    let place = directory.display();
    Some(vec![
        format!("the run in {place} was killed {running}"),
        format!(
            "  {} of its {} cases have not run; to go on with it: --resume {place}",
            state.counts().of(Status::NoRun),
            state.outcomes.len(),
        ),
    ])
}

/// The first few of their names.
fn names_of(outcomes: &[&Outcome]) -> String {
    let names = outcomes.iter().map(|outcome| outcome.name.as_str());
    named(&Vec::from_iter(names), NAMED)
}
