//! The cases of other runs on this host: beside them, or alone.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use crate::environment::host_lock::{Held, HostLock, Use};
use crate::environment::root::Root;
use crate::model::case::Case;
use crate::model::outcome::Status;
use crate::show::console::Console;
use crate::supervise::keepers::Keepers;

const INTERRUPTED: &str = "interrupted while it waited for another run";

/// Lets each case of this run on the host when those of the other runs allow it, and says for whom it waits.
#[derive(Debug)]
pub struct Neighbours {
    lock: HostLock,
    keepers: Arc<Keepers>,
    console: Arc<Console>,
    /// What was said last: many cases may wait for the same.
    said: Mutex<String>,
}

impl Neighbours {
    /// Those of the host that the run is on.
    pub fn new(keepers: Arc<Keepers>, console: Arc<Console>) -> Self {
        Self {
            lock: HostLock::new(&Root::from_env()),
            keepers,
            console,
            said: Mutex::default(),
        }
    }

    /// A line for the header, where there are runs that are not seen.
    pub fn describe(&self) -> Option<String> {
        self.lock
            .limit()
            .map(|limit| format!("  lock         {limit}"))
    }

    /// Waits until `case` may run: an exclusive one for every case of every other run, others for exclusive ones.
    ///
    /// # Errors
    /// `NO_RUN`: the run was interrupted meanwhile, or the lock cannot be used.
    pub fn take(&self, case: &Case) -> Result<Held, (Status, String)> {
        let how = if case.exclusive {
            Use::Alone
        } else {
            Use::Shared
        };
        self.take_for(&how)
    }

    /// Waits until no other process has the suite that is kept at `place` set up.
    ///
    /// # Errors
    /// `NO_RUN`: the run was interrupted meanwhile, or the lock cannot be used.
    pub fn take_suite(&self, place: &str) -> Result<Held, (Status, String)> {
        self.take_for(&Use::Suite(place.to_owned()))
    }

    fn take_for(&self, how: &Use) -> Result<Held, (Status, String)> {
        let no_run = |reason: String| (Status::NoRun, reason);
        let taken = self.lock.take(how, &mut |message| self.wait(message));
        taken
            .map_err(|error| no_run(format!("lock this host: {error}")))?
            .ok_or_else(|| no_run(INTERRUPTED.to_owned()))
    }

    /// The same for the tear-down of a suite, which is due also where the run is interrupted: then it waits for nobody.
    pub fn take_to_tear_down(&self) -> Option<Held> {
        let taken = self
            .lock
            .take(&Use::Shared, &mut |message| self.wait(message));
        taken.ok().flatten()
    }

    fn wait(&self, message: &str) -> ControlFlow<()> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if *said != message {
            self.console.say(message);
            message.clone_into(&mut said);
        }
        match self.keepers.interrupted_by() {
            Some(_) => ControlFlow::Break(()),
            None => ControlFlow::Continue(()),
        }
    }
}
