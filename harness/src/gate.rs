//! The gate between environments: all cases of one run side by side, then the host is changed, then those of the next.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::case::Case;
use crate::console::Console;
use crate::environment::definition::{Definition, HOST};
use crate::environment::root::Root;
use crate::environment::{Entered, Environments, Refusal, once};
use crate::keepers::Keepers;
use crate::outcome::Status;

/// Lets cases in by environment. Cases must come sorted by environment: whoever comes for another one waits until the
/// last case of the present one has left.
pub struct Gate {
    environments: Environments,
    definitions: HashMap<String, Definition>,
    state: Mutex<State>,
    changed: Condvar,
    keepers: Arc<Keepers>,
    console: Arc<Console>,
}

#[derive(Default)]
struct State {
    /// How many cases of each environment have not left yet, or not come yet.
    to_leave: HashMap<Stay, usize>,
    open: Option<(Stay, Entered)>,
    /// Somebody is changing the host at this moment.
    changing: bool,
    refusals: HashMap<String, (Status, String)>,
    problems: Vec<String>,
}

/// A time in which the host is in an environment: that of the suspects comes after all others.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Stay {
    is_suspects: bool,
    environment: String,
}

impl Stay {
    fn of(case: &Case) -> Self {
        let environment = case.name.environment.clone().unwrap_or_else(|| HOST.to_owned());
        Self { is_suspects: case.suspect, environment }
    }
}

impl Gate {
    /// A gate to `definitions` for `cases`, each of which comes once.
    pub fn new<'a>(
        definitions: &[Definition],
        cases: impl IntoIterator<Item = &'a Case>,
        keepers: Arc<Keepers>,
        console: Arc<Console>,
    ) -> Self {
        let mut to_leave = HashMap::new();
        for case in cases {
            *to_leave.entry(Stay::of(case)).or_insert(0) += 1;
        }
        let definitions = definitions.iter().map(|one| (one.name.clone(), one.clone())).collect();
        Self {
            environments: Environments::new(Root::from_env()),
            definitions,
            state: Mutex::new(State { to_leave, ..State::default() }),
            changed: Condvar::new(),
            keepers,
            console,
        }
    }

    /// Waits until the host is in the environment of `case`, or changes it.
    ///
    /// # Errors
    /// What becomes of the case instead: `SKIPPED` where this host cannot be that way, `NO_RUN` where it failed.
    pub fn admit(&self, case: &Case) -> Result<(), (Status, String)> {
        let stay = Stay::of(case);
        let mut state = self.lock();
        loop {
            if let Some(refusal) = state.refusals.get(&stay.environment).cloned() {
                return Err(refusal);
            }
            match &state.open {
                Some((open, _)) if *open == stay => return Ok(()),
                None if !state.changing => {
                    state.changing = true;
                    drop(state);
                    let entered = self.enter(&stay.environment);
                    state = self.lock();
                    state.changing = false;
                    match entered {
                        Ok(entered) => state.open = Some((stay.clone(), entered)),
                        Err(refusal) => drop(state.refusals.insert(stay.environment.clone(), refusal)),
                    }
                    self.changed.notify_all();
                }
                _ => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Lets `case` out, whether it was let in or not; after the last one of an environment the host is put back.
    pub fn over(&self, case: &Case) {
        let stay = Stay::of(case);
        let mut state = self.lock();
        let Some(left) = state.to_leave.get_mut(&stay) else { return };
        *left = left.saturating_sub(1);
        if *left > 0 {
            return;
        }
        if let Some((_, entered)) = state.open.take_if(|(open, _)| *open == stay) {
            state.changing = true;
            drop(state);
            let problem = self.leave(&stay.environment, entered);
            state = self.lock();
            state.changing = false;
            state.problems.extend(problem);
            self.changed.notify_all();
        }
    }

    /// Puts the host back, whoever is still inside: for the end of a run. Returns everything that could not be put back.
    pub fn close(&self) -> Vec<String> {
        let open = self.lock().open.take();
        let problem = open.and_then(|(stay, entered)| self.leave(&stay.environment, entered));
        let mut problems = std::mem::take(&mut self.lock().problems);
        problems.extend(problem);
        problems
    }

    fn enter(&self, environment: &str) -> Result<Entered, (Status, String)> {
        let Some(definition) = self.definitions.get(environment) else {
            return Err((Status::Skipped, not_asked_for(environment)));
        };
        let mut say = once(|message| self.console.say(message));
        let wait = |message: &str| {
            say(message);
            if self.keepers.interrupted_by().is_some() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        match self.environments.enter(definition, wait) {
            Ok(entered) => {
                if environment != HOST {
                    self.console
                        .say(&format!("environment {environment}: {}", definition.settings().join(", ")));
                }
                entered.notes.iter().for_each(|note| self.console.say(note));
                Ok(entered)
            }
            Err(Refusal::Impossible(reason)) => {
                Err((Status::Skipped, format!("environment {environment}: {reason}")))
            }
            Err(refusal) => Err((Status::NoRun, format!("environment {environment}: {refusal}"))),
        }
    }

    fn leave(&self, environment: &str, entered: Entered) -> Option<String> {
        let refusal = entered.leave().err()?;
        let problem = format!("after environment {environment}: {refusal}");
        self.console.say(&problem);
        Some(problem)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a case of an environment that was not asked for is not run.
pub fn not_asked_for(environment: &str) -> String {
    format!("changes this host: run it with --environment {environment}")
}
