//! Plans: what would be done to this host for an environment, or why it cannot be; nothing is touched.

use std::fmt;

use super::Refusal;
use super::definition::Definition;
use super::modinfo::Modinfo;
use super::module::{self, Module, Presence};
use super::platform::Platform;
use super::process::{self, Process};
use super::program;
use super::root::Root;
use super::target::{Place, Target, resolve};

/// Why whoever is not root can change nothing.
pub const ROOT_ONLY: &str = "only root can do that: run this with sudo";

/// What would be done to this host for an environment.
#[derive(Debug)]
pub struct Plan {
    /// The environment's name.
    pub environment: String,
    /// Everything that it sets, a line each.
    pub settings: String,
    /// What would be done, in words; empty if the host is that way already.
    pub steps: Vec<String>,
    /// Why it cannot be done.
    pub refusal: Option<Refusal>,
    /// The host's virtualization, as it is.
    pub platform: Platform,
    /// What is to be.
    pub targets: Vec<Target>,
    /// From which of the platform's modules on they have to be loaded anew.
    pub reload: Option<usize>,
    /// The modules that are not loaded and would be, those that KVM's need included.
    pub unloaded: Vec<String>,
}

impl Plan {
    /// Compares what is to be with what is.
    pub fn make(root: &Root, modinfo: &Modinfo, definition: &Definition) -> Self {
        let mut plan = Self {
            environment: definition.name.clone(),
            settings: definition.settings().join("\n"),
            steps: Vec::new(),
            refusal: None,
            platform: Platform::probe(root, modinfo),
            targets: Vec::new(),
            reload: None,
            unloaded: Vec::new(),
        };
        match resolve(root, &plan.platform, definition) {
            Ok(targets) => plan.targets = targets,
            Err(refusal) => {
                plan.refusal = Some(refusal);
                return plan;
            }
        }
        plan.reload = plan
            .targets
            .iter()
            .filter_map(|target| needs_reload(root, &plan.platform, target))
            .min();
        plan.steps = plan.describe(root);
        if !plan.steps.is_empty() {
            plan.refusal = plan.obstacle(root).map(Refusal::Refused);
        }
        plan
    }

    /// Whether the host is that way already.
    pub fn is_nothing(&self) -> bool {
        self.steps.is_empty() && self.refusal.is_none()
    }

    /// The modules that have to be loaded anew, in the order of loading.
    pub fn reloaded(&self) -> &[Module] {
        self.reload
            .map_or(&[], |first| &self.platform.modules[first..])
    }

    /// Whether a target has to be an argument of a module that is loaded, since it cannot be written afterwards.
    pub fn is_argument(&self, target: &Target) -> bool {
        let Place::Parameter(module, name) = &target.knob else {
            return false;
        };
        let Some(module) = self
            .reloaded()
            .iter()
            .find(|reloaded| reloaded.name == *module)
        else {
            return false;
        };
        let writable = module
            .parameters
            .get(name)
            .is_some_and(|parameter| parameter.writable);
        !writable
            || is_one_way(
                target,
                module
                    .parameters
                    .get(name)
                    .and_then(|known| known.value.as_deref()),
            )
    }

    fn describe(&self, root: &Root) -> Vec<String> {
        let mut steps = Vec::new();
        if !self.reloaded().is_empty() {
            let names: Vec<&str> = self
                .reloaded()
                .iter()
                .map(|module| module.name.as_str())
                .collect();
            let verb = if self.reloaded().iter().all(Module::is_live) {
                "reload"
            } else {
                "load"
            };
            let arguments = self
                .targets
                .iter()
                .filter(|target| self.is_argument(target));
            let arguments: Vec<String> = arguments.map(|target| in_words(root, target)).collect();
            steps.push(format!(
                "{verb} {} with {}",
                names.join(" and "),
                arguments.join(", ")
            ));
        }
        for target in self
            .targets
            .iter()
            .filter(|target| !self.is_argument(target))
        {
            if !target.now(root).is_some_and(|now| target.agrees(&now)) {
                steps.push(format!("write {}", in_words(root, target)));
            }
        }
        steps
    }

    /// Why this cannot be done, with what to do about it.
    fn obstacle(&mut self, root: &Root) -> Option<String> {
        if let Some(built_in) = self
            .reloaded()
            .iter()
            .find(|module| module.presence == Presence::BuiltIn)
        {
            let arguments = self
                .targets
                .iter()
                .filter(|target| self.is_argument(target));
            let boot: Vec<String> = arguments
                .map(|target| format!("{}={}", target.label(), target.to))
                .collect();
            let name = &built_in.name;
            return Some(format!(
                "{name} cannot be unloaded, it is built into this kernel: boot with {}, or use a kernel with {name} as a module",
                boot.join(" ")
            ));
        }
        if !root.may_change() {
            return Some(ROOT_ONLY.to_owned());
        }
        if self.reloaded().is_empty() {
            return None;
        }
        for name in ["modprobe", "rmmod"] {
            if root.program(name).is_none() {
                return Some(format!("there is no {name} in PATH: install kmod"));
            }
        }
        in_use(root, self.reloaded()).or_else(|| {
            let top = self.platform.top().name.clone();
            match chain(root, &top) {
                Ok(chain) => {
                    let loaded = module::loaded(root);
                    self.unloaded = chain
                        .into_iter()
                        .filter(|name| !loaded.contains(name))
                        .collect();
                    None
                }
                Err(reason) => Some(reason),
            }
        })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.refusal {
            Some(Refusal::Impossible(reason)) => return write!(f, "impossible here: {reason}"),
            _ if self.is_nothing() => {
                return f.write_str("nothing to do: this host is that way already");
            }
            _ => f.write_str(&self.steps.join("; "))?,
        }
        match &self.refusal {
            Some(refusal) if self.steps.is_empty() => write!(f, "{refusal}"),
            Some(refusal) => write!(f, "; but: {refusal}"),
            None => Ok(()),
        }
    }
}

/// Why these modules cannot be unloaded now, naming those who use them.
pub fn in_use(root: &Root, modules: &[Module]) -> Option<String> {
    let names: Vec<&str> = modules.iter().map(|module| module.name.as_str()).collect();
    for module in modules {
        let others: Vec<&str> = module
            .used_by
            .iter()
            .map(String::as_str)
            .filter(|user| !names.contains(user))
            .collect();
        // Only `kvm` can be used by a vendor module that is to stay or to go with it.
        if !others.is_empty() {
            let (name, others) = (&module.name, others.join(", "));
            return Some(format!(
                "{name} is in use by the module {others}: unload it first (rmmod {others})"
            ));
        }
    }
    let is_used = |module: &Module| match module.presence {
        Presence::Loaded { uses } => uses > module.used_by.len() as u64,
        _ => false,
    };
    let used = modules.iter().find(|module| is_used(module))?;
    let users = Process::that_use_kvm(root);
    Some(if users.is_empty() {
        format!(
            "{} is in use, by no process that can be seen (one in another container?): end it first",
            used.name
        )
    } else {
        format!(
            "{} is in use by {}: end it first",
            used.name,
            process::list(&users)
        )
    })
}

/// The index of the module from which on a target needs them loaded anew, if it does.
fn needs_reload(root: &Root, platform: &Platform, target: &Target) -> Option<usize> {
    let Place::Parameter(module, name) = &target.knob else {
        return None;
    };
    let index = platform
        .modules
        .iter()
        .position(|known| known.name == *module)?;
    let first_missing = platform
        .modules
        .iter()
        .position(|module| !module.is_live())
        .unwrap_or(index);
    let now = target.now(root);
    let parameter = platform.modules[index].parameters.get(name)?;
    match &now {
        _ if !platform.modules[index].is_live() => Some(first_missing.min(index)),
        Some(now) if target.agrees(now) => None,
        now if !parameter.writable || is_one_way(target, now.as_deref()) => Some(index),
        _ => None,
    }
}

/// `never` for `nx_huge_pages` cannot be undone while the module is loaded (`set_nx_huge_pages` in
/// `arch/x86/kvm/mmu/mmu.c`), so both ways lead through a reload.
fn is_one_way(target: &Target, now: Option<&str>) -> bool {
    target.knob == Place::Parameter("kvm".to_owned(), "nx_huge_pages".to_owned())
        && (target.to == "never") != (now == Some("never"))
}

fn in_words(root: &Root, target: &Target) -> String {
    let now = target.now(root).map_or_else(
        || "nothing yet".to_owned(),
        |now| now.escape_debug().to_string(),
    );
    match &target.knob {
        Place::Hugepages(path) => format!("{path}: {now} becomes at least {}", target.to),
        _ if now == target.to => format!("{}={}", target.label(), target.to),
        _ => format!("{}={} (now {now})", target.label(), target.to),
    }
}

/// The modules that modprobe would load for one, in that order.
fn chain(root: &Root, name: &str) -> Result<Vec<String>, String> {
    let modprobe = root
        .program("modprobe")
        .ok_or("there is no modprobe in PATH: install kmod")?;
    let ended = program::run(&modprobe, &["--show-depends", name], root.program_time)
        .map_err(|error| format!("run {}: {error}", modprobe.display()))?;
    if !ended.success() {
        return Err(format!(
            "modprobe does not find {name}: {}",
            ended.complaint(root.program_time)
        ));
    }
    let mut chain = Vec::new();
    for line in ended.stdout.lines() {
        match line.split_once(' ') {
            Some(("insmod", rest)) => {
                let file = rest.split_whitespace().next().unwrap_or_default();
                let file = file.rsplit('/').next().unwrap_or_default();
                chain.push(
                    file.split(".ko")
                        .next()
                        .unwrap_or_default()
                        .replace('-', "_"),
                );
            }
            Some(("install", command)) => {
                let command = command.trim().escape_debug();
                return Err(format!(
                    "modprobe.d has it run `{command}` instead of loading {name}: take that out first"
                ));
            }
            _ => {}
        }
    }
    Ok(chain)
}
