//! SIGINT, SIGTERM and SIGHUP end a run early and in order; SIGTSTP, a terminal's Ctrl-Z, stops it until SIGCONT.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::Context;
use rustix::io::Errno;
use signal_hook::consts::{SIGHUP, SIGINT, SIGPIPE, SIGSTOP, SIGTERM, SIGTSTP};
use signal_hook::iterator::{Handle, Signals};
use signal_hook::low_level::{raise, signal_name};

use crate::show::console::Console;
use crate::supervise::keepers::Keepers;

/// The thread that waits for signals.
#[derive(Debug)]
pub struct Watch {
    handle: Handle,
    thread: JoinHandle<()>,
    keepers: Arc<Keepers>,
}

/// Starts to wait for signals: the first that ends the run does so in order, a second one cuts the grace short.
///
/// # Errors
/// The handlers cannot be set.
pub fn watch(keepers: Arc<Keepers>, console: Arc<Console>) -> anyhow::Result<Watch> {
    let ignored = ignored_signals();
    let watched = [SIGINT, SIGTERM].into_iter();
    // Who started us under nohup(1), or where nothing could ever continue us, has had these ignored.
    let watched = watched.chain(
        [SIGHUP, SIGTSTP]
            .into_iter()
            .filter(|signal| ignored >> (signal - 1) & 1 == 0),
    );
    let mut signals = Signals::new(watched).context("set signal handlers")?;
    let handle = signals.handle();
    let thread = thread::Builder::new().spawn({
        let keepers = Arc::clone(&keepers);
        move || {
            for signal in signals.forever() {
                if signal == SIGTSTP {
                    stop_until_continued(&keepers);
                    continue;
                }
                let name = signal_name(signal).unwrap_or("a signal");
                if keepers.interrupt(signal) {
                    console.say(&format!(
                        "{name}: stopping what runs; again to stop it at once"
                    ));
                } else if signal != SIGHUP {
                    // A terminal's end is told by the kernel and again by the shell: nobody asked for haste.
                    console.say(&format!("{name} again: killing what runs"));
                    keepers.hurry();
                }
            }
        }
    });
    let thread = thread.context("start the thread that waits for signals")?;
    Ok(Watch {
        handle,
        thread,
        keepers,
    })
}

/// The signal that says why a run ended whose results could not be printed for this error.
pub fn signal_for(error: &io::Error) -> i32 {
    // A terminal that was closed says so by EIO (write(2)), perhaps before its SIGHUP is here.
    if error.raw_os_error() == Some(Errno::IO.raw_os_error()) {
        SIGHUP
    } else {
        SIGPIPE
    }
}

/// Stops what runs, and then this process, so that a shell sees it stopped; returns when both go on.
fn stop_until_continued(keepers: &Keepers) {
    keepers.stop();
    // To this very thread: it stops in here, and SIGCONT lets it go on from here. Where it cannot be stopped (as the
    // first process of a container), it goes on at once, and so do the cases.
    raise(SIGSTOP).ok();
    keepers.cont();
}

/// The signals that this process was started with ignored, a bit each (`SigIgn` of proc(5)).
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

impl Watch {
    /// Stops waiting; returns the signal that interrupted the run, if one did.
    pub fn stop(self) -> Option<i32> {
        self.handle.close();
        // The thread's loop ends with the handle; had it panicked, its message is on the terminal.
        drop(self.thread.join());
        self.keepers.interrupted_by()
    }
}
