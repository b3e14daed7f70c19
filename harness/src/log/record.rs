//! A run as its directory tells of it, read back from run.json, or from the journal of a run that did not end.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufReader, ErrorKind};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use schemars::JsonSchema;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::kernel_log::splat::Splat;
use crate::log::no_links;
use crate::log::replay::Replay;
use crate::log::results::{JOURNAL, RUN_JSON};
use crate::model::entry::{RunInfo, SCHEMA_VERSION};
use crate::model::outcome::{LeftBehind, Outcome, Status};
use crate::model::stay::Stay;

/// A whole run: what run.json holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// [`SCHEMA_VERSION`] of what wrote it.
    pub schema_version: u32,
    /// What was known before the first case.
    pub run: RunInfo,
    /// What was known each time that it was resumed.
    #[serde(default)]
    pub resumed: Vec<RunInfo>,
    /// What became of each case, in the order of their ends, and then of those that have none.
    pub outcomes: Vec<Outcome>,
    /// The stays in environments, in the order in which they began.
    #[serde(default)]
    pub stays: Vec<Stay>,
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
    /// What outlives processes and appeared on the host while the run went on.
    #[serde(default)]
    pub left_behind: Vec<LeftBehind>,
}

/// How long a name like `2026-01-31T23-59-59Z` is.
const TIME_LENGTH: usize = 20;

impl Record {
    /// Reads the run in a directory (or the one that a run.json lies in). Of a run that did not come to its end the
    /// journal is read: what had not ended is `NO_RUN`.
    ///
    /// # Errors
    /// There is no run, it cannot be read, or it was written by a newer version.
    pub fn read(path: &Path) -> anyhow::Result<(Self, PathBuf)> {
        let directory = if path.is_dir() {
            path
        } else {
            path.parent().unwrap_or(path)
        };
        let run_json = if path.is_dir() {
            path.join(RUN_JSON)
        } else {
            path.to_owned()
        };
        let has_journal = directory.join(JOURNAL).is_file();
        let record = match fs::read(&run_json) {
            // The runner was killed before it could write even the first one, or the host before it was on the disk.
            Err(error) if error.kind() == ErrorKind::NotFound && has_journal => None,
            Ok(text) if has_journal && serde_json::from_slice::<IgnoredAny>(&text).is_err() => None,
            text => Some(
                text.map_err(Into::into)
                    .and_then(|text| Self::parse(&text))
                    .with_context(|| format!("read {}", run_json.display()))?,
            ),
        };
        let record = match record {
            Some(record) if record.finished || !has_journal => record,
            begun => Self::of_journal(directory, begun.map(|record| record.run))?,
        };
        Ok((record, directory.to_owned()))
    }

    fn parse(text: &[u8]) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            schema_version: u32,
        }
        let Version { schema_version } =
            serde_json::from_slice(text).context("find its schema_version")?;
        check_version(schema_version)?;
        Ok(serde_json::from_slice(text)?)
    }

    /// The run in `directory` as its journal tells it; `begun` says how it began, where the journal's first line is lost.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of_journal(directory: &Path, begun: Option<RunInfo>) -> anyhow::Result<Self> {
        let journal = directory.join(JOURNAL);
        File::open(&journal)
            .map_err(Into::into)
            .and_then(|file| Self::replayed(file, begun))
            .with_context(|| format!("read {}", journal.display()))
    }

    /// The run that a journal tells.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn replayed(journal: File, begun: Option<RunInfo>) -> anyhow::Result<Self> {
        Replay::of(BufReader::new(journal))?
            .record(begun)
            .context("find how the run began")
    }

    /// The record of a run that begins.
    pub fn begun(run: RunInfo) -> Self {
        Self {
            schema_version: run.schema_version,
            run,
            resumed: Vec::new(),
            outcomes: Vec::new(),
            stays: Vec::new(),
            splats: Vec::new(),
            taint: None,
            kernel_records_lost: 0,
            finished: false,
            duration_s: None,
            interrupted_by: None,
            left_behind: Vec::new(),
        }
    }

    /// Writes run.json in `directory`, an absolute path without links, in one step: readers see the old one or the new one.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, directory: &Path) -> anyhow::Result<()> {
        no_links::replace(&directory.join(RUN_JSON), |file| {
            serde_json::to_writer(&mut *file, self)?;
            file.write_all(b"\n")
        })
    }

    /// The run before the one in a directory: of the directories beside it that are named after the time, the last one
    /// with a run that can be read.
    pub fn before(directory: &Path) -> Option<Self> {
        let directory = directory.canonicalize().ok()?;
        let (parent, name) = (directory.parent()?, directory.file_name()?);
        let is_time =
            |name: &OsStr| name.len() >= TIME_LENGTH && name.as_encoded_bytes().starts_with(b"20");
        let entries = fs::read_dir(parent)
            .ok()?
            .flatten()
            .map(|entry| entry.file_name());
        let mut earlier: Vec<_> = entries
            .filter(|other| is_time(other) && is_time(name) && *other < *name)
            .collect();
        earlier.sort();
        earlier
            .iter()
            .rev()
            .find_map(|name| Self::read(&parent.join(name)).ok())
            .map(|(record, _)| record)
    }

    /// The last stay in the environment of this name.
    pub fn last_stay(&self, environment: &str) -> Option<&Stay> {
        self.stays
            .iter()
            .rfind(|stay| stay.environment == environment)
    }

    /// The outcomes of this status.
    pub fn of_status(&self, status: Status) -> impl Iterator<Item = &Outcome> {
        self.outcomes
            .iter()
            .filter(move |outcome| outcome.status == status)
    }
}

/// Refuses what a newer version wrote.
pub(crate) fn check_version(schema_version: u32) -> anyhow::Result<()> {
    if schema_version > SCHEMA_VERSION {
        bail!(
            "it has schema version {schema_version}, and this program knows versions up to {SCHEMA_VERSION}: use the \
             kvm-tests that wrote it, or a newer one"
        );
    }
    Ok(())
}
