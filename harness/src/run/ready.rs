//! A run that is ready to go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::begin::Begun;
use crate::environment::{self, HostLock, Root};
use crate::exec::{Demand, Executor, Gate, Semaphore, StepContext, Suites, ignored};
use crate::kernel_log::KernelLog;
use crate::log::{History, Recorder};
use crate::model::case::Case;
use crate::model::event::Sink;
use crate::model::outcome::Outcome;
use crate::options::Options;
use crate::plan::{Discovered, Selection};
use crate::supervise::Supervisors;

/// What is to run, and with what.
pub(super) struct Ready<'a> {
    pub(super) options: &'a Options,
    pub(super) root: Root,
    pub(super) discovered: Discovered,
    pub(super) selection: Selection,
    pub(super) cases: Arc<[Case]>,
    pub(super) filtered_out: usize,
    pub(super) history: History,
    pub(super) started: Instant,
}

impl Ready<'_> {
    /// What runs them.
    pub(super) fn executor(
        &self,
        begun: &Begun,
        recorder: &Arc<Recorder>,
        supervisors: &Arc<Supervisors>,
        kernel_log: &Arc<KernelLog>,
        host: HostLock,
    ) -> Executor {
        let sink = || Arc::clone(recorder) as Arc<dyn Sink>;
        let executed = || self.cases.iter().filter(|case| self.is_executed(case));
        let part = &begun.part;
        Executor {
            cases: Arc::clone(&self.cases),
            context: StepContext {
                root: begun.directory.clone(),
                is_nextest: begun.is_nextest(),
                timeout: self.options.timeout(),
                kernel_log: Arc::clone(kernel_log),
                sink: sink(),
            },
            gate: Gate::new(
                self.root.clone(),
                &self.discovered.environments(),
                executed(),
                part.id.clone(),
                Arc::clone(supervisors),
                sink(),
            ),
            suites: Suites::of(executed()),
            semaphore: Semaphore::new(Demand {
                slots: u32::try_from(part.workers).unwrap_or(u32::MAX),
                memory: environment::available_memory(),
                hugepages: self.hugepages(&part.host.free_hugepages),
            }),
            host,
            supervisors: Arc::clone(supervisors),
        }
    }

    /// Whether it is run, rather than told to be ignored.
    pub(super) fn is_executed(&self, case: &Case) -> bool {
        case.ignored.is_none() || self.selection.runs_ignored()
    }

    /// The outcomes of those that are told to be ignored.
    pub(super) fn not_executed(&self) -> impl Iterator<Item = Outcome> {
        let cases = self.cases.iter().filter(|case| !self.is_executed(case));
        cases.map(|case| ignored(case, case.ignored.as_deref().unwrap_or_default()))
    }

    /// The most hugepages that there are in any of the environments: their size in bytes, and how many.
    fn hugepages(&self, free: &BTreeMap<u64, u64>) -> BTreeMap<u64, u64> {
        let mut most = free.clone();
        for environment in self.discovered.environments() {
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
