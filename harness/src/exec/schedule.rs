//! When cases run: each as a trial of libtest-mimic, whose threads run them (what it prints goes nowhere), and then, one after
//! the other, the repetitions of what failed.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use anyhow::Context;
use libtest_mimic::{Arguments, Completion, Trial};

use super::executor::Executor;
use super::signals::LIMITS;
use super::verdict;
use crate::model::case::Case;
use crate::model::event::Event;
use crate::model::outcome::{Outcome, Status};

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

/// The repetitions of a case: cases by themselves, beside which nothing runs.
pub fn repetitions(case: &Case, times: u32) -> impl Iterator<Item = Case> {
    (1..=times).map(|number| {
        let mut again = case.clone();
        again.name.retry = Some(number);
        again.exclusive = true;
        again
    })
}

/// Runs the repetitions that `executor` has of the `failed` (by their names), one after the other, and records what is
/// known of these then.
pub fn repeat(executor: &Executor, mut failed: HashMap<String, Outcome>) {
    for (place, case) in executor.cases.iter().enumerate() {
        let Some(first) = failed.get_mut(&case.name.repeated().to_string()) else {
            continue;
        };
        let mut again = first.repetitions.iter();
        let has_passed = again.any(|one| one.status == Status::Passed);
        // Each comes, also where none is needed any more or the run ends early by now: the last one tears its suite down.
        let repetition = match first.known.is_some() && has_passed {
            true => executor.leave_out(place, "it comes and goes, as is known"),
            false => executor.run_to_end(place),
        };
        let is_cut_short =
            repetition.status == Status::NoRun && executor.supervisors.ended_early().is_some();
        if is_cut_short || repetition.status == Status::Skipped && has_passed {
            continue;
        }
        first.repetitions.push(repetition);
        let outcome = Box::new(verdict::repeated(first));
        executor.context.sink.record(Event::Repeated(outcome));
    }
}
