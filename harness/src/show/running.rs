//! What is running at this moment, and what has ended so far.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::model::event::{Event, Observer};
use crate::model::outcome::Status;

/// A table that every start and every end of a case is entered in.
#[derive(Debug, Default)]
pub struct Running {
    state: Mutex<State>,
    closing: Condvar,
}

#[derive(Debug, Default)]
struct State {
    cases: BTreeMap<String, Process>,
    ended: Counts,
    closed: bool,
}

/// A case that is running.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its process.
    pub pid: i32,
    /// The worker that runs it.
    pub worker: usize,
    /// The directory of its output, relative to the run's.
    pub output: Option<PathBuf>,
    /// When it was started.
    pub since: Instant,
}

/// How many cases have ended, of every status, in the order of their declaration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts([usize; Status::ALL.len()]);

impl Counts {
    /// Counts one more.
    pub fn add(&mut self, status: Status) {
        self.0[status as usize] += 1;
    }

    /// How many of `status`.
    pub fn of(self, status: Status) -> usize {
        self.0[status as usize]
    }

    /// Those that failed in one way or another.
    pub fn failures(self) -> usize {
        Status::ALL
            .into_iter()
            .filter(|status| status.is_failure())
            .map(|status| self.of(status))
            .sum()
    }

    /// All of them.
    pub fn total(self) -> usize {
        self.0.iter().sum()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = Status::ALL.map(|status| (self.of(status), status.as_str()));
        let shown: Vec<_> = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, word)| format!("{count} {word}"))
            .collect();
        f.write_str(&shown.join(", "))
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
        let mut cases: Vec<_> = state
            .cases
            .iter()
            .map(|(name, process)| (name.clone(), process.clone()))
            .collect();
        cases.sort_by_key(|(_, process)| process.since);
        Snapshot {
            cases,
            ended: state.ended,
        }
    }

    /// A case is listed as ignored: it counts as skipped.
    pub fn ignored(&self) {
        self.lock().ended.add(Status::Skipped);
    }

    /// Waits for this long, or until [`Self::close`] is called; returns whether it was not.
    pub fn is_open_after(&self, time: Duration) -> bool {
        let waited = self
            .closing
            .wait_timeout_while(self.lock(), time, |state| !state.closed);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !state.closed
    }

    /// Ends all waiting: the run is over.
    pub fn close(&self) {
        self.lock().closed = true;
        self.closing.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Running {
    fn notify(&self, event: Event<'_>) {
        match event {
            Event::Entered(_) | Event::Left(_) | Event::Starting(_) => {}
            Event::Started(outcome) => {
                let process = Process {
                    pid: outcome.pid.unwrap_or(0),
                    worker: outcome.worker,
                    output: outcome.output.clone(),
                    since: Instant::now(),
                };
                self.lock().cases.insert(outcome.name.clone(), process);
            }
            Event::Finished(outcome) => {
                let mut state = self.lock();
                state.cases.remove(&outcome.name);
                state.ended.add(outcome.status);
            }
            Event::Splat(_) => {}
        }
    }
}
