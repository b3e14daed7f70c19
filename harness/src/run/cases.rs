//! The cases of a run: each once, side by side, and then what failed again, alone.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use super::begin::{Begun, Ready};
use crate::environment::{self, HostLock};
use crate::exec::{
    Demand, Executor, Gate, Semaphore, StepContext, Suites, repeat, repetitions, run_trials,
};
use crate::kernel_log::KernelLog;
use crate::log::Recorder;
use crate::model::case::Case;
use crate::model::event::{Event, Sink};
use crate::model::outcome::known::{Expectation, KnownFailure};
use crate::model::outcome::{Outcome, Status};
use crate::supervise::Supervisors;

/// How often a flaky case that is known to be so is run again when it has failed, at most.
const FLAKY_TIMES: u32 = 3;

/// A run while its cases run.
pub(super) struct RunningCases<'a> {
    pub(super) run: &'a Ready<'a>,
    pub(super) begun: &'a Begun,
    pub(super) recorder: &'a Arc<Recorder>,
    pub(super) supervisors: &'a Arc<Supervisors>,
    pub(super) kernel_log: &'a Arc<KernelLog>,
}

/// What is left to say when all cases have ended.
pub(super) struct Ran {
    /// Whether there were threads to run them.
    pub(super) trials: anyhow::Result<()>,
    /// What of the host could not be put back.
    pub(super) not_restored: Vec<String>,
}

impl RunningCases<'_> {
    /// Gives every case its outcome, and puts the host back.
    pub(super) fn all(&self) -> Ran {
        let run = self.run;
        for outcome in self.begun.gone.iter().cloned().chain(run.not_executed()) {
            self.recorder.record(Event::Finished(Box::new(outcome)));
        }
        let executor = Arc::new(self.executor(&run.cases));
        let places = 0..run.cases.len();
        let executed = places.filter(|&place| run.is_executed(&run.cases[place]));
        let trials = run_trials(&executor, executed, self.begun.part.workers);
        let mut not_restored = executor.gate.close();
        not_restored.extend(self.retry_failed());
        Ran {
            trials,
            not_restored,
        }
    }

    /// Runs what has failed again, as often as the user wants; what failed before a resumed run went on is not among it.
    fn retry_failed(&self) -> Vec<String> {
        let is_flaky = |known: &Arc<KnownFailure>| known.expect == Expectation::Flaky;
        let mut known = self.run.cases.iter().flat_map(|case| &case.known);
        let is_wanted = self.run.options.retry_failed > 0 || known.any(is_flaky);
        if !is_wanted || self.supervisors.ended_early().is_some() {
            return Vec::new();
        }
        let has_failed = |one: &&Outcome| matches!(one.status, Status::Failed | Status::TimedOut);
        let failed: HashMap<String, Outcome> = self.recorder.with_state(|state| {
            let failed = state.outcomes.iter().filter(has_failed);
            failed.map(|one| (one.name.clone(), one.clone())).collect()
        });
        let times = |case: &Case| match failed.get(&case.name.to_string())? {
            one if one.is_flaky() => Some(FLAKY_TIMES),
            one => one.known.is_none().then_some(self.run.options.retry_failed),
        };
        let cases = self.run.cases.iter();
        let again = cases.flat_map(|case| repetitions(case, times(case).unwrap_or(0)));
        let again: Arc<[Case]> = again.collect();
        if again.is_empty() {
            return Vec::new();
        }
        let executor = self.executor(&again);
        repeat(&executor, failed);
        executor.gate.close()
    }

    /// What runs `cases`: all that there are, or repetitions of some.
    fn executor(&self, cases: &Arc<[Case]>) -> Executor {
        let run = self.run;
        let sink = || Arc::clone(self.recorder) as Arc<dyn Sink>;
        let executed = || cases.iter().filter(|case| run.is_executed(case));
        let part = &self.begun.part;
        Executor {
            cases: Arc::clone(cases),
            context: StepContext {
                root: self.begun.directory.clone(),
                is_nextest: self.begun.is_nextest(),
                timeout: run.options.timeout(),
                kernel_log: Arc::clone(self.kernel_log),
                sink: sink(),
            },
            gate: Gate::new(
                run.root.clone(),
                &run.discovered.environments(),
                executed(),
                part.id.clone(),
                Arc::clone(self.supervisors),
                sink(),
            ),
            suites: Suites::of(executed()),
            semaphore: Semaphore::new(Demand {
                slots: u32::try_from(part.workers).unwrap_or(u32::MAX),
                memory: environment::available_memory(),
                hugepages: self.hugepages(&part.host.free_hugepages),
            }),
            host: HostLock::new(&run.root),
            supervisors: Arc::clone(self.supervisors),
            max_fail: run.options.max_fail(),
            failed: AtomicU32::new(0),
        }
    }

    /// The most hugepages that there are in any of the environments: their size in bytes, and how many.
    fn hugepages(&self, free: &BTreeMap<u64, u64>) -> BTreeMap<u64, u64> {
        let mut most = free.clone();
        for environment in self.run.discovered.environments() {
            let mut there = free.clone();
            environment.reserve_in(&mut there);
            for (size, count) in there {
                let most = most.entry(size).or_default();
                *most = count.max(*most);
            }
        }
        most
    }
}
