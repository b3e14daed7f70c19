//! What became of a case: the facts of its process, and the status that they add up to.

use std::path::PathBuf;
use std::time::SystemTime;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kernel_log::splat::Splat;
use crate::model::case::Case;
use crate::model::name::CaseName;

/// What a case's exit means: upstream's five words.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// It ran and found nothing wrong.
    Passed,
    /// It could not be run here, for the reason given.
    Skipped,
    /// It ran and found something wrong.
    Failed,
    /// It did not end in its time, and was killed.
    TimedOut,
    /// It never ran, although it should have.
    NoRun,
}

impl Status {
    /// All of them, the best first.
    pub const ALL: [Self; 5] = [
        Self::Passed,
        Self::Skipped,
        Self::Failed,
        Self::TimedOut,
        Self::NoRun,
    ];

    /// Whether a run with such a case has failed.
    pub fn is_failure(self) -> bool {
        match self {
            Self::Passed | Self::Skipped => false,
            Self::Failed | Self::TimedOut | Self::NoRun => true,
        }
    }

    /// The word that users see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "PASSED",
            Self::Skipped => "SKIPPED",
            Self::Failed => "FAILED",
            Self::TimedOut => "TIMED_OUT",
            Self::NoRun => "NO_RUN",
        }
    }
}

/// What happened to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// A signal ended it.
    Signal {
        /// The signal's number.
        signal: i32,
        /// Whether the kernel says that it dumped core.
        core_dumped: bool,
    },
    /// It was killed because its time was up.
    Timeout,
    /// It was killed because the run was interrupted.
    Interrupted,
}

/// A process that outlived its case and had to be killed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Leak {
    /// Its process ID, in the runner's PID namespace.
    pub pid: i32,
    /// Its command name, from `/proc/PID/comm` (proc(5)), with what is not UTF-8 replaced.
    pub command: String,
    /// Whether even SIGKILL did not end it within the time allowed (a process stuck in the kernel).
    pub unkillable: bool,
}

/// What outlives processes and was left on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LeftBehind {
    /// What it is, for people: `4K of shared memory (shmid 3)`, `/dev/shm/x (8K)`, `a mount of tmpfs at /mnt`.
    pub what: String,
    /// When it was made, in milliseconds since the epoch, where the kernel tells.
    pub made_ms: Option<u64>,
    /// Who may have made it: the cases that ran then. Where only an outcome has it, it is certain to be that one's.
    pub cases: Vec<String>,
    /// Whether it was removed.
    pub removed: bool,
}

/// The first failed assertion of a selftest: upstream's `==== Test Assertion Failure ====` (lib/assert.c).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Assertion {
    /// The source file, as the selftest prints it (`dirty_log_test.c`, `lib/kvm_util.c`).
    pub file: String,
    /// The line in it.
    pub line: u32,
    /// The expression that did not hold.
    pub expression: String,
    /// The message under the backtrace, which may span lines; empty where there is none.
    pub message: String,
    /// The `errno` printed with it, if it could be read.
    pub errno: Option<i32>,
}

/// The result of one KTAP sub-test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SubtestResult {
    /// `ok`
    Ok,
    /// `not ok`
    NotOk,
    /// `ok … # SKIP`
    Skip,
    /// `not ok … # TODO` or `# XFAIL`: expected to fail.
    Todo,
}

/// A KTAP sub-test that a selftest reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Subtest {
    /// Its description, without a leading `- `; its number where it has none. A nested one is `parent/child`.
    pub name: String,
    /// How it went.
    pub result: SubtestResult,
    /// What follows `# SKIP`, `# TODO` or `# XFAIL`.
    pub reason: Option<String>,
}

/// What became of a case.
///
/// Facts and what was derived from them; the output itself stays in its files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// The case's whole name, unique in its run.
    pub name: String,
    /// The environment part of the name; `None` is the host as it was.
    pub environment: Option<String>,
    /// The suite part of the name.
    pub suite: String,
    /// The rest of the name.
    pub variant: String,
    /// What it means.
    pub status: Status,
    /// Why, for people: the first line stands alone.
    pub reason: Option<String>,
    /// What happened to the case's process, where one was started.
    pub exit: Option<Exit>,
    /// The process's ID, in the runner's PID namespace.
    pub pid: Option<i32>,
    /// When the case began, in milliseconds since the epoch.
    pub started_ms: u64,
    /// How long the case's own process ran, in seconds; 0 where none was started.
    pub duration_s: f64,
    /// CPU time of the process and those it waited for, in user mode, in seconds.
    pub user_s: f64,
    /// The same, in the kernel.
    pub system_s: f64,
    /// The largest resident set of any one of its processes, in bytes.
    pub max_rss: u64,
    /// Which of the run's workers ran it, from 0; 0 also where none did.
    pub worker: usize,
    /// The directory of its output, relative to the run's; `None` where it has none.
    pub output: Option<PathBuf>,
    /// The size of its standard output there, in bytes; `None` where that is not known, as where something of it that
    /// cannot be killed may still write.
    #[serde(default)]
    pub stdout_bytes: Option<u64>,
    /// The same, of its standard error.
    #[serde(default)]
    pub stderr_bytes: Option<u64>,
    /// A shell command that repeats it by hand.
    pub reproduce: String,
    /// Its first failed assertion.
    // Most have none, and need no room for one.
    pub assertion: Option<Box<Assertion>>,
    /// The KTAP sub-tests that it reported.
    pub subtests: Vec<Subtest>,
    /// The processes that outlived it and were killed.
    pub leaks: Vec<Leak>,
    /// What the kernel complained of because of it.
    #[serde(default)]
    pub splats: Vec<Splat>,
    /// Whether it ran, or may have, when the runner or the host died; it stays so when the case has been run again.
    #[serde(default)]
    pub suspect: bool,
    /// What else its own process made and left: shared memory, whose maker the kernel knows.
    #[serde(default)]
    pub left_behind: Vec<LeftBehind>,
}

impl Outcome {
    /// That of a case that has not run yet.
    pub fn new(case: &Case) -> Self {
        Self {
            reproduce: case.reproduce(),
            suspect: case.suspect,
            ..Self::of(&case.name, now_ms())
        }
    }

    /// That of a case of which no more is known than its name and when it could have begun.
    pub fn of(name: &CaseName, started_ms: u64) -> Self {
        Self {
            name: name.to_string(),
            environment: name.environment.clone(),
            suite: name.suite.clone(),
            variant: name.variant.clone(),
            status: Status::NoRun,
            reason: None,
            exit: None,
            pid: None,
            started_ms,
            duration_s: 0.0,
            user_s: 0.0,
            system_s: 0.0,
            max_rss: 0,
            worker: 0,
            output: None,
            stdout_bytes: None,
            stderr_bytes: None,
            reproduce: String::new(),
            assertion: None,
            subtests: Vec::new(),
            leaks: Vec::new(),
            splats: Vec::new(),
            suspect: false,
            left_behind: Vec::new(),
        }
    }

    /// Decides on `status`, for `reason`.
    pub fn set(&mut self, status: Status, reason: String) {
        (self.status, self.reason) = (status, Some(reason));
    }

    /// The kernel complained because of it: it has failed, however it ended, and that is what is said first.
    pub fn blame(&mut self, splats: Vec<Splat>) {
        if splats.is_empty() {
            return;
        }
        let titles = splats
            .iter()
            .map(|splat| format!("kernel: {}", splat.title));
        let reasons: Vec<_> = titles.chain(self.reason.take()).collect();
        self.set(Status::Failed, reasons.join("\n"));
        self.splats.extend(splats);
    }

    /// The reason, and all that the kernel said because of it, for people.
    pub fn account(&self) -> String {
        let reason = self.reason.as_deref().unwrap_or_default();
        let kernel = self
            .splats
            .iter()
            .flat_map(|splat| &splat.lines)
            .map(|line| format!("\nkernel: {line}"));
        std::iter::once(reason.to_owned()).chain(kernel).collect()
    }

    /// Something else went wrong: what was no failure becomes one, and what was keeps its reason first.
    pub fn worsen(&mut self, reason: String) {
        if self.status.is_failure() {
            let reasons = self.reason.get_or_insert_default();
            reasons.push_str(if reasons.is_empty() { "" } else { "\n" });
            reasons.push_str(&reason);
        } else {
            self.set(Status::Failed, reason);
        }
    }
}

/// The wall clock, in milliseconds since the epoch.
pub fn now_ms() -> u64 {
    milliseconds(SystemTime::now())
}

/// `time` in milliseconds since the epoch; 0 for what lies before it.
pub fn milliseconds(time: SystemTime) -> u64 {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
