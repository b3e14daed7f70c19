//! Processes, as messages name them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;

use jiff::Timestamp;

use super::root::Root;

/// How much of a command line is shown.
const MAX_COMMAND: usize = 100;

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its ID.
    pub pid: u32,
    /// Its command line.
    pub command: String,
}

impl Process {
    /// The one of this ID.
    pub fn of_pid(root: &Root, pid: u32) -> Self {
        let line = fs::read(root.path(format!("/proc/{pid}/cmdline"))).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        let mut command = line.trim_end_matches('\0').replace('\0', " ");
        if command.is_empty() {
            command = root.read(format!("/proc/{pid}/comm")).unwrap_or_default();
        }
        let shown = command
            .chars()
            .take(MAX_COMMAND)
            .flat_map(char::escape_debug)
            .collect();
        Self {
            pid,
            command: shown,
        }
    }

    /// The process with the time when it was started.
    pub fn at_length(&self) -> String {
        match self.started() {
            Some(time) => format!("pid {} ({}, started at {time})", self.pid, self.command),
            None => self.to_string(),
        }
    }

    /// When it was started: `starttime`, in clock ticks since the boot (proc_pid_stat(5)), and `btime`, the time of
    /// that in seconds (proc_stat(5)).
    fn started(&self) -> Option<Timestamp> {
        let stat = fs::read(format!("/proc/{}/stat", self.pid)).ok()?;
        let stat = String::from_utf8_lossy(&stat);
        // The command before the last `)` may contain anything. What follows begins with the third field.
        let ticks: u64 = stat
            .rsplit_once(')')?
            .1
            .split_whitespace()
            .nth(19)?
            .parse()
            .ok()?;
        let system = fs::read_to_string("/proc/stat").ok()?;
        let boot: u64 = system
            .lines()
            .find_map(|line| line.strip_prefix("btime "))?
            .trim()
            .parse()
            .ok()?;
        let seconds = boot + ticks / rustix::param::clock_ticks_per_second();
        Timestamp::from_second(seconds.try_into().ok()?).ok()
    }

    /// Those that keep KVM's modules in use: they have /dev/kvm, a VM or a vCPU open (proc_pid_fd(5)).
    pub fn that_use_kvm(root: &Root) -> Vec<Self> {
        let entries = fs::read_dir(root.path("/proc"))
            .into_iter()
            .flatten()
            .flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let users = pids.filter(|pid| {
            let files = fs::read_dir(root.path(format!("/proc/{pid}/fd")))
                .into_iter()
                .flatten()
                .flatten();
            files
                .filter_map(|file| fs::read_link(file.path()).ok())
                .any(|target| {
                    let target = target.to_string_lossy();
                    target == "/dev/kvm" || target.starts_with("anon_inode:kvm-")
                })
        });
        let by_pid: BTreeMap<u32, Self> = users.map(|pid| (pid, Self::of_pid(root, pid))).collect();
        by_pid.into_values().collect()
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {} ({})", self.pid, self.command)
    }
}

/// Several processes in words.
pub fn list(processes: &[Process]) -> String {
    processes
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Whether a process is this one or one of those that started it.
pub fn is_ancestor(pid: u32) -> bool {
    let mut current = std::process::id();
    while current > 1 {
        if current == pid {
            return true;
        }
        // `PID (COMMAND) STATE PARENT …`, and the command may contain anything (proc_pid_stat(5)).
        let stat = fs::read(format!("/proc/{current}/stat")).unwrap_or_default();
        let stat = String::from_utf8_lossy(&stat);
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        current = parent.unwrap_or(0);
    }
    false
}
