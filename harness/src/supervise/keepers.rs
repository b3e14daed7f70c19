//! The run's workers: each has a keeper, and all can be interrupted together.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;

use crate::supervise::keeper::{Ended, Handle, Keeper, RunError, Task};

/// The workers, lent out one case at a time. Dropping the last reference ends their keepers.
#[derive(Debug, Default)]
pub struct Keepers {
    state: Mutex<State>,
    /// The signal that interrupted the run, or 0.
    interrupted_by: AtomicI32,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<Worker>,
    count: usize,
    handles: BTreeMap<usize, Interruptible>,
    is_stopped: bool,
}

/// A worker's handle, and whether what it runs at the moment may be interrupted.
#[derive(Debug, Clone)]
struct Interruptible {
    handle: Handle,
    now: Arc<AtomicBool>,
}

/// Whether an interruption of the run ends a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Haste {
    /// It does.
    Interruptible,
    /// It does not: what was set up must be torn down.
    Never,
}

/// A worker, lent out.
#[derive(Debug)]
pub struct Worker {
    number: usize,
    keeper: Lent,
    pid: u32,
    handle: Handle,
    interruptible: Arc<AtomicBool>,
}

#[derive(Debug)]
enum Lent {
    Here(Keeper),
    /// Another case has it, and will send it.
    Coming(Receiver<Keeper>),
}

/// By which a worker is passed on.
#[derive(Debug)]
pub struct Passing(Sender<Keeper>);

impl Keepers {
    /// A worker that is idle, or a new one.
    ///
    /// # Errors
    /// A keeper cannot be started.
    pub fn take(&self) -> anyhow::Result<Worker> {
        let idle = self.lock().idle.pop();
        match idle {
            Some(worker) if worker.is_usable() => Ok(worker),
            Some(used_up) => self.start(used_up.number),
            None => {
                let mut state = self.lock();
                state.count += 1;
                let number = state.count - 1;
                drop(state);
                self.start(number)
            }
        }
    }

    /// Takes a worker back; one that did not come is no worker.
    pub fn give_back(&self, worker: Worker) {
        if let Lent::Here(_) = worker.keeper {
            self.lock().idle.push(worker);
        }
    }

    /// Interrupts the run because of `signal`: what runs is ended, and what may be interrupted is not started any
    /// more. Returns whether this is the first time.
    pub fn interrupt(&self, signal: i32) -> bool {
        let first = self
            .interrupted_by
            .compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok();
        self.for_each_interruptible(Handle::interrupt);
        first
    }

    /// Cuts the grace of what is being ended.
    pub fn hurry(&self) {
        self.for_each_interruptible(Handle::hurry);
    }

    /// Stops everything that runs, and its time; nothing is started before [`Self::cont`].
    pub fn stop(&self) {
        let mut state = self.lock();
        state.is_stopped = true;
        state.handles.values().for_each(|one| one.handle.stop());
    }

    /// Lets everything go on after [`Self::stop`].
    pub fn cont(&self) {
        let mut state = self.lock();
        state.is_stopped = false;
        state.handles.values().for_each(|one| one.handle.cont());
    }

    /// The signal that interrupted the run, if one did.
    pub fn interrupted_by(&self) -> Option<i32> {
        Some(self.interrupted_by.load(Ordering::SeqCst)).filter(|&signal| signal != 0)
    }

    /// Runs `task` on `worker` to its end; `on_start` is told its process ID.
    ///
    /// # Errors
    /// It could not be started, or its keeper broke. Where the worker was to be passed on from another case, this may
    /// also be [`RunError::Returned`]: then it is to be run on another worker.
    pub fn run(
        &self,
        worker: &mut Worker,
        task: &Task,
        haste: Haste,
        on_start: impl FnOnce(i32),
    ) -> Result<Ended, RunError> {
        let Worker {
            keeper: lent,
            handle,
            interruptible,
            ..
        } = worker;
        let is_asked = match lent {
            Lent::Here(_) => false,
            Lent::Coming(coming) => {
                let is_asked = handle.ask(task).is_ok();
                *lent = Lent::Here(coming.recv().map_err(|_| RunError::Returned)?);
                is_asked
            }
        };
        let Lent::Here(keeper) = lent else {
            return Err(RunError::Returned);
        };
        // Only now: the end of the case before has changed it.
        interruptible.store(haste == Haste::Interruptible, Ordering::SeqCst);
        let started = |pid| {
            on_start(pid);
            // An interruption that came before this task met no task, and one that comes from now on meets it.
            if haste == Haste::Interruptible && self.interrupted_by().is_some() {
                handle.interrupt();
            }
        };
        let ended = if is_asked {
            keeper.follow(started)
        } else {
            keeper.run(task, started)
        };
        interruptible.store(false, Ordering::SeqCst);
        ended
    }

    fn start(&self, number: usize) -> anyhow::Result<Worker> {
        let keeper = Keeper::start().context("start the process that keeps a case")?;
        let interruptible = Arc::new(AtomicBool::new(false));
        let (pid, handle) = (keeper.pid(), keeper.handle());
        let entry = Interruptible {
            handle: handle.clone(),
            now: Arc::clone(&interruptible),
        };
        let mut state = self.lock();
        if state.is_stopped {
            handle.stop();
        }
        state.handles.insert(number, entry);
        drop(state);
        Ok(Worker {
            number,
            keeper: Lent::Here(keeper),
            pid,
            handle,
            interruptible,
        })
    }

    fn for_each_interruptible(&self, act: impl Fn(&Handle)) {
        let handles: Vec<_> = self.lock().handles.values().cloned().collect();
        handles
            .iter()
            .filter(|one| one.now.load(Ordering::SeqCst))
            .for_each(|one| act(&one.handle));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Worker {
    /// Its number, from 0.
    pub fn number(&self) -> usize {
        self.number
    }

    /// The process ID of its keeper, below which all of a case's processes are.
    pub fn keeper(&self) -> u32 {
        self.pid
    }

    fn is_usable(&self) -> bool {
        matches!(&self.keeper, Lent::Here(keeper) if !keeper.is_used_up())
    }

    /// The same worker for the next case, which gets it when [`Worker::pass`] is called, and may
    /// [ask](Keepers::run) for its task before.
    pub fn next(&self) -> (Self, Passing) {
        let (send, coming) = mpsc::channel();
        let next = Self {
            number: self.number,
            keeper: Lent::Coming(coming),
            pid: self.pid,
            handle: self.handle.clone(),
            interruptible: Arc::clone(&self.interruptible),
        };
        (next, Passing(send))
    }

    /// Passes it on; returns it where nobody waits for it any more.
    pub fn pass(mut self, to: &Passing) -> Option<Self> {
        let Lent::Here(keeper) = self.keeper else {
            return None;
        };
        let keeper = to.0.send(keeper).err()?.0;
        self.keeper = Lent::Here(keeper);
        Some(self)
    }
}
