//! One task, from its start until nothing is left of it.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use rustix::process::{Signal, getpid};

use super::clock::Clock;
use super::output::OutputFile;
use super::process::Process;
use super::protocol::{Reply, Request};
use super::server::{Event, Server};
use super::start::Ready;
use super::system::{self, Reaped, Usage};
use super::task::{Ended, Output, Task};
use super::tree;
use crate::exec::left_behind;
use crate::model::outcome::{Exit, Leak};

/// For how long a process may outlive the main process without being called left behind: it may be about to notice,
/// by an end of file or a signal.
const BLINK: Duration = Duration::from_millis(50);

/// For how long a process may go on after SIGKILL before it is called unkillable. Tearing down a big guest takes time.
const UNKILLABLE: Duration = Duration::from_secs(10);

/// How often the size of the outputs is looked at: first, and at most twice as late each time that there was nothing
/// to do. What a fast writer can write in that time is what the cap may be exceeded by on the disk.
const LOOK: Duration = Duration::from_millis(100);
const LOOK_MAX: Duration = Duration::from_millis(400);

/// How soon it is looked again whether a killed process has left others that must be killed.
const AGAIN: Duration = Duration::from_millis(10);

/// Why there is no answer for the runner.
pub(super) enum JobError {
    /// There is no runner any more.
    RunnerGone,
    /// The keeper cannot go on.
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for JobError {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// What is to become of the task that is to be run next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// It is started.
    GoOn,
    /// It is given back to the runner.
    ReturnNext,
}

/// Runs a task, and ends all that is left of it.
pub(super) fn run(server: &mut Server, ready: Ready) -> Result<(Reply, Then), JobError> {
    let (pid, started) = match ready.start(server) {
        Ok(start) => start,
        Err(reason) => return Ok((Reply::NotStarted(reason), Then::GoOn)),
    };
    let Ready { task, outputs, .. } = ready;
    let mut job = Job {
        server,
        task,
        outputs,
        pid,
        clock: Clock::start(),
        main: None,
        usage: Usage::default(),
        ending: None,
        frozen: Vec::new(),
    };
    match job.supervise() {
        Ok(leaks) => {
            let is_disturbed = job.is_disturbed();
            let ended = job.end(started, leaks);
            server.is_used_up = ended.leaves_unkillable();
            let then = if is_disturbed || server.is_used_up {
                Then::ReturnNext
            } else {
                Then::GoOn
            };
            Ok((Reply::Ended(Box::new(ended)), then))
        }
        Err(error) => {
            // Nothing may survive the runner, nor what we did not expect.
            job.kill().context("kill what is left")?;
            Err(error)
        }
    }
}

/// A running task.
struct Job<'a> {
    server: &'a mut Server,
    task: Task,
    outputs: [OutputFile; 2],
    pid: i32,
    clock: Clock,
    /// How the main process ended, and after what time.
    main: Option<(ExitStatus, Duration)>,
    usage: Usage,
    ending: Option<Ending>,
    /// What is stopped while the clock is.
    frozen: Vec<Process>,
}

/// The task is being ended by us.
struct Ending {
    cause: Cause,
    /// When it is killed, by its clock.
    kill_at: Duration,
}

#[derive(Clone, Copy)]
enum Cause {
    Timeout,
    Interrupt,
    Flood,
}

impl Job<'_> {
    /// Waits until nothing of the task is left, and returns what had to be killed although it ended by itself.
    fn supervise(&mut self) -> Result<Vec<Leak>, JobError> {
        self.server
            .started(self.pid)
            .map_err(|_| JobError::RunnerGone)?;
        let mut look_at = LOOK;
        let mut pause = LOOK;
        loop {
            if self.nothing_left()? {
                return Ok(Vec::new());
            }
            let timeout = if self.clock.is_stopped() {
                None
            } else {
                let now = self.clock.elapsed();
                match (&self.ending, self.task.timeout) {
                    (None, _) if self.main.is_some() => return self.clear(),
                    (Some(ending), _) if now >= ending.kill_at => {
                        return Ok(self
                            .kill()?
                            .iter()
                            .map(|process| leak(process, true))
                            .collect());
                    }
                    (None, Some(timeout)) if now >= timeout => self.end_for(Cause::Timeout),
                    _ => {}
                }
                if now >= look_at {
                    pause = match self.free_middles() {
                        Ok(true) => LOOK,
                        Ok(false) => LOOK_MAX.min(pause * 2),
                        Err(_) => {
                            self.kill_for(Cause::Flood);
                            LOOK_MAX
                        }
                    };
                    look_at = now + pause;
                }
                let kill_at = self
                    .ending
                    .as_ref()
                    .map(|ending| ending.kill_at)
                    .or(self.task.timeout);
                Some(
                    kill_at
                        .map_or(look_at, |at| at.min(look_at))
                        .saturating_sub(now),
                )
            };
            match self.server.wait(timeout)? {
                Event::Request(request) => self.obey(request),
                Event::RunnerGone => return Err(JobError::RunnerGone),
                Event::Other => {}
            }
        }
    }

    fn obey(&mut self, request: Request) {
        match request {
            Request::Interrupt => self.end_for(Cause::Interrupt),
            Request::Hurry => self.kill_for(Cause::Interrupt),
            Request::Stop => {
                self.clock.stop();
                self.frozen.extend(freeze());
            }
            Request::Continue => self.resume(),
            Request::Run(task) => self.server.prepare(*task),
        }
    }

    /// Whether the runner has interrupted it, or stopped it without letting it go on.
    fn is_disturbed(&self) -> bool {
        matches!(
            self.ending,
            Some(Ending {
                cause: Cause::Interrupt,
                ..
            })
        ) || self.clock.is_stopped()
    }

    fn resume(&mut self) {
        self.clock.resume();
        // Only these: a process that a test has stopped stays so.
        for process in self.frozen.drain(..) {
            process.signal(Signal::CONT).ok();
        }
    }

    /// Asks all processes to end, if they are not being ended already.
    fn end_for(&mut self, cause: Cause) {
        if self.ending.is_some() {
            return;
        }
        self.resume();
        self.ending = Some(Ending {
            cause,
            kill_at: self.clock.elapsed().saturating_add(self.task.grace),
        });
        // 1. Frozen, none is started or changes its parent unnoticed while they are listed.
        freeze();
        // 2. All are listed before the first goes on. Who may not be signalled will be unkillable.
        for process in descendants() {
            process.signal(Signal::TERM).ok();
            process.signal(Signal::CONT).ok();
        }
    }

    /// Has all processes killed next, for this reason if there was no other before.
    fn kill_for(&mut self, cause: Cause) {
        self.resume();
        let cause = self.ending.as_ref().map_or(cause, |ending| ending.cause);
        self.ending = Some(Ending {
            cause,
            kill_at: Duration::ZERO,
        });
    }

    fn free_middles(&mut self) -> io::Result<bool> {
        let [stdout, stderr] = &mut self.outputs;
        Ok(stdout.free_middle()? | stderr.free_middle()?)
    }

    /// Takes note of all processes that have ended. Whether none is left: with a main process that is dead, and its
    /// orphans all ours, having no child is having no descendant.
    fn nothing_left(&mut self) -> io::Result<bool> {
        loop {
            match system::reap()? {
                Reaped::Child { pid, status, usage } => {
                    if pid == self.pid && self.main.is_none() {
                        self.main = Some((status, self.clock.elapsed()));
                    }
                    self.usage.user_time += usage.user_time;
                    self.usage.system_time += usage.system_time;
                    self.usage.max_rss = self.usage.max_rss.max(usage.max_rss);
                }
                Reaped::NoneYet => return Ok(false),
                Reaped::NoneLeft => return Ok(true),
            }
        }
    }

    /// Ends what the main process has left, and returns it. What is on its way to its end is not left behind: it gets
    /// a [`BLINK`] to show that, and once it has been killed or has begun to exit, all the time that it takes.
    fn clear(&mut self) -> Result<Vec<Leak>, JobError> {
        let deadline = Instant::now() + BLINK;
        while !self.nothing_left()? {
            let time = deadline.saturating_duration_since(Instant::now());
            if !time.is_zero() {
                self.server.wait_for_child(time)?;
                continue;
            }
            freeze();
            let mut left = descendants();
            left.retain(|process| !process.is_ending());
            let unkillable = self.kill()?;
            left.retain(|process| unkillable.iter().all(|other| other.pid != process.pid));
            let leaks = left.iter().map(|process| leak(process, false));
            return Ok(leaks
                .chain(unkillable.iter().map(|process| leak(process, true)))
                .collect());
        }
        Ok(Vec::new())
    }

    /// Kills everything, waits for its end, and returns what cannot be killed.
    fn kill(&mut self) -> io::Result<Vec<Process>> {
        freeze();
        let deadline = Instant::now() + UNKILLABLE;
        loop {
            let mut refused = 0;
            // Each as soon as it is met: it might start another one otherwise, and end.
            let mut left = tree::walk(
                own_pid(),
                |_| true,
                |process| {
                    refused +=
                        usize::from(process.is_alive() && process.signal(Signal::KILL).is_err());
                },
            );
            left.retain(Process::is_alive);
            let again = Instant::now() + AGAIN;
            while let Some(time) = again.checked_duration_since(Instant::now()) {
                if self.nothing_left()? {
                    return Ok(Vec::new());
                }
                self.server.wait_for_child(time)?;
            }
            let hopeless = refused > 0 && refused == left.len();
            if hopeless || Instant::now() >= deadline {
                return Ok(left);
            }
        }
    }

    /// What is to be told when nothing is left of the task but the unkillable among the `leaks`.
    fn end(self, started: SystemTime, leaks: Vec<Leak>) -> Ended {
        // Where cutting fails (on a full disk, it may), there is still a hole in the middle.
        let kept = self.outputs.map(|output| output.cut().ok());
        let cause = self.ending.map(|ending| ending.cause);
        let exit = match (cause, self.main) {
            (Some(Cause::Timeout), _) => Exit::Timeout,
            (Some(Cause::Interrupt), _) => Exit::Interrupted,
            (Some(Cause::Flood) | None, Some((status, _))) => exit(status),
            // Only killing a flood can have failed here.
            (Some(Cause::Flood) | None, None) => Exit::Signal {
                signal: Signal::KILL.as_raw(),
                core_dumped: false,
            },
        };
        Ended {
            exit,
            pid: self.pid,
            started,
            duration: self
                .main
                .map_or_else(|| self.clock.elapsed(), |(_, duration)| duration),
            leaks,
            user_time: self.usage.user_time,
            system_time: self.usage.system_time,
            max_rss: self.usage.max_rss,
            output: match cause {
                Some(Cause::Flood) => Output::Flooded,
                _ if kept
                    .iter()
                    .any(|kept| kept.as_ref().is_none_or(|kept| kept.is_cut)) =>
                {
                    Output::Cut
                }
                _ => Output::Whole,
            },
            sizes: kept.map(|kept| kept.and_then(|kept| kept.bytes)),
            left_behind: match self.task.removes_shared_memory {
                true => left_behind::of_process(self.pid, started, &self.server.segments),
                false => Vec::new(),
            },
        }
    }
}

fn own_pid() -> i32 {
    getpid().as_raw_nonzero().get()
}

/// Stops all processes, and returns those that were not stopped before.
fn freeze() -> Vec<Process> {
    tree::freeze(own_pid(), |_| true)
}

/// Lists all processes.
fn descendants() -> Vec<Process> {
    let mut found = tree::walk(own_pid(), |_| true, |_| ());
    found.retain(Process::is_alive);
    found
}

fn exit(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (None, Some(signal)) => Exit::Signal {
            signal,
            core_dumped: status.core_dumped(),
        },
        // wait4(2) without WUNTRACED tells of ends only, and an end is one or the other.
        (code, _) => Exit::Code(code.unwrap_or_default()),
    }
}

fn leak(process: &Process, unkillable: bool) -> Leak {
    Leak {
        pid: process.pid,
        command: process.command.clone(),
        unkillable,
    }
}
