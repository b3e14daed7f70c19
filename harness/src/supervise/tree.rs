//! Trees of processes, as `/proc` shows them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use std::{fs, io, str};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, kill_process, pidfd_open, waitpid,
};

use crate::model::outcome::Leak;

/// How long to wait for processes to stop that only wait for something in the kernel, such as a child of vfork(2).
const SETTLE: Duration = Duration::from_millis(100);

/// A process that is being torn down (include/linux/sched.h).
const PF_EXITING: u32 = 0x4;

/// The bit of SIGKILL in a set of signals.
const SIGKILL_BIT: u32 = 1 << 8;

/// In the place of the state of a process that cannot be seen.
pub(super) const HIDDEN: u8 = b'?';

/// The ID of this process.
pub(super) fn own_pid() -> i32 {
    getpid().as_raw_nonzero().get()
}

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
    /// Its state: one letter (proc(5)).
    pub(super) state: u8,
    threads: u32,
    /// Its main thread has been killed, or has ended.
    ending: bool,
}

impl Process {
    /// The process of this ID, unless it has been reaped.
    pub(super) fn read(pid: &str) -> Option<Self> {
        Self::parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    /// A child of which no more can be seen: another user's where `/proc` has the option `hidepid`, or any where it is
    /// not that of this PID namespace.
    pub(super) fn hidden(pid: i32) -> Self {
        Self {
            pid,
            parent: own_pid(),
            session: 0,
            command: "not shown in /proc".to_owned(),
            state: HIDDEN,
            threads: 1,
            ending: false,
        }
    }

    /// All processes in `/proc`, or threads in `/proc/PID/task`.
    pub(super) fn all_in(directory: &str) -> impl Iterator<Item = Self> + use<> {
        // What cannot be read has ended meanwhile, or is no process.
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        entries.filter_map(|entry| Self::parse(&fs::read(entry.path().join("stat")).ok()?))
    }

    /// Reads a `/proc/PID/stat`, or a thread's (proc(5)).
    fn parse(stat: &[u8]) -> Option<Self> {
        // The command name may contain anything, `) ` too; nothing after it does.
        let open = stat.iter().position(|&byte| byte == b'(')?;
        let close = stat.iter().rposition(|&byte| byte == b')')?;
        let fields = str::from_utf8(stat.get(close + 2..)?).ok()?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
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
    pub(super) fn is_alive(&self) -> bool {
        !is_dead(self.state) || self.threads > 1
    }

    /// Whether it is stopped, by a signal or a tracer.
    pub(super) fn is_stopped(&self) -> bool {
        matches!(self.state, b'T' | b't')
    }

    /// Whether it will end without anybody's doing: each of its threads has been killed or is being torn down.
    pub(super) fn is_ending(&self) -> bool {
        self.ending
            && (self.threads <= 1
                || Self::all_in(&format!("/proc/{}/task", self.pid)).all(|thread| thread.ending))
    }

    /// What is told of it where it was left behind.
    pub(super) fn leak(&self, unkillable: bool) -> Leak {
        Leak {
            pid: self.pid,
            command: self.command.clone(),
            unkillable,
        }
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

/// Walks from this process to those of its children that `is_root` picks, and to all below them, dead ones too. Each is
/// met as soon as it is found, before its own children are looked for. They are returned in this order.
pub(super) fn walk(
    is_root: impl Fn(&Process) -> bool,
    mut meet: impl FnMut(&Process),
) -> Vec<Process> {
    let root = own_pid();
    let mut children = Family::new();
    let mut found = Vec::new();
    let mut next = 0;
    let mut parent = root;
    loop {
        children.of(parent, |process| {
            if parent != root || is_root(&process) {
                meet(&process);
                found.push(process);
            }
        });
        match found.get(next) {
            Some(process) => parent = process.pid,
            None => return found,
        }
        next += 1;
    }
}

/// Where the children of processes are looked up.
enum Family {
    /// In `/proc/PID/task/TID/children` when they are asked for, so that even one that soon starts the next and ends
    /// is met while it lives. None is missed as long as the parent is stopped (proc(5)).
    Files,
    /// In all of `/proc/*/stat`, read beforehand: only kernels with `CONFIG_PROC_CHILDREN` have those files.
    Table(BTreeMap<i32, Vec<Process>>),
}

impl Family {
    fn new() -> Self {
        // The numbers in the /proc of another PID namespace are those of other processes.
        match fs::read_link("/proc/self") {
            Ok(own) if own.to_str() == Some(&own_pid().to_string()) => {}
            _ => return Self::Table(BTreeMap::new()),
        }
        match fs::exists("/proc/thread-self/children") {
            Ok(true) => Self::Files,
            _ => Self::table(),
        }
    }

    fn table() -> Self {
        let mut table = BTreeMap::<i32, Vec<Process>>::new();
        for process in Process::all_in("/proc") {
            table.entry(process.parent).or_default().push(process);
        }
        Self::Table(table)
    }

    fn of(&mut self, parent: i32, each: impl FnMut(Process)) {
        match self {
            Self::Table(table) => table.remove(&parent).into_iter().flatten().for_each(each),
            Self::Files => {
                // What cannot be read has ended meanwhile, but for a child of ours, which we would have to wait for.
                let read = |pid: &str| match Process::read(pid) {
                    None if parent == own_pid() => pid.parse().ok().map(Process::hidden),
                    read => read,
                };
                let threads = fs::read_dir(format!("/proc/{parent}/task"));
                let threads = threads.into_iter().flatten().flatten();
                let lists = threads
                    .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
                let lists: Vec<String> = lists.collect();
                let pids = lists.iter().flat_map(|list| list.split_whitespace());
                pids.filter_map(read).for_each(each);
            }
        }
    }
}

/// How long a child that was killed is waited for before all are looked for again.
const TURN: Duration = Duration::from_millis(100);

/// Stops everything that [`walk`] finds, and returns what was not stopped before.
///
/// A fork bomb is stopped as well: what it starts while one pass goes on is met by the next, and the stopped still
/// count against its limits. As a process that has stopped is not in the middle of fork(2), none is missed but
/// where they do not [`SETTLE`].
pub(super) fn freeze(is_root: impl Fn(&Process) -> bool) -> Vec<Process> {
    let start = Instant::now();
    let mut seen = BTreeSet::new();
    let mut frozen = Vec::new();
    let mut moving = true;
    while moving && start.elapsed() < SETTLE {
        moving = false;
        walk(&is_root, |process| {
            if process.is_alive() && !process.is_stopped() && !process.is_ending() {
                moving = true;
                if seen.insert(process.pid) {
                    // One that cannot be stopped is met again by who kills it.
                    process.signal(Signal::STOP).ok();
                    frozen.push(process.clone());
                }
            }
        });
    }
    frozen
}

/// Waits until a child has ended, and leaves it to be waited for; false where it has not by `deadline`.
pub(super) fn ends_by(pid: i32, deadline: Instant) -> bool {
    let pid = Pid::from_raw(pid).ok_or(Errno::SRCH);
    let Ok(ended) = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty())) else {
        return true;
    };
    loop {
        let time = deadline.saturating_duration_since(Instant::now());
        let mut watched = [PollFd::new(&ended, PollFlags::IN)];
        match poll(&mut watched, time.try_into().ok().as_ref()) {
            Err(Errno::INTR) => {}
            told => return told != Ok(0),
        }
    }
}

/// Kills and waits for the children that `is_root` picks, and all below them, as far as that is possible by `deadline`.
pub(super) fn kill_by(deadline: Instant, is_root: impl Fn(&Process) -> bool) {
    // The death of a child hands its own children on to us, for the next turn.
    while Instant::now() < deadline {
        freeze(&is_root);
        // One that may not be killed may still end by itself before the deadline.
        let killed = walk(&is_root, |process| drop(process.signal(Signal::KILL)));
        let is_child = |process: &&Process| process.parent == own_pid();
        for child in killed.iter().filter(is_child) {
            // Not for long: one that is frozen does not end, and a pass may miss some while others end.
            ends_by(child.pid, deadline.min(Instant::now() + TURN));
            // It fails only for one that is no child of ours any more.
            waitpid(Pid::from_raw(child.pid), WaitOptions::NOHANG).ok();
        }
        if !killed.iter().any(Process::is_alive) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let stat =
            b"42 (a) R 1 (b) S 7 8 9 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 3 0 100 0 0 0 0 0 0 0 0 256 0 0";
        let process = Process::parse(stat).unwrap();
        assert_eq!((process.pid, process.parent, process.session), (42, 7, 9));
        assert_eq!(
            (process.command.as_str(), process.state, process.threads),
            ("a) R 1 (b", b'S', 3)
        );
        assert!(process.ending, "SIGKILL is pending");
    }

    #[test]
    fn files_and_table_tell_of_the_same_children() {
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        for mut family in [Family::Files, Family::table()] {
            let mut found = false;
            family.of(own_pid(), |process| {
                found |=
                    process.pid == child.id() as i32 && process.is_alive() && !process.is_ending();
            });
            assert!(found);
        }
        child.kill().unwrap();
        assert!(ends_by(
            child.id() as i32,
            Instant::now() + Duration::from_secs(60)
        ));
        child.wait().unwrap();
    }
}
