//! Processes, as messages name them.

use std::fmt;
use std::fs;

use serde::{Deserialize, Serialize};

use super::root::Root;

/// How much of a command line is shown, in characters.
const MAX_COMMAND: usize = 100;

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its ID.
    pub pid: u32,
    /// Its command line.
    pub command: String,
}

impl Process {
    /// This one.
    pub fn this() -> Self {
        let words: Vec<_> = std::env::args_os().collect();
        Self {
            pid: std::process::id(),
            command: words.join(" ".as_ref()).to_string_lossy().into_owned(),
        }
    }

    /// The one of this ID.
    pub fn of_pid(root: &Root, pid: u32) -> Self {
        let line = fs::read(root.path(format!("/proc/{pid}/cmdline"))).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        let mut command = line.trim_end_matches('\0').replace('\0', " ");
        if command.is_empty() {
            command = root.read(format!("/proc/{pid}/comm")).unwrap_or_default();
        }
        Self { pid, command }
    }

    /// Those that keep KVM's modules in use: they have /dev/kvm, a VM or a vCPU open (proc_pid_fd(5)).
    pub fn that_use_kvm(root: &Root) -> Vec<Self> {
        let entries = fs::read_dir(root.path("/proc"))
            .into_iter()
            .flatten()
            .flatten();
        let mut pids: Vec<u32> = entries
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid| {
                let files = fs::read_dir(root.path(format!("/proc/{pid}/fd")));
                let targets = files.into_iter().flatten().flatten();
                targets
                    .filter_map(|file| fs::read_link(file.path()).ok())
                    .any(|target| {
                        let target = target.to_string_lossy();
                        target == "/dev/kvm" || target.starts_with("anon_inode:kvm-")
                    })
            })
            .collect();
        pids.sort_unstable();
        pids.into_iter()
            .map(|pid| Self::of_pid(root, pid))
            .collect()
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {} ({})", self.pid, shown(&self.command))
    }
}

/// A command line, which may contain anything, as it is shown.
pub fn shown(command: &str) -> String {
    command
        .chars()
        .take(MAX_COMMAND)
        .flat_map(char::escape_debug)
        .collect()
}

/// Several processes in words.
pub fn list(processes: &[Process]) -> String {
    processes
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// The processes that have started this one, the nearest first.
pub fn ancestors() -> Vec<u32> {
    // `PID (COMMAND) STATE PARENT …`, and the command may contain anything (proc_pid_stat(5)).
    let parent = |pid: &u32| {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        let stat = String::from_utf8_lossy(&stat);
        let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?;
        parent.parse().ok().filter(|&pid| pid > 0)
    };
    std::iter::successors(parent(&std::process::id()), parent).collect()
}
