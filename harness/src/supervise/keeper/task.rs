//! What a keeper runs, and what it tells afterwards.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use std::{fmt, io, path};

use serde::{Deserialize, Serialize};

use crate::model::outcome::{Exit, Leak, LeftBehind};

/// One program to run, in the environment that its keeper was started with. Relative paths start at the runner's current directory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Task {
    /// The executable; it is not searched for in `PATH`.
    #[serde(with = "super::protocol::path")]
    pub program: PathBuf,
    /// Its arguments, after the program's name.
    pub args: Vec<OsString>,
    /// Its current directory.
    #[serde(with = "super::protocol::path")]
    pub directory: PathBuf,
    /// The file for its standard output, which must not exist yet, nor be reached through a symbolic link.
    #[serde(with = "super::protocol::path")]
    pub stdout: PathBuf,
    /// The file for its standard error, likewise.
    #[serde(with = "super::protocol::path")]
    pub stderr: PathBuf,
    /// After this time it is ended. Time that it is stopped for does not count.
    pub timeout: Option<Duration>,
    /// The time between asking it to end (SIGTERM) and killing it.
    pub grace: Duration,
    /// How many bytes are kept of each of its outputs: of a longer one the start, and of its end an eighth of it.
    /// While it runs, a file may take some thirty times as much of the disk.
    pub output_cap: u64,
    /// Whether System V shared memory that its main process made and left is removed, before the next task is started.
    pub removes_shared_memory: bool,
}

impl Task {
    /// The same task for a process with another current directory.
    pub(super) fn absolute(mut self) -> io::Result<Self> {
        for path in [
            &mut self.program,
            &mut self.directory,
            &mut self.stdout,
            &mut self.stderr,
        ] {
            *path = path::absolute(&path)?;
        }
        Ok(self)
    }
}

/// What became of a task. When the runner learns this, none of its processes is left but the unkillable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// How its main process ended.
    pub exit: Exit,
    /// The main process's ID.
    pub pid: i32,
    /// When it was started.
    pub started: SystemTime,
    /// How long the main process lived, without the time that it was stopped for.
    pub duration: Duration,
    /// The processes that it left behind when it ended by itself, and those of any task that could not be killed.
    pub leaks: Vec<Leak>,
    /// CPU time in user mode, of all its processes.
    pub user_time: Duration,
    /// CPU time in the kernel, of all its processes.
    pub system_time: Duration,
    /// The largest resident set that one of its processes had, in bytes.
    pub max_rss: u64,
    /// What became of its output.
    pub output: Output,
    /// The sizes of the files of its standard output and its standard error, in bytes, where they are known and still there.
    pub sizes: [Option<u64>; 2],
    /// The shared memory that its main process made and left, where that was to be removed.
    pub left_behind: Vec<LeftBehind>,
}

impl Ended {
    /// Whether one of its processes is left that cannot be killed: its keeper runs nothing any more.
    pub fn leaves_unkillable(&self) -> bool {
        self.leaks.iter().any(|leak| leak.unkillable)
    }
}

/// What became of a task's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Output {
    /// It is all there.
    Whole,
    /// There was more than the cap: a line in the middle of the file says how many bytes are missing there.
    Cut,
    /// The same, and the task was killed for it: this file system cannot free the middle of a file (`EOPNOTSUPP`
    /// for `FALLOC_FL_PUNCH_HOLE`, fallocate(2)), so that the task would have filled the disk.
    Flooded,
}

/// Why a task could not be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotStarted {
    /// What failed, with the path: `execute /x/y`, `create /x/y.stdout`.
    pub doing: String,
    /// The error's number (errno(3)): `ENOEXEC` for a script without `#!`, `ENOENT`, `EACCES`, `ENOSPC`, …
    pub errno: i32,
}

impl fmt::Display for NotStarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}",
            self.doing,
            io::Error::from_raw_os_error(self.errno)
        )
    }
}
