//! The kernel's log during a run: kept, and searched for splats, which are attributed to the cases.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::environment::root::Root;
use crate::model::case::Case;
use crate::model::event::{Event, Observer};
use cases::{CaseId, Cases, Owner};
use end::End;
use file::LogFile;
use ignore::Ignored;
use kmsg::{Kmsg, News, Rest};
use splat::{Assembler, Splat};

pub mod cases;
pub mod culprit;
pub mod end;
pub mod file;
pub mod ignore;
pub mod kmsg;
pub mod pattern;
pub mod record;
pub mod splat;

/// How many splats of one case, and how many that nobody owns, are kept; `kernel.log` has them all.
const MOST: usize = 50;

/// Where a splat has begun and nothing comes for this long, it is at its end.
const GAP: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// The kernel's log, from the beginning of a run to its end.
#[derive(Debug)]
pub struct KernelLog(Result<Following, String>);

#[derive(Debug)]
struct Following {
    state: Mutex<State>,
    /// The same open file as the state's: to wait for what it brings without the lock.
    polled: File,
    /// Wakes the thread.
    wake: OwnedFd,
    stop: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct State {
    kmsg: Kmsg,
    file: LogFile,
    assembler: Assembler,
    cases: Cases,
    ignored: Ignored,
    /// The splats of the cases that are running.
    owned: HashMap<CaseId, Vec<Splat>>,
    end: End,
    /// How many of the end's splats the observers have been told of.
    told: usize,
}

impl KernelLog {
    /// Follows the log from now on, and keeps it in the directory of a run. Splats that fit `ignored` do not count.
    ///
    /// Where the log may not be read, nothing is kept, and [`Self::problem`] says why.
    pub fn open(root: &Root, run: &Path, ignored: Ignored) -> Self {
        Self(Following::open(root, run, ignored))
    }

    /// Why the kernel's log is not followed.
    pub fn problem(&self) -> Option<&str> {
        self.0.as_ref().err().map(String::as_str)
    }

    /// Starts the thread that follows the log. `observers` are told of the splats that nobody owns.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn follow(self: &Arc<Self>, observers: Vec<Arc<dyn Observer>>) -> io::Result<()> {
        let Ok(following) = &self.0 else {
            return Ok(());
        };
        let log = Arc::clone(self);
        let thread = thread::Builder::new()
            .name("kernel-log".to_owned())
            .spawn(move || {
                if let Ok(following) = &log.0 {
                    following.follow(&observers);
                }
            })?;
        *lock(&following.thread) = Some(thread);
        Ok(())
    }

    /// `case` begins, below the keeper with this process ID.
    pub fn begin(&self, case: &Case, keeper: u32) -> Option<CaseId> {
        let following = self.0.as_ref().ok()?;
        let mut state = lock(&following.state);
        // What was logged before this moment is not its doing.
        state.drain();
        state.file.mark(&format!("{} begins", case.name));
        let id = state.cases.begin(case, keeper);
        following.wake_for(&state);
        Some(id)
    }

    /// The case's own process was started.
    pub fn started(&self, id: Option<CaseId>, pid: i32) {
        if let (Ok(following), Some(id)) = (&self.0, id) {
            lock(&following.state).cases.started(id, pid);
        }
    }

    /// Nothing of the case is alive any more: what is said from now on for a process below its keeper is of the next one.
    pub fn over(&self, id: Option<CaseId>) {
        if let (Ok(following), Some(id)) = (&self.0, id) {
            lock(&following.state).cases.over(id);
        }
    }

    /// `case` has ended. Returns its splats: a process's own are all logged before it has ended.
    pub fn end(&self, id: Option<CaseId>, case: &Case) -> Vec<Splat> {
        let (Ok(following), Some(id)) = (&self.0, id) else {
            return Vec::new();
        };
        let mut state = lock(&following.state);
        let splats = state.end_case(id, case);
        following.wake_for(&state);
        splats
    }

    /// Stops to follow it, and returns what there is to say at the end of the run.
    pub fn close(&self) -> End {
        let Ok(following) = &self.0 else {
            return End::default();
        };
        // 1. The thread, which tells of what it has found.
        let thread = lock(&following.thread).take();
        if let Some(thread) = thread {
            following.stop.store(true, Ordering::SeqCst);
            following.wake();
            // Had it panicked, its message is on the terminal.
            thread.join().ok();
        }
        // 2. What has come since, or all of it where the thread could not be started.
        let mut state = lock(&following.state);
        state.drain();
        state.close_open();
        std::mem::take(&mut state.end).with_problem(state.file.problem())
    }
}

impl Following {
    fn open(root: &Root, run: &Path, ignored: Ignored) -> Result<Self, String> {
        let kmsg = Kmsg::open(root).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => {
                "/dev/kmsg may not be read: run as root, or allow it with sysctl kernel.dmesg_restrict=0"
                    .to_owned()
            }
            _ => format!("/dev/kmsg cannot be read: {error}"),
        })?;
        let polled = kmsg
            .file()
            .try_clone()
            .map_err(|error| format!("/dev/kmsg: {error}"))?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| format!("eventfd: {error}"))?;
        let file = LogFile::open(run)
            .map_err(|error| format!("{} cannot be opened: {error}", file::KERNEL_LOG))?;
        let state = State {
            kmsg,
            file,
            assembler: Assembler::default(),
            cases: Cases::new(root),
            ignored,
            owned: HashMap::new(),
            end: End::default(),
            told: 0,
        };
        Ok(Self {
            state: Mutex::new(state),
            polled,
            wake,
            stop: AtomicBool::new(false),
            thread: Mutex::default(),
        })
    }

    /// Reads what comes, until it is stopped.
    fn follow(&self, observers: &[Arc<dyn Observer>]) {
        let mut rest = Rest::NotYet;
        let mut patience = None;
        loop {
            let is_quiet = self.wait(rest, patience);
            let stopped = self.stop.load(Ordering::SeqCst);
            let mut state = lock(&self.state);
            rest = state.drain();
            if stopped || is_quiet {
                state.close_open();
            }
            patience = state.assembler.is_open().then_some(GAP);
            let new = state.end.splats[state.told..].to_vec();
            state.told = state.end.splats.len();
            drop(state);
            for splat in &new {
                observers
                    .iter()
                    .for_each(|observer| observer.notify(Event::Splat(splat)));
            }
            if stopped {
                return;
            }
        }
    }

    /// Waits for records. Returns whether none came for as long as `patience`.
    fn wait(&self, rest: Rest, patience: Option<Timespec>) -> bool {
        let mut watched = [
            PollFd::new(&self.wake, PollFlags::IN),
            PollFd::new(&self.polled, PollFlags::IN),
        ];
        // A file that is at its end can always be read.
        let count = if rest == Rest::End { 1 } else { 2 };
        let ready = poll(&mut watched[..count], patience.as_ref());
        // What cannot be read was not written.
        rustix::io::read(&self.wake, &mut [0; 8]).ok();
        ready == Ok(0)
    }

    /// Wakes the thread where a case's own reading has left it something to do.
    fn wake_for(&self, state: &State) {
        if state.assembler.is_open() || state.end.splats.len() > state.told {
            self.wake();
        }
    }

    fn wake(&self) {
        // It fails only at a count of 2^64 - 2.
        rustix::io::write(&self.wake, &1_u64.to_ne_bytes()).ok();
    }
}

impl State {
    /// Reads what there is.
    fn drain(&mut self) -> Rest {
        let Self {
            kmsg,
            file,
            assembler,
            cases,
            end,
            ..
        } = self;
        let mut ended = Vec::new();
        let rest = kmsg.drain(|news| match news {
            News::Record(record) => {
                file.record(&record);
                ended.extend(assembler.record(&record, cases));
            }
            News::Lost(count) => {
                let many = count.map_or("some".to_owned(), |count| count.to_string());
                file.mark(&format!(
                    "{many} records are missing here: they were overwritten before they were read"
                ));
                end.lost += count.unwrap_or(1);
            }
        });
        self.settle(ended);
        rest.unwrap_or_else(|error| {
            self.end
                .problem
                .get_or_insert(format!("/dev/kmsg cannot be read any more: {error}"));
            Rest::End
        })
    }

    fn close_open(&mut self) {
        let ended = self.assembler.close();
        self.settle(ended);
    }

    fn end_case(&mut self, id: CaseId, case: &Case) -> Vec<Splat> {
        self.drain();
        let ignored = self.ignored.and(&self.cases.end(id));
        let mut splats = self.owned.remove(&id).unwrap_or_default();
        splats.extend(self.assembler.take(id));
        let (dropped, counted): (Vec<_>, Vec<_>) = splats
            .into_iter()
            .partition(|splat| ignored.fits(&splat.lines));
        self.end.ignored += dropped.len();
        self.end.owned += counted.len();
        for splat in &counted {
            self.file
                .mark(&format!("{} of {}: {}", splat.name, case.name, splat.title));
        }
        self.file.mark(&format!("{} ends", case.name));
        counted
    }

    /// Finds a place for splats that have come to their end.
    fn settle(&mut self, ended: Vec<(Owner, Splat)>) {
        for (owner, splat) in ended {
            match owner {
                Owner::Case(id) if self.cases.is_running(id) => {
                    let splats = self.owned.entry(id).or_default();
                    if splats.len() < MOST {
                        splats.push(splat);
                    }
                }
                // Its case had ended when it was read: so the case does not know of it.
                Owner::Case(_) | Owner::Nobody => self.stray(splat),
                Owner::OtherRun => {
                    self.end.of_others += 1;
                    self.file.mark(&format!(
                        "{} of another run on this host: {}",
                        splat.name, splat.title
                    ));
                }
            }
        }
    }

    fn stray(&mut self, splat: Splat) {
        if self.ignored.fits(&splat.lines) {
            self.end.ignored += 1;
            return;
        }
        self.file.mark(&format!(
            "{}, {}: {}",
            splat.name,
            end::when(&splat),
            splat.title
        ));
        if self.end.splats.len() < MOST {
            self.end.splats.push(splat);
        } else {
            self.end.more += 1;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
