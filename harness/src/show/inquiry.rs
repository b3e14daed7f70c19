//! Somebody asks what runs, by SIGUSR1 or by Enter, and is told at once.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::Context;
use signal_hook::consts::SIGUSR1;
use signal_hook::iterator::{Handle, Signals};

use crate::show::console::Console;
use crate::show::keyboard::Keyboard;
use crate::show::standing::Standing;

/// SIGUSR1 is caught: whoever sends it does not end this process any more, whatever it is doing.
#[derive(Debug)]
pub struct Inquiries(Signals);

impl Inquiries {
    /// Catches the signal; what comes before [`Self::answer`] is answered then.
    ///
    /// # Errors
    /// The handler cannot be set.
    pub fn catch() -> anyhow::Result<Self> {
        Ok(Self(
            Signals::new([SIGUSR1]).context("set a signal handler")?,
        ))
    }

    /// Answers from now on.
    ///
    /// # Errors
    /// The terminal cannot be watched.
    pub fn answer(self, standing: Standing, console: Arc<Console>) -> anyhow::Result<Answering> {
        let tell = Arc::new(move || console.say(standing.render().trim_end()));
        let mut signals = self.0;
        let handle = signals.handle();
        let thread = thread::Builder::new().spawn({
            let tell = Arc::clone(&tell);
            move || signals.forever().for_each(|_| tell())
        });
        let thread = thread.context("start the thread that answers")?;
        let keyboard = Keyboard::watch(move || tell()).context("watch the terminal")?;
        Ok(Answering {
            handle,
            thread,
            keyboard,
        })
    }
}

/// The threads that answer.
#[derive(Debug)]
pub struct Answering {
    handle: Handle,
    thread: JoinHandle<()>,
    keyboard: Option<Keyboard>,
}

impl Answering {
    /// Answers no more. The signal stays caught, and does nothing.
    pub fn stop(self) {
        self.handle.close();
        // Had it panicked, its message is on the terminal.
        drop(self.thread.join());
        if let Some(keyboard) = self.keyboard {
            keyboard.stop();
        }
    }
}
