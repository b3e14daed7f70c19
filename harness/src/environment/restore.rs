//! Brings the host back to what a journal says that it was, value by value.

use std::collections::BTreeSet;
use std::io;

use super::device::Permissions;
use super::feature::FEATURES;
use super::journal::{HostJournal, Parameters};
use super::loader::{Loader, arguments_of, in_use};
use super::platform::{Module, parameter_path};
use super::root::Root;
use super::target::chosen;

/// Brings the host back, looks whether it is, and removes the journal if so.
///
/// # Errors
/// What could not be restored, with the commands that would do it. The journal stays.
pub(super) fn restore(root: &Root, journal: &HostJournal) -> Result<(), String> {
    let mut problems = Vec::new();
    for (path, value) in &journal.files {
        problems.extend(write(root, path, value).err());
    }
    if !journal.modules.is_empty() {
        let mut way = Return::of(root, journal);
        let is_back = way.left().is_empty();
        match if is_back { Ok(()) } else { way.go() } {
            Ok(()) => problems.extend(unload(root, &journal.unloaded)),
            Err(problem) => {
                let command = way.command();
                problems.push(format!("{problem}; to do it by hand: {command}"));
            }
        }
        let device = journal.device.as_ref();
        problems.extend(device.and_then(|device| device.put_back(root).err()));
    }
    all_right(&problems)?;
    HostJournal::remove(root)
}

/// What is not as the journal says that it was, in words; touches nothing.
pub(super) fn not_as_it_was(root: &Root, journal: &HostJournal) -> Vec<String> {
    let mut left = Return::of(root, journal).left();
    for (path, was) in &journal.files {
        let now = root.read(path).unwrap_or_else(|_| "nothing".to_owned());
        if chosen(&now) != was {
            let (was, now) = (was.escape_debug(), chosen(&now).escape_debug());
            left.push(format!("{path} was {was} and reads {now}"));
        }
    }
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

/// A parameter, `MODULE.PARAMETER`, that is not what it was; what it was, and what it is.
pub(super) type Difference = (String, String, String);

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
        let first = journal.modules.iter().position(|module| module.reload);
        Self {
            root,
            journal,
            first: first.unwrap_or(journal.modules.len()),
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
        let mut differences = self.differences().into_iter();
        // The vendor module may have left something in `kvm`.
        if problems.is_empty() && differences.any(|one| !self.is_reloaded(&one.0)) {
            self.first = 0;
            problems.extend(self.load_anew().err());
        }
        problems.extend(self.left());
        all_right(&problems)
    }

    /// Writes the parameters that can be written, are not what they were, and are to be. Whether that helped is seen in
    /// the differences that are left: some take no value but once, such as `pi_inject_timer`.
    pub(super) fn write_back(&self, is_to_be: impl Fn(&str) -> bool) {
        for (setting, was, _) in self.differences() {
            let path = parameter_path(&setting);
            if is_to_be(&setting) && self.root.is_writable(&path) {
                self.root.write(path, &was).ok();
            }
        }
    }

    /// The parameters that are not what they were.
    pub(super) fn differences(&self) -> Vec<Difference> {
        let mut differences = Vec::new();
        for (setting, was) in &self.journal.parameters {
            let now = self.root.read(parameter_path(setting));
            let now = now.unwrap_or_else(|_| "nothing".to_owned());
            if now != *was {
                differences.push((setting.clone(), was.clone(), now));
            }
        }
        differences
    }

    /// What is not as it was, in words.
    fn left(&self) -> Vec<String> {
        let in_words = |(setting, was, now): Difference| {
            format!("{setting} was {was} and reads {}", now.escape_debug())
        };
        let mut left: Vec<String> = self.differences().into_iter().map(in_words).collect();
        for module in &self.journal.modules {
            let name = &module.name;
            match (module.loaded, Module::of_sysfs(self.root, name).is_live()) {
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
            let mut left = self.differences().into_iter();
            if reloaded.is_err() || left.any(|one| one.0 == setting) {
                // It was in vain: such a parameter cannot be set.
                self.arguments = before;
                loader.reload(&loaded, &self.arguments)?;
            }
            tried.insert(setting);
        }
        self.write_back(|_| true);
        Ok(())
    }

    /// The parameter to be passed next: the vendor module's before kvm's, and in the order of the table of features.
    fn next_to_pass(&self, tried: &BTreeSet<String>) -> Option<Difference> {
        let mut differences = self.differences();
        differences.retain(|(setting, ..)| {
            let is_fixed = !self.root.is_writable(parameter_path(setting));
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

    fn command(&self) -> String {
        let names: Vec<&str> = self.names(false).into_iter().rev().collect();
        let mut command = format!("rmmod {}", names.join(" "));
        for module in self.names(true) {
            let arguments = arguments_of(module, &self.arguments).join(" ");
            command += format!("; modprobe {module} {arguments}").trim_end();
        }
        command
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

/// Writes a value that was there before, if it is not there, and looks whether it is.
fn write(root: &Root, path: &str, value: &str) -> Result<(), String> {
    let is_there = || -> io::Result<bool> { Ok(chosen(&root.read(path)?) == value) };
    if is_there().unwrap_or(false) {
        return Ok(());
    }
    let written = root.write(path, value);
    let reason = match written.and_then(|()| is_there()) {
        Ok(true) => return Ok(()),
        Ok(false) => "it reads otherwise".to_owned(),
        Err(error) => error.to_string(),
    };
    let (was, to_do) = (value.escape_debug(), shlex::try_quote(value));
    let to_do = to_do.unwrap_or_default();
    Err(format!(
        "{path} was {was} and could not be set back ({reason}); to do it: echo {to_do} > {path}"
    ))
}
