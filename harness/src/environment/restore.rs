//! Brings the host back to what a journal says that it was, value by value.

use std::collections::BTreeSet;

use super::feature::{FEATURES, Feature};
use super::journal::{self, Arguments, Journal, ModuleBefore};
use super::loader::Loader;
use super::module::{Module, parameter_path};
use super::plan::in_use;
use super::platform::Vendor;
use super::root::Root;
use super::target::chosen;

/// Brings the host back, looks whether it is, and removes the journal if so.
///
/// # Errors
/// What could not be restored, with the commands that would do it. The journal stays.
pub fn restore(root: &Root, journal: &Journal) -> Result<(), Vec<String>> {
    let mut problems = Vec::new();
    for file in journal.files.iter().rev() {
        problems.extend(write(root, &file.path, &file.value).err());
    }
    if !journal.modules.is_empty() {
        problems.extend(Return::of(root, journal).run().err().into_iter().flatten());
        if let Some(permissions) = &journal.device {
            problems.extend(permissions.put_back(root).err());
        }
    }
    if problems.is_empty() {
        let path = journal::path(root);
        return Journal::remove(root)
            .map_err(|error| vec![format!("remove {}: {error}", path.display())]);
    }
    Err(problems)
}

/// A parameter that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The module.
    pub module: String,
    /// The parameter.
    pub name: String,
    /// What it was.
    pub was: String,
    /// What it reads now.
    pub now: String,
    writable: bool,
}

/// The way of the modules back to what they were.
#[derive(Debug)]
pub struct Return<'a> {
    root: &'a Root,
    journal: &'a Journal,
    /// From which of the modules on they are loaded anew.
    first: usize,
    arguments: Arguments,
}

impl<'a> Return<'a> {
    /// The way back to what a journal says.
    pub fn of(root: &'a Root, journal: &'a Journal) -> Self {
        let first = journal
            .modules
            .iter()
            .position(|module| module.reload)
            .unwrap_or(journal.modules.len());
        Self {
            root,
            journal,
            first,
            arguments: journal.arguments.clone(),
        }
    }

    /// Goes it, if there is any difference, and unloads what was not loaded.
    fn run(mut self) -> Result<(), Vec<String>> {
        let is_back = self.differences().is_empty() && self.modules_loaded_otherwise().is_empty();
        if !is_back {
            let arrived = self.try_again_from_the_first();
            let mut problems = arrived.err().into_iter().collect::<Vec<_>>();
            problems.extend(self.left());
            if !problems.is_empty() {
                problems.push(format!("to do it by hand: {}", self.command()));
                return Err(problems);
            }
        }
        self.unload_the_rest()
    }

    /// Loads the modules anew even if nothing differs, and answers with what arguments they are what they were.
    ///
    /// # Errors
    /// What is not as it was.
    pub fn reload(mut self) -> Result<Arguments, Vec<String>> {
        let arrived = self.try_again_from_the_first();
        let mut problems = arrived.err().into_iter().collect::<Vec<_>>();
        problems.extend(self.left());
        if problems.is_empty() {
            Ok(self.arguments)
        } else {
            Err(problems)
        }
    }

    /// Writes the parameters that can be written, are not what they were, and are to be. Whether that helped is seen in
    /// the differences that are left: some take no value but once, such as `pi_inject_timer`.
    pub fn write_back(&self, is_to_be: impl Fn(&Difference) -> bool) {
        let differences = self.differences().into_iter();
        for difference in
            differences.filter(|difference| difference.writable && is_to_be(difference))
        {
            let path = parameter_path(&difference.module, &difference.name);
            drop(self.root.write(path, &difference.was));
        }
    }

    /// The parameters that are not what they were.
    pub fn differences(&self) -> Vec<Difference> {
        let mut differences = Vec::new();
        for module in self.journal.modules.iter().filter(|module| module.loaded) {
            for (name, before) in &module.parameters {
                let now = self
                    .root
                    .read(parameter_path(&module.name, name))
                    .unwrap_or_else(|_| "nothing".to_owned());
                if now != before.value {
                    differences.push(Difference {
                        module: module.name.clone(),
                        name: name.clone(),
                        was: before.value.clone(),
                        now,
                        writable: before.writable,
                    });
                }
            }
        }
        differences
    }

    fn left(&self) -> Vec<String> {
        let differ = self.differences().into_iter().map(|difference| {
            let Difference {
                module,
                name,
                was,
                now,
                ..
            } = difference;
            format!("{module}.{name} was {was} and reads {}", now.escape_debug())
        });
        differ.chain(self.modules_loaded_otherwise()).collect()
    }

    fn modules_loaded_otherwise(&self) -> Vec<String> {
        let modules = self.journal.modules.iter().filter_map(|module| {
            let is_live = Module::of_sysfs(self.root, &module.name).is_live();
            match (module.loaded, is_live) {
                (true, false) => Some(format!("{} was loaded and is not", module.name)),
                (false, true) => Some(format!("{} was not loaded and is", module.name)),
                _ => None,
            }
        });
        modules.collect()
    }

    /// Where the vendor module alone does not do it, because it has left something in `kvm`, both are loaded anew.
    fn try_again_from_the_first(&mut self) -> Result<(), String> {
        self.load_anew()?;
        self.write_back(|_| true);
        let is_elsewhere = |difference: &Difference| {
            !self
                .reloaded()
                .any(|module| module.name == difference.module)
        };
        if self.differences().iter().any(is_elsewhere) {
            self.first = 0;
            self.load_anew()?;
            self.write_back(|_| true);
        }
        Ok(())
    }

    /// Loads the modules with what is known to be needed, then adds one argument after the other until they are what
    /// they were. One at a time, for what differs may follow from another difference: with `npt=N`, `tdp_mmu` reads `N`.
    fn load_anew(&mut self) -> Result<(), String> {
        let mut loader = Loader::new(self.root);
        let all: Vec<&str> = self.reloaded().map(|module| module.name.as_str()).collect();
        let loaded: Vec<&str> = self
            .reloaded()
            .filter(|module| module.loaded)
            .map(|module| module.name.as_str())
            .collect();
        loader.unload(&all)?;
        if loaded.is_empty() {
            return Ok(());
        }
        loader.reload(&loaded, &self.arguments)?;
        let mut tried = BTreeSet::new();
        while let Some(next) = self.next_to_pass(&tried) {
            let Difference {
                module, name, was, ..
            } = next;
            self.arguments
                .entry(module.clone())
                .or_default()
                .insert(name.clone(), was.clone());
            let reloaded = loader.reload(&loaded, &self.arguments);
            if reloaded.is_err()
                || self
                    .differences()
                    .iter()
                    .any(|left| left.module == module && left.name == name)
            {
                // It was in vain: such a parameter cannot be set.
                self.arguments
                    .entry(module.clone())
                    .or_default()
                    .remove(&name);
                loader.reload(&loaded, &self.arguments)?;
            }
            tried.insert((module, name));
        }
        Ok(())
    }

    /// The parameter to be passed next: the vendor module's before kvm's, and in the order of the table of features.
    fn next_to_pass(&self, tried: &BTreeSet<(String, String)>) -> Option<Difference> {
        let reloaded: Vec<&str> = self.reloaded().map(|module| module.name.as_str()).collect();
        let differences = self.differences().into_iter().filter(|difference| {
            !difference.writable
                && reloaded.contains(&difference.module.as_str())
                && !tried.contains(&(difference.module.clone(), difference.name.clone()))
        });
        differences.min_by_key(|difference| {
            (
                difference.module == "kvm",
                rank(&difference.module, &difference.name),
            )
        })
    }

    fn reloaded(&self) -> impl Iterator<Item = &'a ModuleBefore> {
        self.journal.modules[self.first..].iter()
    }

    /// Unloads what was loaded because these modules stand on it.
    fn unload_the_rest(&self) -> Result<(), Vec<String>> {
        let mut loader = Loader::new(self.root);
        let mut problems = Vec::new();
        for name in self.journal.unloaded.iter().rev() {
            let module = Module::of_sysfs(self.root, name);
            // What somebody else has come to use meanwhile is theirs now.
            if module.is_live()
                && module.used_by.is_empty()
                && in_use(self.root, &[module]).is_none()
            {
                problems.extend(loader.unload(&[name]).err());
            }
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems)
        }
    }

    fn command(&self) -> String {
        let mut commands = Vec::new();
        let names: Vec<&str> = self.reloaded().map(|module| module.name.as_str()).collect();
        commands.push(format!(
            "rmmod {}",
            names.iter().rev().copied().collect::<Vec<_>>().join(" ")
        ));
        for module in self.reloaded().filter(|module| module.loaded) {
            let mut command = format!("modprobe {}", module.name);
            for (name, value) in self.arguments.get(&module.name).into_iter().flatten() {
                command.push_str(&format!(" {name}={value}"));
            }
            commands.push(command);
        }
        commands.join("; ")
    }
}

/// The place of a parameter in the table of features.
fn rank(module: &str, name: &str) -> usize {
    let is_it = |feature: &Feature| {
        Vendor::KNOWN
            .iter()
            .any(|&vendor| feature.is_parameter(vendor, module, name))
    };
    let row = FEATURES.iter().position(is_it);
    row.unwrap_or(FEATURES.len())
}

/// Writes a value that was there before, if it is not there, and looks whether it is.
fn write(root: &Root, path: &str, value: &str) -> Result<(), String> {
    let is_there = |now: std::io::Result<String>| now.is_ok_and(|now| chosen(&now) == value);
    if is_there(root.read(path)) {
        return Ok(());
    }
    let written = root.write(path, value);
    let now = root.read(path);
    let reads = match (&written, &now) {
        (Err(error), _) | (Ok(()), Err(error)) => error.to_string(),
        (Ok(()), Ok(now)) => format!("it reads {}", now.escape_debug()),
    };
    if is_there(now) {
        return Ok(());
    }
    let command = shlex::try_quote(value).unwrap_or_default();
    Err(format!(
        "{path} was {} and could not be set back ({reads}); to do it: echo {command} > {path}",
        value.escape_debug()
    ))
}
