//! Runs one case when its turn has come, and records what became of it.

use std::any::Any;
use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::environments::{Gate, Ticket};
use super::semaphore::{Demand, Semaphore};
use super::steps::{self, StepContext, Steps};
use super::suite::Suites;
use super::verdict;
use crate::environment::{Held, HostLock, Refusal, Use};
use crate::model::case::Case;
use crate::model::event::Event;
use crate::model::facts::{EarlyEnd, Facts, Obstacle};
use crate::model::outcome::{Outcome, Step};
use crate::model::text;
use crate::model::time::now_ms;
use crate::supervise::Supervisors;

/// What all cases of a run are run with.
pub struct Executor {
    /// The cases, in their order.
    pub cases: Arc<[Case]>,
    /// What the steps of all cases are run with.
    pub context: StepContext,
    /// Lets cases into their environments.
    pub gate: Gate,
    /// The suites of this run.
    pub suites: Suites,
    /// What the cases that run side by side share.
    pub semaphore: Arc<Semaphore>,
    /// The host, which is shared with other runs.
    pub host: HostLock,
    /// The processes that contain the cases.
    pub supervisors: Arc<Supervisors>,
    /// Once so many cases have failed, no more are started.
    pub max_fail: Option<NonZeroU32>,
    /// How many have.
    pub failed: AtomicU32,
}

impl Executor {
    /// Runs the case at this place to its end, whatever happens, and records what became of it.
    pub fn execute(&self, place: usize) -> Outcome {
        let outcome = self.run_to_end(place);
        self.context
            .sink
            .record(Event::Finished(Box::new(outcome.clone())));
        if outcome.kind().is_failure() {
            self.count_failure();
        }
        outcome
    }

    fn count_failure(&self) {
        let failed = self.failed.fetch_add(1, Ordering::SeqCst) + 1;
        let most = self.max_fail.map(NonZeroU32::get);
        let why = EarlyEnd::Failures(failed);
        if most == Some(failed) && self.supervisors.end_early(why) {
            let message = format!("{why}: what runs goes on to its end, and no more is started");
            self.context.sink.say(&message);
        }
    }

    /// Runs the case at this place to its end, whatever happens.
    pub(super) fn run_to_end(&self, place: usize) -> Outcome {
        self.come(place, |ticket, facts| self.run(place, ticket, facts))
    }

    /// Leaves out the case at this place, for this reason. It counts as over all the same: its suite's other cases and those of
    /// other environments wait for it.
    pub(super) fn leave_out(&self, place: usize, why: &str) -> Outcome {
        self.come(place, |_, _| Err(Obstacle::Ignored(why.to_owned())))
    }

    /// Has the case at this place come, `run`, and leave its environment and its suite.
    fn come<'s>(
        &'s self,
        place: usize,
        run: impl FnOnce(&Ticket<'s>, &mut Facts) -> Result<(), Obstacle>,
    ) -> Outcome {
        let case = &self.cases[place];
        let ticket = self.gate.ticket(case);
        let suite = self.suites.of_case(case);
        let started_ms = now_ms();
        let mut facts = Facts::default();
        guarded(&mut facts, |facts| {
            facts.obstacle = run(&ticket, facts).err();
        });
        if let Some(command) = suite.leave() {
            guarded(&mut facts, |facts| self.tear_down(case, command, facts));
        }
        facts.ended_early = self.supervisors.ended_early();
        outcome(case, &facts, started_ms)
    }

    /// Waits until the case may run, and runs it.
    fn run(&self, place: usize, ticket: &Ticket<'_>, facts: &mut Facts) -> Result<(), Obstacle> {
        let case = &self.cases[place];
        self.check_interruption()?;
        if let Some(missing) = &case.missing {
            return Err(Obstacle::Missing(missing.clone()));
        }
        // The order of these matters: each is held while the next one is waited for, and the host, for which other runs
        // wait, is held for the shortest time.
        ticket.admit()?;
        let _suite = self.take_suite(case)?;
        let _permit = self.semaphore.acquire(&Demand::of(case));
        let _host = self.take_host(case)?;
        // It may have waited long.
        self.check_interruption()?;
        if case.name.retry.is_none() {
            self.context.sink.starting(place);
        }
        let worker = self.supervisors.take();
        let worker = worker.map_err(|error| Obstacle::Failed(format!("{error:#}")))?;
        Steps::new(&self.context, case, worker, facts).run(self.suites.of_case(case));
        Ok(())
    }

    /// Tears down the suite of `case`, its last one. That is due also where the run is interrupted, and waits for nobody.
    fn tear_down(&self, case: &Case, command: &str, facts: &mut Facts) {
        let wait = &mut |_: &str| ControlFlow::Break(());
        let _host = self.host.take(&Use::Shared, wait);
        match self.supervisors.take() {
            Ok(worker) => Steps::new(&self.context, case, worker, facts).tear_down_suite(command),
            Err(error) => facts
                .steps
                .push((Step::SuiteTeardown, Err(format!("{error:#}")))),
        }
    }

    fn check_interruption(&self) -> Result<(), Obstacle> {
        match self.supervisors.ended_early() {
            Some(_) => Err(Obstacle::Interrupted),
            None => Ok(()),
        }
    }

    /// Waits until no other process of the same run of nextest has the suite of `case` set up.
    fn take_suite(&self, case: &Case) -> Result<Option<Held>, Obstacle> {
        let has_steps = case.suite.setup.is_some() || case.suite.teardown.is_some();
        if !self.context.is_nextest || !has_steps {
            return Ok(None);
        }
        let path = self.context.root.join(steps::directory_of_suite(case));
        self.take(&Use::Suite(text::encode(path.as_os_str())))
            .map(Some)
    }

    /// Waits until the cases of other runs let this one onto the host: an exclusive one waits for all of them.
    fn take_host(&self, case: &Case) -> Result<Held, Obstacle> {
        let how = if case.exclusive {
            Use::Alone
        } else {
            Use::Shared
        };
        self.take(&how)
    }

    fn take(&self, how: &Use) -> Result<Held, Obstacle> {
        let mut has_waited = false;
        let taken = self.host.take(how, &mut |message| {
            has_waited = true;
            self.context.sink.waiting(Some(message));
            self.supervisors.go_on()
        });
        if has_waited {
            self.context.sink.waiting(None);
        }
        taken.map_err(|refusal| match refusal {
            Refusal::Interrupted => Obstacle::Interrupted,
            refusal => Obstacle::Failed(refusal.to_string()),
        })
    }
}

/// A panic of ours must neither hang the run nor lose the case: it is why the case could not be run.
fn guarded(facts: &mut Facts, run: impl FnOnce(&mut Facts)) {
    // Facts are only ever added to.
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(facts))) {
        let reason = format!("the runner panicked: {}", message_of(&*panic));
        facts.obstacle = Some(Obstacle::Failed(reason));
    }
}

fn message_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    let string = panic.downcast_ref::<String>().map(String::as_str);
    text.or(string).unwrap_or("for no known reason")
}

/// The outcome of a case of which nothing runs here, for this reason.
pub fn without_run(case: &Case, obstacle: Obstacle) -> Outcome {
    let facts = Facts {
        obstacle: Some(obstacle),
        ..Facts::default()
    };
    outcome(case, &facts, now_ms())
}

/// What the facts of a case come to.
fn outcome(case: &Case, facts: &Facts, started_ms: u64) -> Outcome {
    let verdict = verdict::judge(facts, case);
    let unknown = Outcome {
        status: verdict.status,
        reason: verdict.reason,
        beside: verdict.beside,
        known: verdict.known.map(|known| Box::new((*known).clone())),
        worker: facts.worker,
        reproduce: case.reproduce(),
        splats: facts.splats.clone(),
        suspect: case.suspect,
        ..Outcome::no_run(&case.name, started_ms, "")
    };
    let Some(ended) = facts.selftest() else {
        return unknown;
    };
    let [stdout, stderr] = ended.printed;
    Outcome {
        exit: Some(ended.exit),
        pid: Some(ended.pid),
        started_ms: ended.started_ms,
        duration_s: ended.duration.as_secs_f64(),
        user_s: ended.user_time.as_secs_f64(),
        system_s: ended.system_time.as_secs_f64(),
        max_rss: ended.max_rss,
        output: Some(case.name.place()),
        stdout,
        stderr,
        assertion: ended.evidence.assertion.clone().map(Box::new),
        subtests: ended.evidence.ktap.subtests.clone(),
        leaks: ended.leaks.clone(),
        ..unknown
    }
}
