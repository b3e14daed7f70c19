//! What was seen of a case: from these facts, and from nothing else, the verdict is made.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::outcome::{Assertion, Exit, Leak, Printed, Splat, Step, Subtest, SubtestResult};
use super::text::plural;
use super::time::seconds;

/// What was seen of a case, from its admission to its end.
#[derive(Debug, Default)]
pub struct Facts {
    /// Why its selftest was not run, where that is none of its steps' doing.
    pub obstacle: Option<Obstacle>,
    /// Why the run ended early, where it had when this case did.
    pub ended_early: Option<EarlyEnd>,
    /// The steps that were run, or should have been, in order.
    pub steps: Vec<(Step, StepEnd)>,
    /// What the kernel complained of because of it.
    pub splats: Vec<Splat>,
    /// Where the kernel put the core of its selftest, where it dumped one.
    pub core_dump: Option<String>,
    /// Where the guest was, where an assertion tells its RIP.
    pub guest_rip: Option<String>,
    /// Which of the run's workers ran it, from 0.
    pub worker: usize,
}

impl Facts {
    /// How a step ended; `None` where it was not run.
    pub fn step(&self, step: Step) -> Option<&StepEnd> {
        let ended = self.steps.iter().find(|(ended, _)| *ended == step);
        ended.map(|(_, end)| end)
    }

    /// How the selftest itself ended; `None` where it did not run.
    pub fn selftest(&self) -> Option<&Ended> {
        self.step(Step::Selftest)?.as_ref().ok()
    }
}

/// How a step ended, or why it could not be started.
pub type StepEnd = Result<Ended, String>;

/// Why a selftest was not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// It was listed as ignored, for this reason.
    Ignored(String),
    /// What should run is not there, or cannot be run.
    Missing(String),
    /// This host cannot be in its environment.
    Impossible(String),
    /// It should have run, and something went wrong: its environment, a lock, its supervisor.
    Failed(String),
    /// Two hosts have died of it, or may have: the last one so.
    HostDied(String),
    /// The run ended early, before it was started.
    Interrupted,
}

/// Why a run ends before all of its cases have run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EarlyEnd {
    /// So many cases have failed. What runs goes on to its end.
    Failures(u32),
    /// It has taken all of its time.
    TimeLimit(Duration),
    /// A signal of this number interrupted it.
    Signal(i32),
}

impl EarlyEnd {
    /// Which of two reasons counts: the greater one, and of two alike the first.
    pub fn weight(self) -> u8 {
        match self {
            Self::Failures(_) => 1,
            Self::TimeLimit(_) => 2,
            Self::Signal(_) => 3,
        }
    }
}

impl fmt::Display for EarlyEnd {
    /// `2 cases failed (--max-fail)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Failures(count) => {
                write!(f, "{} failed (--max-fail)", plural(count as usize, "case"))
            }
            Self::TimeLimit(limit) => {
                write!(f, "its time of {} was up (--time-limit)", seconds(limit))
            }
            Self::Signal(number) => write!(f, "signal {number}"),
        }
    }
}

/// How a process ended, and what it printed. When this is known, nothing of it is left but the unkillable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// How it ended.
    pub exit: Exit,
    /// Its process ID, in the runner's PID namespace.
    pub pid: i32,
    /// When it was started, in milliseconds since the epoch.
    pub started_ms: u64,
    /// How long it lived, without the time that it was stopped for.
    pub duration: Duration,
    /// The timeout that it had.
    pub timeout: Duration,
    /// CPU time in user mode, of all its processes.
    pub user_time: Duration,
    /// CPU time in the kernel, of all its processes.
    pub system_time: Duration,
    /// The largest resident set that one of its processes had, in bytes.
    pub max_rss: u64,
    /// How much it printed to its standard output and its standard error.
    pub printed: [Printed; 2],
    /// Why not all of that could be kept, where it could not: a full disk, most of all.
    pub not_kept: Option<String>,
    /// What its output says; taken from all that it printed, before anything is cut.
    pub evidence: Evidence,
    /// The processes that it left behind when it ended by itself, and those of any that could not be killed.
    pub leaks: Vec<Leak>,
    /// What its threads did when its time was up.
    pub threads: Vec<ThreadState>,
}

impl Ended {
    /// Whether something is left that cannot be killed: its supervisor runs nothing any more.
    pub fn leaves_unkillable(&self) -> bool {
        self.leaks.iter().any(|leak| leak.unkillable)
    }
}

/// What a thread did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadState {
    /// What it is called: `main`, or as the selftest has named it.
    pub name: String,
    /// What it did: `in KVM_RUN`, `in pthread_join`, `running`.
    pub doing: String,
    /// Where in the selftest's source, as `FILE:LINE`; `None` where that is not known.
    pub at: Option<String>,
}

/// The facts in a selftest's output. Every text is printable.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The first failed assertion.
    pub assertion: Option<Assertion>,
    /// What it says in KTAP.
    pub ktap: Ktap,
    /// The line that shows that arguments were not understood: getopt's complaint, or the selftest's own usage text.
    pub usage: Option<String>,
    /// The option that getopt does not know, as `-w` or `--foo`.
    pub unknown_option: Option<String>,
    /// What kselftest_harness.h says of a sub-test that fails: `x.c:12:name:Expected 1 (1) == 2 (2)`.
    pub diagnostics: Vec<String>,
    /// The last line of standard output that says something: it is not blank, not KTAP, and not the random seed.
    pub last_stdout: Option<String>,
    /// The last such line of standard error.
    pub last_stderr: Option<String>,
}

/// What a selftest said in KTAP.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ktap {
    /// Its sub-tests, nested ones before their parent: the first 10,000, and of the others those that are among the
    /// first 10,000 that failed.
    pub subtests: Vec<Subtest>,
    /// How many ended with each [`SubtestResult`]; exact, whatever was kept.
    pub counts: [u64; 5],
    /// How what was reported does not fit what was planned, where it does not: results that are missing, too many, or out
    /// of order. Such a case has not passed; one that skips half-way may do so.
    pub mismatch: Option<String>,
    /// How else what was printed contradicts itself, where it does. Such a case has failed.
    pub contradiction: Option<String>,
    /// What follows `Bail out!`.
    pub bail_out: Option<String>,
    /// What follows `1..0 # SKIP`: empty where there is nothing, or a bare `1..0`.
    pub skip: Option<String>,
    /// The sub-test that kselftest_harness.h began to run and did not end.
    pub running: Option<String>,
}

impl Ktap {
    /// How many sub-tests ended so.
    pub fn count(&self, result: SubtestResult) -> u64 {
        self.counts[result as usize]
    }
}
