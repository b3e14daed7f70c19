//! What is typed on the terminal, a line at a time, without a change to the terminal and without a stop where it is not ours to read.

use std::io::{self, IsTerminal};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::getpgrp;
use rustix::termios::tcgetpgrp;

/// How often we look whether the terminal has become ours, while it is not.
const PATIENCE: Duration = Duration::from_millis(500);

/// The longest line that is read at once, in bytes: of a longer one the rest is the next.
const LONGEST: usize = 4096;

/// What a line asks for that is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// How the run stands: *Enter* alone.
    All,
    /// The failures so far.
    Failures,
    /// What was skipped, by reason.
    Skips,
    /// What runs, with the last lines of its output.
    Running,
    /// The end of what runs as this process.
    End(i32),
    /// What may be typed.
    Help,
}

impl Wish {
    /// What is told of this by [`Self::Help`].
    pub(super) const HELP: &str = "\
Enter shows how the run stands; before it may be typed:
  f      the failures so far
  s      what was skipped, by reason
  r      what runs, with the last lines of its output
  k PID  ends what runs as this process: its case is FAILED, ended by the user
  ?      this";

    /// What `line` asks for.
    pub fn of(line: &str) -> Self {
        match line.trim() {
            "" => Self::All,
            "f" => Self::Failures,
            "s" => Self::Skips,
            "r" => Self::Running,
            other => {
                let pid = other.strip_prefix('k').map(str::trim);
                let pid = pid.and_then(|pid| pid.parse().ok());
                pid.map_or(Self::Help, Self::End)
            }
        }
    }
}

/// The thread that waits for lines.
#[derive(Debug)]
pub struct Keyboard {
    /// What the thread watches beside the terminal: it ends when this is closed.
    stop: OwnedFd,
    thread: JoinHandle<()>,
}

impl Keyboard {
    /// Calls `on_line` with every line that is typed while we are in the terminal's foreground, without its end. `None`
    /// where the standard input is no terminal.
    ///
    /// # Errors
    /// There is no pipe left.
    pub fn watch(on_line: impl Fn(&str) + Send + 'static) -> io::Result<Option<Self>> {
        if !io::stdin().is_terminal() {
            return Ok(None);
        }
        let (stopped, stop) = pipe_with(PipeFlags::CLOEXEC)?;
        let thread = thread::Builder::new().spawn(move || {
            // Between a look at who is in the foreground and the read, the user may have put us into the background: the
            // kernel then refuses the read (EIO) instead of stopping us, and Cargo with us (n_tty.c, job_control()).
            if block_sigttin().is_ok() {
                while let Some(line) = next_line(&stopped) {
                    on_line(&line);
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

/// Waits for a line; `None` where there will be none, or none is wanted any more.
fn next_line(stopped: &impl AsFd) -> Option<String> {
    let terminal = io::stdin();
    loop {
        // What is typed there is not for us while another is in the foreground.
        let (wanted, patience) = match is_in_foreground(&terminal) {
            true => (PollFlags::IN, None),
            false => (PollFlags::empty(), PATIENCE.try_into().ok()),
        };
        let mut watched = [
            PollFd::new(stopped, PollFlags::IN),
            PollFd::new(&terminal, wanted),
        ];
        match poll(&mut watched, patience.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return None,
        }
        if !watched[0].revents().is_empty() {
            return None;
        }
        let happened = watched[1].revents();
        if happened.is_empty() || !is_in_foreground(&terminal) {
            if happened.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
                return None;
            }
            continue;
        }
        let mut line = [0; LONGEST];
        match rustix::io::read(&terminal, &mut line) {
            Ok(0) => return None,
            Ok(length) => {
                let line = String::from_utf8_lossy(&line[..length]);
                return Some(line.trim_end_matches('\n').to_owned());
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(Errno::IO) if !is_in_foreground(&terminal) => {}
            Err(_) => return None,
        }
    }
}

fn is_in_foreground(terminal: impl AsFd) -> bool {
    tcgetpgrp(terminal).is_ok_and(|foreground| foreground == getpgrp())
}

/// Blocks SIGTTIN in this thread alone: what cases inherit is left as it is.
fn block_sigttin() -> io::Result<()> {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the first call initialises the set, which the others only use; the old mask is not asked for.
    let error = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGTTIN);
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut())
    };
    match error {
        0 => Ok(()),
        number => Err(io::Error::from_raw_os_error(number)),
    }
}
