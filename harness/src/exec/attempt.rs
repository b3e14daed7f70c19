//! One case on one worker: its suite's set-up, precheck, set-up, the selftest itself, tear-down; and what became of it.

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use crate::evidence::{self, Evidence};
use crate::exec::core_dump::{self, Crash};
use crate::exec::execute::{End, Executor, Offer, Verdict, await_end};
use crate::exec::slots::Taken;
use crate::exec::suite_run::SuiteRun;
use crate::exec::verdict;
use crate::kernel_log::cases::CaseId;
use crate::kernel_log::splat::Splat;
use crate::log::no_links;
use crate::log::results::{Results, put_aside};
use crate::model::case::{Case, Command};
use crate::model::event::Event;
use crate::model::outcome::{Exit, LeftBehind, Outcome, Status, milliseconds, now_ms};
use crate::supervise::keeper::{Ended, Output, RunError, Task};
use crate::supervise::keepers::{Haste, Worker};

/// How long a process has between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);

/// The most that is kept of a case's standard output, and of its standard error, in bytes: the start and the end.
const OUTPUT_CAP: u64 = 64 << 20;

/// The step that is the selftest itself.
const SELFTEST: &str = "command";

/// What a case may share with the next one.
pub(crate) struct Share {
    /// Its place in the order.
    pub(crate) place: usize,
    /// Its slot.
    pub(crate) taken: Taken<Offer>,
    /// Its end.
    pub(crate) end: End,
}

/// One case on one worker.
pub(crate) struct Attempt<'a> {
    executor: &'a Executor,
    case: &'a Case,
    /// Until it is passed on.
    worker: Option<Worker>,
    /// The end of the case that was before on this worker.
    pub(crate) before: Option<&'a End>,
    /// What it may offer to the next case, once, along with the worker.
    pub(crate) share: Option<Share>,
    outcome: &'a mut Outcome,
    /// By which the kernel's log knows it.
    logged: Option<CaseId>,
    /// What the kernel said of it while it was to run on a worker that it has left.
    splats: Vec<Splat>,
}

impl<'a> Attempt<'a> {
    pub(crate) fn new(
        executor: &'a Executor,
        case: &'a Case,
        worker: Worker,
        outcome: &'a mut Outcome,
    ) -> Self {
        let logged = executor.kernel_log.begin(case, worker.keeper());
        Self {
            executor,
            case,
            worker: Some(worker),
            before: None,
            share: None,
            outcome,
            logged,
            splats: Vec::new(),
        }
    }

    /// Gives the worker back, after the kernel has had its say about the case.
    pub(crate) fn finish(mut self) {
        self.splats
            .extend(self.executor.kernel_log.end(self.logged, self.case));
        self.outcome.blame(self.splats);
        if let Some(worker) = self.worker {
            self.executor.keepers.give_back(worker);
        }
    }

    /// Runs it, in its suite, to its end.
    pub(crate) fn run(&mut self, suite: &SuiteRun) {
        if let Err((status, reason)) = self.run_steps(suite) {
            self.outcome.set(status, reason);
        }
    }

    fn run_steps(&mut self, suite: &SuiteRun) -> Result<(), Verdict> {
        let no_run = |reason: String| (Status::NoRun, reason);
        let (suite_place, prefix) = self.suite_place();
        let step = format!("{prefix}setup");
        suite
            .set_up(|command| self.shell(&step, command, &suite_place, Haste::Interruptible))
            .map_err(|reason| {
                no_run(format!(
                    "the set-up of suite {} failed: {reason}",
                    self.case.name.suite
                ))
            })?;

        let place = Results::place_of(&self.case.name);
        if let Some(command) = &self.case.precheck {
            self.precheck(command, &place)?;
        }
        let set_up = match &self.case.setup {
            Some(command) => self.shell("setup", command, &place, Haste::Interruptible),
            None => Ok(()),
        };
        let result = match set_up {
            Ok(()) => self.selftest(&place),
            Err(reason) => Err(no_run(format!("its set-up failed: {reason}"))),
        };
        if let Some(command) = &self.case.teardown
            && let Err(reason) = self.shell("teardown", command, &place, Haste::Never)
        {
            self.outcome
                .worsen(format!("its tear-down failed: {reason}"));
        }
        result
    }

    /// The selftest itself.
    fn selftest(&mut self, place: &Path) -> Result<(), Verdict> {
        let task = self.task(SELFTEST, &self.case.command, place, self.timeout());
        let task = task.map_err(|error| (Status::NoRun, format!("{error:#}")))?;
        self.outcome.output = Some(place.to_owned());
        let ended = loop {
            match self.run_task(&task) {
                Err(RunError::Returned) => self.change_worker(&task)?,
                ended => break ended,
            }
        };
        let ended = ended.map_err(|error| (Status::NoRun, format!("{error:#}")))?;
        let evidence = read_evidence(&task, ended.sizes)
            .map_err(|error| (Status::Failed, format!("{error:#}")))?;
        self.conclude(ended, evidence);
        if self.executor.results.disk_is_full() {
            self.outcome.worsen(
                "the disk with the results is full: its output may not be complete".to_owned(),
            );
        }
        Ok(())
    }

    /// Runs the selftest, and passes the worker on to the case that has accepted it meanwhile.
    fn run_task(&mut self, task: &Task) -> Result<Ended, RunError> {
        let (executor, outcome, logged) = (self.executor, &mut *self.outcome, self.logged);
        let Some(mut worker) = self.worker.take() else {
            return Err(RunError::Returned);
        };
        let (share, before) = (&mut self.share, self.before);
        let place = share.as_ref().map(|share| share.place);
        let (next, passing) = place.map(|_| worker.next()).unzip();
        let started = |pid| {
            (outcome.pid, outcome.started_ms) = (Some(pid), now_ms());
            executor.kernel_log.started(logged, pid);
            if let Some(worker) = next
                && let Some(Share { place, taken, end }) = share.take()
            {
                executor.slots.offer(place, Offer { worker, taken, end });
            }
            await_end(before);
            executor.tell(Event::Started(outcome));
        };
        let ended = executor
            .keepers
            .run(&mut worker, task, Haste::Interruptible, started);
        if place.is_some() && ended.as_ref().is_ok_and(|ended| !ended.leaves_unkillable()) {
            executor.kernel_log.over(logged);
        }
        // What was not offered was not accepted either; then nobody waits for it to be passed on.
        let is_accepted = place.is_some_and(|place| executor.slots.withdraw(place).is_none());
        let to = passing.filter(|_| is_accepted);
        self.worker = match (to, &ended) {
            // Nothing comes of a broken one: so the next case goes to another.
            (None, _) | (_, Err(RunError::Broken(_))) => Some(worker),
            (Some(to), _) => worker.pass(&to),
        };
        ended
    }

    /// The worker that was to run `task` will not.
    fn change_worker(&mut self, task: &Task) -> Result<(), Verdict> {
        let executor = self.executor;
        // It is blamed at its end: what becomes of it now would hide that.
        self.splats
            .extend(executor.kernel_log.end(self.logged.take(), self.case));
        if let Some(worker) = self.worker.take() {
            executor.keepers.give_back(worker);
        }
        executor.check_interruption()?;
        let no_run = |error: anyhow::Error| (Status::NoRun, format!("{error:#}"));
        for path in [&task.stdout, &task.stderr] {
            // All but certainly it has not run.
            if path.metadata().is_ok_and(|file| file.len() == 0) {
                no_links::remove(path).ok();
            }
            put_aside(path)
                .with_context(|| format!("put aside {}", path.display()))
                .map_err(no_run)?;
        }
        let worker = executor.take_worker()?;
        self.outcome.worker = worker.number();
        self.logged = executor.kernel_log.begin(self.case, worker.keeper());
        self.worker = Some(worker);
        Ok(())
    }

    fn conclude(&mut self, ended: Ended, evidence: Evidence) {
        let timeout = self.timeout();
        let verdict = verdict::derive(ended.exit, &evidence, &self.case.command);
        let outcome = &mut *self.outcome;
        (outcome.status, outcome.reason) = (verdict.status, verdict.reason);
        if let (Status::TimedOut, Some(reason)) = (outcome.status, &mut outcome.reason) {
            reason.insert_str(0, &format!("timeout of {} s: ", timeout.as_secs()));
        }
        if let Exit::Signal {
            signal,
            core_dumped,
        } = ended.exit
        {
            let (pid, directory, started) = (ended.pid, &*self.case.directory, ended.started);
            core_dump::describe(Crash {
                pid,
                signal,
                core_dumped,
                directory,
                started,
            })
            .into_iter()
            .for_each(|line| outcome.worsen(line));
        }
        outcome.exit = Some(ended.exit);
        outcome.started_ms = milliseconds(ended.started);
        outcome.duration_s = ended.duration.as_secs_f64();
        outcome.user_s = ended.user_time.as_secs_f64();
        outcome.system_s = ended.system_time.as_secs_f64();
        outcome.max_rss = ended.max_rss;
        if !ended.leaves_unkillable() {
            [outcome.stdout_bytes, outcome.stderr_bytes] = ended.sizes;
        }
        let name = &outcome.name;
        let of_case = |left: LeftBehind| LeftBehind {
            cases: vec![name.clone()],
            ..left
        };
        outcome.left_behind = ended.left_behind.into_iter().map(of_case).collect();
        outcome.leaks = ended.leaks;
        outcome.assertion = evidence.assertion.map(Box::new);
        outcome.subtests = evidence.ktap.subtests;
        if ended.output == Output::Flooded {
            outcome.worsen("killed because its output would have filled the disk".to_owned());
        }
    }

    fn precheck(&mut self, command: &str, place: &Path) -> Result<(), Verdict> {
        let step = self.step("precheck", command, place, Haste::Interruptible);
        let (exit, evidence) =
            step.map_err(|error| (Status::NoRun, format!("its precheck: {error:#}")))?;
        match exit {
            Exit::Code(0) => Ok(()),
            Exit::Code(_) => {
                let printed = evidence.last_stdout.or(evidence.last_stderr);
                Err((
                    Status::Skipped,
                    printed.unwrap_or_else(|| format!("its precheck: {}", verdict::words(exit))),
                ))
            }
            exit => Err((
                Status::NoRun,
                format!("its precheck: {}", verdict::words(exit)),
            )),
        }
    }

    /// A set-up or a tear-down.
    pub(crate) fn shell(
        &mut self,
        step: &str,
        command: &str,
        place: &Path,
        haste: Haste,
    ) -> Result<(), String> {
        match self.step(step, command, place, haste) {
            Ok((Exit::Code(0), _)) => Ok(()),
            Ok((exit, evidence)) => {
                let printed = evidence.last_stderr.or(evidence.last_stdout);
                Err(format!(
                    "{}{}",
                    verdict::words(exit),
                    printed.map(|line| format!(": {line}")).unwrap_or_default()
                ))
            }
            Err(error) => Err(format!("{error:#}")),
        }
    }

    /// A shell command that is not the selftest itself.
    fn step(
        &mut self,
        step: &str,
        command: &str,
        place: &Path,
        haste: Haste,
    ) -> anyhow::Result<(Exit, Evidence)> {
        let task = self.task(
            step,
            &Command::Shell(command.to_owned()),
            place,
            self.timeout(),
        )?;
        let worker = self.worker.as_mut().context("it has no worker")?;
        let ended = self.executor.keepers.run(worker, &task, haste, |_| ())?;
        Ok((ended.exit, read_evidence(&task, ended.sizes)?))
    }

    fn task(
        &self,
        step: &str,
        command: &Command,
        place: &Path,
        timeout: Duration,
    ) -> anyhow::Result<Task> {
        let results = &self.executor.results;
        let directory = results
            .make(place)
            .with_context(|| format!("make {}", results.root().join(place).display()))?;
        let [stdout, stderr] =
            ["stdout", "stderr"].map(|stream| directory.join(format!("{step}.{stream}")));
        if results.is_resumed() {
            let aside = put_aside(&stdout).and_then(|()| put_aside(&stderr));
            aside.with_context(|| format!("put aside what is in {}", directory.display()))?;
        }
        let (program, args) = match command {
            Command::Program { path, args } => (path.to_path_buf(), args.clone()),
            Command::Shell(line) => (
                PathBuf::from("/bin/sh"),
                vec![OsString::from("-c"), OsString::from(line)],
            ),
        };
        Ok(Task {
            program,
            args,
            directory: self.case.directory.to_path_buf(),
            stdout,
            stderr,
            timeout: Some(timeout),
            grace: GRACE,
            output_cap: OUTPUT_CAP,
            // What a set-up makes is for the selftest.
            removes_shared_memory: step == SELFTEST,
        })
    }

    fn timeout(&self) -> Duration {
        self.case.timeout.unwrap_or(self.executor.timeout)
    }

    /// Where the output of the suite's set-up and tear-down belongs, and what its names begin with. Where processes share
    /// the results, each sets the suite up for its own cases, and so keeps that with them.
    pub(crate) fn suite_place(&self) -> (PathBuf, &'static str) {
        match self.executor.results.is_shared() {
            true => (Results::place_of(&self.case.name), "suite_"),
            false => (directory_of_suite(self.case), ""),
        }
    }
}

pub(crate) fn directory_of_suite(case: &Case) -> PathBuf {
    case.name
        .environment
        .iter()
        .chain([&case.name.suite])
        .collect()
}

/// Reads what a task printed into files of these sizes.
fn read_evidence(task: &Task, sizes: [Option<u64>; 2]) -> anyhow::Result<Evidence> {
    let open = |path: &Path, size| -> anyhow::Result<Box<dyn Read>> {
        if size == Some(0) {
            return Ok(Box::new(io::empty()));
        }
        Ok(Box::new(
            no_links::open(path).with_context(|| format!("open {}", path.display()))?,
        ))
    };
    let (stdout, stderr) = (open(&task.stdout, sizes[0])?, open(&task.stderr, sizes[1])?);
    let read: io::Result<Evidence> = evidence::read(stdout, stderr);
    read.with_context(|| format!("read the output beside {}", task.stdout.display()))
}
