//! A run as its directory tells of it, read back from run.json, or from the journal of a run that did not end.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::kernel_log::splat::Splat;
use crate::outcome::{Outcome, Status};
use crate::results::{Entry, JOURNAL, RUN_JSON, RunInfo, SCHEMA_VERSION};

/// A whole run: what run.json holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// [`SCHEMA_VERSION`] of what wrote it.
    pub schema_version: u32,
    /// What was known before the first case.
    pub run: RunInfo,
    /// What became of each case, in the order of their ends.
    pub outcomes: Vec<Outcome>,
    /// The splats of the kernel that could not be shown to be a case's own.
    #[serde(default)]
    pub splats: Vec<Splat>,
    /// The kernel's taint mask at the run's end; before it, it was `run.host.taint`.
    #[serde(default)]
    pub taint: Option<u64>,
    /// How many records of the kernel's log were overwritten before they were read, at least.
    #[serde(default)]
    pub kernel_records_lost: u64,
    /// Whether the run came to its end, however it ended.
    pub finished: bool,
    /// How long it took, in seconds; `None` where it did not come to its end.
    pub duration_s: Option<f64>,
    /// The signal that interrupted it, where one did.
    pub interrupted_by: Option<i32>,
}

/// How long a name like `2026-01-31T23-59-59Z` is.
const TIME_LENGTH: usize = 20;

impl Record {
    /// Reads the run in a directory (or the one that a run.json lies in). Of a run that did not come to its end the
    /// journal is read: what had been started and not ended is `NO_RUN`.
    ///
    /// # Errors
    /// There is no run, it cannot be read, or it was written by a newer version.
    pub fn read(path: &Path) -> anyhow::Result<(Self, PathBuf)> {
        let directory = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
        let run_json = if path.is_dir() { path.join(RUN_JSON) } else { path.to_owned() };
        let journal = directory.join(JOURNAL);
        let record = match std::fs::read(&run_json) {
            // The runner was killed before it could write even the first one.
            Err(error) if error.kind() == ErrorKind::NotFound && journal.is_file() => Self::begun(&journal)?,
            text => text
                .map_err(Into::into)
                .and_then(|text| {
                    check_version(&text)?;
                    Ok::<Self, anyhow::Error>(serde_json::from_slice(&text)?)
                })
                .with_context(|| format!("read {}", run_json.display()))?,
        };
        if record.finished || !journal.is_file() {
            return Ok((record, directory.to_owned()));
        }
        let file = File::open(&journal).with_context(|| format!("open {}", journal.display()))?;
        let record =
            record.completed(BufReader::new(file)).with_context(|| format!("read {}", journal.display()))?;
        Ok((record, directory.to_owned()))
    }

    /// The record of a run of which only the journal tells that it began.
    fn begun(journal: &Path) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Begin {
            run: Box<RawValue>,
        }
        let file = File::open(journal).with_context(|| format!("open {}", journal.display()))?;
        let first = BufReader::new(file).lines().next().transpose().map(Option::unwrap_or_default);
        let run = first.map_err(Into::into).and_then(|line| {
            let Begin { run } = serde_json::from_str(&line).context("find how the run began")?;
            check_version(run.get().as_bytes())?;
            Ok::<RunInfo, anyhow::Error>(serde_json::from_str(run.get())?)
        });
        let run = run.with_context(|| format!("read {}", journal.display()))?;
        Ok(Self {
            schema_version: run.schema_version,
            run,
            outcomes: Vec::new(),
            splats: Vec::new(),
            taint: None,
            kernel_records_lost: 0,
            finished: false,
            duration_s: None,
            interrupted_by: None,
        })
    }

    /// The record of a run that did not come to its end, with what its journal tells.
    fn completed(mut self, journal: impl BufRead) -> anyhow::Result<Self> {
        let mut known: HashSet<String> = self.outcomes.iter().map(|outcome| outcome.name.clone()).collect();
        let mut started = Vec::new();
        for line in journal.split(b'\n') {
            // The last line may have been cut off with its writer.
            let Ok(entry) = serde_json::from_slice(&line?) else { continue };
            match entry {
                Entry::Started { outcome } => started.push(*outcome),
                Entry::Finished { outcome } => {
                    if known.insert(outcome.name.clone()) {
                        self.outcomes.push(*outcome);
                    }
                }
                Entry::RunJoined { selected, .. } => self.run.selected += selected,
                Entry::Splat { splat } => {
                    // The run.json that it was begun from may have it.
                    if !self.splats.contains(&splat) {
                        self.splats.push(*splat);
                    }
                }
                Entry::RunStarted { .. } | Entry::RunFinished { .. } => {}
            }
        }
        for mut outcome in started {
            if known.insert(outcome.name.clone()) {
                outcome.set(Status::NoRun, "the run ended while this was running".to_owned());
                self.outcomes.push(outcome);
            }
        }
        Ok(self)
    }

    /// The run before the one in a directory: of the directories beside it that are named after the time, the last one
    /// with a run that can be read.
    pub fn before(directory: &Path) -> Option<Self> {
        let directory = directory.canonicalize().ok()?;
        let (parent, name) = (directory.parent()?, directory.file_name()?);
        let is_time = |name: &OsStr| name.len() >= TIME_LENGTH && name.as_encoded_bytes().starts_with(b"20");
        let entries = std::fs::read_dir(parent).ok()?.flatten().map(|entry| entry.file_name());
        let mut earlier: Vec<_> =
            entries.filter(|other| is_time(other) && is_time(name) && *other < *name).collect();
        earlier.sort();
        earlier.iter().rev().find_map(|name| Self::read(&parent.join(name)).ok()).map(|(record, _)| record)
    }

    /// The outcomes of this status.
    pub fn of_status(&self, status: Status) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(move |outcome| outcome.status == status)
    }
}

fn check_version(text: &[u8]) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Version {
        schema_version: u32,
    }
    let Version { schema_version } = serde_json::from_slice(text).context("find its schema_version")?;
    if schema_version > SCHEMA_VERSION {
        bail!(
            "it has schema version {schema_version}, and this program knows versions up to {SCHEMA_VERSION}: use the \
             kvm-tests that wrote it, or a newer one"
        );
    }
    Ok(())
}
