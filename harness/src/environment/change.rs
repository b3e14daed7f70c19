//! Changes the host as planned: the journal first, then the change, then a look at every value.

use std::collections::BTreeMap;

use super::device::Permissions;
use super::journal::{HostJournal, ModuleBefore, Parameters};
use super::loader::Loader;
use super::plan::Plan;
use super::platform::{Module, parameter_path};
use super::refusal::Refusal::{self, Failed, Impossible};
use super::restore::{Return, restore};
use super::root::Root;
use super::target::{Target, chosen};

/// What the parameters were, and what brings the modules back to that, found out once: what the user had set by hand
/// comes back only if it is passed again, and what merely follows from that must not be passed.
pub(super) type Baseline = (Parameters, Parameters);

/// Changes the host, and answers what the user should know besides.
///
/// # Errors
/// Why it was not possible; everything is put back then, or it is said what could not be.
pub(super) fn apply(
    root: &Root,
    plan: &Plan,
    baseline: &mut Option<Baseline>,
) -> Result<Vec<String>, Refusal> {
    let mut journal = HostJournal::new(root, &plan.environment, &plan.settings);
    if !plan.reloaded().is_empty() {
        for module in &plan.platform.modules {
            note(root, plan, module, &mut journal);
        }
        journal.device = Permissions::read(root);
    }
    journal.unloaded.clone_from(&plan.unloaded);
    journal.files = files_before(root, plan).map_err(Failed)?;
    journal.save(root).map_err(Failed)?;
    let mut change = Transition {
        root,
        plan,
        journal: &mut journal,
        loader: Loader::new(root),
    };
    let changed = change.run(baseline);
    changed.map_err(|refusal| match (restore(root, &journal), refusal) {
        (Ok(()), Impossible(reason)) => Impossible(format!("{reason}; everything is as it was")),
        (Ok(()), other) => Failed(format!("{other}; everything is as it was")),
        (Err(problem), refusal) => Failed(format!("{refusal}; {problem}")),
    })
}

struct Transition<'a> {
    root: &'a Root,
    plan: &'a Plan,
    journal: &'a mut HostJournal,
    loader: Loader<'a>,
}

impl Transition<'_> {
    fn run(&mut self, baseline: &mut Option<Baseline>) -> Result<Vec<String>, Refusal> {
        let root = self.root;
        let mut notes = Vec::new();
        if !self.plan.reloaded().is_empty() {
            self.reload(baseline).map_err(Failed)?;
            let device = self.journal.device.as_ref();
            notes.extend(device.and_then(|device| device.put_back(root).err()));
        }
        let mut writes = self.plan.writes.iter();
        while let Some(target) = writes.find(|target| !target.is_there(root)) {
            let (to, path) = (&target.to, target.path());
            root.write(&path, to).map_err(|error| {
                let said = self.loader.kernel_said();
                Failed(format!("write {to} to {path}: {error}{said}"))
            })?;
        }
        // The kernel ignores unknown and late parameters without a word: only what is read counts.
        for target in self.plan.targets() {
            notes.extend(self.check(target)?);
        }
        let differences = Return::of(root, self.journal).differences();
        for (setting, _, now) in differences.iter().filter(|one| !self.is_wanted(&one.0)) {
            notes.push(format!("{setting} reads {} with it", now.escape_debug()));
        }
        self.journal.entered = true;
        self.journal.save(root).map_err(Failed)?;
        Ok(notes)
    }

    fn reload(&mut self, baseline: &mut Option<Baseline>) -> Result<(), String> {
        let (root, plan) = (self.root, self.plan);
        // 1. What the user had set by hand is known only once the modules were loaded without it.
        if plan.reloaded().iter().all(Module::is_live) {
            self.journal.arguments = self.find_out(baseline)?;
            self.journal.save(root)?;
        }
        // 2. The modules, with that and with what is wanted.
        let mut arguments = self.journal.arguments.clone();
        let wanted = plan.arguments.iter();
        arguments.extend(wanted.map(|target| (target.setting.to_string(), target.to.clone())));
        let names = plan.reloaded().iter().map(|module| module.name.as_str());
        self.loader.reload(&names.collect::<Vec<_>>(), &arguments)?;
        // 3. What can be written was lost with them.
        Return::of(root, self.journal).write_back(|one| !self.is_wanted(one));
        Ok(())
    }

    /// The arguments that bring the modules back to what they were.
    fn find_out(&self, known: &mut Option<Baseline>) -> Result<Parameters, String> {
        let before = &self.journal.parameters;
        if let Some((_, arguments)) = known.as_ref().filter(|known| known.0 == *before) {
            return Ok(arguments.clone());
        }
        let mut way = Return::of(self.root, self.journal);
        way.go().map_err(|problem| {
            format!("loading the modules anew did not bring back what they were: {problem}")
        })?;
        *known = Some((before.clone(), way.arguments.clone()));
        Ok(way.arguments)
    }

    /// Whether a target is there; what should be known where that is not sure.
    fn check(&mut self, target: &Target) -> Result<Option<String>, Refusal> {
        if target.is_there(self.root) {
            return Ok(None);
        }
        let now = target
            .now(self.root)
            .unwrap_or_else(|| "nothing".to_owned());
        let (setting, to, said) = (&target.setting, &target.to, self.loader.kernel_said());
        let what = format!(
            "{setting} was set to {to} and reads {}{said}",
            now.escape_debug()
        );
        match target.turns_on {
            _ if target.is_word() => Ok(Some(what)),
            _ if target.is_hugepages() => Err(Failed(format!(
                "memory is short, or too fragmented: {what}"
            ))),
            Some(feature) => Err(Impossible(format!(
                "the kernel does not turn `{feature}` on, which this CPU may lack: {what}"
            ))),
            None => Err(Failed(what)),
        }
    }

    fn is_wanted(&self, setting: &str) -> bool {
        let mut targets = self.plan.targets();
        targets.any(|target| target.setting.to_string() == setting)
    }
}

/// Notes in the journal what a module is.
fn note(root: &Root, plan: &Plan, module: &Module, journal: &mut HostJournal) {
    let name = &module.name;
    journal.modules.push(ModuleBefore {
        name: name.clone(),
        loaded: module.is_live(),
        reload: plan.reloads(name),
    });
    for parameter in module.parameters(root) {
        let setting = format!("{name}.{parameter}");
        if let Ok(value) = root.read(parameter_path(&setting)) {
            journal.parameters.insert(setting, value);
        }
    }
}

/// The files that are to be written, but for those that come back with their modules.
fn files_before(root: &Root, plan: &Plan) -> Result<BTreeMap<String, String>, String> {
    let mut files = BTreeMap::new();
    let comes_back = |target: &&Target| target.module().is_some_and(|module| plan.reloads(module));
    for target in plan.writes.iter().filter(|target| !comes_back(target)) {
        for path in target.written_with(root) {
            let value = root.read(&path);
            let value = value.map_err(|error| format!("read {path}: {error}"))?;
            files.insert(path, chosen(&value).to_owned());
        }
    }
    Ok(files)
}
