//! What a process took, with all that it waited for.

use std::process::Command;
use std::time::{Duration, Instant};

/// Figures of one run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    /// From its start to its end.
    pub(crate) wall: Duration,
    /// CPU time of all its processes.
    pub(crate) cpu: Duration,
    /// The largest resident set of any one of them, in KiB.
    pub(crate) peak_kib: i64,
}

impl Figures {
    /// What every run improves on.
    pub(crate) const WORST: Self = Self { wall: Duration::MAX, cpu: Duration::MAX, peak_kib: 0 };

    /// The one that took less time.
    pub(crate) fn min(self, other: Self) -> Self {
        if other.wall < self.wall { other } else { self }
    }
}

/// Runs `command`, which must succeed.
pub(crate) fn run(command: &mut Command) -> Figures {
    let begin = Instant::now();
    let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut status = 0;
    // SAFETY: an all-zero rusage is a valid one.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live variables of the right types; nobody else waits for this child.
    let waited = unsafe { libc::wait4(child.id().cast_signed(), &raw mut status, 0, &raw mut usage) };
    let wall = begin.elapsed();
    assert!(waited > 0 && status == 0, "{command:?}: wait status {status:#x}");
    let time = |time: libc::timeval| {
        Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_usec).unwrap() * 1000)
    };
    Figures { wall, cpu: time(usage.ru_utime) + time(usage.ru_stime), peak_kib: usage.ru_maxrss }
}
