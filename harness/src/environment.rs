//! Environments: the host changed into a named state for as long as tests run in it, and brought back.
//!
//! This knows nothing of suites and cases. Whoever runs tests enters an environment and leaves it; the host is changed
//! when the first one enters and restored when the last one leaves, across processes.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use crate::model::host::Root;
use journal::HostJournal;
use kmod::{AGAIN, SETTLE_TIME};

pub use definition::{Definition, HOST};
pub use definitions::{Definitions, ENVIRONMENT_KEYS, MadeUp};
pub use feature::markdown as features_in_markdown;
pub use host::{Platform, available_memory, hugepages_in_use, modules, probe};
pub use host_lock::{Held, HostLock, Use};
pub use plan::Plan;
pub use target::Refusal;

mod change;
mod definition;
mod definitions;
mod feature;
mod host;
mod host_lock;
mod journal;
mod kmod;
mod plan;
mod target;

/// Why whoever is not root cannot run on a host that a killed run has left in an environment.
const LEFT_CHANGED: &str =
    "a killed run has left this host changed: as root, run kvm-tests restore";

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

/// Lets the kernel warn anew where it has warned already: a WARN_ON_ONCE fires once a boot. Answers why that is not possible.
pub fn clear_warn_once(root: &Root) -> Option<String> {
    let path = "/sys/kernel/debug/clear_warn_once";
    let error = root.write(path, "1").err()?;
    Some(format!("{path}: {error}"))
}

/// The environments of a host.
#[derive(Debug)]
pub struct Environments {
    root: Root,
    lock: Arc<HostLock>,
}

impl Environments {
    /// Those of the host whose files are under `root`.
    pub fn new(root: Root) -> Self {
        Self {
            lock: Arc::new(HostLock::new(&root)),
            root,
        }
    }

    /// This host's virtualization, as it is.
    pub fn platform(&self) -> Platform {
        Platform::probe(&self.root)
    }

    /// What entering an environment would do; touches nothing.
    pub fn plan(&self, definition: &Definition) -> Plan {
        Plan::make(&self.root, definition)
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
        let settings = self.inside(self.what_to_set(definition)?)?;
        let environment = Some(settings.as_str());
        let stay = self
            .lock
            .take_in(&Use::Environment, environment, &mut wait)?;
        let notes = self.bring_about(definition, &settings, &stay, &mut wait)?;
        Ok(Entered {
            root: self.root.clone(),
            lock: Arc::clone(&self.lock),
            settings,
            stay: Some(stay),
            notes,
        })
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
        let Some(journal) = HostJournal::load(&self.root)? else {
            return Ok(None);
        };
        self.enter(&Definition::host(), wait)?.leave()?;
        Ok(Some(journal.environment))
    }

    /// How this host is not what it was before an environment changed it; `None` if it is. Touches nothing.
    ///
    /// # Errors
    /// That cannot be told.
    pub fn changed(&self) -> Result<Option<String>, Refusal> {
        let Some(journal) = HostJournal::of_this_boot(&self.root)? else {
            return Ok(None);
        };
        let left = change::not_as_it_was(&self.root, &journal);
        let what = match left.is_empty() {
            true => "all that it notes reads as it was".to_owned(),
            false => left.join("; "),
        };
        let (environment, pid) = (&journal.environment, journal.pid);
        Ok(Some(format!(
            "pid {pid} changed this host into {environment}: {what}"
        )))
    }

    /// What a definition sets, a line each; nothing where the host is that way already.
    fn what_to_set(&self, definition: &Definition) -> Result<String, Refusal> {
        if definition.is_empty() {
            return Ok(String::new());
        }
        let plan = self.plan(definition);
        // What it is while another environment is in force tells nothing.
        if plan.is_nothing() && !HostJournal::exists(&self.root) {
            return Ok(String::new());
        }
        match plan.refusal {
            // Who uses it may be one of those that are waited for.
            None | Some(Refusal::InUse(_)) => Ok(definition.settings().join("\n")),
            Some(refusal) => Err(refusal),
        }
    }

    /// The environment that is to be entered where this runs inside one. The host as it is, then, is that one.
    fn inside(&self, settings: String) -> Result<String, Refusal> {
        match self.lock.outer() {
            Some((outer, _)) if settings.is_empty() => Ok(outer),
            Some((outer, who)) if outer != settings => Err(Refusal::Failed(format!(
                "this runs inside {who}, which needs this host {}: run it outside of that",
                host_lock::at(&outer)
            ))),
            _ => Ok(settings),
        }
    }

    /// Puts the host into the environment that this process may have now, since nobody needs another one.
    fn bring_about(
        &self,
        definition: &Definition,
        settings: &str,
        stay: &Held,
        wait: &mut impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Vec<String>, Refusal> {
        let (root, is_host) = (&self.root, settings.is_empty());
        if is_host && !HostJournal::exists(root) {
            return Ok(Vec::new());
        }
        if !root.may_change() {
            return match is_host {
                true => Err(Refusal::Failed(LEFT_CHANGED.to_owned())),
                false => self.change(definition),
            };
        }
        let _change = self.lock.take(&Use::Change, wait)?;
        let mut notes = Vec::new();
        if let Some(journal) = HostJournal::load(root)? {
            let is_entered = journal.entered && journal.settings == settings;
            if is_entered && self.lock.is_shared(stay, settings) {
                return Ok(notes);
            }
            let (environment, pid) = (&journal.environment, journal.pid);
            change::restore(root, &journal)
                .map_err(|problem| format!("the host was left in {environment}: {problem}"))?;
            notes.push(format!(
                "restored the host, which a killed run (pid {pid}) left in {environment}"
            ));
        }
        if !is_host {
            notes.extend(self.change(definition)?);
        }
        Ok(notes)
    }

    fn change(&self, definition: &Definition) -> Result<Vec<String>, Refusal> {
        let start = Instant::now();
        let mut plan = self.plan(definition);
        // What has just ended may keep a module in use for a moment.
        while matches!(plan.refusal, Some(Refusal::InUse(_))) && start.elapsed() < SETTLE_TIME {
            thread::sleep(AGAIN);
            plan = self.plan(definition);
        }
        match &plan.refusal {
            Some(refusal) => Err(refusal.clone()),
            None if plan.is_nothing() => Ok(Vec::new()),
            None => change::apply(&self.root, definition, &plan),
        }
    }
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

    fn leave_once(&mut self) -> Result<(), Refusal> {
        let Some(stay) = self.stay.take() else {
            return Ok(());
        };
        if self.settings.is_empty() || !self.root.may_change() {
            return Ok(());
        }
        // Nobody holds this for longer than changing or restoring takes, so it is not broken off.
        let go_on = &mut |_: &str| ControlFlow::Continue(());
        let _change = self.lock.take(&Use::Change, go_on)?;
        // Given up before the right to change: of two who leave, the second one must see that it is the last.
        let stay = stay;
        let is_shared = self.lock.is_shared(&stay, &self.settings);
        match HostJournal::load(&self.root)?.filter(|_| !is_shared) {
            None => Ok(()),
            Some(journal) => change::restore(&self.root, &journal)
                .map_err(|problem| format!("the host could not be restored: {problem}").into()),
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Err(refusal) = self.leave_once() {
            // Nothing more can be done if even that is closed.
            drop(writeln!(io::stderr(), "error: {refusal}"));
        }
    }
}
