//! Enter on the terminal, without a change to the terminal and without a stop where it is not ours to read.

use std::io::{self, IsTerminal, PipeWriter};
use std::os::fd::AsFd;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::getpgrp;
use rustix::termios::tcgetpgrp;
use signal_hook::consts::SIGTTIN;

use crate::supervise::keeper::block_in_this_thread;

/// How often we look whether the terminal has become ours, while it is not.
const PATIENCE: Duration = Duration::from_millis(500);

/// The thread that waits for Enter.
#[derive(Debug)]
pub struct Keyboard {
    /// What the thread watches beside the terminal: it ends when this is closed.
    stop: PipeWriter,
    thread: JoinHandle<()>,
}

impl Keyboard {
    /// Calls `on_enter` for every line that is typed while we are in the terminal's foreground. `None` where the standard
    /// input is no terminal.
    ///
    /// # Errors
    /// There is no pipe left.
    pub fn watch(on_enter: impl Fn() + Send + 'static) -> io::Result<Option<Self>> {
        if !io::stdin().is_terminal() {
            return Ok(None);
        }
        let (stopped, stop) = io::pipe()?;
        let thread = thread::Builder::new().spawn(move || {
            // Between a look at who is in the foreground and the read, the user may have put us into the background: the
            // kernel then refuses the read (EIO) instead of stopping us, and Cargo with us (n_tty.c, job_control()).
            if block_in_this_thread(SIGTTIN).is_ok() {
                while next_line(&stopped) {
                    on_enter();
                }
            }
        })?;
        Ok(Some(Self { stop, thread }))
    }

    /// Stops to wait.
    pub fn stop(self) {
        drop(self.stop);
        // Had it panicked, its message is on the terminal.
        drop(self.thread.join());
    }
}

/// Waits for a line; `false` where there will be none, or none is wanted any more.
fn next_line(stopped: &impl AsFd) -> bool {
    let terminal = io::stdin();
    loop {
        let is_ours = is_in_foreground(&terminal);
        let mut watched = [
            PollFd::new(stopped, PollFlags::IN),
            // What is typed there is not for us while another is in the foreground.
            PollFd::new(
                &terminal,
                if is_ours {
                    PollFlags::IN
                } else {
                    PollFlags::empty()
                },
            ),
        ];
        let patience = PATIENCE.try_into().ok().filter(|_| !is_ours);
        match poll(&mut watched, patience.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return false,
        }
        if !watched[0].revents().is_empty() {
            return false;
        }
        let happened = watched[1].revents();
        if happened.is_empty() || !is_in_foreground(&terminal) {
            if happened.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
                return false;
            }
            continue;
        }
        // In a terminal's usual mode one read is one line; of a longer one the rest comes with the next read.
        match rustix::io::read(&terminal, &mut [0; 4096]) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(Errno::IO) if !is_in_foreground(&terminal) => {}
            Err(_) => return false,
        }
    }
}

fn is_in_foreground(terminal: impl AsFd) -> bool {
    tcgetpgrp(terminal).is_ok_and(|foreground| foreground == getpgrp())
}
