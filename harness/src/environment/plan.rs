//! Plans: what would be done to this host for an environment, or why it cannot be; nothing is touched.

use std::fmt;

use super::definition::Definition;
use super::host::Platform;
use super::kmod::{Module, Presence, in_use, needed_by};
use super::target::{Refusal, Target, resolve};
use crate::model::host::Root;

/// Why whoever is not root can change nothing.
const ROOT_ONLY: &str = "only root can do that: run this with sudo";

/// What would be done to this host for an environment.
#[derive(Debug)]
pub struct Plan {
    /// What would be done, in words; empty if the host is that way already.
    steps: Vec<String>,
    /// Why it cannot be done.
    pub refusal: Option<Refusal>,
    pub(super) platform: Platform,
    /// From which of the platform's modules on they have to be loaded anew.
    pub(super) first: usize,
    /// What is to be an argument of one of these, since it cannot be written afterwards.
    pub(super) arguments: Vec<Target>,
    /// What else is to be.
    pub(super) writes: Vec<Target>,
    /// The modules that are not loaded and would be, those that KVM's need included.
    pub(super) unloaded: Vec<String>,
}

impl Plan {
    /// Compares what is to be with what is.
    pub(super) fn make(root: &Root, definition: &Definition) -> Self {
        let platform = Platform::probe(root);
        let (targets, refusal) = match resolve(root, &platform, definition) {
            Ok(targets) => (targets, None),
            Err(refusal) => (Vec::new(), Some(refusal)),
        };
        let reload = targets
            .iter()
            .filter_map(|target| needs_reload(root, &platform, target));
        let first = reload.min().unwrap_or(platform.modules.len());
        let is_argument = |target: &Target| {
            let mut reloaded = platform.modules[first..].iter();
            reloaded.any(|module| target.module() == Some(&module.name))
                && !can_be_written(root, target)
        };
        let (arguments, writes) = targets.into_iter().partition(is_argument);
        let mut plan = Self {
            steps: Vec::new(),
            refusal,
            platform,
            first,
            arguments,
            writes,
            unloaded: Vec::new(),
        };
        plan.steps = plan.describe(root);
        if !plan.steps.is_empty() {
            plan.refusal = plan.look_for_obstacles(root).err();
        }
        plan
    }

    /// Whether the host is that way already.
    pub fn is_nothing(&self) -> bool {
        self.steps.is_empty() && self.refusal.is_none()
    }

    /// The modules that have to be loaded anew, in the order of loading.
    pub(super) fn reloaded(&self) -> &[Module] {
        &self.platform.modules[self.first..]
    }

    /// Whether a module has to be loaded anew.
    pub(super) fn reloads(&self, module: &str) -> bool {
        self.reloaded()
            .iter()
            .any(|reloaded| reloaded.name == module)
    }

    /// Everything that is to be.
    pub(super) fn targets(&self) -> impl Iterator<Item = &Target> {
        self.arguments.iter().chain(&self.writes)
    }

    fn describe(&self, root: &Root) -> Vec<String> {
        let mut steps = Vec::new();
        let reloaded = self.reloaded();
        if !reloaded.is_empty() {
            let names: Vec<&str> = reloaded.iter().map(|module| module.name.as_str()).collect();
            let are_live = reloaded.iter().all(Module::is_live);
            let verb = if are_live { "reload" } else { "load" };
            let arguments: Vec<String> = self
                .arguments
                .iter()
                .map(|target| in_words(root, target))
                .collect();
            steps.push(format!(
                "{verb} {} with {}",
                names.join(" and "),
                arguments.join(", ")
            ));
        }
        let writes = self.writes.iter().filter(|target| !target.is_there(root));
        steps.extend(writes.map(|target| format!("write {}", in_words(root, target))));
        steps
    }

    /// Finds out what would be loaded.
    ///
    /// # Errors
    /// Why this cannot be done, with what to do about it.
    fn look_for_obstacles(&mut self, root: &Root) -> Result<(), Refusal> {
        let mut reloaded = self.reloaded().iter();
        if let Some(built_in) = reloaded.find(|module| module.presence == Presence::BuiltIn) {
            let arguments = self.arguments.iter();
            let boot: Vec<String> = arguments
                .map(|target| format!("{}={}", target.setting, target.to))
                .collect();
            let (name, boot) = (&built_in.name, boot.join(" "));
            return Err(Refusal::Failed(format!(
                "{name} cannot be unloaded, it is built into this kernel: boot with {boot}, or use a kernel with {name} as a module"
            )));
        }
        if !root.may_change() {
            return Err(Refusal::Failed(ROOT_ONLY.to_owned()));
        }
        if self.reloaded().is_empty() {
            return Ok(());
        }
        if let Some(used) = in_use(root, self.reloaded()) {
            return Err(Refusal::InUse(used));
        }
        self.unloaded = needed_by(root, &self.platform.top().name)?;
        Ok(())
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = self.steps.join("; ");
        match &self.refusal {
            Some(Refusal::Impossible(reason)) => write!(f, "impossible here: {reason}"),
            Some(refusal) if steps.is_empty() => write!(f, "{refusal}"),
            Some(refusal) => write!(f, "{steps}; but: {refusal}"),
            None if steps.is_empty() => f.write_str("nothing to do: this host is that way already"),
            None => f.write_str(&steps),
        }
    }
}

/// The index of the module from which on a target needs them loaded anew, if it does.
fn needs_reload(root: &Root, platform: &Platform, target: &Target) -> Option<usize> {
    let mut modules = platform.modules.iter();
    let index = modules.position(|module| target.module() == Some(&module.name))?;
    if !platform.modules[index].is_live() {
        return platform.modules.iter().position(|module| !module.is_live());
    }
    (!target.is_there(root) && !can_be_written(root, target)).then_some(index)
}

/// Whether a parameter can be written while its module is loaded.
fn can_be_written(root: &Root, target: &Target) -> bool {
    root.is_writable(target.path()) && !target.is_one_way(root)
}

fn in_words(root: &Root, target: &Target) -> String {
    let (setting, to) = (&target.setting, &target.to);
    let now = target.now(root).map(|now| now.escape_debug().to_string());
    let now = now.unwrap_or_else(|| "nothing yet".to_owned());
    match () {
        () if target.is_hugepages() => format!("{setting}: {now} becomes at least {to}"),
        () if now == *to => format!("{setting}={to}"),
        () => format!("{setting}={to} (now {now})"),
    }
}
