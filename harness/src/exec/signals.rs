//! SIGINT, SIGTERM and SIGHUP end a run early and in order; SIGTSTP, a terminal's Ctrl-Z, stops it until SIGCONT; SIGUSR1
//! asks how it stands.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::Context;
use rustix::io::Errno;
use signal_hook::consts::{SIGHUP, SIGINT, SIGPIPE, SIGSTOP, SIGTERM, SIGTSTP, SIGUSR1};
use signal_hook::iterator::{Handle, Signals as Caught};
use signal_hook::low_level::{raise, signal_name};

use crate::supervise::Supervisors;

/// What to do where no thread can be started.
pub const LIMITS: &str = "raise the limits (ulimit -u, ulimit -v)";

/// The signals are caught: from then on none of them ends this process by itself.
#[derive(Debug)]
pub struct Signals(Caught);

/// The thread that waits for signals.
#[derive(Debug)]
pub struct Watch {
    handle: Handle,
    thread: JoinHandle<()>,
}

impl Signals {
    /// Catches SIGUSR1; what comes before [`Self::watch`] is answered then.
    ///
    /// # Errors
    /// The handlers cannot be set.
    pub fn catch() -> anyhow::Result<Self> {
        Ok(Self(
            Caught::new([SIGUSR1]).context("set a signal handler")?,
        ))
    }

    /// Acts on them from now on. The first that ends the run does so in order, a second one cuts the grace short.
    ///
    /// # Errors
    /// The handlers cannot be set, or the thread not be started.
    pub fn watch(
        self,
        supervisors: Arc<Supervisors>,
        say: impl Fn(&str) + Send + 'static,
        answer: impl Fn() + Send + 'static,
    ) -> anyhow::Result<Watch> {
        let Self(mut signals) = self;
        let ignored = ignored_signals();
        // Who started us under nohup(1), or where nothing could ever continue us, has had these ignored.
        let is_ignored = |signal: &i32| ignored >> (signal - 1) & 1 == 1;
        let unless_ignored = [SIGHUP, SIGTSTP].into_iter();
        let unless_ignored = unless_ignored.filter(|signal| !is_ignored(signal));
        for signal in [SIGINT, SIGTERM].into_iter().chain(unless_ignored) {
            signals.add_signal(signal).context("set signal handlers")?;
        }
        let handle = signals.handle();
        let thread = thread::Builder::new().spawn(move || {
            for signal in signals.forever() {
                match signal {
                    SIGUSR1 => answer(),
                    SIGTSTP => stop_until_continued(&supervisors),
                    _ => interrupt(&supervisors, signal, &say),
                }
            }
        });
        let thread = thread.with_context(|| format!("start a thread: {LIMITS}"))?;
        Ok(Watch { handle, thread })
    }
}

fn interrupt(supervisors: &Supervisors, signal: i32, say: &impl Fn(&str)) {
    let name = signal_name(signal).unwrap_or("a signal");
    if supervisors.interrupt(signal) {
        say(&format!(
            "{name}: stopping what runs; again to stop it at once"
        ));
    } else if signal != SIGHUP {
        // A terminal's end is told by the kernel and again by the shell: nobody asked for haste.
        say(&format!("{name} again: killing what runs"));
        supervisors.hurry();
    }
}

/// Ends the run with the standard input: it is for somebody elsewhere, who wants it no more.
///
/// # Errors
/// The thread that waits for that cannot be started.
pub fn end_with_input(supervisors: &Arc<Supervisors>) -> io::Result<()> {
    // What it holds must not keep the supervisors.
    let supervisors = Arc::downgrade(supervisors);
    let wait = move || {
        drop(io::copy(&mut io::stdin().lock(), &mut io::sink()));
        if let Some(supervisors) = supervisors.upgrade() {
            supervisors.interrupt(SIGHUP);
        }
    };
    thread::Builder::new().spawn(wait).map(drop)
}

/// The signal that says why a run ended whose results could not be printed for this error.
pub fn signal_for(error: &io::Error) -> i32 {
    // A terminal that was closed says so by EIO (write(2)), perhaps before its SIGHUP is here.
    let is_closed = error.raw_os_error() == Some(Errno::IO.raw_os_error());
    if is_closed { SIGHUP } else { SIGPIPE }
}

/// Stops what runs, and then this process, so that a shell sees it stopped; returns when both go on.
fn stop_until_continued(supervisors: &Supervisors) {
    supervisors.stop();
    // To this very thread: it stops in here, and SIGCONT lets it go on from here. Where it cannot be stopped (as the
    // first process of a container), it goes on at once, and so do the cases.
    raise(SIGSTOP).ok();
    supervisors.cont();
}

/// The signals that this process was started with ignored, a bit each (`SigIgn` of proc(5)).
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut lines = status.lines();
    let mask = lines.find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

impl Watch {
    /// Waits for signals no more. They stay caught, and do nothing.
    pub fn stop(self) {
        self.handle.close();
        // The thread's loop ends with the handle; had it panicked, its message is on the terminal.
        drop(self.thread.join());
    }
}
