//! Trees of processes, as `/proc` shows them.
//!
//! All of `/proc/*/stat` is read each time: `/proc/PID/task/TID/children` is not in every kernel, and cannot be relied
//! on unless the processes are stopped (proc(5)). It takes milliseconds, and is only done for a task that leaves
//! processes behind, is ended, or is stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::{fs, io, str};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

/// A process that is being torn down (include/linux/sched.h).
const PF_EXITING: u32 = 0x4;

/// The bit of SIGKILL in a set of signals.
const SIGKILL_BIT: u32 = 1 << 8;

/// A process.
#[derive(Debug, Clone)]
pub(super) struct Process {
    /// Its ID.
    pub(super) pid: i32,
    /// Its parent's ID.
    pub(super) parent: i32,
    /// Its session's ID.
    pub(super) session: i32,
    /// Its command name.
    pub(super) command: String,
    state: u8,
    threads: u32,
    /// Its main thread has been killed, or has ended.
    ending: bool,
}

impl Process {
    /// Reads a `/proc/PID/stat`, or a thread's (proc(5)).
    fn parse(stat: &[u8]) -> Option<Self> {
        // The command name may contain anything, `) ` too; nothing after it does.
        let open = stat.iter().position(|&byte| byte == b'(')?;
        let close = stat.iter().rposition(|&byte| byte == b')')?;
        let fields: Vec<&str> = str::from_utf8(stat.get(close + 2..)?).ok()?.split_whitespace().collect();
        // Numbered from 1 there; the state is the third.
        let field = |number: usize| fields.get(number - 3).copied();
        let state = *field(3)?.as_bytes().first()?;
        let flags: u32 = field(9)?.parse().ok()?;
        // Only what is pending for this very thread, which SIGKILL and any other signal that is about to end the
        // process are (complete_signal() in kernel/signal.c).
        let pending: u32 = field(31)?.parse().ok()?;
        Some(Self {
            pid: str::from_utf8(&stat[..open]).ok()?.trim().parse().ok()?,
            parent: field(4)?.parse().ok()?,
            session: field(6)?.parse().ok()?,
            command: String::from_utf8_lossy(&stat[open + 1..close]).into_owned(),
            state,
            threads: field(20)?.parse().ok()?,
            ending: is_dead(state) || flags & PF_EXITING != 0 || pending & SIGKILL_BIT != 0,
        })
    }

    /// Whether it lives. The main thread of a process may be dead while others are not.
    fn is_alive(&self) -> bool {
        !is_dead(self.state) || self.threads > 1
    }

    fn is_stopped(&self) -> bool {
        matches!(self.state, b'T' | b't')
    }

    /// Whether it will end without anybody's doing: each of its threads has been killed or is being torn down.
    pub(super) fn is_ending(&self) -> bool {
        self.ending
            && (self.threads <= 1 || stats(&format!("/proc/{}/task", self.pid)).all(|thread| thread.ending))
    }

    /// Sends it a signal. It is no error if it is gone, but `PermissionDenied` if it belongs to another user.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        match Pid::from_raw(self.pid).map(|pid| kill_process(pid, signal)) {
            Some(Err(error)) if error != Errno::SRCH => Err(error.into()),
            Some(_) | None => Ok(()),
        }
    }
}

/// Whether the state is that of a zombie, or of what comes after it.
fn is_dead(state: u8) -> bool {
    matches!(state, b'Z' | b'X' | b'x')
}

fn stats(directory: &str) -> impl Iterator<Item = Process> + use<> {
    // What cannot be read has ended meanwhile, or is no process.
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| Process::parse(&fs::read(entry.path().join("stat")).ok()?))
}

/// All processes that `is_root` picks, dead ones too, and all below them.
pub(super) fn below(is_root: &dyn Fn(&Process) -> bool) -> Vec<Process> {
    let mut children = BTreeMap::<i32, Vec<Process>>::new();
    let mut found = Vec::new();
    for process in stats("/proc") {
        if is_root(&process) {
            found.push(process);
        } else {
            children.entry(process.parent).or_default().push(process);
        }
    }
    let mut next = 0;
    while let Some(process) = found.get(next) {
        let more = children.remove(&process.pid);
        found.extend(more.into_iter().flatten());
        next += 1;
    }
    found
}

/// Those of them that are alive.
pub(super) fn living(is_root: &dyn Fn(&Process) -> bool) -> Vec<Process> {
    let mut found = below(is_root);
    found.retain(Process::is_alive);
    found
}

/// Stops them all, and returns those that were not stopped before. A fork bomb is stopped as well: whatever it
/// starts while one pass goes on is met by the next, and the stopped still count against its limits.
pub(super) fn freeze(is_root: &dyn Fn(&Process) -> bool) -> Vec<Process> {
    let mut seen = BTreeSet::new();
    let mut frozen = Vec::new();
    loop {
        let mut fresh = living(is_root);
        fresh.retain(|process| !process.is_stopped() && seen.insert(process.pid));
        if fresh.is_empty() {
            return frozen;
        }
        for process in fresh {
            // One that cannot be stopped is met again by who kills it.
            process.signal(Signal::STOP).ok();
            frozen.push(process);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let stat =
            b"42 (a) R 1 (b) S 7 8 9 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 3 0 100 0 0 0 0 0 0 0 0 0 256 0 0";
        let process = Process::parse(stat).unwrap();
        assert_eq!((process.pid, process.parent, process.session), (42, 7, 9));
        assert_eq!((process.command.as_str(), process.state, process.threads), ("a) R 1 (b", b'S', 3));
        assert!(process.ending, "SIGKILL is pending");
    }

    #[test]
    fn this_process_is_below_its_parent() {
        let parent = std::os::unix::process::parent_id();
        let pid = std::process::id();
        let found = living(&|process| process.pid.cast_unsigned() == parent);
        assert!(found.iter().any(|process| process.pid.cast_unsigned() == pid && !process.is_ending()));
    }
}
