//! A module of the kernel as it is: loaded or not, in use or not, and its parameters.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::modinfo::Modinfo;
use super::root::Root;
use super::value::Kind;

/// A module.
#[derive(Debug, Clone)]
pub struct Module {
    /// Its name, with underscores (`kvm_intel`).
    pub name: String,
    /// Whether it is there, and how.
    pub presence: Presence,
    /// The loaded modules that use it.
    pub used_by: Vec<String>,
    /// Its parameters; where it is not loaded, only those that modinfo shows, without values.
    pub parameters: BTreeMap<String, Parameter>,
}

/// Whether a module is there, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It is loaded, and can be unloaded once nothing uses it.
    Loaded {
        /// How many uses of it there are, those by other modules included.
        uses: u64,
    },
    /// It is a part of the kernel itself.
    BuiltIn,
    /// It could be loaded.
    Available,
    /// This kernel has no such module.
    Absent,
}

/// A parameter of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// What it takes.
    pub kind: Kind,
    /// Its value; `None` where the module is not loaded, or nobody may read it.
    pub value: Option<String>,
    /// Whether it can be written while the module is loaded.
    pub writable: bool,
}

impl Module {
    /// Reads what is known of a module, changing nothing.
    pub fn probe(root: &Root, modinfo: &Modinfo, name: &str) -> Self {
        let mut module = Self::of_sysfs(root, name);
        let types = types(root, modinfo, name);
        if module.is_live() {
            module.parameters = read_parameters(root, name, &types);
            return module;
        }
        module.presence = match modinfo
            .ask(root, &["-F", "filename", name])
            .as_deref()
            .map(str::trim)
        {
            Some("(builtin)") => Presence::BuiltIn,
            Some(file) if !file.is_empty() => Presence::Available,
            _ => Presence::Absent,
        };
        let unread = |(name, kind): (String, Kind)| {
            (
                name,
                Parameter {
                    kind,
                    value: None,
                    writable: false,
                },
            )
        };
        module.parameters = types.into_iter().map(unread).collect();
        module
    }

    /// Reads what sysfs alone shows of a module, its parameters left out: that takes no other program.
    pub fn of_sysfs(root: &Root, name: &str) -> Self {
        let directory = format!("/sys/module/{name}");
        let uses = root
            .read(format!("{directory}/refcnt"))
            .ok()
            .and_then(|uses| uses.parse().ok());
        let presence = match uses {
            Some(uses) => Presence::Loaded { uses },
            // A module without a count of its uses cannot be unloaded: it is built in (`kernel/params.c`), or the
            // kernel has no CONFIG_MODULE_UNLOAD.
            None if root.path(&directory).is_dir() => Presence::BuiltIn,
            None => Presence::Absent,
        };
        let holders = fs::read_dir(root.path(format!("{directory}/holders")))
            .into_iter()
            .flatten()
            .flatten();
        let mut used_by: Vec<String> = holders
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        used_by.sort();
        Self {
            name: name.to_owned(),
            presence,
            used_by,
            parameters: BTreeMap::new(),
        }
    }

    /// Whether its code is in the kernel now.
    pub fn is_live(&self) -> bool {
        matches!(self.presence, Presence::Loaded { .. } | Presence::BuiltIn)
    }
}

/// The file of a parameter.
pub fn parameter_path(module: &str, parameter: &str) -> String {
    format!("/sys/module/{module}/parameters/{parameter}")
}

/// The names of the loaded modules, the newest first (proc_modules(5)).
pub fn loaded(root: &Root) -> Vec<String> {
    let modules = root.read("/proc/modules").unwrap_or_default();
    modules
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

fn read_parameters(
    root: &Root,
    module: &str,
    types: &BTreeMap<String, Kind>,
) -> BTreeMap<String, Parameter> {
    let entries = fs::read_dir(root.path(parameter_path(module, "")))
        .into_iter()
        .flatten()
        .flatten();
    let parameter = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let value = root.read(parameter_path(module, &name)).ok();
        let guess = || value.as_deref().map_or(Kind::Text, Kind::of_value);
        let kind = types.get(&name).copied().unwrap_or_else(guess);
        let writable = entry.metadata().ok()?.permissions().mode() & 0o200 != 0;
        Some((
            name,
            Parameter {
                kind,
                value,
                writable,
            },
        ))
    };
    entries.filter_map(parameter).collect()
}

/// The types of a module's parameters, as modinfo tells them: `NAME:DESCRIPTION (TYPE)`, or `NAME:TYPE` where nobody
/// described it; a description may go on over several lines.
fn types(root: &Root, modinfo: &Modinfo, module: &str) -> BTreeMap<String, Kind> {
    let mut types = BTreeMap::new();
    let mut current = None;
    for line in modinfo
        .ask(root, &["-p", module])
        .unwrap_or_default()
        .lines()
    {
        let is_name = |name: &str| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        let rest = match line.split_once(':') {
            Some((name, rest)) if is_name(name) => {
                current = Some(name);
                rest
            }
            _ => line,
        };
        let described = rest
            .trim_end()
            .strip_suffix(')')
            .and_then(|rest| rest.rsplit_once('('));
        let name = described.map_or(rest.trim(), |(_, name)| name);
        if let Some(parameter) = current.filter(|_| is_name(name)) {
            types.insert(parameter.to_owned(), Kind::of_type(name));
        }
    }
    types
}
