//! What is running at this moment, and what has ended so far.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::event::{Event, Observer};
use crate::outcome::Status;

/// A table that every start and every end of a case is entered in.
#[derive(Debug, Default)]
pub struct Running {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    cases: BTreeMap<String, Process>,
    ended: Counts,
    closed: bool,
}

/// A case that is running.
#[derive(Debug, Clone, Copy)]
pub struct Process {
    /// Its process.
    pub pid: i32,
    /// When it was started.
    pub since: Instant,
}

/// How many cases have ended, by status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// [`Status::Passed`]
    pub passed: usize,
    /// [`Status::Skipped`]
    pub skipped: usize,
    /// [`Status::Failed`]
    pub failed: usize,
    /// [`Status::TimedOut`]
    pub timed_out: usize,
    /// [`Status::NoRun`]
    pub no_run: usize,
}

impl Counts {
    /// Counts one more.
    pub fn add(&mut self, status: Status) {
        *self.of_mut(status) += 1;
    }

    /// All of them.
    pub fn total(&self) -> usize {
        self.passed + self.skipped + self.failed + self.timed_out + self.no_run
    }

    fn of_mut(&mut self, status: Status) -> &mut usize {
        match status {
            Status::Passed => &mut self.passed,
            Status::Skipped => &mut self.skipped,
            Status::Failed => &mut self.failed,
            Status::TimedOut => &mut self.timed_out,
            Status::NoRun => &mut self.no_run,
        }
    }
}

/// The table as it was at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// What ran, the longest first.
    pub cases: Vec<(String, Process)>,
    /// What had ended.
    pub ended: Counts,
}

impl Running {
    /// The table as it is.
    pub fn snapshot(&self) -> Snapshot {
        let state = self.lock();
        let mut cases: Vec<_> = state.cases.iter().map(|(name, process)| (name.clone(), *process)).collect();
        cases.sort_by_key(|(_, process)| process.since);
        Snapshot { cases, ended: state.ended }
    }

    /// Waits until more than `ended` cases have ended, for at most `patience`; `false` once [`Self::close`] was called.
    pub fn wait_for_an_end(&self, ended: usize, patience: Duration) -> bool {
        let nothing_new = |state: &mut State| !state.closed && state.ended.total() <= ended;
        let waited = self.changed.wait_timeout_while(self.lock(), patience, nothing_new);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !state.closed
    }

    /// Ends all waiting: the run is over.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Running {
    fn notify(&self, event: Event<'_>) {
        match event {
            Event::Started(outcome) => {
                let process = Process { pid: outcome.pid.unwrap_or(0), since: Instant::now() };
                self.lock().cases.insert(outcome.name.clone(), process);
            }
            Event::Finished(outcome) => {
                let mut state = self.lock();
                state.cases.remove(&outcome.name);
                state.ended.add(outcome.status);
                self.changed.notify_all();
            }
        }
    }
}
