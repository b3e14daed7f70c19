//! One task, from its start until nothing is left of it.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};

use super::hang::{self, Threads};
use super::output::Output;
use super::protocol::{Clock, GRACE, HANG, INTERRUPTED, Reply, Task, UNKILLABLE, Urgency};
use super::server::Server;
use super::system::{duration, ended_child};
use super::tree::{self, Process};
use crate::evidence::OutputReader;
use crate::model::facts::{Ended, ThreadState};
use crate::model::outcome::{Exit, Leak};
use crate::model::{file, time};

/// For how long a process may outlive the main process without being called left behind: it may be about to notice,
/// by an end of file or a signal.
const BLINK: Duration = Duration::from_millis(50);

/// How soon it is looked again whether a killed process has left others that must be killed.
const AGAIN: Duration = Duration::from_millis(10);

/// After how many such looks that find nothing there are processes that cannot be seen.
const LOOKS: u32 = 50;

/// How much of what gdb says is searched for what the threads do, in bytes.
const SEARCHED: usize = 1 << 20;

/// How many times a pipe is read once nothing of the task is left: as much as it holds, whoever else goes on writing.
const LAST_READS: usize = 17;

/// Runs a task, and ends all that is left of it; `None` where the runner is gone.
pub(super) fn run(server: &mut Server, task: &Task) -> anyhow::Result<Option<Reply>> {
    server.wishes.begin();
    if !server.may_start() {
        return Ok(None);
    }
    if server.wishes.is_interrupted() && task.urgency == Urgency::Interruptible {
        return Ok(Some(Reply::NotStarted(INTERRUPTED.to_owned())));
    }
    let mut job = match Job::start(server, task) {
        Ok(job) => job,
        Err(reason) => return Ok(Some(Reply::NotStarted(reason))),
    };
    job.is_alone = job.server.reply(&Reply::Started(job.pid)).is_err();
    let leaks = match job.supervise() {
        Ok(leaks) => leaks,
        Err(error) => {
            // Nothing may survive what we did not expect.
            job.kill()?;
            return Err(error.into());
        }
    };
    Ok((!job.is_alone).then(|| Reply::Ended(Box::new(job.end(leaks)))))
}

/// A running task.
struct Job<'a> {
    server: &'a mut Server,
    task: &'a Task,
    /// Its main process.
    handle: duct::Handle,
    pid: i32,
    started_ms: u64,
    clock: Clock,
    /// How the main process ended, and after what time.
    main: Option<(ExitStatus, Duration)>,
    user_time: Duration,
    system_time: Duration,
    max_rss: u64,
    outputs: [Output; 2],
    evidence: OutputReader,
    /// When it is ended, by its clock, and why.
    limit: (Duration, Exit),
    /// It is being ended, for this reason, and killed at this time.
    ending: Option<(Exit, Duration)>,
    /// What its threads did when its time was up.
    threads: Vec<ThreadState>,
    /// What is stopped while the clock is.
    frozen: Vec<Process>,
    /// The runner is gone.
    is_alone: bool,
}

impl<'a> Job<'a> {
    fn start(server: &'a mut Server, task: &'a Task) -> Result<Self, String> {
        let directory = task.root.join(&task.place);
        file::make_below(&task.root, &task.place)
            .map_err(|error| format!("create {}: {error}", directory.display()))?;
        let base = directory.join(task.step.file_stem());
        let (stdout, out) = Output::create(&base, "stdout")?;
        let (stderr, err) = Output::create(&base, "stderr")?;
        let program = path::absolute(&task.program);
        let program = program.map_err(|error| task.why_not(&error))?;
        let mut program = duct::cmd(program, &task.args)
            .dir(&task.directory)
            .stdin_null()
            .stdout_file(out)
            .stderr_file(err)
            .unchecked()
            .before_spawn(|command| {
                command.process_group(0);
                Ok(())
            });
        for (name, value) in &task.env {
            program = program.env(name, value);
        }
        let (started_ms, clock) = (time::now_ms(), Clock::default());
        let handle = server.likelier_to_be_killed(|| program.start());
        let handle = handle.map_err(|error| task.why_not(&error))?;
        let pid = handle.pids()[0] as i32;
        Ok(Self {
            pid,
            server,
            task,
            handle,
            started_ms,
            clock,
            main: None,
            user_time: Duration::ZERO,
            system_time: Duration::ZERO,
            max_rss: 0,
            outputs: [stdout, stderr],
            evidence: OutputReader::new(task.program.file_name().unwrap_or_default()),
            limit: (task.timeout, Exit::Timeout),
            ending: None,
            threads: Vec::new(),
            frozen: Vec::new(),
            is_alone: false,
        })
    }

    /// Waits until nothing of the task is left; returns what had to be killed although it ended by itself, and what could
    /// not be killed.
    fn supervise(&mut self) -> io::Result<Vec<Leak>> {
        while self.is_anything_left()? {
            self.heed();
            let now = self.clock.elapsed();
            let until = match (self.ending, self.limit) {
                _ if self.is_alone => return self.kill(),
                (Some((_, kill_at)), _) if now >= kill_at => return self.kill(),
                (Some((_, kill_at)), _) => kill_at,
                (None, _) if self.main.is_some() => return self.clear(),
                (None, (limit, exit)) if now >= limit => {
                    if exit == Exit::Timeout {
                        self.examine();
                    }
                    self.end_as(exit);
                    continue;
                }
                (None, (limit, _)) => limit,
            };
            let is_stopped = self.clock.is_stopped();
            self.wait((!is_stopped).then(|| until - now))?;
        }
        Ok(Vec::new())
    }

    /// Does what the runner wishes.
    fn heed(&mut self) {
        let is_hurried = self.server.wishes.is_hurried();
        let hurried_end = self.clock.elapsed() + GRACE;
        if self.server.wishes.is_ended() {
            self.end_as(Exit::ByUser);
        }
        match self.task.urgency {
            Urgency::Interruptible if self.server.wishes.is_interrupted() => {
                self.end_as(Exit::Interrupted);
            }
            Urgency::MustEnd if is_hurried && hurried_end < self.limit.0 => {
                self.limit = (hurried_end, Exit::Interrupted);
            }
            Urgency::Interruptible | Urgency::MustEnd => {}
        }
        if let Some((_, kill_at)) = self.ending.as_mut().filter(|_| is_hurried) {
            *kill_at = Duration::ZERO;
        }
        if self.ending.is_some() || !self.server.wishes.is_stopped() {
            self.resume();
        } else if !self.clock.is_stopped() {
            self.clock.stop();
            self.frozen = tree::freeze(|_| true);
        }
    }

    fn resume(&mut self) {
        self.clock.resume();
        // Only these: a process that a test has stopped stays so.
        for process in self.frozen.drain(..) {
            process.signal(Signal::CONT).ok();
        }
    }

    /// Keeps what each thread of what hangs does, in a file beside its outputs.
    fn examine(&mut self) {
        let deadline = Instant::now() + HANG;
        let base = self.task.root.join(&self.task.place);
        let Ok((mut kept, pipe)) =
            Output::create(&base.join(self.task.step.file_stem()), "threads")
        else {
            return;
        };
        let processes = self.living(|_| ());
        // 1. As they run: of those that are stopped, /proc tells only that.
        let mut threads = Threads::look(&processes, deadline);
        kept.keep(threads.text.as_bytes());
        // 2. Stopped, none can make anything of what gdb does to it: an interrupted KVM_RUN is a failed assertion to many.
        tree::freeze(|_| true);
        let gdb = hang::gdb(&processes).stderr_to_stdout().stdout_file(pipe);
        match self
            .server
            .likelier_to_be_killed(|| gdb.unchecked().start())
        {
            Ok(gdb) => threads.refine(&self.listen(&gdb, &mut kept, deadline)),
            Err(error) => kept.keep(format!("no backtraces: gdb: {error}\n").as_bytes()),
        }
        // It is a help: where it cannot be kept, no more is wrong than before.
        kept.end();
        self.threads = threads.states();
    }

    /// Keeps what gdb says, and returns the start of it. gdb is killed when the time is up, or nobody wants to wait.
    fn listen(&mut self, gdb: &duct::Handle, kept: &mut Output, deadline: Instant) -> String {
        let mut said = Vec::new();
        let mut killed_at = None;
        loop {
            let has_ended = !matches!(gdb.try_wait(), Ok(None));
            while let bytes @ [_, ..] = kept.read(&mut self.server.chunk) {
                said.extend(&bytes[..bytes.len().min(SEARCHED - said.len())]);
            }
            let is_unwanted = self.is_alone || self.server.wishes.is_interrupted();
            match killed_at {
                None if is_unwanted || Instant::now() >= deadline => {
                    gdb.kill().ok();
                    killed_at = Some(Instant::now());
                }
                _ => {}
            }
            let is_hopeless = killed_at.is_some_and(|at| at.elapsed() > GRACE);
            if has_ended || is_hopeless || self.wait(Some(AGAIN)).is_err() {
                return String::from_utf8_lossy(&said).into_owned();
            }
        }
    }

    /// Asks all processes to end, if they are not being ended already.
    fn end_as(&mut self, exit: Exit) {
        if self.ending.is_some() {
            return;
        }
        self.resume();
        self.ending = Some((exit, self.clock.elapsed() + GRACE));
        // 1. Frozen, none is started or changes its parent unnoticed while they are listed.
        tree::freeze(|_| true);
        // 2. All are listed before the first goes on. Who may not be signalled will be unkillable.
        for process in self.living(|_| ()) {
            process.signal(Signal::TERM).ok();
            process.signal(Signal::CONT).ok();
        }
    }

    /// All processes of the task, its main one even where `/proc` does not show it. Each is met as soon as it is found.
    fn living(&self, mut meet: impl FnMut(&Process)) -> Vec<Process> {
        let mut living = tree::walk(
            |_| true,
            |process| {
                if process.is_alive() {
                    meet(process);
                }
            },
        );
        living.retain(Process::is_alive);
        if self.main.is_none() && living.iter().all(|process| process.pid != self.pid) {
            let main = Process::hidden(self.pid);
            meet(&main);
            living.push(main);
        }
        living
    }

    /// Waits until something happens, or for that long, and takes note of it.
    fn wait(&mut self, time: Option<Duration>) -> io::Result<()> {
        let wake = self.server.wishes.wake.as_fd();
        // In the place of what is gone stands what is watched anyway. While a task runs, the runner says nothing.
        let runner = Some(self.server.socket.as_fd()).filter(|_| !self.is_alone);
        let [stdout, stderr] = self.outputs.each_ref().map(Output::pipe);
        let mut watched = [Some(wake), runner, stdout, stderr]
            .map(|fd| PollFd::from_borrowed_fd(fd.unwrap_or(wake), PollFlags::IN));
        let time = time.and_then(|time| time.try_into().ok());
        match poll(&mut watched, time.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [_, runner, stdout, stderr] = watched.map(|one| !one.revents().is_empty());
        self.is_alone |= runner;
        self.server.wishes.awake();
        if stdout {
            self.read(0);
        }
        if stderr {
            self.read(1);
        }
        Ok(())
    }

    /// Takes some of what was printed; returns whether there was any.
    fn read(&mut self, which: usize) -> bool {
        let bytes = self.outputs[which].read(&mut self.server.chunk);
        match which {
            0 => self.evidence.stdout(bytes),
            _ => self.evidence.stderr(bytes),
        }
        !bytes.is_empty()
    }

    /// Takes note of all processes that have ended. Whether any is left: with a main process that is dead, and its
    /// orphans all ours, having no child is having no descendant.
    fn is_anything_left(&mut self) -> io::Result<bool> {
        loop {
            let (pid, usage) = match ended_child() {
                Ok(Some(child)) => child,
                Ok(None) => return Ok(true),
                Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Ok(false),
                Err(error) => return Err(error),
            };
            if self.main.is_none() && pid == self.pid {
                let ended = self.handle.try_wait()?.map(|ended| ended.status);
                self.main = ended.map(|status| (status, self.clock.elapsed()));
            } else {
                let pid = Pid::from_raw(pid).expect("a process has a positive number");
                waitid(WaitId::Pid(pid), WaitIdOptions::EXITED)?;
            }
            self.user_time += duration(usage.ru_utime);
            self.system_time += duration(usage.ru_stime);
            // getrusage(2): in kilobytes.
            self.max_rss = self.max_rss.max(usage.ru_maxrss as u64 * 1024);
        }
    }

    /// Ends what the main process has left, and returns it. What is on its way to its end is not left behind: it gets
    /// a [`BLINK`] to show that, and once it has been killed or has begun to exit, all the time that it takes.
    fn clear(&mut self) -> io::Result<Vec<Leak>> {
        let deadline = Instant::now() + BLINK;
        while let Some(time) = deadline.checked_duration_since(Instant::now()) {
            self.wait(Some(time))?;
            if !self.is_anything_left()? {
                return Ok(Vec::new());
            }
        }
        tree::freeze(|_| true);
        let mut left = self.living(|_| ());
        left.retain(|process| !process.is_ending());
        let unkillable = self.kill()?;
        left.retain(|process| unkillable.iter().all(|other| other.pid != process.pid));
        let killed = left.iter().map(|process| process.leak(false));
        Ok(killed.chain(unkillable).collect())
    }

    /// Kills everything, waits for its end, and returns what cannot be killed.
    fn kill(&mut self) -> io::Result<Vec<Leak>> {
        tree::freeze(|_| true);
        let deadline = Instant::now() + UNKILLABLE;
        let mut blind_looks = 0;
        loop {
            // Each as soon as it is met: it might start another one otherwise, and end.
            let mut refused = 0;
            let left = self.living(|process| {
                refused += usize::from(process.signal(Signal::KILL).is_err());
            });
            let again = Instant::now() + AGAIN;
            while let Some(time) = again.checked_duration_since(Instant::now()) {
                if !self.is_anything_left()? {
                    return Ok(Vec::new());
                }
                self.wait(Some(time))?;
            }
            if left.is_empty() {
                blind_looks += 1;
            }
            if blind_looks == LOOKS {
                return Ok(vec![Process::hidden(0).leak(true)]);
            }
            let is_hopeless = refused > 0 && refused == left.len();
            if is_hopeless || Instant::now() >= deadline {
                return Ok(left.iter().map(|process| process.leak(true)).collect());
            }
        }
    }

    /// What is told when nothing is left of the task but the unkillable among the `leaks`.
    fn end(mut self, leaks: Vec<Leak>) -> Ended {
        for which in [0, 1] {
            (0..LAST_READS).all(|_| self.read(which));
        }
        let [(stdout, stdout_lost), (stderr, stderr_lost)] = self.outputs.map(Output::end);
        let (status, duration) = match self.main {
            Some((status, after)) => (Some(status), after),
            None => (None, self.clock.elapsed()),
        };
        let exit = self.ending.map(|(exit, _)| exit);
        let exit = exit
            .or(status.map(Exit::from))
            .expect("it has ended, or was to be ended");
        Ended {
            exit,
            pid: self.pid,
            started_ms: self.started_ms,
            duration,
            timeout: self.task.timeout,
            user_time: self.user_time,
            system_time: self.system_time,
            max_rss: self.max_rss,
            printed: [stdout, stderr],
            not_kept: stdout_lost.or(stderr_lost),
            evidence: self.evidence.finish(),
            leaks,
            threads: self.threads,
        }
    }
}
