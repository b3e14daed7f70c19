//! The keeper's own process: one thread, one socket, one task at a time.

use std::ffi::{CString, NulError, OsString};
use std::fs::File;
use std::io::{self, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use std::{env, fs};

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{getpid, set_child_subreaper, setsid};
use rustix::thread::set_name;

use super::job::{self, JobError, Then};
use super::protocol::{self, Incoming, Reply, Request};
use super::start::{self, Ready};
use super::task::{NotStarted, Task};
use super::{NAME, system};
use crate::exec::traces::Segments;

/// Serves the runner, which is at the other end of the socket that is our standard input, until it is gone.
pub(super) fn serve() -> anyhow::Result<()> {
    // 1. Signals are the runner's to decide on. This is first, as one sent to all of us may be on its way.
    let children = system::take_signals().context("block signals")?;
    // 2. Neither a terminal's nor a shell's signals to a process group are for us. It fails where we lead a session.
    setsid().ok();
    set_child_subreaper(Some(getpid())).context("become a child subreaper")?;
    system::close_files_on_exec().context("find open files in /proc/self/fd")?;
    set_name(&CString::new(NAME)?).context("set the name")?;

    let socket = UnixStream::from(
        io::stdin()
            .as_fd()
            .try_clone_to_owned()
            .context("use the socket")?,
    );
    let mut server = Server {
        requests: BufReader::new(Incoming::new(
            socket.try_clone().context("clone the socket")?,
        )),
        replies: socket,
        children,
        nothing: File::open("/dev/null").context("open /dev/null")?,
        env: environment().context("read the environment")?,
        oom_score: OomScore::open(),
        segments: Segments::open(),
        next: None,
        is_used_up: false,
    };
    while let Some(task) = server.next_task()? {
        let (reply, then) = match task.map(|task| job::run(&mut server, task)) {
            Ok(Ok(ended)) => ended,
            Ok(Err(JobError::RunnerGone)) => break,
            Ok(Err(JobError::Failed(error))) => return Err(error),
            Err(reason) => (Reply::NotStarted(reason), Then::GoOn),
        };
        // Before the next one starts: it might kill us.
        server.answer(&reply)?;
        if then == Then::ReturnNext {
            server.return_next()?;
        }
    }
    Ok(())
}

/// The environment of every task, as `NAME=VALUE`.
fn environment() -> Result<Vec<CString>, NulError> {
    let line = |(mut name, value): (OsString, OsString)| {
        name.push("=");
        name.push(value);
        CString::new(name.into_vec())
    };
    env::vars_os().map(line).collect()
}

/// What lasts longer than one task.
pub(super) struct Server {
    requests: BufReader<Incoming>,
    replies: UnixStream,
    children: OwnedFd,
    /// `/dev/null`, the standard input of every task.
    pub(super) nothing: File,
    /// See [`environment`].
    pub(super) env: Vec<CString>,
    /// The likelihood of being killed when memory is short.
    pub(super) oom_score: Option<OomScore>,
    /// The host's System V shared memory.
    pub(super) segments: Segments,
    /// What is to be run after the present task.
    next: Option<Result<Ready, NotStarted>>,
    /// A process of an earlier task is left that cannot be killed: nothing is started any more.
    pub(super) is_used_up: bool,
}

/// What [`Server::wait`] waited for.
pub(super) enum Event {
    /// The runner wants something.
    Request(Request),
    /// The runner is gone.
    RunnerGone,
    /// Children may have ended, or time is up.
    Other,
}

impl Server {
    /// Waits for what is to be run next; `None` where the runner is gone.
    fn next_task(&mut self) -> anyhow::Result<Option<Result<Ready, NotStarted>>> {
        loop {
            if let Some(next) = self.next.take() {
                return Ok(Some(next));
            }
            match protocol::receive(&mut self.requests).context("hear from the runner")? {
                Some(Request::Run(task)) if self.is_used_up => {
                    drop(self.requests.get_mut().take_files());
                    start::remove_outputs(&task);
                    self.answer(&Reply::Returned)?;
                }
                Some(Request::Run(task)) => self.prepare(*task),
                // It was for a task that has ended meanwhile.
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }

    /// `task` is to be run next.
    pub(super) fn prepare(&mut self, task: Task) {
        self.next = Some(start::prepare(task, self.requests.get_mut().take_files()));
    }

    fn answer(&self, reply: &Reply) -> anyhow::Result<()> {
        protocol::send(&self.replies, reply).context("answer the runner")
    }

    /// Gives what was to be run next back to the runner.
    fn return_next(&mut self) -> anyhow::Result<()> {
        let Some(next) = self.next.take() else {
            return Ok(());
        };
        if let Ok(next) = next {
            start::remove_outputs(&next.task);
        }
        self.answer(&Reply::Returned)
    }

    /// Tells the runner that the task runs.
    pub(super) fn started(&self, pid: i32) -> io::Result<()> {
        protocol::send(&self.replies, &Reply::Started { pid })
    }

    /// Waits until something happens, or for the given time.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Event> {
        // A request may have come along with the one before it.
        let mut readable = !self.requests.buffer().is_empty();
        if !readable {
            let mut watched = [
                PollFd::new(&self.replies, PollFlags::IN),
                PollFd::new(&self.children, PollFlags::IN),
            ];
            poll(
                &mut watched,
                timeout.and_then(|timeout| timeout.try_into().ok()).as_ref(),
            )?;
            readable = !watched[0].revents().is_empty();
            self.forget_signals()?;
        }
        if !readable {
            return Ok(Event::Other);
        }
        Ok(protocol::receive(&mut self.requests)?.map_or(Event::RunnerGone, Event::Request))
    }

    /// Waits until a child has ended, or for the given time.
    pub(super) fn wait_for_child(&self, timeout: Duration) -> io::Result<()> {
        poll(
            &mut [PollFd::new(&self.children, PollFlags::IN)],
            timeout.try_into().ok().as_ref(),
        )?;
        self.forget_signals()
    }

    /// Who waits looks for ended children afterwards: any number of them is one SIGCHLD.
    fn forget_signals(&self) -> io::Result<()> {
        match rustix::io::read(
            &self.children,
            &mut [0; size_of::<libc::signalfd_siginfo>()],
        ) {
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Makes tasks likelier to be killed when memory is short than anything else of ours.
///
/// The score is inherited by fork(2), so setting our own before a task is started and resetting it afterwards takes
/// two writes of about a microsecond each.
pub(super) struct OomScore {
    file: File,
    own: String,
    tasks: String,
}

impl OomScore {
    /// How much higher a task's score is: as if it used half of the memory more than it does (proc(5)).
    const MORE: i32 = 500;

    /// `None` where there is no such thing: it is a help, not a need.
    fn open() -> Option<Self> {
        let path = "/proc/self/oom_score_adj";
        let own: i32 = fs::read_to_string(path).ok()?.trim().parse().ok()?;
        let file = File::options().write(true).open(path).ok()?;
        Some(Self {
            file,
            own: own.to_string(),
            tasks: (own + Self::MORE).min(1000).to_string(),
        })
    }

    /// What we start from now on has the tasks' score.
    pub(super) fn raise(&self) {
        self.file.write_all_at(self.tasks.as_bytes(), 0).ok();
    }

    /// We have our own score again.
    pub(super) fn reset(&self) {
        self.file.write_all_at(self.own.as_bytes(), 0).ok();
    }
}
