//! The runner's side: the workers of a run, each with its supervisor.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, BufReader, Write};
use std::net::Shutdown;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use rustix::process::{Pid, Signal, getpid, kill_process, set_child_subreaper};

use super::protocol::{ARGUMENT, Clock, Control, GRACE, HANG, NAME, Reply, Task, UNKILLABLE};
use super::system;
use super::tree::{self, HIDDEN, Process};
use crate::model::facts::{EarlyEnd, Ended, StepEnd};

/// How long a supervisor may be silent before it is told to go on, should it have been stopped.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long it may take, beyond all that a task may take, until it is given up.
const SLACK: Duration = Duration::from_secs(10);

/// The workers of a run, lent out a case at a time. Dropping the last reference ends their supervisors.
#[derive(Debug, Default)]
pub struct Supervisors {
    state: Mutex<Pool>,
}

#[derive(Debug, Default)]
struct Pool {
    /// Those that nobody has, by their numbers; without a supervisor where the last one is gone.
    idle: Vec<(usize, Option<Supervisor>)>,
    count: usize,
    ended_early: Option<EarlyEnd>,
    /// The supervisors of the tasks that run, by the process IDs of their main processes.
    tasks: BTreeMap<i32, i32>,
    /// What a new supervisor is to be told as well.
    in_force: BTreeSet<Control>,
    /// It stands still while the run is stopped.
    clock: Clock,
}

impl Pool {
    fn tell(&mut self, control: Control) {
        match control {
            Control::Continue => self.in_force.remove(&Control::Stop),
            Control::Stop | Control::Interrupt | Control::Hurry => self.in_force.insert(control),
            // It is one task's alone.
            Control::End => false,
        };
        for (&pid, _) in supervisors().iter().filter(|(_, is_ready)| **is_ready) {
            system::send(pid, control.signal());
        }
    }
}

impl Supervisors {
    /// Those of a run; they are started when they are needed.
    pub fn new() -> Self {
        Self::default()
    }

    /// A worker that is idle, or a new one.
    ///
    /// # Errors
    /// A supervisor cannot be started.
    pub fn take(self: &Arc<Self>) -> anyhow::Result<Worker> {
        let mut state = self.lock();
        let count = state.count;
        let (number, supervisor) = state.idle.pop().unwrap_or((count, None));
        state.count = count.max(number + 1);
        drop(state);
        let all = Arc::clone(self);
        let mut worker = Worker {
            all,
            number,
            supervisor,
        };
        worker.supervisor = Some(worker.ready()?);
        Ok(worker)
    }

    /// Interrupts the run because of `signal`. Returns whether this is the first time.
    pub fn interrupt(&self, signal: i32) -> bool {
        self.end_early(EarlyEnd::Signal(signal))
    }

    /// Ends the run: what may be interrupted is not started any more, and ended unless failures are the reason. Returns
    /// whether it ends for this reason from now on.
    pub fn end_early(&self, why: EarlyEnd) -> bool {
        let mut state = self.lock();
        let before = state.ended_early.map_or(0, EarlyEnd::weight);
        let is_new = why.weight() > before;
        if is_new {
            state.ended_early = Some(why);
        }
        if is_new && !matches!(why, EarlyEnd::Failures(_)) {
            state.tell(Control::Interrupt);
        }
        is_new
    }

    /// Ends the task whose main process has this ID; false where there is none.
    pub fn end_task(&self, pid: i32) -> bool {
        // As long as it is among them, its supervisor is not asked for another one.
        let state = self.lock();
        let supervisor = state.tasks.get(&pid);
        supervisor.inspect(|&&supervisor| system::send(supervisor, Control::End.signal()));
        supervisor.is_some()
    }

    /// Cuts the grace of what is being ended, and leaves every tear-down, running or still to come, that and no more.
    pub fn hurry(&self) {
        self.lock().tell(Control::Hurry);
    }

    /// Stops everything that runs, and its time; nothing is started before [`Self::cont`].
    pub fn stop(&self) {
        let mut state = self.lock();
        state.clock.stop();
        state.tell(Control::Stop);
    }

    /// Lets everything go on after [`Self::stop`].
    pub fn cont(&self) {
        let mut state = self.lock();
        state.clock.resume();
        state.tell(Control::Continue);
    }

    /// Why the run ends early, if it does.
    pub fn ended_early(&self) -> Option<EarlyEnd> {
        self.lock().ended_early
    }

    /// Whether its end was asked for again.
    pub fn is_hurried(&self) -> bool {
        self.lock().in_force.contains(&Control::Hurry)
    }

    /// For those who wait: whether there is still something to wait for.
    pub fn go_on(&self) -> ControlFlow<()> {
        match self.ended_early() {
            Some(_) => ControlFlow::Break(()),
            None => ControlFlow::Continue(()),
        }
    }

    /// Starts a supervisor, and tells it what the others have been told.
    fn start(&self) -> anyhow::Result<Supervisor> {
        let supervisor = Supervisor::start(self)?;
        let state = self.lock();
        supervisors().insert(supervisor.pid(), true);
        for control in &state.in_force {
            system::send(supervisor.pid(), control.signal());
        }
        Ok(supervisor)
    }

    fn elapsed(&self) -> Duration {
        self.lock().clock.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        // Each change of it is one step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A worker, lent out; it gives itself back when it is dropped.
#[derive(Debug)]
pub struct Worker {
    all: Arc<Supervisors>,
    number: usize,
    /// `None` where it broke, or keeps what cannot be killed; it is started anew for the next task.
    supervisor: Option<Supervisor>,
}

impl Worker {
    /// Its number, from 0.
    pub fn number(&self) -> usize {
        self.number
    }

    /// The process ID of its supervisor, below which all processes of its task are; 0 where it has none.
    pub fn supervisor(&self) -> u32 {
        let supervisor = self.supervisor.as_ref();
        supervisor.map_or(0, |one| one.process.id())
    }

    /// Runs a task to its end, and ends whatever it left behind. `on_start` is told the process ID of its main process as
    /// soon as that runs.
    ///
    /// # Errors
    /// It could not be started, or its supervisor failed; then what was below that has been killed.
    pub fn run(&mut self, task: &Task, on_start: impl FnOnce(i32)) -> StepEnd {
        // Should `on_start` panic, it is gone.
        let mut supervisor = self.ready().map_err(|error| format!("{error:#}"))?;
        let end = supervisor.run(task, &self.all, on_start);
        let this = supervisor.pid();
        self.all.lock().tasks.retain(|_, other| *other != this);
        match end {
            Ok(end) => {
                let is_usable = !end.as_ref().is_ok_and(Ended::leaves_unkillable);
                self.supervisor = is_usable.then_some(supervisor);
                end
            }
            Err(error) => Err(format!("{}: {error:#}", supervisor.bury())),
        }
    }

    /// Its supervisor, or another one where that is gone.
    fn ready(&mut self) -> anyhow::Result<Supervisor> {
        let kept = self.supervisor.take();
        match kept.map(|mut one| (one.is_alive(), one)) {
            Some((true, supervisor)) => Ok(supervisor),
            Some((false, _)) | None => self.all.start(),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let idle = (self.number, self.supervisor.take());
        self.all.lock().idle.push(idle);
    }
}

/// A supervisor, seen from the runner. Dropping it ends it, and everything below it.
#[derive(Debug)]
struct Supervisor {
    process: Child,
    socket: BufReader<UnixStream>,
    is_given_up: bool,
}

impl Supervisor {
    fn start(all: &Supervisors) -> anyhow::Result<Self> {
        let (ours, theirs) = UnixStream::pair().context("make a socket for a supervisor")?;
        ours.set_read_timeout(Some(PATIENCE))?;
        ours.set_write_timeout(Some(SLACK))?;
        // Not the path that `std::env::current_exe` reads from this link: a rebuild may have replaced that file.
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0(NAME)
            .arg(ARGUMENT)
            .stdin(OwnedFd::from(theirs));
        let process = start_process(&mut command)
            .map_err(|error| anyhow!("start a supervisor: {}: {error}", advice(&error)));
        // It has the other end, or else a dead supervisor would not be noticed.
        drop(command);
        let mut supervisor = Self {
            process: process?,
            socket: BufReader::new(ours),
            is_given_up: false,
        };
        match supervisor.receive(all, all.elapsed() + SLACK) {
            Ok(Reply::Ready) => Ok(supervisor),
            Ok(reply) => bail!("a supervisor began with {reply:?}"),
            Err(error) => bail!("{}: {error:#}", supervisor.bury()),
        }
    }

    /// Has a task run. The outer error says that the supervisor is broken.
    fn run(
        &mut self,
        task: &Task,
        all: &Supervisors,
        on_start: impl FnOnce(i32),
    ) -> anyhow::Result<StepEnd> {
        let mut line = serde_json::to_vec(task)?;
        line.push(b'\n');
        self.socket.get_ref().write_all(&line).context("ask it")?;
        let patience = task
            .timeout
            .saturating_add(HANG + GRACE + UNKILLABLE + SLACK);
        let deadline = all.elapsed().saturating_add(patience);
        match self.receive(all, deadline)? {
            Reply::Started(pid) => {
                all.lock().tasks.insert(pid, self.pid());
                on_start(pid);
            }
            Reply::NotStarted(reason) => return Ok(Err(reason)),
            reply => bail!("it answered {reply:?}"),
        }
        match self.receive(all, deadline)? {
            Reply::Ended(ended) => Ok(Ok(*ended)),
            reply => bail!("it answered {reply:?}"),
        }
    }

    /// Waits for what it says. A task may stop its supervisor (SIGSTOP), which then watches over nothing, not even the
    /// task's time: it is made to go on. To one that runs this is nothing.
    fn receive(&mut self, all: &Supervisors, deadline: Duration) -> anyhow::Result<Reply> {
        let mut line = Vec::new();
        while let Err(error) = self.socket.read_until(b'\n', &mut line) {
            if error.kind() != io::ErrorKind::WouldBlock {
                return Err(error).context("hear from it");
            }
            if all.elapsed() >= deadline {
                bail!("it did not answer in time{}", self.state());
            }
            self.go_on();
        }
        let message = line.strip_suffix(b"\n");
        let message = message.context("it closed its socket")?;
        serde_json::from_slice(message).context("understand it")
    }

    /// What it does that does not answer.
    fn state(&self) -> &'static str {
        match Process::read(&self.pid().to_string()).map(|process| process.state) {
            Some(b'T' | b't') => ": it is stopped",
            _ => ": it may be frozen (cgroup), or hang in the kernel",
        }
    }

    fn pid(&self) -> i32 {
        self.process.id() as i32
    }

    fn is_alive(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    fn go_on(&self) {
        // It has not been waited for, so the number is its own.
        kill_process(Pid::from_child(&self.process), Signal::CONT).ok();
    }

    /// Makes sure that one that is broken is dead, with all that was below it, and says how it ended.
    fn bury(&mut self) -> String {
        supervisors().remove(&self.pid());
        self.is_given_up = true;
        // 1. It first: only its death hands its children on to us.
        self.process.kill().ok();
        tree::ends_by(self.pid(), Instant::now() + GRACE);
        let how = match self.process.try_wait() {
            Ok(Some(status)) => status.to_string(),
            _ => "SIGKILL does not end it".to_owned(),
        };
        // 2. Then its children. They are not ours to wait for by any other means than looking for them.
        kill_orphans();
        format!("its supervisor, process {}, failed ({how})", self.pid())
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        // Nobody is told anything through a number that is another's.
        supervisors().remove(&self.pid());
        if self.is_alive() && !self.is_given_up {
            // One whose runner is gone kills what is below it, and ends.
            self.socket.get_ref().shutdown(Shutdown::Both).ok();
            self.go_on();
            if !tree::ends_by(self.pid(), Instant::now() + UNKILLABLE + SLACK) {
                self.bury();
            }
            self.process.try_wait().ok();
        }
    }
}

/// What to do about an error of starting this program anew.
fn advice(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => "raise the limit of processes (ulimit -u)",
        Some(libc::ENOMEM) => "raise the limit of memory (ulimit -v)",
        _ => "execute /proc/self/exe",
    }
}

/// The process IDs of the supervisors that have not been waited for, and whether they can be signalled. Like the children of
/// a process, there is one set of them.
static SUPERVISORS: Mutex<BTreeMap<i32, bool>> = Mutex::new(BTreeMap::new());

fn supervisors() -> MutexGuard<'static, BTreeMap<i32, bool>> {
    // It is whole whenever the lock is given up.
    SUPERVISORS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a supervisor, after making sure that what it may leave falls to this process.
fn start_process(command: &mut Command) -> io::Result<Child> {
    // The lock is held over both steps, so that no new supervisor is taken for an orphan.
    let mut supervisors = supervisors();
    set_child_subreaper(Some(getpid()))?;
    let process = command.spawn()?;
    supervisors.insert(process.id() as i32, false);
    Ok(process)
}

/// Kills and waits for what dead supervisors have left: the children of this process that are in another session (so are
/// all processes below a supervisor, which can never get into ours) and no supervisors, and all below them.
fn kill_orphans() {
    // Not by getsid(2): in a container the session may have begun outside, and then its ID is 0, which rustix does not
    // expect.
    let Some(session) = Process::read("self").map(|process| process.session) else {
        return;
    };
    let is_orphan = |process: &Process| {
        let is_elsewhere = process.state != HIDDEN && process.session != session;
        is_elsewhere && !supervisors().contains_key(&process.pid)
    };
    tree::kill_by(Instant::now() + UNKILLABLE, is_orphan);
}
