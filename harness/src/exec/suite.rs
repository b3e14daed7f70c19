//! A suite while its cases run: set up once before the first, torn down once after the last.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::model::case::{Case, Suite};
use crate::model::facts::StepEnd;

/// The suites of a run, each as often as it is set up: once an environment; suspects come last of all, when it has been torn
/// down for the others.
#[derive(Debug)]
pub struct Suites(HashMap<Key, SuiteRun>);

type Key = (bool, Option<String>, String);

fn key(case: &Case) -> Key {
    let name = &case.name;
    (case.suspect, name.environment.clone(), name.suite.clone())
}

impl Suites {
    /// Those of `cases`, each of which will come once.
    pub fn of<'a>(cases: impl Iterator<Item = &'a Case>) -> Self {
        let mut suites = HashMap::new();
        for case in cases {
            let suite = suites.entry(key(case)).or_insert_with(|| SuiteRun {
                suite: Arc::clone(&case.suite),
                state: Mutex::default(),
                changed: Condvar::new(),
            });
            let state = suite.state.get_mut();
            state.unwrap_or_else(PoisonError::into_inner).to_come += 1;
        }
        Self(suites)
    }

    /// That of `case`.
    pub fn of_case(&self, case: &Case) -> &SuiteRun {
        &self.0[&key(case)]
    }
}

/// A suite in one environment.
#[derive(Debug)]
pub struct SuiteRun {
    suite: Arc<Suite>,
    state: Mutex<SuiteState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct SuiteState {
    /// How many of its cases have not left.
    to_come: usize,
    set_up: SetUp,
}

#[derive(Debug, Default)]
enum SetUp {
    #[default]
    NotYet,
    /// Somebody is at it.
    Running,
    /// It came to this; `None` where there is nothing to do.
    Over(Option<Box<StepEnd>>),
}

impl SuiteRun {
    /// Sets the suite up by `run` if nobody has yet; who comes meanwhile waits for the result. Returns how the set-up
    /// ended, if there is one: the same for all of its cases.
    pub fn set_up(&self, run: impl FnOnce(&str) -> StepEnd) -> Option<StepEnd> {
        let mut state = self.lock();
        while let SetUp::Running = state.set_up {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if let SetUp::Over(end) = &state.set_up {
            return end.as_deref().cloned();
        }
        state.set_up = SetUp::Running;
        drop(state);
        // A panic in `run` leaves a set-up of which nothing is known.
        let mut at_it = AtIt {
            suite: self,
            end: Some(Err("the runner panicked in it".to_owned())),
        };
        at_it.end = self.suite.setup.as_deref().map(run);
        at_it.end.clone()
    }

    /// Counts a case as over, whether or not it came as far as the set-up. Returns the tear-down that is due after the
    /// last one, if any got as far.
    pub fn leave(&self) -> Option<&str> {
        let mut state = self.lock();
        state.to_come -= 1;
        let was_entered = !matches!(state.set_up, SetUp::NotYet);
        let is_due = state.to_come == 0 && was_entered;
        self.suite.teardown.as_deref().filter(|_| is_due)
    }

    fn lock(&self) -> MutexGuard<'_, SuiteState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A set-up that is under way: when this is dropped it is over, and the others go on.
struct AtIt<'a> {
    suite: &'a SuiteRun,
    end: Option<StepEnd>,
}

impl Drop for AtIt<'_> {
    fn drop(&mut self) {
        self.suite.lock().set_up = SetUp::Over(self.end.clone().map(Box::new));
        self.suite.changed.notify_all();
    }
}
