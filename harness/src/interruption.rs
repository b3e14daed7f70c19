//! SIGINT, SIGTERM and SIGHUP end a run early and in order.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::Context;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::console::Console;
use crate::keepers::Keepers;

/// The thread that waits for signals.
#[derive(Debug)]
pub struct Watch {
    handle: Handle,
    thread: JoinHandle<()>,
    keepers: Arc<Keepers>,
}

/// Starts to wait for signals: the first stops the run, a second one cuts the grace short.
///
/// # Errors
/// The handlers cannot be set.
pub fn watch(keepers: Arc<Keepers>, console: Arc<Console>) -> anyhow::Result<Watch> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("set signal handlers")?;
    let handle = signals.handle();
    let thread = thread::spawn({
        let keepers = Arc::clone(&keepers);
        move || {
            for signal in signals.forever() {
                let name = signal_hook::low_level::signal_name(signal).unwrap_or("a signal");
                if keepers.interrupt(signal) {
                    console.say(&format!("{name}: stopping what runs; again to stop it at once"));
                } else {
                    console.say(&format!("{name} again: killing what runs"));
                    keepers.hurry();
                }
            }
        }
    });
    Ok(Watch { handle, thread, keepers })
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
