//! One process, as `/proc` shows it.

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
    /// The process of this ID, unless it has been reaped.
    pub(super) fn read(pid: &str) -> Option<Self> {
        Self::parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
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
        let fields: Vec<&str> = str::from_utf8(stat.get(close + 2..)?)
            .ok()?
            .split_whitespace()
            .collect();
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

    pub(super) fn is_stopped(&self) -> bool {
        matches!(self.state, b'T' | b't')
    }

    /// Whether it will end without anybody's doing: each of its threads has been killed or is being torn down.
    pub(super) fn is_ending(&self) -> bool {
        self.ending
            && (self.threads <= 1
                || Self::all_in(&format!("/proc/{}/task", self.pid)).all(|thread| thread.ending))
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
}
