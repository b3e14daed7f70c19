//! The gate between environments: all cases of one run side by side, then the host is changed, then those of the next.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::environment::definition::{Definition, HOST};
use crate::environment::root::Root;
use crate::environment::{Entered, Environments, Refusal, once};
use crate::model::case::Case;
use crate::model::event::{Event, Observer};
use crate::model::host;
use crate::model::outcome::{Status, now_ms};
use crate::model::stay::Stay;
use crate::plan::not_asked_for;
use crate::show::console::Console;
use crate::supervise::keepers::Keepers;

/// Lets cases in by environment. Cases must come sorted by environment: whoever comes for another one waits until the
/// last case of the present one has left.
pub struct Gate {
    root: Root,
    environments: Environments,
    definitions: HashMap<String, Definition>,
    state: Mutex<State>,
    changed: Condvar,
    keepers: Arc<Keepers>,
    console: Arc<Console>,
    observers: Vec<Arc<dyn Observer>>,
}

#[derive(Default)]
struct State {
    /// How many cases of each environment have not left yet, or not come yet.
    to_leave: HashMap<Turn, usize>,
    open: Option<(Turn, Open)>,
    /// Somebody is changing the host at this moment.
    changing: bool,
    refusals: HashMap<String, (Status, String)>,
    problems: Vec<String>,
}

/// An environment that the host is in, and what is told of the stay; nothing of the host as it is.
type Open = (Entered, Option<Stay>);

/// Cases that are in the same environment at the same time: the suspects' turn comes after all others.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Turn {
    is_suspects: bool,
    environment: String,
}

impl Turn {
    fn of(case: &Case) -> Self {
        let environment = case
            .name
            .environment
            .clone()
            .unwrap_or_else(|| HOST.to_owned());
        Self {
            is_suspects: case.suspect,
            environment,
        }
    }
}

impl Gate {
    /// A gate to `definitions` for `cases`, each of which comes once. `observers` are told of what is entered and left.
    pub fn new<'a>(
        definitions: &[Definition],
        cases: impl IntoIterator<Item = &'a Case>,
        keepers: Arc<Keepers>,
        console: Arc<Console>,
        observers: Vec<Arc<dyn Observer>>,
    ) -> Self {
        let mut to_leave = HashMap::new();
        for case in cases {
            *to_leave.entry(Turn::of(case)).or_insert(0) += 1;
        }
        let definitions = definitions
            .iter()
            .map(|one| (one.name.clone(), one.clone()))
            .collect();
        let root = Root::from_env();
        Self {
            environments: Environments::new(root.clone()),
            root,
            definitions,
            state: Mutex::new(State {
                to_leave,
                ..State::default()
            }),
            changed: Condvar::new(),
            keepers,
            console,
            observers,
        }
    }

    /// Waits until the host is in the environment of `case`, or changes it.
    ///
    /// # Errors
    /// What becomes of the case instead: `SKIPPED` where this host cannot be that way, `NO_RUN` where it failed.
    pub fn admit(&self, case: &Case) -> Result<(), (Status, String)> {
        let turn = Turn::of(case);
        let mut state = self.lock();
        loop {
            if let Some(refusal) = state.refusals.get(&turn.environment).cloned() {
                return Err(refusal);
            }
            match &state.open {
                Some((open, _)) if *open == turn => return Ok(()),
                None if !state.changing => {
                    state.changing = true;
                    drop(state);
                    let entered = self.enter(&turn.environment);
                    state = self.lock();
                    state.changing = false;
                    match entered {
                        Ok(entered) => state.open = Some((turn.clone(), entered)),
                        Err(refusal) => {
                            drop(state.refusals.insert(turn.environment.clone(), refusal))
                        }
                    }
                    self.changed.notify_all();
                }
                _ => {
                    state = self
                        .changed
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner)
                }
            }
        }
    }

    /// Lets `case` out, whether it was let in or not; after the last one of an environment the host is put back.
    pub fn over(&self, case: &Case) {
        let turn = Turn::of(case);
        let mut state = self.lock();
        let Some(left) = state.to_leave.get_mut(&turn) else {
            return;
        };
        *left = left.saturating_sub(1);
        if *left > 0 {
            return;
        }
        if let Some((_, entered)) = state.open.take_if(|(open, _)| *open == turn) {
            state.changing = true;
            drop(state);
            let problem = self.leave(&turn.environment, entered);
            state = self.lock();
            state.changing = false;
            state.problems.extend(problem);
            self.changed.notify_all();
        }
    }

    /// Puts the host back, whoever is still inside: for the end of a run. Returns everything that could not be put back.
    pub fn close(&self) -> Vec<String> {
        let open = self.lock().open.take();
        let problem = open.and_then(|(turn, entered)| self.leave(&turn.environment, entered));
        let mut problems = std::mem::take(&mut self.lock().problems);
        problems.extend(problem);
        problems
    }

    fn enter(&self, environment: &str) -> Result<Open, (Status, String)> {
        let Some(definition) = self.definitions.get(environment) else {
            return Err((Status::Skipped, not_asked_for(environment)));
        };
        let mut entering_ms = now_ms();
        let mut say = once(|message| self.console.say(message));
        let wait = |message: &str| {
            say(message);
            entering_ms = now_ms();
            if self.keepers.interrupted_by().is_some() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        match self.environments.enter(definition, wait) {
            Ok(entered) => {
                if environment != HOST {
                    self.console.say(&format!(
                        "environment {environment}: {}",
                        definition.settings().join(", ")
                    ));
                }
                entered.notes.iter().for_each(|note| self.console.say(note));
                let stay = self.stay_in(definition, &entered, entering_ms);
                stay.iter().for_each(|stay| self.tell(Event::Entered(stay)));
                Ok((entered, stay))
            }
            Err(Refusal::Impossible(reason)) => Err((
                Status::Skipped,
                format!("environment {environment}: {reason}"),
            )),
            Err(refusal) => Err((
                Status::NoRun,
                format!("environment {environment}: {refusal}"),
            )),
        }
    }

    fn leave(&self, environment: &str, (entered, stay): Open) -> Option<String> {
        let leaving_ms = Some(now_ms());
        let problem = entered
            .leave()
            .err()
            .map(|refusal| format!("after environment {environment}: {refusal}"));
        problem.iter().for_each(|problem| self.console.say(problem));
        if let Some(stay) = stay {
            self.tell(Event::Left(&Stay {
                leaving_ms,
                left_ms: Some(now_ms()),
                problem: problem.clone(),
                ..stay
            }));
        }
        problem
    }

    fn stay_in(
        &self,
        definition: &Definition,
        entered: &Entered,
        entering_ms: u64,
    ) -> Option<Stay> {
        let is_told = definition.name != HOST || !entered.notes.is_empty();
        is_told.then(|| Stay {
            environment: definition.name.clone(),
            pid: std::process::id(),
            settings: definition.settings(),
            notes: entered.notes.clone(),
            modules: host::modules(&self.root),
            entering_ms,
            entered_ms: now_ms(),
            leaving_ms: None,
            left_ms: None,
            problem: None,
        })
    }

    fn tell(&self, event: Event<'_>) {
        self.observers
            .iter()
            .for_each(|observer| observer.notify(event));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
