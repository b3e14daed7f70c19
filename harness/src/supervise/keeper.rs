//! The keeper: a small process that runs one task at a time and answers for every process below it.
//!
//! Each worker of the runner has one. It is this same program, executed anew in a session of its own, and a child
//! subreaper (`PR_SET_CHILD_SUBREAPER`, prctl(2)): a process whose parent dies becomes its child, whatever groups,
//! sessions or double forks it went through. So whatever is below the keeper belongs to its task, and having no
//! child left is the proof that the task left nothing behind.
//!
//! A keeper is also why a task starts fast: `vfork` semantics from a process with one thread and few pages.

use std::ffi::OsString;
use std::io::{self, BufReader};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{error, fmt};

use anyhow::{Context, anyhow, bail};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use protocol::{Reply, Request};
pub(crate) use system::{block_in_this_thread, remove_shared_memory};
pub use task::{Ended, NotStarted, Output, Task};

mod clock;
mod job;
mod orphans;
mod output;
mod process;
mod protocol;
mod server;
mod start;
mod system;
mod task;
mod tree;

/// The hidden first argument that makes this program a keeper.
const ARGUMENT: &str = "--keeper";

/// What a keeper is called in process lists; no `pkill kvm-tests` matches it, so that one is left to clean up.
const NAME: &str = "kvm-keeper";

/// How long a keeper may be silent before it is told to go on, should it have been stopped.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether this process, started with these arguments (its own name first), is to be a keeper.
pub fn is_keeper(args: impl IntoIterator<Item = OsString>) -> bool {
    args.into_iter()
        .nth(1)
        .is_some_and(|argument| argument == ARGUMENT)
}

/// The process ID of the parent of a process or of a thread; `None` where that has been reaped.
pub fn parent_of(pid: i32) -> Option<i32> {
    process::Process::read(&pid.to_string()).map(|process| process.parent)
}

/// Whether a process is a keeper, of this runner or of another one.
pub fn is_keeper_process(pid: i32) -> bool {
    let mark = [NAME, "\0", ARGUMENT, "\0"].concat();
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == mark.as_bytes())
}

/// The keeper's side: what a program does first of all when [`is_keeper`] says so, before it has any thread.
pub fn main() -> ExitCode {
    match server::serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{NAME}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A keeper process, seen from the runner. Dropping it ends the process and everything below it.
#[derive(Debug)]
pub struct Keeper {
    process: Child,
    replies: BufReader<UnixStream>,
    handle: Handle,
    used_up: bool,
}

impl Keeper {
    /// Starts a keeper from this program's own executable, which must call [`main`] where [`is_keeper`] says so.
    ///
    /// Makes the calling process a child subreaper as well: should the keeper be killed, what it kept falls to us.
    pub fn start() -> anyhow::Result<Self> {
        // Not the path that `std::env::current_exe` reads from this link: a rebuild may have replaced that file.
        Self::start_with(Path::new("/proc/self/exe"))
    }

    /// Like [`Keeper::start`], from another executable that can be a keeper.
    pub fn start_with(executable: &Path) -> anyhow::Result<Self> {
        let (ours, theirs) = UnixStream::pair().context("make the keeper's socket")?;
        let replies = BufReader::new(ours.try_clone().context("clone the keeper's socket")?);
        // The command owns `theirs` and is gone after this statement, or else a dead keeper would not be noticed.
        let process = orphans::start_keeper(
            Command::new(executable)
                .arg0(NAME)
                .arg(ARGUMENT)
                .stdin(OwnedFd::from(theirs))
                .stdout(Stdio::null()),
        )
        .with_context(|| format!("start a keeper from {}", executable.display()))?;
        let handle = Handle {
            socket: Arc::new(ours),
            task: Arc::default(),
        };
        Ok(Self {
            process,
            replies,
            handle,
            used_up: false,
        })
    }

    /// The keeper's process ID.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Runs a task to its end, and ends whatever it left behind. `on_start` is told the process ID of its main
    /// process as soon as that runs.
    ///
    /// # Errors
    /// [`RunError::NotStarted`] says why the task could not be started; the keeper is fine. [`RunError::Broken`] says
    /// that the keeper is not: another one is to be started, and what was below it has been killed.
    pub fn run(&mut self, task: &Task, on_start: impl FnOnce(i32)) -> Result<Ended, RunError> {
        if self.used_up {
            return Err(RunError::Broken(anyhow!("this keeper is used up")));
        }
        match self.handle.ask(task) {
            Err(RunError::Broken(error)) => self.conclude(|_| Err(error)),
            Err(reason) => Err(reason),
            Ok(()) => self.follow(on_start),
        }
    }

    /// Like [`Keeper::run`], for a task that was [asked](Handle::ask) for, next of all that were.
    ///
    /// # Errors
    /// Those of [`Keeper::run`]; [`RunError::Returned`] says that the task is to be run by another keeper.
    pub fn follow(&mut self, on_start: impl FnOnce(i32)) -> Result<Ended, RunError> {
        self.conclude(|keeper| keeper.answer(on_start))
    }

    fn conclude(
        &mut self,
        exchange: impl FnOnce(&mut Self) -> anyhow::Result<Result<Ended, RunError>>,
    ) -> Result<Ended, RunError> {
        match exchange(self) {
            Ok(Ok(ended)) => {
                self.used_up = ended.leaves_unkillable();
                Ok(ended)
            }
            Ok(Err(reason)) => Err(reason),
            Err(error) => {
                self.used_up = true;
                Err(RunError::Broken(error.context(self.bury())))
            }
        }
    }

    /// Whether it can run no further task: it broke, or keeps a process that cannot be killed.
    pub fn is_used_up(&self) -> bool {
        self.used_up
    }

    /// A handle with which another thread can influence the task that is running.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    fn answer(&mut self, on_start: impl FnOnce(i32)) -> anyhow::Result<Result<Ended, RunError>> {
        let answer = self.hear(on_start);
        self.handle.lock().asked -= 1;
        answer
    }

    fn hear(&mut self, on_start: impl FnOnce(i32)) -> anyhow::Result<Result<Ended, RunError>> {
        match self.receive()? {
            Reply::Started { pid } => on_start(pid),
            Reply::NotStarted(reason) => return Ok(Err(RunError::NotStarted(reason))),
            Reply::Returned => return Ok(Err(RunError::Returned)),
            Reply::Ended(_) => bail!("the keeper ended a task that it had not started"),
        }
        match self.receive()? {
            Reply::Ended(ended) => Ok(Ok(*ended)),
            Reply::Started { .. } | Reply::NotStarted(_) | Reply::Returned => {
                bail!("the keeper started a task twice")
            }
        }
    }

    fn receive(&mut self) -> anyhow::Result<Reply> {
        self.wait_for_an_answer().context("wait for the keeper")?;
        protocol::receive(&mut self.replies)
            .context("hear from the keeper")?
            .context("the keeper closed its socket")
    }

    /// Waits until the keeper says something, or is gone. A task may stop its keeper (SIGSTOP), which then watches over
    /// nothing, not even the task's time: it is made to go on. To one that runs this is nothing.
    fn wait_for_an_answer(&self) -> io::Result<()> {
        while self.replies.buffer().is_empty() {
            let mut watched = [PollFd::new(self.replies.get_ref(), PollFlags::IN)];
            match poll(&mut watched, PATIENCE.try_into().ok().as_ref()) {
                Ok(0) => self.go_on(),
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn go_on(&self) {
        // It is our child and has not been waited for, so the number is its own.
        kill_process(Pid::from_child(&self.process), Signal::CONT).ok();
    }

    /// Makes sure that a broken keeper is dead, with all that was below it, and says how it ended.
    fn bury(&mut self) -> String {
        // 1. The keeper first: only its death hands its children on to us.
        let ended = self.process.kill().and_then(|()| self.process.wait());
        orphans::forget(self.pid());
        // 2. Then its children. They are not ours to wait for by any other means than looking for them.
        orphans::kill();
        match ended {
            Ok(status) => format!("keeper {} broke ({status})", self.pid()),
            Err(error) => format!("keeper {} broke ({error})", self.pid()),
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // A keeper whose runner is gone kills what is below it, and ends. Both calls fail only where it has ended.
        self.handle.socket.shutdown(Shutdown::Both).ok();
        self.go_on();
        self.process.wait().ok();
        orphans::forget(self.pid());
    }
}

/// Influences the task that a keeper runs, from any thread.
///
/// An interruption means nothing to a task that is started later: who interrupts a whole run sets a flag of its own
/// first, and looks at it again in `on_start` of [`Keeper::run`].
#[derive(Debug, Clone)]
pub struct Handle {
    socket: Arc<UnixStream>,
    task: Arc<Guarded>,
}

/// What a handle knows of the keeper's task.
#[derive(Debug, Default)]
struct Guarded {
    /// The lock is held while writing to the socket, so that a request meets the task that it was meant for, or none.
    state: Mutex<TaskState>,
    continued: Condvar,
}

#[derive(Debug, Default)]
struct TaskState {
    /// How many tasks have been asked for, the end of which has not been heard of.
    asked: u32,
    is_stopped: bool,
}

impl Handle {
    /// Asks for a task to be run as soon as the one that is running has ended: [`Keeper::follow`] tells what became of
    /// it. Of these there can be one at a time.
    ///
    /// # Errors
    /// [`RunError::NotStarted`]: its output files cannot be created. [`RunError::Broken`]: the keeper is gone, or there is
    /// no current directory. Either way the task may be asked for again.
    pub fn ask(&self, task: &Task) -> Result<(), RunError> {
        let task = task
            .clone()
            .absolute()
            .context("find the current directory")
            .map_err(RunError::Broken)?;
        let outputs = start::create_outputs(&task).map_err(RunError::NotStarted)?;
        let mut state = self.wait_while_stopped();
        let sent = protocol::send_with(
            &self.socket,
            &Request::Run(Box::new(task.clone())),
            &outputs,
        );
        sent.context("ask the keeper").map_err(|error| {
            start::remove_outputs(&task);
            RunError::Broken(error)
        })?;
        state.asked += 1;
        Ok(())
    }

    /// Asks the task to end: SIGTERM to all its processes, and after its grace SIGKILL.
    pub fn interrupt(&self) {
        self.send(&Request::Interrupt);
    }

    /// Ends the task at once, cutting what is left of its grace.
    pub fn hurry(&self) {
        self.send(&Request::Hurry);
    }

    /// Stops all processes of the task, and its time. Where none is running, the next one is not started before
    /// [`Handle::cont`].
    pub fn stop(&self) {
        let mut state = self.lock();
        state.is_stopped = true;
        self.send_to(&state, &Request::Stop);
    }

    /// Lets the task go on after [`Handle::stop`].
    pub fn cont(&self) {
        let mut state = self.lock();
        state.is_stopped = false;
        self.send_to(&state, &Request::Continue);
        self.task.continued.notify_all();
    }

    fn send(&self, request: &Request) {
        self.send_to(&self.lock(), request);
    }

    fn send_to(&self, state: &TaskState, request: &Request) {
        if state.asked > 0 {
            // It fails only where the keeper is gone, which `Keeper::run` reports.
            protocol::send(&self.socket, request).ok();
        }
    }

    fn wait_while_stopped(&self) -> MutexGuard<'_, TaskState> {
        let waited = self
            .task
            .continued
            .wait_while(self.lock(), |state| state.is_stopped);
        waited.unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, TaskState> {
        // A number and a bool have no half-way state that a panic could leave behind.
        self.task
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a task has no end to tell of.
#[derive(Debug)]
pub enum RunError {
    /// The task could not be started.
    NotStarted(NotStarted),
    /// The task was not started, and is to be run by another keeper.
    Returned,
    /// The keeper itself failed, or was killed.
    Broken(anyhow::Error),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStarted(reason) => reason.fmt(f),
            Self::Returned => f.write_str("another keeper is to run it"),
            Self::Broken(error) => write!(f, "{error:#}"),
        }
    }
}

impl error::Error for RunError {}
