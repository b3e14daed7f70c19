//! A suite while its cases run: set up once before the first, torn down once after the last.

use std::sync::{Arc, Mutex, PoisonError};

use crate::model::case::Suite;

/// A suite in one environment, and how many of its cases are still to come.
#[derive(Debug)]
pub struct SuiteRun {
    suite: Arc<Suite>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    to_come: usize,
    entered: bool,
    set_up: Option<Result<(), String>>,
}

impl SuiteRun {
    /// A suite with `cases` cases in this run.
    pub fn new(suite: Arc<Suite>, cases: usize) -> Self {
        Self {
            suite,
            state: Mutex::new(State {
                to_come: cases,
                entered: false,
                set_up: None,
            }),
        }
    }

    /// Sets the suite up by `run` if nobody has yet; who comes meanwhile waits for the result.
    ///
    /// # Errors
    /// Why the set-up failed: the same for all of the suite's cases.
    pub fn set_up(&self, run: impl FnOnce(&str) -> Result<(), String>) -> Result<(), String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.entered = true;
        let Some(command) = &self.suite.setup else {
            return Ok(());
        };
        state.set_up.get_or_insert_with(|| run(command)).clone()
    }

    /// Counts a case as over, whether or not it came as far as the set-up. Returns the tear-down that is due after the
    /// last one, if any got as far.
    pub fn leave(&self) -> Option<&str> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.to_come -= 1;
        self.suite
            .teardown
            .as_deref()
            .filter(|_| state.to_come == 0 && state.entered)
    }
}
