//! Runs one case when its turn has come, and tells what became of it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use crate::environment::host_lock::Held;
use crate::exec::attempt::{Attempt, Share, directory_of_suite};
use crate::exec::gate::Gate;
use crate::exec::neighbours::Neighbours;
use crate::exec::slots::{Demand, Slots, Taken, Turn};
use crate::exec::suite_run::SuiteRun;
use crate::kernel_log::KernelLog;
use crate::log::history::History;
use crate::log::results::Results;
use crate::model::case::{Case, Suite};
use crate::model::event::{Event, Observer};
use crate::model::outcome::{Outcome, Status};
use crate::supervise::keepers::{Haste, Keepers, Worker};

/// A case that took less than this in the last run is followed at once by the next one on the same worker, which is told of
/// that while the present one runs. To slower ones the time between two cases is nothing, another worker may be free long
/// before, and were the host to die of such a case, the next one would be suspected without need.
const FAST: Duration = Duration::from_millis(20);

/// What all cases of a run are run with.
pub struct Executor {
    /// Where the output goes.
    pub results: Arc<Results>,
    /// The processes that contain the cases.
    pub keepers: Arc<Keepers>,
    /// Lets cases into their environments.
    pub gate: Gate,
    /// What the cases that run side by side share.
    pub slots: Arc<Slots<Offer>>,
    /// How long the cases took in earlier runs.
    pub history: Arc<History>,
    /// The host, which is shared with other runs.
    pub host: Neighbours,
    /// The suites of this run.
    pub suites: HashMap<SuiteKey, SuiteRun>,
    /// The timeout of the cases that set none.
    pub timeout: Duration,
    /// What the kernel says meanwhile.
    pub kernel_log: Arc<KernelLog>,
    /// Who is told what happens.
    pub observers: Vec<Arc<dyn Observer>>,
}

/// Why a case is not run, or is no longer what its selftest made of it.
pub(crate) type Verdict = (Status, String);

/// The end of a case, from which nothing comes: its other side is dropped when everybody has been told. So what is told of
/// one worker's cases is in their order.
pub(crate) type End = Receiver<Infallible>;

/// What a case offers to the next one before it ends.
#[derive(Debug)]
pub struct Offer {
    /// The worker, which comes when the case has ended.
    pub(crate) worker: Worker,
    /// The slot.
    pub(crate) taken: Taken<Offer>,
    /// By which it is known that the case's end has been told.
    pub(crate) end: End,
}

/// Whether the next case is made ready while `case` runs.
pub fn is_followed(case: &Case, history: &History) -> bool {
    is_plain(case)
        && history
            .expected(&case.name.listed())
            .is_some_and(|expected| expected < FAST)
}

/// Whether there is nothing to run for `case` but its selftest, beside whatever else: so it may follow another one at once.
fn is_plain(case: &Case) -> bool {
    let commands = [
        &case.precheck,
        &case.setup,
        &case.teardown,
        &case.suite.setup,
        &case.suite.teardown,
    ];
    commands.iter().all(|command| command.is_none())
        && !(case.exclusive || case.suspect || Demand::of(case).is_special())
}

/// The suites of `cases`, each with the number of its cases that will be executed.
pub fn suites_of<'a>(cases: impl IntoIterator<Item = &'a Case>) -> HashMap<SuiteKey, SuiteRun> {
    let mut counts = HashMap::<_, (&Arc<Suite>, usize)>::new();
    for case in cases {
        counts.entry(suite_key(case)).or_insert((&case.suite, 0)).1 += 1;
    }
    counts
        .into_iter()
        .map(|(key, (suite, count))| (key, SuiteRun::new(Arc::clone(suite), count)))
        .collect()
}

/// A suite in an environment; suspects come last of all, when it has been torn down for the others.
pub type SuiteKey = (bool, Option<String>, String);

fn suite_key(case: &Case) -> SuiteKey {
    (
        case.suspect,
        case.name.environment.clone(),
        case.name.suite.clone(),
    )
}

impl Executor {
    /// Runs `case`, which is at `place` among those that are executed, to its end.
    pub fn execute(&self, place: usize, case: &Case) -> Outcome {
        let mut outcome = Outcome::new(case);
        let (is_told, end) = mpsc::channel();
        let mut before = None;
        let suite = &self.suites[&suite_key(case)];
        // Before the host is taken: whoever has the suite may have to wait for that.
        let mut of_suite = None;
        let result = match self.admit(case).and_then(|()| self.take_suite(case)) {
            Ok(taken) => {
                of_suite = taken;
                let (worker, taken) = match self.slots.take(place, Demand::of(case), is_plain(case))
                {
                    Turn::Now(taken) => (None, taken),
                    Turn::Next(Offer { worker, taken, end }) => {
                        before = Some(end);
                        (Some(worker), taken)
                    }
                };
                let share = || Share {
                    place,
                    taken: taken.clone(),
                    end,
                };
                let share = is_followed(case, &self.history).then(share);
                self.run(case, suite, worker, before.as_ref(), share, &mut outcome)
            }
            Err(verdict) => {
                self.slots.pass(place);
                Err(verdict)
            }
        };
        if let Err((status, reason)) = result {
            outcome.set(status, reason);
        }
        if let Some(command) = suite.leave()
            && let Err(reason) = self.tear_down(case, command, &mut outcome)
        {
            outcome.worsen(format!(
                "the tear-down of suite {} failed: {reason}",
                case.name.suite
            ));
        }
        drop(of_suite);
        self.gate.over(case);
        await_end(before.as_ref());
        self.tell(Event::Finished(&outcome));
        drop(is_told);
        outcome
    }

    /// Waits until `case` may run, as far as that does not depend on its turn.
    fn admit(&self, case: &Case) -> Result<(), Verdict> {
        self.check_interruption()?;
        match &case.missing {
            Some(missing) => Err((Status::NoRun, missing.clone())),
            None => self.gate.admit(case),
        }
    }

    /// Waits until no other process that shares the results has the suite of `case` set up.
    fn take_suite(&self, case: &Case) -> Result<Option<Held>, Verdict> {
        if !self.results.is_shared()
            || (case.suite.setup.is_none() && case.suite.teardown.is_none())
        {
            return Ok(None);
        }
        // The other processes may know the run by a link.
        let root = self.results.root().canonicalize();
        let root = root.map_err(|error| (Status::NoRun, format!("find the results: {error}")))?;
        let place = root.join(directory_of_suite(case));
        self.host.take_suite(&place.to_string_lossy()).map(Some)
    }

    fn run(
        &self,
        case: &Case,
        suite: &SuiteRun,
        worker: Option<Worker>,
        before: Option<&End>,
        share: Option<Share>,
        outcome: &mut Outcome,
    ) -> Result<(), Verdict> {
        // Given back before the slot: who gets that next may need the host alone, or have had to wait for this one.
        let _host = self.host.take(case)?;
        // It may have waited long for its environment, its slots and the host.
        self.check_interruption()?;
        self.tell(Event::Starting(outcome));
        let worker = worker.map_or_else(|| self.take_worker(), Ok)?;
        outcome.worker = worker.number();
        let mut attempt = Attempt::new(self, case, worker, outcome);
        attempt.before = before;
        attempt.share = share;
        attempt.run(suite);
        attempt.finish();
        Ok(())
    }

    /// A worker that is idle, or a new one.
    pub(crate) fn take_worker(&self) -> Result<Worker, Verdict> {
        self.keepers
            .take()
            .map_err(|error| (Status::NoRun, format!("{error:#}")))
    }

    /// Tears down the suite of `case`, its last one.
    fn tear_down(&self, case: &Case, command: &str, outcome: &mut Outcome) -> Result<(), String> {
        let _host = self.host.take_to_tear_down();
        let worker = self.keepers.take().map_err(|error| format!("{error:#}"))?;
        let mut attempt = Attempt::new(self, case, worker, outcome);
        let (place, prefix) = attempt.suite_place();
        let result = attempt.shell(&format!("{prefix}teardown"), command, &place, Haste::Never);
        attempt.finish();
        result
    }

    pub(crate) fn check_interruption(&self) -> Result<(), Verdict> {
        match self.keepers.interrupted_by() {
            Some(_) => Err((Status::NoRun, "interrupted before it started".to_owned())),
            None => Ok(()),
        }
    }

    pub(crate) fn tell(&self, event: Event<'_>) {
        for observer in &self.observers {
            observer.notify(event);
        }
    }
}

/// Waits until the end of the case that was before on the same worker has been told.
pub(crate) fn await_end(of: Option<&End>) {
    if let Some(end) = of {
        // An error is all that comes.
        end.recv().ok();
    }
}
