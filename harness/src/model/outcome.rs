//! What became of a case.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use signal_hook::low_level::signal_name;

use self::known::{Expectation, KnownFailure, SUBTEST_IS_WRONG};
use super::case::name::{CaseName, on_host};
use super::text;

pub mod known;
pub mod signature;

/// What became of a case: upstream's five words.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
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
    #[default]
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

    /// Whether it tells that something is wrong, known or not.
    pub fn is_failure(self) -> bool {
        OutcomeKind::from(self).is_failure()
    }

    /// The word that users see.
    pub fn as_str(self) -> &'static str {
        OutcomeKind::from(self).as_str()
    }
}

/// What an outcome counts as: its status, but where it is a known failure, or passed against that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OutcomeKind {
    /// [`Status::Passed`]
    Passed,
    /// It is known to fail, and passed.
    Xpass,
    /// [`Status::Skipped`]
    Skipped,
    /// It failed, or did not end in its time, as it is known to do.
    Known,
    /// [`Status::Failed`]
    Failed,
    /// [`Status::TimedOut`]
    TimedOut,
    /// [`Status::NoRun`]
    NoRun,
}

impl OutcomeKind {
    /// All of them, the best first.
    pub const ALL: [Self; 7] = [
        Self::Passed,
        Self::Xpass,
        Self::Skipped,
        Self::Known,
        Self::Failed,
        Self::TimedOut,
        Self::NoRun,
    ];

    /// Whether a run with such a case has failed.
    pub fn is_failure(self) -> bool {
        match self {
            Self::Passed | Self::Xpass | Self::Skipped | Self::Known => false,
            Self::Failed | Self::TimedOut | Self::NoRun => true,
        }
    }

    /// The word that users see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "PASSED",
            Self::Xpass => "XPASS",
            Self::Skipped => "SKIPPED",
            Self::Known => "KNOWN",
            Self::Failed => "FAILED",
            Self::TimedOut => "TIMED_OUT",
            Self::NoRun => "NO_RUN",
        }
    }
}

impl From<Status> for OutcomeKind {
    fn from(status: Status) -> Self {
        match status {
            Status::Passed => Self::Passed,
            Status::Skipped => Self::Skipped,
            Status::Failed => Self::Failed,
            Status::TimedOut => Self::TimedOut,
            Status::NoRun => Self::NoRun,
        }
    }
}

/// How many cases have ended, of every kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts([usize; OutcomeKind::ALL.len()]);

impl Counts {
    /// Those of these kinds.
    pub fn of_all<K: Into<OutcomeKind>>(kinds: impl IntoIterator<Item = K>) -> Self {
        let mut counts = Self::default();
        kinds.into_iter().for_each(|kind| counts.add(kind));
        counts
    }

    /// Counts one more.
    pub fn add(&mut self, kind: impl Into<OutcomeKind>) {
        self.0[kind.into() as usize] += 1;
    }

    /// Counts one less.
    pub fn remove(&mut self, kind: impl Into<OutcomeKind>) {
        self.0[kind.into() as usize] -= 1;
    }

    /// How many of `kind`.
    pub fn of(self, kind: impl Into<OutcomeKind>) -> usize {
        self.0[kind.into() as usize]
    }

    /// The kinds of which there are any.
    pub fn there(self) -> impl Iterator<Item = OutcomeKind> {
        let kinds = OutcomeKind::ALL.into_iter();
        kinds.filter(move |kind| self.of(*kind) > 0)
    }

    /// Those that failed in one way or another.
    pub fn failures(self) -> usize {
        let failures = self.there().filter(|kind| kind.is_failure());
        failures.map(|kind| self.of(kind)).sum()
    }

    /// All of them.
    pub fn total(self) -> usize {
        self.0.iter().sum()
    }
}

impl Serialize for Counts {
    /// `{"PASSED": 1, "FAILED": 2}`: those of which there are any.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.there().map(|kind| (kind, self.of(kind))))
    }
}

impl fmt::Display for Counts {
    /// `1 PASSED, 2 FAILED`: those of which there are any.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.there();
        let words = words.map(|kind| format!("{} {}", self.of(kind), kind.as_str()));
        f.write_str(&Vec::from_iter(words).join(", "))
    }
}

/// How a process ended.
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
    /// It was killed because the user wanted this one to end.
    ByUser,
}

impl fmt::Display for Exit {
    /// `exit code 1`, `killed by SIGSEGV (core dumped)`, with what upstream means by a code.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Code(4) => f.write_str("exit code 4 (skip)"),
            Self::Code(254) => f.write_str("exit code 254 (failed assertion)"),
            Self::Code(code) => {
                write!(f, "exit code {code}")?;
                match code.checked_sub(128).and_then(signal_name) {
                    Some(name) => write!(f, " (a shell's word for {name})"),
                    None => Ok(()),
                }
            }
            Self::Signal {
                signal,
                core_dumped,
            } => {
                match signal_name(signal) {
                    Some(name) => write!(f, "killed by {name}")?,
                    None => write!(f, "killed by signal {signal}")?,
                }
                f.write_str(if core_dumped { " (core dumped)" } else { "" })
            }
            Self::Timeout => f.write_str("did not end in its time"),
            Self::Interrupted => f.write_str("interrupted"),
            Self::ByUser => f.write_str("ended by the user"),
        }
    }
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        match status.signal() {
            Some(signal) => Self::Signal {
                signal,
                core_dumped: status.core_dumped(),
            },
            None => Self::Code(status.code().unwrap_or_default()),
        }
    }
}

/// What is run for a case, in this order.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The set-up of its suite, before the suite's first case.
    SuiteSetup,
    /// What decides whether it can run.
    Precheck,
    /// Its own set-up.
    Setup,
    /// The selftest itself.
    Selftest,
    /// Its own tear-down.
    Teardown,
    /// The tear-down of its suite, after the suite's last case.
    SuiteTeardown,
}

impl Step {
    /// What its output files are called, before `.stdout` and `.stderr`.
    pub fn file_stem(self) -> &'static str {
        match self {
            Self::SuiteSetup => "suite_setup",
            Self::Precheck => "precheck",
            Self::Setup => "setup",
            Self::Selftest => "command",
            Self::Teardown => "teardown",
            Self::SuiteTeardown => "suite_teardown",
        }
    }

    /// What it is called in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SuiteSetup => "suite set-up",
            Self::Precheck => "precheck",
            Self::Setup => "set-up",
            Self::Selftest => "selftest",
            Self::Teardown => "tear-down",
            Self::SuiteTeardown => "suite tear-down",
        }
    }
}

/// A process that outlived its case and had to be killed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Leak {
    /// Its process ID, in the runner's PID namespace; 0 where it could not be seen.
    pub pid: i32,
    /// Its command name, from `/proc/PID/comm` (proc(5)), with what is not UTF-8 replaced.
    pub command: String,
    /// Whether even SIGKILL did not end it within the time allowed (a process stuck in the kernel).
    pub unkillable: bool,
}

impl Leak {
    /// Which one it is, and why it lives on.
    pub fn describe(&self) -> String {
        let (command, pid) = (text::one_line(&self.command), self.pid);
        match (self.unkillable, pid) {
            (true, 0) => "a process that cannot be seen, and so not be killed".to_owned(),
            (true, _) => format!("{command} (pid {pid}; even SIGKILL did not end it)"),
            (false, _) => format!("{command} (pid {pid})"),
        }
    }
}

/// The first failed assertion of a selftest: upstream's `==== Test Assertion Failure ====` (lib/assert.c).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    /// The first frame of its backtrace outside of `lib/`, as `FILE:LINE`; `None` where that is not known.
    #[serde(default)]
    pub caller: Option<String>,
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
    /// `not ok … # TODO` or `# XFAIL`: failed as expected.
    Todo,
    /// `ok … # TODO` or `# XPASS`: passed against expectation.
    Xpass,
}

/// A KTAP sub-test that a selftest reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Subtest {
    /// Its description, without a leading `- `; its number where it has none. A nested one is `parent/child`.
    pub name: String,
    /// How it went.
    pub result: SubtestResult,
    /// What follows `# SKIP`, `# TODO` or `# XFAIL`.
    pub reason: Option<String>,
}

impl Subtest {
    /// What is wrong with it, if anything is.
    pub fn wrong(&self) -> Option<String> {
        let [not_ok, xpass] = SUBTEST_IS_WRONG;
        match self.result {
            SubtestResult::NotOk => Some(format!("{not_ok}{}", self.name)),
            SubtestResult::Xpass => Some(format!("{xpass}{}", self.name)),
            SubtestResult::Ok | SubtestResult::Skip | SubtestResult::Todo => None,
        }
    }
}

/// A complaint of the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Splat {
    /// What it is: `WARNING`, `KASAN`, `OOM kill`.
    pub name: String,
    /// The line that says so.
    pub title: String,
    /// When it began, in microseconds of the kernel's clock (nearly `CLOCK_MONOTONIC`).
    pub at_us: u64,
    /// All of its lines; of a very long one the beginning and the end.
    pub lines: Vec<String>,
    /// The cases that were running when it began, where it could not be shown to be that of one of them.
    pub while_running: Vec<String>,
    /// The host's name in a run of several; `None` in a run on one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

impl Splat {
    /// What was running when it began, in words.
    pub fn when(&self) -> String {
        /// How many cases are named.
        const NAMED: usize = 12;
        let cases = &self.while_running;
        if cases.is_empty() {
            let host = self.host.iter().map(|host| format!("on {host}, "));
            return host.collect::<String>() + "while no case was running";
        }
        format!("while this ran: {}", text::named(cases, NAMED))
    }
}

/// How much a selftest printed to one of its streams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Printed {
    /// All of it, in bytes.
    pub bytes: u64,
    /// How many bytes of these were left out of the middle of the file.
    pub cut: u64,
}

/// What became of a case: the facts that others want to know, and what they add up to. The output itself stays in its files.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Outcome {
    /// The case's whole name, unique in its run.
    pub name: String,
    /// The host's name in a run of several; `None` in a run on one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The environment part of the name; `None` is the host as it was.
    pub environment: Option<String>,
    /// The suite part of the name.
    pub suite: String,
    /// The variant part of the name.
    pub variant: String,
    /// Which of several iterations it is, from 1; `None` where it ran once.
    #[serde(default)]
    pub iteration: Option<u32>,
    /// What became of it.
    pub status: Status,
    /// Why, for people: the first line stands alone.
    pub reason: Option<String>,
    /// How its selftest ended, where it was started.
    pub exit: Option<Exit>,
    /// The ID of its selftest's process, in the runner's PID namespace.
    pub pid: Option<i32>,
    /// When it began, in milliseconds since the epoch.
    pub started_ms: u64,
    /// How long its selftest ran, in seconds; 0 where it was not started.
    pub duration_s: f64,
    /// CPU time of all its selftest's processes, in user mode, in seconds.
    pub user_s: f64,
    /// The same, in the kernel.
    pub system_s: f64,
    /// The largest resident set of any one of its processes, in bytes.
    pub max_rss: u64,
    /// Which of the run's workers ran it, from 0; 0 also where none did.
    pub worker: usize,
    /// The directory of its output, relative to the run's; `None` where it has none.
    #[serde(with = "text::optional_path")]
    #[schemars(with = "Option<String>")]
    pub output: Option<PathBuf>,
    /// How much it printed to its standard output.
    #[serde(default)]
    pub stdout: Printed,
    /// How much it printed to its standard error.
    #[serde(default)]
    pub stderr: Printed,
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
    /// What became of it when it was run again, alone, because it had failed (`--retry-failed`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repetitions: Vec<Outcome>,
    /// What is wrong with it beside its assertion, its sub-tests and the kernel's splats.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beside: Vec<String>,
    /// The known failure that it is; where it passed, the one that it should have been.
    // Most have none, and need no room for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<Box<KnownFailure>>,
}

impl Outcome {
    /// That of a case of which nothing more is known than its name and when it could have begun.
    pub fn no_run(name: &CaseName, started_ms: u64, reason: &str) -> Self {
        Self {
            name: name.to_string(),
            host: name.host.clone(),
            environment: name.environment.clone(),
            suite: name.suite.clone(),
            variant: name.variant.clone(),
            iteration: name.iteration,
            reason: Some(reason.to_owned()),
            started_ms,
            ..Self::default()
        }
    }

    /// What it counts as.
    pub fn kind(&self) -> OutcomeKind {
        match (self.status, &self.known) {
            (Status::Passed, Some(_)) => OutcomeKind::Xpass,
            (Status::Failed | Status::TimedOut, Some(_)) => OutcomeKind::Known,
            (status, _) => status.into(),
        }
    }

    /// Why it does not count as passed, in a line: that it is known where it is, else the first line of the reason.
    pub fn message(&self) -> String {
        match &self.known {
            Some(known) => known.to_string(),
            None => self.first_line().to_owned(),
        }
    }

    /// The line that says how to repeat it by hand, the command as it is `shown`; none where no command is known.
    pub fn reproduce_line(&self, shown: impl FnOnce(&str) -> String) -> Option<String> {
        let command = Some(&*self.reproduce).filter(|command| !command.is_empty())?;
        Some(format!("reproduce: {}", shown(command)))
    }

    /// How often it failed, `failed 1 of 4`, where it was run again. What could not be run, or was skipped, says nothing.
    pub fn rate(&self) -> Option<String> {
        let all = self.repetitions.iter().map(|one| one.status);
        let counts = Counts::of_all(all.chain([self.status]));
        let failed = counts.of(Status::Failed) + counts.of(Status::TimedOut);
        let ran = failed + counts.of(Status::Passed);
        (!self.repetitions.is_empty()).then(|| format!("failed {failed} of {ran}"))
    }

    /// The same, as a run of several hosts has it: on the one called `host`.
    pub fn put_on(&mut self, host: &str) {
        self.host = Some(host.to_owned());
        self.name = on_host(host, &self.name);
        self.output = self
            .output
            .as_ref()
            .map(|place| Path::new(host).join(place));
        let repetitions = self.repetitions.iter_mut();
        repetitions.for_each(|repetition| repetition.put_on(host));
    }

    /// The first line of the reason; empty where there is none.
    pub fn first_line(&self) -> &str {
        let reason = self.reason.as_deref().unwrap_or_default();
        reason.lines().next().unwrap_or_default()
    }

    /// Whether it is a failure that is known to come and go, and is repeated therefore.
    pub fn is_flaky(&self) -> bool {
        let known = self.known.as_ref();
        self.kind() == OutcomeKind::Known
            && known.is_some_and(|known| known.expect == Expectation::Flaky)
    }

    /// The name of its case.
    pub fn case_name(&self) -> CaseName {
        CaseName {
            host: self.host.clone(),
            environment: self.environment.clone(),
            suite: self.suite.clone(),
            variant: self.variant.clone(),
            iteration: self.iteration,
            retry: None,
        }
    }

    /// The name without its iteration.
    pub fn listed(&self) -> &str {
        super::case::name::listed(&self.name)
    }

    /// The name that it has on its host.
    pub fn name_there(&self) -> &str {
        // A name has `::` behind its host.
        let before = self.host.as_ref().map_or(0, |host| host.len() + 2);
        self.name.get(before..).unwrap_or(&self.name)
    }

    /// The same without its iteration.
    pub fn listed_there(&self) -> &str {
        super::case::name::listed(self.name_there())
    }
}
