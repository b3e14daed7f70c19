//! Environments: the host changed into a named state for as long as tests run in it, and brought back.
//!
//! This knows nothing of suites and cases. Whoever runs tests enters an environment and leaves it; the host is changed
//! when the first one enters and restored when the last one leaves, across processes.

use std::fmt;
use std::fs::File;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use change::Baseline;
use definition::Definition;
use journal::Journal;
use lock::{Gate, Other, POLL, Use};
use lock_file::{Place, USERS};
use modinfo::Modinfo;
use plan::Plan;
use platform::Platform;
use process::{Process, is_ancestor};
use root::Root;
use rustix::fs::{FlockOperation, flock};

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
pub mod lock;
pub mod lock_file;
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
    modinfo: Modinfo,
    baseline: Mutex<Option<Baseline>>,
}

impl Environments {
    /// Those of the host whose files are under `root`.
    pub fn new(root: Root) -> Self {
        Self {
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

    /// The journal of a run that changed the host and has not restored it: the environment and the runner's process ID,
    /// where that run may still be going on.
    ///
    /// # Errors
    /// If there is one that cannot be understood.
    pub fn journal(&self) -> Result<Option<(String, u32)>, Refusal> {
        let journal = Journal::load(&self.root).map_err(Refusal::Refused)?;
        Ok(journal.map(|journal| (journal.environment, journal.pid)))
    }

    /// Enters an environment: joins those who are in it, or waits for those who are in another one, and changes the
    /// host. What a killed run left behind is restored first.
    ///
    /// `wait` is called again and again while there is something to wait for, about every 50 ms, with a message that
    /// names it; it may break the wait off.
    ///
    /// # Errors
    /// Why it was not entered.
    pub fn enter(
        &self,
        definition: &Definition,
        mut wait: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Entered, Refusal> {
        if !self.root.may_change() {
            return self.enter_without_change(definition, &mut wait);
        }
        let directory = match journal::directory(&self.root) {
            Ok(directory) => directory,
            // Where nothing is to be changed, nothing needs to be kept.
            Err(_) if definition.is_empty() => {
                return self.enter_without_change(definition, &mut wait);
            }
            Err(error) => {
                return Err(Refusal::Refused(format!(
                    "use {}: {error}",
                    self.root.path(journal::DIRECTORY).display()
                )));
            }
        };
        let io = |error: std::io::Error| {
            Refusal::Refused(format!("lock {}: {error}", directory.display()))
        };
        let wanted = definition.settings().join("\n");
        loop {
            let Some(gate) = Gate::enter(&directory, &mut wait).map_err(io)? else {
                return Err(Refusal::Interrupted);
            };
            let others = gate.others().map_err(io)?;
            let message = match join(&others, definition, &wanted)? {
                Joining::Alone => {
                    let notes = self.recover_and_change(definition, &mut wait)?;
                    let used = gate.register(&wanted).map_err(io)?;
                    return Ok(Entered {
                        root: self.root.clone(),
                        used: Some(used),
                        _kept: None,
                        notes,
                    });
                }
                Joining::With(environment) => {
                    let used = gate.register(&environment).map_err(io)?;
                    return Ok(Entered {
                        root: self.root.clone(),
                        used: Some(used),
                        _kept: None,
                        notes: Vec::new(),
                    });
                }
                Joining::Later(message) => message,
            };
            drop(gate);
            if wait(&message).is_break() {
                return Err(Refusal::Interrupted);
            }
            thread::sleep(POLL);
        }
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
        let Some((environment, _)) = self.journal()? else {
            return Ok(None);
        };
        if !self.root.may_change() {
            return Err(Refusal::Refused(plan::ROOT_ONLY.to_owned()));
        }
        self.enter(&Definition::host(), wait)?.leave()?;
        Ok(Some(environment))
    }

    /// Somebody who may change nothing: fine if there is nothing to change, for as long as nobody else changes it.
    fn enter_without_change(
        &self,
        definition: &Definition,
        wait: &mut impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Entered, Refusal> {
        let io =
            |error: std::io::Error| Refusal::Refused(format!("lock this host as it is: {error}"));
        let users = Place::find(&self.root).open(USERS).map_err(io)?;
        if let Some(users) = &users {
            self.keep_as_it_is(users, wait)?;
        }
        let plan = (!definition.is_empty()).then(|| self.plan(definition));
        match plan.filter(|plan| !plan.is_nothing()) {
            None => Ok(Entered {
                root: self.root.clone(),
                used: None,
                _kept: users,
                notes: Vec::new(),
            }),
            Some(plan) => Err(plan
                .refusal
                .unwrap_or_else(|| Refusal::Refused(plan::ROOT_ONLY.to_owned()))),
        }
    }

    /// Waits until the host is as it was, and keeps it so. Whoever changes it has this lock alone when he writes his
    /// journal, so with the lock and without a journal it stays as it is.
    fn keep_as_it_is(
        &self,
        users: &File,
        mut wait: &mut impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), Refusal> {
        let io =
            |error: std::io::Error| Refusal::Refused(format!("lock this host as it is: {error}"));
        let changes = |who: &str| format!("waiting for {who}, which changes this host");
        loop {
            lock_file::lock(
                users,
                FlockOperation::NonBlockingLockShared,
                changes,
                &mut wait,
            )
            .map_err(io)?
            .ok_or(Refusal::Interrupted)?;
            if !journal::path(&self.root).exists() || self.is_inside() {
                return Ok(());
            }
            flock(users, FlockOperation::Unlock).map_err(|error| io(error.into()))?;
            let message = match lock::users(&self.root).as_slice() {
                // He who was about to go has put it back meanwhile.
                [] if !journal::path(&self.root).exists() => continue,
                [] => {
                    return Err(Refusal::Refused(
                        "a killed run has left this host changed: as root, run kvm-tests restore"
                            .to_owned(),
                    ));
                }
                users => {
                    let users = lock_file::list(users);
                    format!("waiting for {users}, which keeps this host in another environment")
                }
            };
            if wait(&message).is_break() {
                return Err(Refusal::Interrupted);
            }
            thread::sleep(POLL);
        }
    }

    /// Whether this runs inside an environment that was entered.
    fn is_inside(&self) -> bool {
        lock::users(&self.root)
            .iter()
            .any(|user| is_ancestor(user.pid))
    }

    /// Alone behind the gate.
    fn recover_and_change(
        &self,
        definition: &Definition,
        wait: &mut impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Vec<String>, Refusal> {
        let mut notes = Vec::new();
        if let Some(journal) = Journal::load(&self.root).map_err(Refusal::Refused)? {
            restore::restore(&self.root, &journal).map_err(|problems| {
                let environment = &journal.environment;
                Refusal::Failed(format!(
                    "the host was left in {environment}: {}",
                    problems.join("; ")
                ))
            })?;
            notes.push(format!(
                "restored the host, which a killed run (pid {}) left in {}",
                journal.pid, journal.environment
            ));
        }
        // For the host as it is nothing needs to be found out.
        if definition.is_empty() {
            return Ok(notes);
        }
        // Held until the journal is there, and tells the others.
        let _alone = self.wait_for_users(definition, wait)?;
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
        if let Some(refusal) = plan.refusal {
            return Err(refusal);
        }
        if !plan.is_nothing() {
            let mut baseline = self.baseline.lock().unwrap_or_else(PoisonError::into_inner);
            notes.extend(change::apply(&self.root, &plan, &mut baseline)?);
        }
        Ok(notes)
    }

    /// Waits for those who may change nothing and need the host as it is, if it is to be changed.
    fn wait_for_users(
        &self,
        definition: &Definition,
        mut wait: &mut impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Option<File>, Refusal> {
        let plan = self.plan(definition);
        if plan.is_nothing() || matches!(plan.refusal, Some(Refusal::Impossible(_))) {
            return Ok(None);
        }
        let io = |error: std::io::Error| Refusal::Refused(format!("lock this host: {error}"));
        let Some(users) = Place::find(&self.root).open(USERS).map_err(io)? else {
            return Ok(None);
        };
        let holders = lock_file::holders(&users.metadata().map_err(io)?);
        if let Some(ancestor) = holders.iter().find(|holder| is_ancestor(holder.pid)) {
            return Err(Refusal::Refused(format!(
                "this runs inside {}, which needs this host as it is: run it outside of that",
                ancestor.at_length()
            )));
        }
        let need = |who: &str| format!("waiting for {who}, which needs this host as it is");
        lock_file::lock(
            &users,
            FlockOperation::NonBlockingLockExclusive,
            need,
            &mut wait,
        )
        .map_err(io)?
        .ok_or(Refusal::Interrupted)?;
        Ok(Some(users))
    }
}

enum Joining {
    /// Nobody else is in any environment.
    Alone,
    /// The host is in this environment, which will do.
    With(String),
    /// Others are in another environment, as this message says.
    Later(String),
}

fn join(others: &[Other], definition: &Definition, wanted: &str) -> Result<Joining, Refusal> {
    let Some(other) = others.iter().find(|other| other.environment != wanted) else {
        return Ok(if others.is_empty() {
            Joining::Alone
        } else {
            Joining::With(wanted.to_owned())
        });
    };
    let theirs = match other.environment.as_str() {
        "" => "the host as it is".to_owned(),
        settings => settings.replace('\n', ", "),
    };
    if let Some(ancestor) = others.iter().find(|other| is_ancestor(other.process.pid)) {
        // Waiting for it would be for ever. The host as it is, for whoever runs inside an environment, is that one.
        return match definition.is_empty() {
            true => Ok(Joining::With(other.environment.clone())),
            false => Err(Refusal::Refused(format!(
                "this runs inside {}, which keeps this host at {theirs}: run it outside of that",
                ancestor.process.at_length()
            ))),
        };
    }
    let processes: Vec<Process> = others.iter().map(|other| other.process.clone()).collect();
    Ok(Joining::Later(format!(
        "waiting for {}, which keeps this host at {theirs}",
        lock_file::list(&processes)
    )))
}

/// An environment that was entered.
///
/// Dropping it leaves it, too, and then complains on the standard error.
#[derive(Debug)]
#[must_use = "the environment is left when this is dropped"]
pub struct Entered {
    root: Root,
    used: Option<Use>,
    /// The lock of a user who may change nothing.
    _kept: Option<File>,
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

    fn leave_once(&mut self) -> Result<(), Refusal> {
        let Some(used) = self.used.take() else {
            return Ok(());
        };
        let io = |error: std::io::Error| Refusal::Failed(format!("leave the environment: {error}"));
        let directory = journal::directory(&self.root).map_err(io)?;
        // Nobody stays behind the gate for longer than changing or restoring takes.
        let gate = Gate::enter(&directory, |_| ControlFlow::Continue(())).map_err(io)?;
        let Some(gate) = gate else { return Ok(()) };
        gate.unregister(used).map_err(io)?;
        if !gate.others().map_err(io)?.is_empty() {
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
