//! Changes the host as planned: the journal first, then the change, then a look at every value. And brings it back to what
//! a journal says that it was, value by value.

use std::collections::BTreeSet;

use super::definition::Definition;
use super::feature::FEATURES;
use super::journal::{Difference, HostJournal, ModuleBefore, Permissions};
use super::kmod::{Loader, Module, Parameters, arguments_of, in_use, is_loaded};
use super::plan::Plan;
use super::target::Refusal::{self, Failed, Impossible};
use super::target::{Target, file_of, parameter, value_of};
use crate::model::host::Root;

/// Changes the host, and answers what the user should know besides.
///
/// # Errors
/// Why it was not possible; everything is put back then, or it is said what could not be.
pub(super) fn apply(
    root: &Root,
    definition: &Definition,
    plan: &Plan,
) -> Result<Vec<String>, Refusal> {
    let mut journal = before(root, definition, plan)?;
    journal.save(root)?;
    let mut change = Transition {
        root,
        plan,
        journal: &mut journal,
        loader: Loader::new(root),
    };
    change
        .run()
        .map_err(|refusal| match (restore(root, &journal), refusal) {
            (Ok(()), Impossible(reason)) => {
                Impossible(format!("{reason}; everything is as it was"))
            }
            (Ok(()), other) => Failed(format!("{other}; everything is as it was")),
            (Err(problem), refusal) => Failed(format!("{refusal}; {problem}")),
        })
}

/// What the host is, as far as the plan is to change it.
fn before(root: &Root, definition: &Definition, plan: &Plan) -> Result<HostJournal, String> {
    let mut journal = HostJournal::new(root, definition);
    if !plan.reloaded().is_empty() {
        for module in &plan.platform.modules {
            let name = &module.name;
            let parameters = root.names(format!("/sys/module/{name}/parameters"));
            for setting in parameters.iter().map(|one| format!("{name}.{one}")) {
                // One that cannot be read cannot be compared.
                let was = value_of(root, &setting).ok();
                journal.values.extend(was.map(|was| (setting, was)));
            }
            journal.modules.push(ModuleBefore {
                name: name.clone(),
                loaded: module.is_live(),
            });
        }
        journal.first = plan.first;
        journal.device = Permissions::read(root);
    }
    journal.unloaded.clone_from(&plan.unloaded);
    // What is loaded anew may not be there yet.
    let stays = |target: &&Target| !target.module().is_some_and(|module| plan.reloads(module));
    for target in plan.writes.iter().filter(stays) {
        for setting in target.written_with(root) {
            let was =
                value_of(root, &setting).map_err(|error| format!("read {setting}: {error}"))?;
            journal.values.insert(setting, was);
        }
    }
    Ok(journal)
}

struct Transition<'a> {
    root: &'a Root,
    plan: &'a Plan,
    journal: &'a mut HostJournal,
    loader: Loader<'a>,
}

impl Transition<'_> {
    fn run(&mut self) -> Result<Vec<String>, Refusal> {
        let root = self.root;
        let mut notes = Vec::new();
        if !self.plan.reloaded().is_empty() {
            self.reload()?;
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
        for (setting, _, now) in self.journal.differences(root) {
            if parameter(&setting).is_some() && !self.is_wanted(&setting) {
                notes.push(format!("{setting} reads {} with it", now.escape_debug()));
            }
        }
        self.journal.entered = true;
        self.journal.save(root)?;
        Ok(notes)
    }

    fn reload(&mut self) -> Result<(), String> {
        let (root, plan) = (self.root, self.plan);
        // 1. What the user had set by hand comes back only if it is passed again, and what merely follows from that must not
        // be passed. Which is which is known only once the modules were loaded without it.
        if plan.reloaded().iter().all(Module::is_live) {
            let mut way = Return::of(root, self.journal);
            way.go().map_err(|problem| {
                format!("loading the modules anew did not bring back what they were: {problem}")
            })?;
            self.journal.arguments = way.arguments;
            self.journal.save(root)?;
        }
        // 2. The modules, with that and with what is wanted.
        let mut arguments = self.journal.arguments.clone();
        let wanted = plan.arguments.iter();
        arguments.extend(wanted.map(|target| (target.setting.clone(), target.to.clone())));
        let names = plan.reloaded().iter().map(|module| module.name.as_str());
        self.loader.reload(&names.collect::<Vec<_>>(), &arguments)?;
        // 3. What can be written was lost with them.
        self.journal.write_back(root, |one| !self.is_wanted(one));
        Ok(())
    }

    /// Whether a target is there; what should be known where that is not sure.
    fn check(&mut self, target: &Target) -> Result<Option<String>, Refusal> {
        if target.is_there(self.root) {
            return Ok(None);
        }
        let now = target.now(self.root);
        let now = now.as_deref().unwrap_or("nothing").escape_debug();
        let (setting, to, said) = (&target.setting, &target.to, self.loader.kernel_said());
        let what = format!("{setting} was set to {to} and reads {now}{said}");
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
        targets.any(|target| target.setting == setting)
    }
}

/// Brings the host back, looks whether it is, and removes the journal if so.
///
/// # Errors
/// What could not be restored, with the commands that would do it. The journal stays.
pub(super) fn restore(root: &Root, journal: &HostJournal) -> Result<(), String> {
    journal.write_back(root, |_| true);
    let mut way = Return::of(root, journal);
    let is_back = way.left().is_empty();
    let mut problems = match if is_back { Ok(()) } else { way.go() } {
        Ok(()) => unload(root, &journal.unloaded),
        Err(problem) => vec![format!("{problem}; to do it by hand: {}", way.command())],
    };
    let device = journal.device.as_ref();
    problems.extend(device.and_then(|device| device.put_back(root).err()));
    all_right(&problems)?;
    HostJournal::remove(root)
}

/// What is not as the journal says that it was, in words; touches nothing.
pub(super) fn not_as_it_was(root: &Root, journal: &HostJournal) -> Vec<String> {
    let mut left = Return::of(root, journal).left();
    if journal.device.is_some() && Permissions::read(root) != journal.device {
        left.push("who may open /dev/kvm has changed".to_owned());
    }
    left
}

fn all_right(problems: &[String]) -> Result<(), String> {
    match problems.is_empty() {
        true => Ok(()),
        false => Err(problems.join("; ")),
    }
}

/// The way of the modules back to what they were.
#[derive(Debug)]
pub(super) struct Return<'a> {
    root: &'a Root,
    journal: &'a HostJournal,
    /// From which of the modules on they are loaded anew.
    first: usize,
    /// With what arguments.
    pub(super) arguments: Parameters,
}

impl<'a> Return<'a> {
    /// The way back to what a journal says.
    pub(super) fn of(root: &'a Root, journal: &'a HostJournal) -> Self {
        Self {
            root,
            journal,
            first: journal.first,
            arguments: journal.arguments.clone(),
        }
    }

    /// Loads the modules anew, and finds out with what arguments they are what they were.
    ///
    /// # Errors
    /// What is not as it was.
    pub(super) fn go(&mut self) -> Result<(), String> {
        let mut problems = Vec::new();
        problems.extend(self.load_anew().err());
        let mut differences = self.journal.differences(self.root).into_iter();
        // The vendor module may have left something in `kvm`.
        let is_kvms = |one: Difference| parameter(&one.0).is_some() && !self.is_reloaded(&one.0);
        if problems.is_empty() && differences.any(is_kvms) {
            self.first = 0;
            problems.extend(self.load_anew().err());
        }
        problems.extend(self.left());
        all_right(&problems)
    }

    /// What is not as it was, in words.
    fn left(&self) -> Vec<String> {
        let in_words = |(setting, was, now): Difference| {
            format!("{setting} was {was} and reads {}", now.escape_debug())
        };
        let differences = self.journal.differences(self.root).into_iter();
        let mut left: Vec<String> = differences.map(in_words).collect();
        for module in &self.journal.modules {
            let name = &module.name;
            match (module.loaded, is_loaded(self.root, name)) {
                (true, false) => left.push(format!("{name} was loaded and is not")),
                (false, true) => left.push(format!("{name} was not loaded and is")),
                _ => {}
            }
        }
        left
    }

    /// Loads the modules with what is known to be needed, then adds one argument after the other until they are what
    /// they were. One at a time, for what differs may follow from another difference: with `npt=N`, `tdp_mmu` reads `N`.
    fn load_anew(&mut self) -> Result<(), String> {
        let mut loader = Loader::new(self.root);
        let loaded = self.names(true);
        loader.unload(&self.names(false))?;
        loader.reload(&loaded, &self.arguments)?;
        let mut tried = BTreeSet::new();
        while let Some((setting, was, _)) = self.next_to_pass(&tried) {
            let before = self.arguments.clone();
            self.arguments.insert(setting.clone(), was);
            let reloaded = loader.reload(&loaded, &self.arguments);
            let mut left = self.journal.differences(self.root).into_iter();
            if reloaded.is_err() || left.any(|one| one.0 == setting) {
                // It was in vain: such a parameter cannot be set.
                self.arguments = before;
                loader.reload(&loaded, &self.arguments)?;
            }
            tried.insert(setting);
        }
        self.journal.write_back(self.root, |_| true);
        Ok(())
    }

    /// The parameter to be passed next: the vendor module's before kvm's, and in the order of the table of features.
    fn next_to_pass(&self, tried: &BTreeSet<String>) -> Option<Difference> {
        let mut differences = self.journal.differences(self.root);
        differences.retain(|(setting, ..)| {
            let is_fixed = !self.root.is_writable(file_of(setting));
            is_fixed && self.is_reloaded(setting) && !tried.contains(setting)
        });
        differences.into_iter().min_by_key(|(setting, ..)| {
            let row = FEATURES.iter().position(|feature| feature.is(setting));
            (setting.starts_with("kvm."), row.unwrap_or(FEATURES.len()))
        })
    }

    fn is_reloaded(&self, setting: &str) -> bool {
        let module = setting.split('.').next().unwrap_or_default();
        self.names(false).contains(&module)
    }

    /// The modules that are loaded anew; or those of them that were loaded.
    fn names(&self, only_loaded: bool) -> Vec<&'a str> {
        let modules = self.journal.modules[self.first..].iter();
        let modules = modules.filter(|module| module.loaded || !only_loaded);
        modules.map(|module| module.name.as_str()).collect()
    }

    /// What would bring back what is left, in a shell.
    fn command(&self) -> String {
        let unload = self.names(false).into_iter().rev();
        let mut commands: Vec<String> = unload.map(|name| format!("rmmod {name}")).collect();
        for module in self.names(true) {
            let arguments = arguments_of(module, &self.arguments).join(" ");
            commands.push(
                format!("modprobe {module} {arguments}")
                    .trim_end()
                    .to_owned(),
            );
        }
        for (setting, was, _) in self.journal.differences(self.root) {
            let file = file_of(&setting);
            if parameter(&setting).is_none() || self.root.is_writable(&file) {
                let was = shlex::try_quote(&was).unwrap_or_default();
                commands.push(format!("echo {was} > {file}"));
            }
        }
        commands.join("; ")
    }
}

/// Unloads what was loaded because KVM's modules stand on it, and answers what failed.
fn unload(root: &Root, modules: &[String]) -> Vec<String> {
    let mut loader = Loader::new(root);
    let mut problems = Vec::new();
    for name in modules.iter().rev() {
        let module = Module::of_sysfs(root, name);
        // What somebody else has come to use meanwhile is theirs now.
        if module.is_live() && in_use(root, &[module]).is_none() {
            problems.extend(loader.unload(&[name]).err());
        }
    }
    problems
}
