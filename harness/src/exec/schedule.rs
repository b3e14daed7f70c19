//! Where a case becomes a trial of libtest-mimic, whose threads run them. What it prints goes nowhere.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use anyhow::Context;
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use super::executor::Executor;
use crate::model::outcome::{Outcome, OutcomeKind};

/// Has libtest-mimic run the cases at `places`, with so many threads.
///
/// # Errors
/// There cannot be as many threads: libtest-mimic would panic.
pub fn run_trials(
    executor: &Arc<Executor>,
    places: impl Iterator<Item = usize>,
    workers: usize,
) -> anyhow::Result<()> {
    let places: Vec<_> = places.collect();
    let workers = workers.min(places.len());
    check_threads(workers)?;
    let arguments = Arguments {
        include_ignored: true,
        test_threads: Some(workers),
        logfile: Some("/dev/null".to_owned()),
        ..Arguments::default()
    };
    let trials = places.into_iter().map(|place| trial(place, executor));
    let trials = trials.collect();
    // Where it panics all the same, every case that could run has run, and the others are owed.
    catch_unwind(AssertUnwindSafe(|| libtest_mimic::run(&arguments, trials)))
        .map(drop)
        .map_err(|_| anyhow::anyhow!("libtest-mimic panicked"))
}

fn trial(place: usize, executor: &Arc<Executor>) -> Trial {
    let name = executor.cases[place].name.to_string();
    let executor = Arc::clone(executor);
    Trial::ignorable_test(name, move || conclude(&executor.execute(place)))
}

fn conclude(outcome: &Outcome) -> Result<Completion, Failed> {
    match outcome.kind() {
        OutcomeKind::Passed | OutcomeKind::Xpass => Ok(Completion::Completed),
        OutcomeKind::Skipped | OutcomeKind::Known => Ok(Completion::ignored()),
        OutcomeKind::Failed | OutcomeKind::TimedOut | OutcomeKind::NoRun => {
            Err(outcome.first_line().to_owned().into())
        }
    }
}

/// Whether as many threads can be started as will be needed.
fn check_threads(count: usize) -> anyhow::Result<()> {
    let are_all_there = (Mutex::new(false), Condvar::new());
    let wait = || {
        let (all, changed) = &are_all_there;
        let all = all.lock().unwrap_or_else(PoisonError::into_inner);
        drop(changed.wait_while(all, |all| !*all));
    };
    thread::scope(|scope| {
        let mut threads = (0..count).map(|_| thread::Builder::new().spawn_scoped(scope, wait));
        let started = threads.try_for_each(|thread| thread.map(drop));
        let (all, changed) = &are_all_there;
        *all.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_all();
        started.with_context(|| {
            format!(
                "start {count} threads: run fewer cases at a time (--test-threads), or raise the limits (ulimit -u, \
                 ulimit -v)"
            )
        })
    })
}
