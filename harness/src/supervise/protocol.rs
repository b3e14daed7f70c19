//! What runner and supervisor say to each other.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::fs::{Access, access};
use serde::{Deserialize, Serialize};

use crate::model::facts::Ended;
use crate::model::outcome::Step;
use crate::model::text;

/// The time between asking a process to end (SIGTERM) and killing it.
pub const GRACE: Duration = Duration::from_secs(2);

/// For how long a process may go on after SIGKILL before it is called unkillable. Tearing down a big guest takes time.
pub(super) const UNKILLABLE: Duration = Duration::from_secs(10);

/// How long it may take to look at what hangs, before it is ended.
pub(super) const HANG: Duration = Duration::from_secs(5);

/// The hidden first argument that makes this program a supervisor.
pub(super) const ARGUMENT: &str = "--supervisor";

/// What a supervisor is called in process lists; no `pkill kvm-tests` matches it, so that one is left to clean up.
pub(super) const NAME: &str = "kvm-supervisor";

/// Why a task is not started any more.
pub(super) const INTERRUPTED: &str = "the run was interrupted before this was started";

/// Whether this process, started with these arguments (its own name first), is to be a supervisor.
pub fn is_supervisor(args: impl IntoIterator<Item = OsString>) -> bool {
    let first = args.into_iter().nth(1);
    first.is_some_and(|argument| argument == ARGUMENT)
}

/// Whether a process is a supervisor, of this runner or of another one.
pub fn is_supervisor_process(pid: i32) -> bool {
    let mark = [NAME, "\0", ARGUMENT, "\0"].concat();
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == mark.as_bytes())
}

/// One program to run. Relative paths start at the current directory of the runner, which does not change it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Task {
    /// The executable; it is not searched for in `PATH`.
    #[serde(with = "text::path")]
    pub program: PathBuf,
    /// Its arguments, after the program's name.
    #[serde(with = "text::os_strings")]
    pub args: Vec<OsString>,
    /// What its environment has beside the runner's.
    pub env: Vec<(String, String)>,
    /// Its current directory.
    #[serde(with = "text::path")]
    pub directory: PathBuf,
    /// The run's directory.
    #[serde(with = "text::path")]
    pub root: PathBuf,
    /// The directory below that in which its output is kept; it is made where it is not there.
    #[serde(with = "text::path")]
    pub place: PathBuf,
    /// Which step of a case it is: so are the files of its output called.
    pub step: Step,
    /// After this time it is ended. Time that it is stopped for does not count.
    pub timeout: Duration,
    /// Whether an interruption of the run ends it.
    pub urgency: Urgency,
}

/// Whether an interruption of the run ends a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Urgency {
    /// It does, and it is not started any more.
    Interruptible,
    /// It does not: what was set up must be torn down. Only who hurries ends it, after [`GRACE`].
    MustEnd,
}

impl Task {
    /// Why it could not be started. The kernel has the same number for many reasons; looking afterwards costs nothing
    /// where all is well.
    pub(super) fn why_not(&self, error: &io::Error) -> String {
        let [program, directory] = [&self.program, &self.directory].map(|path| path.display());
        if access(&self.directory, Access::EXEC_OK).is_err() || !self.directory.is_dir() {
            return format!("enter {directory}: {error}");
        }
        if let Err(error) = File::open("/dev/null") {
            return format!("open /dev/null: {error}");
        }
        if error.kind() != io::ErrorKind::NotFound || !self.program.exists() {
            return format!("execute {program}: {error}");
        }
        // As much as the kernel looks at (BINPRM_BUF_SIZE in include/uapi/linux/binfmts.h).
        let mut start = [0; 256];
        let length = File::open(&self.program).and_then(|mut file| file.read(&mut start));
        let start = text::printable(&start[..length.unwrap_or(0)]);
        let interpreter = match start.strip_prefix("#!") {
            Some(line) => line.split_whitespace().next().unwrap_or_default(),
            None => "the dynamic loader (readelf -l names it)",
        };
        format!("execute {program}: its interpreter is not there: {interpreter}")
    }
}

/// What a supervisor says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// It can be asked, and signalled.
    Ready,
    /// The task's main process runs, and has this ID.
    Started(i32),
    /// The task could not be started, for this reason.
    NotStarted(String),
    /// It has ended, and nothing is left of it but the unkillable.
    Ended(Box<Ended>),
}

/// What a supervisor is told by a signal. These are real-time ones, which a test is least likely to send to its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Control {
    /// Go on after `Stop`. The lower number: of two that come at once, it is heard last.
    Continue,
    /// Let the task and its time stand still, and start none.
    Stop,
    /// End what may be interrupted, now and later.
    Interrupt,
    /// Cut the grace of what is being ended, now and later.
    Hurry,
    /// End the task that runs, and this one alone.
    End,
}

impl Control {
    /// Its signal's number.
    pub(super) fn signal(self) -> i32 {
        libc::SIGRTMIN() + 8 + self as i32
    }
}

/// A clock that can be stopped.
#[derive(Debug)]
pub(super) struct Clock {
    before: Duration,
    runs_since: Option<Instant>,
}

impl Default for Clock {
    /// A running clock that shows zero.
    fn default() -> Self {
        Self {
            before: Duration::ZERO,
            runs_since: Some(Instant::now()),
        }
    }
}

impl Clock {
    /// The time it shows.
    pub(super) fn elapsed(&self) -> Duration {
        self.before
            + self
                .runs_since
                .map_or(Duration::ZERO, |since| since.elapsed())
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.runs_since.is_none()
    }

    pub(super) fn stop(&mut self) {
        self.before = self.elapsed();
        self.runs_since = None;
    }

    pub(super) fn resume(&mut self) {
        self.runs_since.get_or_insert_with(Instant::now);
    }
}
