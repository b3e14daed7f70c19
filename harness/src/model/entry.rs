//! The lines of a run's journal.

use std::borrow::Cow;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kernel_log::splat::Splat;
use crate::model::host::Host;
use crate::model::name::CaseName;
use crate::model::outcome::{LeftBehind, Outcome};
use crate::model::stay::Stay;

/// The version of run.json's and journal.jsonl's form; raised with every change that an older reader would get wrong.
pub const SCHEMA_VERSION: u32 = 1;

/// What is known of a run before its first case starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunInfo {
    /// [`SCHEMA_VERSION`] of what wrote it.
    pub schema_version: u32,
    /// This program's version.
    pub version: String,
    /// The command line, argument by argument, with what is not UTF-8 replaced.
    pub command_line: Vec<String>,
    /// Of these, the options of the run alone, without the program and its subcommand.
    #[serde(default)]
    pub options: Vec<String>,
    /// The working directory, where relative paths among them start.
    #[serde(default)]
    pub directory: PathBuf,
    /// When the run began, in milliseconds since the epoch.
    pub started_ms: u64,
    /// The host as it was then.
    pub host: Host,
    /// Where the selftests came from.
    pub selftests: Vec<PathBuf>,
    /// How many cases ran side by side at most.
    pub workers: usize,
    /// The seed of the order, where it was shuffled.
    pub shuffle_seed: Option<u64>,
    /// How many cases the filters left; of a run that is resumed, how many of them were still to run. In a run of nextest,
    /// in the journal, for its first process alone.
    pub selected: usize,
    /// The ID of the run of nextest whose processes share this record.
    #[serde(default)]
    pub nextest_run_id: Option<String>,
}

/// A line of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Entry {
    /// The run began.
    RunStarted {
        /// What is known of it.
        run: Box<RunInfo>,
        /// The selected cases, in their order, whether or not it comes to them.
        #[serde(default)]
        cases: Vec<CaseName>,
    },
    /// One more process of the same run of nextest has come.
    RunJoined {
        /// When, in milliseconds since the epoch.
        at_ms: u64,
        /// The cases that it is to run.
        cases: Vec<CaseName>,
    },
    /// A run that had ended early goes on.
    RunResumed {
        /// What is known of the program that goes on with it.
        run: Box<RunInfo>,
    },
    /// An environment was entered.
    EnvironmentEntered {
        /// What is known of it by now.
        stay: Box<Stay>,
    },
    /// An environment was left.
    EnvironmentLeft {
        /// The same, whole.
        stay: Box<Stay>,
    },
    /// Some cases may run from now on: written to the disk before the first of them starts.
    Starting {
        /// Their names.
        names: Vec<String>,
    },
    /// A case's process was started.
    Started {
        /// What is known of it by now.
        outcome: Box<Outcome>,
    },
    /// A case has ended, one way or another.
    Finished {
        /// What became of it.
        outcome: Box<Outcome>,
    },
    /// The kernel complained, and it could not be shown that a case made it do so.
    Splat {
        /// What it said.
        splat: Box<Splat>,
    },
    /// The run has ended; in a run of nextest, for one of its processes.
    RunFinished {
        /// When, in milliseconds since the epoch.
        at_ms: u64,
        /// How long it took, in seconds; of a run that was resumed, the last part of it.
        duration_s: f64,
        /// The signal that interrupted it, where one did.
        interrupted_by: Option<i32>,
        /// The kernel's taint mask then; that of the host in the run's beginning was before it.
        #[serde(default)]
        taint: Option<u64>,
        /// How many records of the kernel's log were overwritten before they were read, at least.
        #[serde(default)]
        kernel_records_lost: u64,
        /// What outlives processes and appeared on the host while the run went on.
        #[serde(default)]
        left_behind: Vec<LeftBehind>,
    },
}

impl Entry {
    /// Reads a line of a journal.
    ///
    /// # Errors
    /// It is not one.
    pub fn parse(line: &[u8]) -> serde_json::Result<Self> {
        /// Nearly all lines are of cases: as a variant of an enum each would be kept in pieces before it is read.
        #[derive(Deserialize)]
        struct Any<'a> {
            #[serde(borrow)]
            event: Cow<'a, str>,
            outcome: Option<Box<Outcome>>,
        }
        /// Keys of maps that are numbers serde cannot read in a variant of an enum that is told by a tag.
        #[derive(Deserialize)]
        struct OfRun {
            run: Box<RunInfo>,
            #[serde(default)]
            cases: Vec<CaseName>,
        }
        let of_run = || serde_json::from_slice(line);
        let Any { event, outcome } = serde_json::from_slice(line)?;
        match (event.as_ref(), outcome) {
            ("started", Some(outcome)) => Ok(Self::Started { outcome }),
            ("finished", Some(outcome)) => Ok(Self::Finished { outcome }),
            ("run_started", _) => {
                of_run().map(|OfRun { run, cases }| Self::RunStarted { run, cases })
            }
            ("run_resumed", _) => of_run().map(|OfRun { run, .. }| Self::RunResumed { run }),
            _ => serde_json::from_slice(line),
        }
    }
}
