//! The keeper's own process: one thread, one socket, one task at a time.

use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
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

use super::job::{self, JobError};
use super::protocol::{self, Reply, Request};
use super::task::Task;
use super::{NAME, system};

/// Serves the runner, which is at the other end of the socket that is our standard input, until it is gone.
pub(super) fn serve() -> anyhow::Result<()> {
    // 1. Signals are the runner's to decide on. This is first, as one sent to all of us may be on its way.
    let children = system::take_signals().context("block signals")?;
    // 2. Neither a terminal's nor a shell's signals to a process group are for us. It fails where we lead a session.
    setsid().ok();
    set_child_subreaper(Some(getpid())).context("become a child subreaper")?;
    system::close_files_on_exec().context("find open files in /proc/self/fd")?;
    set_name(&CString::new(NAME)?).context("set the name")?;

    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned().context("use the socket")?);
    let mut server = Server {
        requests: BufReader::new(socket.try_clone().context("clone the socket")?),
        replies: socket,
        children,
        nothing: File::open("/dev/null").context("open /dev/null")?,
        env: env::vars_os().collect(),
        oom_score: OomScore::open(),
    };
    while let Some(request) = protocol::receive(&mut server.requests).context("hear from the runner")? {
        // Anything else was for a task that has ended meanwhile.
        let Request::Run(task) = request else { continue };
        match job::run(&mut server, &task) {
            Ok(reply) => protocol::send(&server.replies, &reply).context("answer the runner")?,
            Err(JobError::RunnerGone) => break,
            Err(JobError::Failed(error)) => return Err(error),
        }
    }
    Ok(())
}

/// What lasts longer than one task.
pub(super) struct Server {
    requests: BufReader<UnixStream>,
    replies: UnixStream,
    children: OwnedFd,
    /// `/dev/null`, the standard input of every task.
    pub(super) nothing: File,
    env: BTreeMap<OsString, OsString>,
    /// The likelihood of being killed when memory is short.
    pub(super) oom_score: Option<OomScore>,
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
    /// Tells the runner that the task runs.
    pub(super) fn started(&self, pid: i32) -> io::Result<()> {
        protocol::send(&self.replies, &Reply::Started { pid })
    }

    /// Waits until something happens, or for the given time.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Event> {
        // A request may have come along with the one before it.
        let mut readable = !self.requests.buffer().is_empty();
        if !readable {
            let mut watched =
                [PollFd::new(&self.replies, PollFlags::IN), PollFd::new(&self.children, PollFlags::IN)];
            poll(&mut watched, timeout.and_then(|timeout| timeout.try_into().ok()).as_ref())?;
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
        poll(&mut [PollFd::new(&self.children, PollFlags::IN)], timeout.try_into().ok().as_ref())?;
        self.forget_signals()
    }

    /// Who waits looks for ended children afterwards: any number of them is one SIGCHLD.
    fn forget_signals(&self) -> io::Result<()> {
        match rustix::io::read(&self.children, &mut [0; size_of::<libc::signalfd_siginfo>()]) {
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The environment of a task, as `NAME=VALUE`.
    pub(super) fn environment(&self, task: &Task) -> io::Result<Vec<CString>> {
        let mut env = self.env.clone();
        env.extend(task.env.iter().cloned());
        let lines = env.into_iter().map(|(mut name, value)| {
            name.push("=");
            name.push(value);
            Ok(CString::new(name.into_vec())?)
        });
        lines.collect()
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
        Some(Self { file, own: own.to_string(), tasks: (own + Self::MORE).min(1000).to_string() })
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
