//! `--resume RUN`: goes on with a run that ended early, in its directory and as its command line had it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::cli::{self, Options};
use crate::log::record::Record;
use crate::log::results::Results;
use crate::model::case::Case;
use crate::model::entry::RunInfo;
use crate::model::outcome::{Outcome, Status};

/// A run that is to go on.
#[derive(Debug)]
pub struct Resumed {
    /// Its directory, in which nobody else writes.
    pub results: Results,
    /// What it came to before.
    pub record: Record,
}

impl Resumed {
    /// Opens the run in a directory.
    ///
    /// # Errors
    /// There is none, it cannot be read, or it has not ended.
    pub fn open(directory: &Path) -> anyhow::Result<Self> {
        let results = Results::reopen(directory)?;
        // Only now, when nobody else adds to it.
        let (record, _) = Record::read(results.root())?;
        if record.run.nextest_run_id.is_some() {
            bail!(
                "{} is a run of nextest: let nextest run again what has not run",
                results.root().display()
            );
        }
        Ok(Self { results, record })
    }

    /// The options that the run was started with, with those of `given` that do not change what runs. Goes to the
    /// directory where it was started: its relative paths begin there.
    ///
    /// # Errors
    /// The directory is gone, or this version does not understand the options.
    pub fn options(&self, given: &Options) -> anyhow::Result<Options> {
        let run = &self.record.run;
        let absolute =
            |path: &Path| std::path::absolute(path).context("find the current directory");
        let logfile = given.logfile.as_deref().map(absolute).transpose()?;
        let baseline = given.baseline.as_deref().map(absolute).transpose()?;
        std::env::set_current_dir(&run.directory).with_context(|| {
            format!(
                "go to {}, where the run was started",
                run.directory.display()
            )
        })?;
        let args = std::iter::once("kvm")
            .chain(run.options.iter().map(String::as_str))
            .map(OsString::from);
        let recorded = cli::parse_test_target(&args.collect::<Vec<_>>())
            .with_context(|| format!("understand the options of the run, {:?}", run.options))?;
        let selftests = if recorded.selftests.is_empty() {
            run.selftests.clone()
        } else {
            recorded.selftests
        };
        Ok(Options {
            resume: given.resume.clone(),
            format: given.format,
            quiet: given.quiet,
            color: given.color,
            no_capture: given.no_capture,
            show_output: given.show_output,
            test_threads: given.test_threads.or(NonZeroUsize::new(run.workers)),
            shuffle_seed: run.shuffle_seed,
            selftests,
            logfile,
            baseline,
            given: given.given.clone(),
            ..recorded
        })
    }

    /// Whether the selftests are those of the run; with none of its own, a variable may have brought in others.
    ///
    /// # Errors
    /// They are not.
    pub fn check_selftests(&self, sources: &[PathBuf]) -> anyhow::Result<()> {
        if self.record.run.selftests.is_empty() && !sources.is_empty() {
            bail!(
                "the run used the selftests built into this program: unset KVM_SELFTESTS and KERNEL_SRC to resume it"
            );
        }
        Ok(())
    }

    /// Leaves of the cases that the run selected those that have not run; suspects are marked, and run alone. Returns what is
    /// to be said of the others.
    pub fn retain(&self, cases: &mut Vec<Case>) -> Others {
        let mut to_run: HashMap<&str, bool> = self
            .record
            .of_status(Status::NoRun)
            .map(|outcome| (outcome.name.as_str(), outcome.suspect))
            .collect();
        cases.retain_mut(|case| {
            let Some(suspect) = to_run.remove(case.name.to_string().as_str()) else {
                return false;
            };
            case.suspect = suspect;
            case.exclusive |= suspect;
            true
        });
        let has_run = |outcome: &&Outcome| outcome.status != Status::NoRun;
        let is_gone = |outcome: &&Outcome| to_run.contains_key(outcome.name.as_str());
        let gone = |outcome: &Outcome| {
            let mut outcome = outcome.clone();
            outcome.set(
                Status::NoRun,
                "it is there no more: its suite or its selftest has changed".to_owned(),
            );
            outcome
        };
        Others {
            kept: self
                .record
                .outcomes
                .iter()
                .filter(has_run)
                .cloned()
                .collect(),
            gone: self
                .record
                .outcomes
                .iter()
                .filter(is_gone)
                .map(gone)
                .collect(),
        }
    }

    /// What is to be said when `info` goes on with it.
    pub fn describe(&self, info: &RunInfo, others: &Others) -> Vec<String> {
        let mut lines = vec![format!(
            "  resumed      {} of {} cases have not run",
            info.selected + others.gone.len(),
            self.record.outcomes.len()
        )];
        let is_suspect = |outcome: &&Outcome| outcome.suspect && outcome.status == Status::NoRun;
        let suspects: Vec<_> = self.record.outcomes.iter().filter(is_suspect).collect();
        if !suspects.is_empty() {
            lines.push(format!(
                "  suspects     last and alone, as they ran when it died: {}",
                named(&suspects)
            ));
        }
        let before = &self
            .record
            .resumed
            .last()
            .unwrap_or(&self.record.run)
            .host
            .kernel;
        if *before != info.host.kernel {
            lines.push(format!(
                "  kernel       {} now, {before} before",
                info.host.kernel
            ));
        }
        lines
    }
}

/// The cases of a run that do not run when it is resumed.
#[derive(Debug, Default)]
pub struct Others {
    /// Those that have run before.
    pub kept: Vec<Outcome>,
    /// Those that have not, and are there no more.
    pub gone: Vec<Outcome>,
}

impl Others {
    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Outcome> {
        self.kept.iter().chain(&self.gone)
    }
}

/// What happened to the latest of the runs in `parent`, where it was killed or its host died; `None` where it ended, or goes
/// on. It is said once, as the next run is the latest then.
pub fn what_killed_the_latest(parent: &Path) -> Option<Vec<String>> {
    let latest = parent.join("latest").canonicalize().ok()?;
    what_was_killed(&latest)
}

/// The same of the run in a directory.
pub fn what_was_killed(directory: &Path) -> Option<Vec<String>> {
    if Results::is_in_use(directory) {
        return None;
    }
    let (record, _) = Record::read(directory)
        .ok()
        .filter(|(record, _)| !record.finished)?;
    let (suspects, others): (Vec<_>, Vec<_>) = record
        .of_status(Status::NoRun)
        .partition(|outcome| outcome.suspect);
    let running = match suspects.as_slice() {
        [] => "while no case ran".to_owned(),
        some => format!("while these ran, or may have: {}", named(some)),
    };
    Some(vec![
        format!("the run in {} was killed {running}", directory.display()),
        format!(
            "  {} of its {} cases have not run; to go on with it: --resume {}",
            suspects.len() + others.len(),
            record.outcomes.len(),
            directory.display()
        ),
    ])
}

/// How many cases a line names.
const NAMED: usize = 6;

/// The first few of their names.
pub fn named(outcomes: &[&Outcome]) -> String {
    let mut names: Vec<_> = outcomes
        .iter()
        .take(NAMED)
        .map(|outcome| outcome.name.clone())
        .collect();
    names.extend((outcomes.len() > NAMED).then(|| format!("{} more", outcomes.len() - NAMED)));
    names.join(", ")
}
