//! Where a case becomes a trial of libtest-mimic, whose threads run them. What it prints goes nowhere.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use anyhow::Context;
use libtest_mimic::{Arguments, Completion, Trial};

use super::executor::Executor;
use super::signals::LIMITS;

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
    let trials = Vec::from_iter(places.into_iter().map(|place| trial(place, executor)));
    // Where it panics all the same, every case that could run has run, and the others are owed.
    catch_unwind(AssertUnwindSafe(|| libtest_mimic::run(&arguments, trials)))
        .map(drop)
        .map_err(|_| {
            anyhow::anyhow!("libtest-mimic panicked; where it could not start a thread, {LIMITS}")
        })
}

fn trial(place: usize, executor: &Arc<Executor>) -> Trial {
    let name = executor.cases[place].name.to_string();
    let executor = Arc::clone(executor);
    // The outcome is recorded as it is made. What libtest-mimic makes of it is not looked at.
    Trial::ignorable_test(name, move || {
        executor.execute(place);
        Ok(Completion::Completed)
    })
}

/// Whether as many threads can be started as will be needed.
fn check_threads(count: usize) -> anyhow::Result<()> {
    let (all, changed) = &(Mutex::new(false), Condvar::new());
    let wait = || {
        let all = all.lock().unwrap_or_else(PoisonError::into_inner);
        drop(changed.wait_while(all, |all| !*all));
    };
    thread::scope(|scope| {
        let mut threads = (0..count).map(|_| thread::Builder::new().spawn_scoped(scope, wait));
        let started = threads.try_for_each(|thread| thread.map(drop));
        *all.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_all();
        started.with_context(|| format!("start {count} threads: lower --test-threads, or {LIMITS}"))
    })
}
