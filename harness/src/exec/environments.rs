//! The environments of a run: all cases of one run side by side, then the host is changed, then those of the next.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::environment::{self, Definition, Entered, Environments, HOST, Refusal};
use crate::model::case::Case;
use crate::model::event::{Event, Sink, Span};
use crate::model::facts::Obstacle;
use crate::model::host::Root;
use crate::model::time::now_ms;
use crate::plan::not_asked_for;
use crate::supervise::Supervisors;

/// Lets cases in by environment. Cases must come sorted by environment: whoever comes for another one waits until the
/// last case of the present one has left.
pub struct Gate {
    root: Root,
    environments: Environments,
    definitions: HashMap<String, Definition>,
    part: String,
    state: Mutex<GateState>,
    changed: Condvar,
    supervisors: Arc<Supervisors>,
    sink: Arc<dyn Sink>,
}

#[derive(Default)]
struct GateState {
    /// How many cases of each environment have not left yet, or not come yet.
    to_leave: HashMap<Turn, usize>,
    open: Option<(Turn, Current)>,
    /// Somebody is changing the host at this moment.
    changing: bool,
    obstacles: HashMap<Turn, Obstacle>,
    problems: Vec<String>,
}

/// An environment that the host is in, and what is told of that; nothing is told of the host as it is.
type Current = (Entered, Option<Span>);

/// Cases that are in the same environment at the same time: the suspects' turn comes after all others.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Turn {
    is_suspects: bool,
    environment: String,
}

impl Turn {
    fn of(case: &Case) -> Self {
        let environment = case.name.environment.clone();
        Self {
            is_suspects: case.suspect,
            environment: environment.unwrap_or_else(|| HOST.to_owned()),
        }
    }
}

/// A case from before its admission to its end. After the last one of an environment the host is put back.
pub struct Ticket<'a> {
    gate: &'a Gate,
    turn: Turn,
}

impl Gate {
    /// A gate to `definitions` for `cases`, each of which comes once.
    pub fn new<'a>(
        root: Root,
        definitions: &[Definition],
        cases: impl Iterator<Item = &'a Case>,
        part: String,
        supervisors: Arc<Supervisors>,
        sink: Arc<dyn Sink>,
    ) -> Self {
        let mut to_leave = HashMap::new();
        for case in cases {
            *to_leave.entry(Turn::of(case)).or_insert(0) += 1;
        }
        let definitions = definitions
            .iter()
            .map(|one| (one.name.clone(), one.clone()));
        Self {
            environments: Environments::new(root.clone()),
            root,
            definitions: definitions.collect(),
            part,
            state: Mutex::new(GateState {
                to_leave,
                ..GateState::default()
            }),
            changed: Condvar::new(),
            supervisors,
            sink,
        }
    }

    /// `case` comes.
    pub fn ticket(&self, case: &Case) -> Ticket<'_> {
        let turn = Turn::of(case);
        Ticket { gate: self, turn }
    }

    /// Puts the host back, whoever is still inside: for the end of a run. Returns everything that could not be put back.
    pub fn close(&self) -> Vec<String> {
        let open = self.lock().open.take();
        if let Some((turn, open)) = open {
            self.leave(&turn, open);
        }
        std::mem::take(&mut self.lock().problems)
    }

    fn enter(&self, turn: &Turn) -> Result<Current, Obstacle> {
        let name = &turn.environment;
        let Some(definition) = self.definitions.get(name) else {
            return Err(Obstacle::Ignored(not_asked_for(name)));
        };
        let mut entering_ms = now_ms();
        let wait = |message: &str| {
            self.sink.waiting(Some(message));
            entering_ms = now_ms();
            self.supervisors.go_on()
        };
        let entered = self.environments.enter(definition, wait);
        self.sink.waiting(None);
        let entered = entered.map_err(|refusal| match refusal {
            Refusal::Impossible(reason) => {
                Obstacle::Impossible(format!("environment {name}: {reason}"))
            }
            Refusal::Interrupted => Obstacle::Interrupted,
            refusal => Obstacle::Failed(format!("environment {name}: {refusal}")),
        })?;
        if name != HOST {
            let settings = definition.settings().join(", ");
            self.sink.say(&format!("environment {name}: {settings}"));
        }
        entered.notes.iter().for_each(|note| self.sink.say(note));
        // Where that is not possible the header has said so.
        environment::clear_warn_once(&self.root);
        let span = self.span(definition, &entered, entering_ms);
        if let Some(span) = &span {
            let span = Box::new(span.clone());
            self.sink.record(Event::EnvironmentEntered(span));
        }
        Ok((entered, span))
    }

    fn leave(&self, turn: &Turn, (entered, span): Current) {
        let leaving_ms = Some(now_ms());
        let left = entered.leave();
        let name = &turn.environment;
        let problem = left.err();
        let problem = problem.map(|refusal| format!("after environment {name}: {refusal}"));
        if let Some(problem) = &problem {
            self.sink.say(problem);
        }
        if let Some(span) = span {
            self.sink.record(Event::EnvironmentLeft(Box::new(Span {
                leaving_ms,
                left_ms: Some(now_ms()),
                problem: problem.clone(),
                ..span
            })));
        }
        self.lock().problems.extend(problem);
    }

    fn span(&self, definition: &Definition, entered: &Entered, entering_ms: u64) -> Option<Span> {
        let is_told = definition.name != HOST || !entered.notes.is_empty();
        is_told.then(|| Span {
            host: None,
            environment: definition.name.clone(),
            part: self.part.clone(),
            settings: definition.settings(),
            notes: entered.notes.clone(),
            modules: environment::modules(&self.root),
            entering_ms,
            entered_ms: now_ms(),
            leaving_ms: None,
            left_ms: None,
            problem: None,
        })
    }

    fn lock(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket<'_> {
    /// Waits until the host is in the case's environment, or changes it.
    ///
    /// # Errors
    /// Why the case cannot run: the same for all of its turn.
    pub fn admit(&self) -> Result<(), Obstacle> {
        let (gate, turn) = (self.gate, &self.turn);
        let mut state = gate.lock();
        loop {
            if let Some(obstacle) = state.obstacles.get(turn) {
                return Err(obstacle.clone());
            }
            match &state.open {
                Some((open, _)) if open == turn => return Ok(()),
                None if !state.changing => {
                    state.changing = true;
                    drop(state);
                    let changing = Changing(gate);
                    let entered = gate.enter(turn);
                    state = gate.lock();
                    match entered {
                        Ok(entered) => state.open = Some((turn.clone(), entered)),
                        Err(obstacle) => {
                            state.obstacles.insert(turn.clone(), obstacle);
                        }
                    }
                    drop(state);
                    drop(changing);
                    state = gate.lock();
                }
                _ => {
                    let waited = gate.changed.wait(state);
                    state = waited.unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let gate = self.gate;
        let mut state = gate.lock();
        if let Some(left) = state.to_leave.get_mut(&self.turn) {
            *left = left.saturating_sub(1);
            if *left > 0 {
                return;
            }
        }
        if let Some((turn, open)) = state.open.take_if(|(open, _)| *open == self.turn) {
            state.changing = true;
            drop(state);
            let _changing = Changing(gate);
            gate.leave(&turn, open);
        }
    }
}

/// The host is being changed: when this is dropped it no longer is, and the others go on.
struct Changing<'a>(&'a Gate);

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.0.lock().changing = false;
        self.0.changed.notify_all();
    }
}
