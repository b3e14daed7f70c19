//! What happens in a run: one event is one line of the journal, and a run's state is the fold of its events.

pub mod stream;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::case::name::{CaseName, on_host};
use super::facts::EarlyEnd;
use super::host::{self, Host, Modules};
use super::outcome::{Exit, Outcome, Splat, Step};
use super::planned::Planned;
use super::text;
use super::time::now_ms;

/// The version of the journal's and run.json's form; raised with every change that an older reader would get wrong.
pub const SCHEMA_VERSION: u32 = 2;

/// Something that has just happened. Each carries what is new.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// What all parts together owe: the only line of a plan, and of the journals of a merged run that keep it.
    Planned(Box<Planned>),
    /// A process begins its share of a run: the first line of each journal.
    PartStarted {
        /// What is known of it.
        part: Box<Part>,
        /// The cases that it is to run, in their order.
        cases: Vec<CaseName>,
    },
    /// The host is in an environment: its cases come after this.
    EnvironmentEntered(Box<Span>),
    /// The host was put back.
    EnvironmentLeft(Box<Span>),
    /// These cases may start from now on: on the disk before the first of them does.
    Starting {
        /// Their names.
        cases: Vec<String>,
    },
    /// A step's process was started.
    StepStarted {
        /// The case's name.
        case: String,
        /// The step.
        step: Step,
        /// Its process ID.
        pid: i32,
        /// The worker that runs it, from 0.
        worker: usize,
        /// When, in milliseconds since the epoch.
        at_ms: u64,
    },
    /// A step has ended, and nothing of it is left but the unkillable.
    StepEnded {
        /// The case's name.
        case: String,
        /// The step.
        step: Step,
        /// How its process ended.
        exit: Exit,
        /// When, in milliseconds since the epoch.
        at_ms: u64,
    },
    /// A case has ended, one way or another.
    Finished(Box<Outcome>),
    /// A case that failed has been run once more: what is known of it now, with all of its repetitions.
    Repeated(Box<Outcome>),
    /// The kernel has complained, and it could not be shown that a case made it do so.
    Splat(Box<Splat>),
    /// A process has ended its share of the run.
    PartEnded(Box<PartEnd>),
}

impl Event {
    /// The same, as a run of several hosts has it: on the one called `host`.
    #[must_use]
    pub fn on(mut self, host: &str) -> Self {
        let put = |name: &mut String| *name = on_host(host, name);
        let ours = || Some(host.to_owned());
        match &mut self {
            Self::Planned(_) => {}
            Self::PartStarted { part, cases } => {
                part.label = ours();
                cases.iter_mut().for_each(|case| case.host = ours());
            }
            Self::EnvironmentEntered(span) | Self::EnvironmentLeft(span) => span.host = ours(),
            Self::Starting { cases } => cases.iter_mut().for_each(put),
            Self::StepStarted { case, .. } | Self::StepEnded { case, .. } => put(case),
            Self::Finished(outcome) | Self::Repeated(outcome) => outcome.put_on(host),
            Self::Splat(splat) => {
                splat.host = ours();
                splat.while_running.iter_mut().for_each(put);
            }
            Self::PartEnded(end) => {
                let left = end.left_behind.iter_mut();
                left.for_each(|left| left.cases.iter_mut().for_each(put));
            }
        }
        self
    }
}

/// One process's share of a run, as it begins.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Part {
    /// Its name, unique in the run; that of its journal. Version 1 had none.
    #[serde(default)]
    pub id: String,
    /// [`SCHEMA_VERSION`] of what wrote it.
    pub schema_version: u32,
    /// This program's version.
    pub version: String,
    /// The command line, argument by argument.
    #[serde(with = "text::os_strings")]
    #[schemars(with = "Vec<String>")]
    pub command_line: Vec<OsString>,
    /// Of these, the options of the run alone, without the program and its subcommand.
    #[serde(default, with = "text::os_strings")]
    #[schemars(with = "Vec<String>")]
    pub options: Vec<OsString>,
    /// The working directory, where relative paths among them start.
    #[serde(default, with = "text::path")]
    #[schemars(with = "String")]
    pub directory: PathBuf,
    /// When it began, in milliseconds since the epoch.
    pub started_ms: u64,
    /// The process, in its own PID namespace.
    #[serde(default)]
    pub pid: u32,
    /// The host as it was then.
    pub host: Host,
    /// What the host is called in a run of several; `None` in a run on one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Where the selftests came from.
    #[serde(with = "text::os_strings")]
    #[schemars(with = "Vec<String>")]
    pub selftests: Vec<PathBuf>,
    /// The commit that they were built from, or a hash of them, where that is known.
    #[serde(default)]
    pub selftests_commit: Option<String>,
    /// How many cases run side by side at most.
    pub workers: usize,
    /// The seed of the order, where it was shuffled.
    pub shuffle_seed: Option<u64>,
    /// The ID of the run of nextest that it belongs to.
    pub nextest_run_id: Option<String>,
    /// The place that it ran at; `None` where it ran by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// It goes on with a run whose earlier parts have ended or died.
    #[serde(default)]
    pub resumes: bool,
    /// What is to be said of the known failures that do not hold: they have expired, or no case is called so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes_on_known: Vec<String>,
    /// The run that it was begun for, by the name of that run's first part: in a merged run there are several.
    #[serde(default)]
    pub run: String,
    /// The [`Planned`] that it has a share in, by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// Which share of it: `1/4`, `environment=shadow_mmu`; `None` where it is all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<String>,
}

/// How a part ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PartEnd {
    /// The part's name; of one that does not say, the last.
    #[serde(default)]
    pub part: String,
    /// When, in milliseconds since the epoch.
    pub at_ms: u64,
    /// How long it took, in seconds.
    pub duration_s: f64,
    /// The signal that interrupted it, where one did.
    pub interrupted_by: Option<i32>,
    /// Why it ended early, where no signal did that: `2 cases failed (--max-fail)`.
    #[serde(default)]
    pub ended_early: Option<String>,
    /// What the kernel's log came to.
    pub kernel: KernelEnd,
    /// What outlives processes and appeared on the host meanwhile.
    pub left_behind: Vec<LeftBehind>,
    /// What of the host could not be put back.
    pub not_restored: Vec<String>,
    /// How its place died, where it did before the part had ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub died: Option<String>,
}

impl PartEnd {
    /// That of a part which ends now, and of which nothing more is known.
    pub fn now(part: &Part) -> Self {
        let at_ms = now_ms();
        let lasted = Duration::from_millis(at_ms.saturating_sub(part.started_ms));
        Self {
            part: part.id.clone(),
            at_ms,
            duration_s: lasted.as_secs_f64(),
            kernel: KernelEnd {
                taint: part.host.taint,
                ..KernelEnd::default()
            },
            ..Self::default()
        }
    }

    /// The same, ended early for this reason, where there is one.
    #[must_use]
    pub fn because_of(mut self, why: Option<EarlyEnd>) -> Self {
        if let Some(why) = why {
            (self.interrupted_by, self.ended_early) = match why {
                EarlyEnd::Signal(signal) => (Some(signal), None),
                why => (None, Some(why.to_string())),
            };
        }
        self
    }
}

/// What the kernel's log came to in a part. The splats themselves stand elsewhere: with their cases, or in events of their own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KernelEnd {
    /// How many splats were a case's own.
    pub owned: usize,
    /// How many nobody's splats there were; beyond 50 they are only counted.
    pub stray: usize,
    /// How many were those of another run on this host.
    pub of_others: usize,
    /// How many were ignored, as the configuration says.
    pub ignored: usize,
    /// How many records were overwritten before they were read, at least.
    pub lost: u64,
    /// What kept the log from being read, or `kernel.log` from being written, after it had begun.
    pub problem: Option<String>,
    /// The taint mask at the end; `host.taint` of the part is that before.
    pub taint: u64,
}

impl KernelEnd {
    /// Whether the taint mask, which was `before`, tells of a splat that nobody saw in the log.
    pub fn has_unseen(&self, before: u64) -> bool {
        let seen = self.owned + self.stray + self.of_others + self.ignored;
        seen == 0 && host::tells_of_splat(before, self.taint)
    }
}

/// What outlives processes and was made on the host while a part ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeftBehind {
    /// What it is, for people: `4K of shared memory (shmid 3)`, `/dev/shm/x (8K)`, `a mount of tmpfs at /mnt`.
    pub what: String,
    /// When it was made, in milliseconds since the epoch, where the kernel tells.
    pub made_ms: Option<u64>,
    /// The cases that ran then: one of them may have made it.
    pub cases: Vec<String>,
}

/// A time in which the host was in an environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Span {
    /// The environment's name.
    pub environment: String,
    /// The part that entered it.
    #[serde(default)]
    pub part: String,
    /// The host's name in a run of several; `None` in a run on one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// What the environment sets: `tdp=off`, `512 hugepages of 2M`.
    pub settings: Vec<String>,
    /// What else changed with it, and what a killed run had left.
    pub notes: Vec<String>,
    /// The parameters of the loaded `kvm*` modules in it.
    pub modules: Modules,
    /// When the host began to be changed, after any wait for others, in milliseconds since the epoch.
    pub entering_ms: u64,
    /// When the host was in it.
    pub entered_ms: u64,
    /// When the host began to be put back; `None` where that is not known.
    pub leaving_ms: Option<u64>,
    /// When it was put back, or left to others who are in the same environment.
    pub left_ms: Option<u64>,
    /// What could not be put back.
    pub problem: Option<String>,
}

impl Span {
    /// Whether `other` tells of the same time.
    pub fn is(&self, other: &Self) -> bool {
        (self.entering_ms, &self.part, &self.environment)
            == (other.entering_ms, &other.part, &other.environment)
    }
}

/// Where events go: whoever makes one knows nothing of journals and displays.
pub trait Sink: Send + Sync {
    /// Takes note of `event`, and returns when everybody has.
    fn record(&self, event: Event);

    /// The case at this place of the plan is about to start: returns when the disk says so.
    fn starting(&self, place: usize);

    /// Says a line to the user.
    fn say(&self, line: &str);

    /// Something is waited for, as this message says; `None` when it is no longer.
    fn waiting(&self, message: Option<&str>);
}
