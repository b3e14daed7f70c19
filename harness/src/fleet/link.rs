//! The command of a place while it runs: its standard streams, and its end.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::thread;
use std::time::{Duration, Instant};

use duct::{Handle, cmd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::model::outcome::Exit;

/// After how long it is said that a place has not begun; and then each time that this is so many times as long.
const OVERDUE: Duration = Duration::from_secs(10);
const LONGER: u32 = 3;

/// How long a command may take to end once nothing more is wanted of it.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a run that is interrupted may take to end in order: its cases, their tear-downs, its environment.
const GRACE: Duration = Duration::from_secs(120);

/// How long it may take when it has been told so by a signal.
const HASTE: Duration = Duration::from_secs(5);

/// What a read came to.
pub(super) enum Received {
    /// So many bytes.
    Bytes(usize),
    /// Nothing yet.
    Nothing,
    /// Nothing any more.
    End,
}

/// A command that runs.
pub(super) struct Link {
    handle: Handle,
    /// `None` once it has been told that nothing more comes.
    input: Option<File>,
    output: File,
    started: Instant,
    /// When it said something last.
    heard: Instant,
    /// How old it is when it is said the next time that it has not begun.
    overdue: Duration,
    /// When it was asked to end.
    asked: Option<Instant>,
}

impl Link {
    /// Starts a shell command, and sends it `input`; what it says on the standard error goes to `console`.
    ///
    /// A terminal's Ctrl-C does not reach it: it is ended in order.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn start(command: &str, input: Vec<u8>, console: &File) -> io::Result<Self> {
        let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
        let (output, written) = pipe_with(PipeFlags::CLOEXEC)?;
        let handle = cmd!("sh", "-c", command)
            .stdin_file(theirs)
            .stdout_file(written)
            .stderr_file(console.try_clone()?)
            .before_spawn(|command| {
                command.process_group(0);
                Ok(())
            })
            .unchecked()
            .start()?;
        let ours = File::from(ours);
        let mut writer = ours.try_clone()?;
        // It may start to read only in an hour. Where it never does, its end ends this.
        thread::Builder::new().spawn(move || writer.write_all(&input).ok())?;
        Ok(Self {
            handle,
            input: Some(ours),
            output: output.into(),
            started: Instant::now(),
            heard: Instant::now(),
            overdue: OVERDUE,
            asked: None,
        })
    }

    /// Waits for output, but not for longer than `patience`.
    pub(super) fn receive(&mut self, bytes: &mut [u8], patience: Duration) -> Received {
        let patience = Timespec::try_from(patience).ok();
        let mut watched = [PollFd::new(&self.output, PollFlags::IN)];
        // What interrupts it comes again.
        match poll(&mut watched, patience.as_ref()) {
            Ok(1..) => match self.output.read(bytes) {
                Ok(length @ 1..) => {
                    self.heard = Instant::now();
                    Received::Bytes(length)
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => Received::Nothing,
                Ok(0) | Err(_) => Received::End,
            },
            // What it has left behind may keep its output open.
            _ => match self.handle.try_wait() {
                Ok(None) => Received::Nothing,
                _ => Received::End,
            },
        }
    }

    /// For how long it has said nothing.
    pub(super) fn silence(&self) -> Duration {
        self.heard.elapsed()
    }

    /// How old it is, where it is time to say that it has not begun.
    pub(super) fn is_overdue(&mut self) -> Option<Duration> {
        let age = self.started.elapsed();
        let is_due = age >= self.overdue;
        self.overdue *= if is_due { LONGER } else { 1 };
        is_due.then_some(age)
    }

    /// Nothing more is wanted of it. Returns whether it has had the time to end; until then it may say something.
    pub(super) fn let_end(&mut self) -> bool {
        self.input = None;
        self.asked.get_or_insert_with(Instant::now).elapsed() >= PATIENCE
    }

    /// Has it end: by the end of its input, with which the program there ends its run, puts its host back, and tells how that
    /// was. What has not begun, or takes too long, gets a signal.
    pub(super) fn end_in_order(&mut self, has_begun: bool, is_hurried: bool) {
        self.input = None;
        let since = self.asked.get_or_insert_with(Instant::now).elapsed();
        let grace = if has_begun && !is_hurried {
            GRACE
        } else {
            Duration::ZERO
        };
        if since >= grace + HASTE {
            self.kill();
        } else if since >= grace {
            signal(&self.handle, Signal::INT);
        }
    }

    /// Ends all of its processes at once.
    pub(super) fn kill(&self) {
        signal(&self.handle, Signal::KILL);
    }

    /// Waits for its end, and brings it about where it does not come by itself. Returns how it ended.
    pub(super) fn end(mut self) -> String {
        self.input = None;
        drop(self.output);
        if let Ok(None) = self.handle.wait_timeout(PATIENCE) {
            signal(&self.handle, Signal::KILL);
        }
        match self.handle.wait() {
            Ok(output) => Exit::from(output.status).to_string(),
            Err(error) => error.to_string(),
        }
    }
}

/// Sends a signal to all processes of a command.
fn signal(handle: &Handle, signal: Signal) {
    for pid in handle.pids() {
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            // It may have ended.
            kill_process_group(pid, signal).ok();
        }
    }
}
