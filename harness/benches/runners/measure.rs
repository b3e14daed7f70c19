//! What a process took, with all that it waited for.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What timeout(1) exits with where it had to end its command.
const TIMED_OUT: i32 = 124;

/// Figures of one run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    /// From its start to its end.
    pub(crate) wall: Duration,
    /// CPU time of all its processes.
    pub(crate) cpu: Duration,
    /// The largest resident set of any one of them, in bytes; never less than that which the benchmark itself has had:
    /// of a process that it shares its memory with until exec(2), the kernel remembers that (`exec_mmap` in fs/exec.c).
    pub(crate) peak: u64,
    /// What it exited with.
    pub(crate) code: i32,
}

impl Figures {
    /// Those that took less time.
    pub(crate) fn better(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        one.into_iter()
            .chain(other)
            .min_by_key(|figures| figures.wall)
    }
}

/// Runs `command`; `None` if it takes longer than `limit`.
pub(crate) fn run_within(command: &Command, limit: Duration) -> Option<Figures> {
    let mut limited = Command::new("timeout");
    limited.args(["--kill-after=5", &limit.as_secs_f64().to_string()]);
    limited.arg(command.get_program()).args(command.get_args());
    limited.envs(
        command
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    limited.current_dir(command.get_current_dir().unwrap());
    limited
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Some(run(&mut limited)).filter(|figures| figures.code != TIMED_OUT)
}

/// Runs `command`, which must end by itself.
pub(crate) fn run(command: &mut Command) -> Figures {
    let begin = Instant::now();
    #[expect(clippy::zombie_processes, reason = "wait4 waits for it")]
    let child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut status = 0;
    // SAFETY: an all-zero rusage is a valid one.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live variables of the right types; nobody else waits for this child.
    let waited =
        unsafe { libc::wait4(child.id().cast_signed(), &raw mut status, 0, &raw mut usage) };
    let wall = begin.elapsed();
    assert!(
        waited > 0 && libc::WIFEXITED(status),
        "{command:?}: wait status {status:#x}"
    );
    let time = |time: libc::timeval| {
        Duration::new(
            time.tv_sec.cast_unsigned(),
            u32::try_from(time.tv_usec).unwrap() * 1000,
        )
    };
    Figures {
        wall,
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
        // getrusage(2): in kilobytes.
        peak: usage.ru_maxrss.cast_unsigned() * 1024,
        code: libc::WEXITSTATUS(status),
    }
}
