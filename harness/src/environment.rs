//! Environments: the host changed into a named state for as long as tests run in it, and brought back.
//!
//! This knows nothing of suites and cases. Whoever runs tests enters an environment and leaves it; the host is changed
//! when the first one enters and restored when the last one leaves, across processes.

use std::fmt;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use change::Baseline;
use definition::Definition;
use host_lock::{Held, HostLock, POLL, Use};
use journal::Journal;
use modinfo::Modinfo;
use plan::Plan;
use platform::Platform;
use root::Root;

pub mod change;
pub mod definition;
pub mod definition_toml;
pub mod device;
pub mod feature;
pub mod host_lock;
pub mod hugepages;
pub mod journal;
pub mod kernel_log;
pub mod loader;
pub mod modinfo;
pub mod module;
pub mod plan;
pub mod platform;
pub mod process;
pub mod program;
pub mod restore;
pub mod root;
pub mod target;
pub mod value;

/// Why an environment was not entered, or not left as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// This host cannot be that way: its cases are skipped. Nothing was changed, or all of it was put back.
    Impossible(String),
    /// It was not tried, and the reason says what to do. Nothing was changed.
    Refused(String),
    /// It was tried and failed. The reason says whether everything was put back.
    Failed(String),
    /// The wait for others was broken off. Nothing was changed.
    Interrupted,
}

impl Refusal {
    fn and(self, more: &str) -> Self {
        match self {
            Self::Impossible(reason) => Self::Impossible(format!("{reason}; {more}")),
            Self::Refused(reason) => Self::Refused(format!("{reason}; {more}")),
            Self::Failed(reason) => Self::Failed(format!("{reason}; {more}")),
            Self::Interrupted => Self::Interrupted,
        }
    }

    fn into_failure(self) -> Self {
        match self {
            Self::Impossible(reason) | Self::Refused(reason) => Self::Failed(reason),
            other => other,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Impossible(reason) | Self::Refused(reason) | Self::Failed(reason) => {
                f.write_str(reason)
            }
            Self::Interrupted => f.write_str("interrupted while waiting for others"),
        }
    }
}

impl std::error::Error for Refusal {}

/// For the `wait` of [`Environments::enter`], which comes again and again: passes a message on to `say` when it is a new
/// one.
pub fn once(mut say: impl FnMut(&str)) -> impl FnMut(&str) {
    let mut said = String::new();
    move |message| {
        if said != message {
            say(message);
            message.clone_into(&mut said);
        }
    }
}

/// The environments of a host.
#[derive(Debug)]
pub struct Environments {
    root: Root,
    lock: Arc<HostLock>,
    modinfo: Modinfo,
    baseline: Mutex<Option<Baseline>>,
}

impl Environments {
    /// Those of the host whose files are under `root`.
    pub fn new(root: Root) -> Self {
        Self {
            lock: Arc::new(HostLock::new(&root)),
            root,
            modinfo: Modinfo::default(),
            baseline: Mutex::new(None),
        }
    }

    /// This host's virtualization, as it is.
    pub fn platform(&self) -> Platform {
        Platform::probe(&self.root, &self.modinfo)
    }

    /// What entering an environment would do; touches nothing.
    pub fn plan(&self, definition: &Definition) -> Plan {
        Plan::make(&self.root, &self.modinfo, definition)
    }

    /// Enters an environment: joins those who are in it, or waits for those who need another one, and changes the host.
    /// What a killed run left behind is restored first.
    ///
    /// `wait` is called again and again while there is somebody to wait for, about every 50 ms, with a message that names
    /// them; it may break the wait off. An environment that is impossible waits for nobody, and one that changes nothing
    /// only for those who change this host.
    ///
    /// # Errors
    /// Why it was not entered.
    pub fn enter(
        &self,
        definition: &Definition,
        mut wait: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Entered, Refusal> {
        let settings = self.what_to_set(definition)?;
        let settings = self.inside(settings)?;
        let stay = self
            .lock
            .take_in(&Use::Environment, Some(&settings), &mut wait)
            .map_err(|error| lock_refused(&error))?
            .ok_or(Refusal::Interrupted)?;
        let mut entered = Entered {
            root: self.root.clone(),
            lock: Arc::clone(&self.lock),
            settings,
            stay: Some(stay),
            notes: Vec::new(),
        };
        match self.bring_about(definition, &entered, &mut wait) {
            Ok(notes) => entered.notes = notes,
            Err(refusal) => {
                // There is nothing to leave.
                entered.stay = None;
                return Err(refusal);
            }
        }
        Ok(entered)
    }

    /// Restores what a killed run left behind, after waiting for those who are still in an environment. Answers the
    /// name of the environment that the host was in; `None` if there was nothing to restore.
    ///
    /// # Errors
    /// What could not be restored, or why it was not tried.
    pub fn restore(
        &self,
        wait: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Option<String>, Refusal> {
        let Some(journal) = Journal::load(&self.root).map_err(Refusal::Refused)? else {
            return Ok(None);
        };
        if !self.root.may_change() {
            return Err(Refusal::Refused(plan::ROOT_ONLY.to_owned()));
        }
        self.enter(&Definition::host(), wait)?.leave()?;
        Ok(Some(journal.environment))
    }

    /// What a definition sets, a line each; nothing where the host is that way already.
    fn what_to_set(&self, definition: &Definition) -> Result<String, Refusal> {
        if definition.is_empty() {
            return Ok(String::new());
        }
        let plan = self.plan(definition);
        // What it is while another environment is in force tells nothing.
        if plan.is_nothing() && !journal::path(&self.root).exists() {
            return Ok(String::new());
        }
        match &plan.refusal {
            // Who uses it may be one of those that are waited for.
            Some(Refusal::Refused(_))
                if self.root.may_change()
                    && plan::in_use(&self.root, plan.reloaded()).is_some() =>
            {
                Ok(plan.settings)
            }
            Some(refusal) => Err(refusal.clone()),
            None => Ok(plan.settings),
        }
    }

    /// The environment that is to be entered where this runs inside one. The host as it is, then, is that one.
    fn inside(&self, settings: String) -> Result<String, Refusal> {
        match self.lock.outer() {
            Some((outer, _)) if settings.is_empty() => Ok(outer),
            Some((outer, who)) if outer != settings => {
                let kept = match outer.as_str() {
                    "" => "needs this host as it is".to_owned(),
                    outer => format!("keeps this host at {}", outer.replace('\n', ", ")),
                };
                Err(Refusal::Refused(format!(
                    "this runs inside {who}, which {kept}: run it outside of that"
                )))
            }
            _ => Ok(settings),
        }
    }

    /// Puts the host into the environment that this process may have now, since nobody needs another one.
    fn bring_about(
        &self,
        definition: &Definition,
        entered: &Entered,
        wait: &mut impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Vec<String>, Refusal> {
        let is_changed = journal::path(&self.root).exists();
        if entered.settings.is_empty() && !is_changed {
            return Ok(Vec::new());
        }
        if !self.root.may_change() {
            return self.is_as_wanted(definition, entered).map(|()| Vec::new());
        }
        let _change = self
            .lock
            .take(&Use::Change, wait)
            .map_err(|error| lock_refused(&error))?
            .ok_or(Refusal::Interrupted)?;
        let mut notes = Vec::new();
        if let Some(journal) = Journal::load(&self.root).map_err(Refusal::Refused)? {
            if journal.entered && journal.settings == entered.settings && entered.is_shared() {
                return Ok(notes);
            }
            notes.push(self.recover(&journal)?);
        }
        if !entered.settings.is_empty() {
            notes.extend(self.change(definition, wait)?);
        }
        Ok(notes)
    }

    /// For a user who may change nothing.
    fn is_as_wanted(&self, definition: &Definition, entered: &Entered) -> Result<(), Refusal> {
        let refused = |why: &str| Err(Refusal::Refused(why.to_owned()));
        match entered.settings.is_empty() {
            true => {
                refused("a killed run has left this host changed: as root, run kvm-tests restore")
            }
            false if definition.is_empty() || self.plan(definition).is_nothing() => Ok(()),
            false => refused(plan::ROOT_ONLY),
        }
    }

    fn recover(&self, journal: &Journal) -> Result<String, Refusal> {
        let Journal {
            environment, pid, ..
        } = journal;
        restore::restore(&self.root, journal).map_err(|problems| {
            let problems = problems.join("; ");
            Refusal::Failed(format!("the host was left in {environment}: {problems}"))
        })?;
        Ok(format!(
            "restored the host, which a killed run (pid {pid}) left in {environment}"
        ))
    }

    fn change(
        &self,
        definition: &Definition,
        wait: &mut impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Vec<String>, Refusal> {
        let start = Instant::now();
        let plan = loop {
            let plan = self.plan(definition);
            // What has just ended may keep a module in use for a moment.
            let in_use = plan
                .refusal
                .as_ref()
                .and_then(|_| plan::in_use(&self.root, plan.reloaded()));
            match in_use {
                Some(used) if start.elapsed() < self.root.settle_time => {
                    if wait(&used).is_break() {
                        return Err(Refusal::Interrupted);
                    }
                    thread::sleep(POLL);
                }
                _ => break plan,
            }
        };
        match plan.refusal {
            Some(refusal) => Err(refusal),
            None if plan.steps.is_empty() => Ok(Vec::new()),
            None => {
                let mut baseline = self.baseline.lock().unwrap_or_else(PoisonError::into_inner);
                change::apply(&self.root, &plan, &mut baseline)
            }
        }
    }
}

fn lock_refused(error: &std::io::Error) -> Refusal {
    Refusal::Refused(format!("lock this host: {error}"))
}

/// An environment that was entered.
///
/// Dropping it leaves it, too, and then complains on the standard error.
#[derive(Debug)]
#[must_use = "the environment is left when this is dropped"]
pub struct Entered {
    root: Root,
    lock: Arc<HostLock>,
    settings: String,
    stay: Option<Held>,
    /// What the user should know: what else changed with it, and what a killed run had left.
    pub notes: Vec<String>,
}

impl Entered {
    /// Leaves the environment; the last one to leave restores the host.
    ///
    /// # Errors
    /// What could not be restored, with the commands that would do it. The journal stays then.
    pub fn leave(mut self) -> Result<(), Refusal> {
        self.leave_once()
    }

    /// Whether others are in it, or about to be.
    fn is_shared(&self) -> bool {
        self.stay
            .as_ref()
            .is_some_and(|stay| self.lock.is_shared(stay, &self.settings))
    }

    fn leave_once(&mut self) -> Result<(), Refusal> {
        if self.stay.is_none() || self.settings.is_empty() || !self.root.may_change() {
            self.stay = None;
            return Ok(());
        }
        // Nobody holds this for longer than changing or restoring takes, so it is not broken off.
        let change = self
            .lock
            .take(&Use::Change, &mut |_| ControlFlow::Continue(()));
        let _change =
            change.map_err(|error| Refusal::Failed(format!("lock this host: {error}")))?;
        let is_shared = self.is_shared();
        // Given up last: whoever needs another environment waits until the host is restored.
        let _stay = self.stay.take();
        if is_shared {
            return Ok(());
        }
        match Journal::load(&self.root).map_err(Refusal::Failed)? {
            Some(journal) => restore::restore(&self.root, &journal).map_err(|problems| {
                Refusal::Failed(format!(
                    "the host could not be restored: {}",
                    problems.join("; ")
                ))
            }),
            None => Ok(()),
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Err(refusal) = self.leave_once() {
            // Nothing more can be done if even that is closed.
            drop(writeln!(std::io::stderr(), "error: {refusal}"));
        }
    }
}
