//! What a process took, with all that it waited for.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long anybody may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// What timeout(1) exits with where it had to end its command.
const TIMED_OUT: i32 = 124;

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
    /// Those that took less time.
    pub(crate) fn better(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        one.into_iter().chain(other).min_by_key(|figures| figures.wall)
    }
}

/// Runs `command`, which must succeed; `None` if it takes longer than [`LIMIT`].
pub(crate) fn run(command: &Command) -> Option<Figures> {
    let mut limited = Command::new("timeout");
    limited.arg(LIMIT.as_secs().to_string()).arg(command.get_program()).args(command.get_args());
    limited.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    limited.current_dir(command.get_current_dir().unwrap());
    let command = limited.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let begin = Instant::now();
    #[expect(clippy::zombie_processes, reason = "wait4 waits for it")]
    let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut status = 0;
    // SAFETY: an all-zero rusage is a valid one.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live variables of the right types; nobody else waits for this child.
    let waited = unsafe { libc::wait4(child.id().cast_signed(), &raw mut status, 0, &raw mut usage) };
    let wall = begin.elapsed();
    if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == TIMED_OUT {
        return None;
    }
    assert!(waited > 0 && status == 0, "{command:?}: wait status {status:#x}");
    let time = |time: libc::timeval| {
        Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_usec).unwrap() * 1000)
    };
    Some(Figures { wall, cpu: time(usage.ru_utime) + time(usage.ru_stime), peak_kib: usage.ru_maxrss })
}
