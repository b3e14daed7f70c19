//! Targets: what a definition comes down to on this host, value by value.

use std::ffi::CString;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStringExt;

use kvm_ioctls::Kvm;

use super::definition::{Definition, Setting};
use super::feature::{
    ALWAYS, ARM_EL2, Allowed, BOOT, Feature, NONE, ON, number, read_after, switch,
};
use super::host::{HUGEPAGES, MODULES, Platform, Vendor, memory};
use crate::model::host;
use crate::model::host::Root;
use crate::model::problem::hint;
use Refusal::{Failed, Impossible};

const NODES: &str = "/sys/devices/system/node";

/// Why an environment was not entered, or not left as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// This host cannot be that way: its cases are skipped. Nothing was changed, or all of it was put back.
    Impossible(String),
    /// It was not tried, or failed. The reason says what to do, and whether everything was put back.
    Failed(String),
    /// Somebody uses a module that has to be loaded anew: it was not tried.
    InUse(String),
    /// The wait for others was broken off. Nothing was changed.
    Interrupted,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Impossible(reason) | Self::Failed(reason) | Self::InUse(reason) => {
                f.write_str(reason)
            }
            Self::Interrupted => f.write_str("interrupted while waiting for others"),
        }
    }
}

impl std::error::Error for Refusal {}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self::Failed(reason)
    }
}

/// One value that is to be.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// What is to have it: a parameter, as `MODULE.PARAMETER`, or a file, by its absolute path.
    pub(super) setting: String,
    /// The value, as it is written.
    pub(super) to: String,
    /// The feature that is turned on by it: the CPU may lack it, and then only reading back tells.
    pub(super) turns_on: Option<&'static str>,
}

impl Target {
    fn new(setting: &str, to: &str) -> Self {
        Self {
            setting: setting.to_owned(),
            to: to.to_owned(),
            turns_on: None,
        }
    }

    /// Its file.
    pub(super) fn path(&self) -> String {
        file_of(&self.setting)
    }

    /// The name of the module whose parameter it is.
    pub(super) fn module(&self) -> Option<&str> {
        parameter(&self.setting).map(|(module, _)| module)
    }

    /// What is there now; `None` where nothing can be read.
    pub(super) fn now(&self, root: &Root) -> Option<String> {
        value_of(root, &self.setting).ok()
    }

    /// Whether it is there.
    pub(super) fn is_there(&self, root: &Root) -> bool {
        self.now(root).is_some_and(|now| self.agrees(&now))
    }

    /// Whether it is a number of hugepages.
    pub(super) fn is_hugepages(&self) -> bool {
        self.setting.ends_with("/nr_hugepages")
    }

    /// Whether it may read otherwise than it was written: a word of a parameter's own, such as `auto`.
    pub(super) fn is_word(&self) -> bool {
        let is_plain = switch(&self.to).is_some() || number(&self.to).is_some();
        self.module().is_some() && read_after(&self.setting, &self.to).is_none() && !is_plain
    }

    /// Whether it can be set or undone only by a reload: `never` for `nx_huge_pages` is final while the module is loaded
    /// (`set_nx_huge_pages` in `arch/x86/kvm/mmu/mmu.c`).
    pub(super) fn is_one_way(&self, root: &Root) -> bool {
        self.setting == "kvm.nx_huge_pages"
            && (self.to == "never") != (self.now(root).as_deref() == Some("never"))
    }

    /// Whether this is it, in any spelling. Of hugepages there may be more: those that are there already may be in use.
    fn agrees(&self, read: &str) -> bool {
        let to = &self.to;
        if self.is_hugepages() {
            return number(read) >= number(to);
        }
        match read_after(&self.setting, to) {
            Some(words) => words.contains(&read),
            None => {
                to.split_whitespace().eq(read.split_whitespace())
                    || number(to).is_some() && number(to) == number(read)
                    || switch(to).is_some() && switch(to) == switch(read)
            }
        }
    }

    /// The settings that change when it is written. The number of hugepages in all is the sum of those of the nodes;
    /// written back as a sum it would be spread over them anew.
    pub(super) fn written_with(&self, root: &Root) -> Vec<String> {
        let below = self.setting.strip_prefix(HUGEPAGES).unwrap_or_default();
        let nodes = root.names(NODES).into_iter();
        let files = nodes.map(|node| format!("{NODES}/{node}/hugepages{below}"));
        let files: Vec<String> = files.filter(|file| root.path(file).is_file()).collect();
        match files.is_empty() {
            true => vec![self.setting.clone()],
            false => files,
        }
    }
}

/// The module and the name of a setting that is a parameter, `MODULE.PARAMETER`, and not the absolute path of a file.
pub(super) fn parameter(setting: &str) -> Option<(&str, &str)> {
    let is_file = setting.starts_with('/');
    setting.split_once('.').filter(|_| !is_file)
}

/// The file of a setting.
pub(super) fn file_of(setting: &str) -> String {
    match parameter(setting) {
        Some((module, name)) => format!("/sys/module/{module}/parameters/{name}"),
        None => setting.to_owned(),
    }
}

/// The value that a setting has.
pub(super) fn value_of(root: &Root, setting: &str) -> io::Result<String> {
    let text = root.read(file_of(setting))?;
    Ok(chosen(&text).to_owned())
}

/// The word in brackets, in a file that shows all choices (`always [madvise] never`), or else all of it.
fn chosen(text: &str) -> &str {
    let mut words = text.split_whitespace();
    let chosen = words.find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
    let has_choices = text.split_whitespace().count() > 1;
    chosen.filter(|_| has_choices).unwrap_or(text)
}

/// Works out what a definition comes down to here.
///
/// # Errors
/// Why that is not possible.
pub(super) fn resolve(
    root: &Root,
    platform: &Platform,
    definition: &Definition,
) -> Result<Vec<Target>, Refusal> {
    let (mut targets, mut refusals) = (Vec::new(), Vec::new());
    for (setting, wanted) in &definition.wanted {
        let target = match setting {
            Setting::Feature(feature) => of_feature(root, platform, feature, wanted),
            Setting::Hugepages(size, node) => of_hugepages(root, *size, *node, wanted).map(Some),
            Setting::Parameter(setting) | Setting::File(setting) => {
                let checked = check(root, platform, setting, Failed);
                checked.map(|()| Some(Target::new(setting, wanted)))
            }
        };
        match target {
            Ok(target) => targets.extend(target),
            Err(refusal) => refusals.push(refusal),
        }
    }
    // What is impossible comes first: no mending of the definition would help.
    refusals.sort_by_key(|refusal| !matches!(refusal, Impossible(_)));
    match refusals.into_iter().next() {
        Some(refusal) => Err(refusal),
        None => Ok(targets),
    }
}

fn of_feature(
    root: &Root,
    platform: &Platform,
    feature: &Feature,
    wanted: &str,
) -> Result<Option<Target>, Refusal> {
    let (name, on) = (feature.name, wanted == ON);
    let (vendor, top) = (platform.vendor, &platform.top().name);
    let refused = |reason: String| Err(Impossible(format!("`{name}` {reason}")));
    let knob = feature.knob(vendor);
    match knob {
        ALWAYS if on => return Ok(None),
        ALWAYS => return refused(format!("is always on with {vendor}")),
        BOOT => {
            return match (on, has_extension(root, ARM_EL2)) {
                (true, false) => refused(format!(
                    "takes a CPU that has it, and a kernel booted with {BOOT}"
                )),
                (false, true) => refused(format!("is on: the kernel was booted with {BOOT}")),
                _ => Ok(None),
            };
        }
        NONE if vendor == Vendor::Unknown => {
            return refused(format!("is not known for the vendor module {top}"));
        }
        NONE => return Err(Impossible(format!("{vendor} has no `{name}`"))),
        _ => check(root, platform, knob, Impossible)?,
    }
    let mut target = Target::new(knob, wanted);
    match feature.values {
        Allowed::Number => {}
        Allowed::Switch => {
            let spelled = match target.now(root).as_deref() {
                Some("Y" | "N") => ["N", "Y"],
                _ => ["0", "1"],
            };
            spelled[usize::from(on)].clone_into(&mut target.to);
            target.turns_on = on.then_some(name);
        }
        Allowed::Words(words) => {
            for (_, written, _) in words.iter().filter(|word| word.0 == wanted) {
                (*written).clone_into(&mut target.to);
            }
        }
    }
    Ok(Some(target))
}

/// Whether a parameter or a file is there; where it is not, that is `missing`.
fn check(
    root: &Root,
    platform: &Platform,
    setting: &str,
    missing: fn(String) -> Refusal,
) -> Result<(), Refusal> {
    let Some((module, name)) = parameter(setting) else {
        let read = root.read(setting);
        let read = read.map_err(|error| missing(format!("read {setting}: {error}")));
        return read.map(drop);
    };
    let found = platform
        .module(module)
        .ok_or_else(|| match &platform.lacks {
            _ if !MODULES.contains(&module) => Failed(format!(
                "{module} is no module of KVM's; only those can be set"
            )),
            Some(lacks) => Impossible(lacks.clone()),
            None => Impossible(format!(
                "{module} is not a module of this host ({platform})"
            )),
        })?;
    // One that is loaded shows that the CPU can do it, whatever its flags say.
    if let Some(lacks) = platform.lacks.as_ref().filter(|_| !found.is_live()) {
        return Err(Impossible(lacks.clone()));
    }
    let names = found.parameters(root);
    if names.iter().any(|known| known == name) {
        return Ok(());
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let hint = hint(name, &names);
    Err(missing(format!("{module} has no parameter `{name}`{hint}")))
}

fn of_hugepages(
    root: &Root,
    size: u64,
    node: Option<u32>,
    wanted: &str,
) -> Result<Target, Refusal> {
    let directory = format!("hugepages-{}kB", size / 1024);
    let path = match node {
        None => format!("{HUGEPAGES}/{directory}/nr_hugepages"),
        Some(node) => format!("{NODES}/node{node}/hugepages/{directory}/nr_hugepages"),
    };
    let needed = number(wanted).map(|count| count * i128::from(size));
    let memory = memory(root, "MemTotal").map(i128::from);
    let size = host::size(size);
    if !root.path(&path).exists() {
        Err(Impossible(format!(
            "this host has no hugepages of {size} ({path})"
        )))
    } else if memory.is_some() && memory < needed {
        Err(Impossible(format!(
            "this host has less memory than {wanted} hugepages of {size}"
        )))
    } else {
        Ok(Target::new(&path, wanted))
    }
}

/// Whether KVM has a capability: what a kernel was booted with tells nothing of a CPU that lacks it.
fn has_extension(root: &Root, extension: u32) -> bool {
    let path = root.path("/dev/kvm").into_os_string().into_vec();
    let kvm = CString::new(path).map(Kvm::new_with_path);
    matches!(kvm, Ok(Ok(kvm)) if kvm.check_extension_raw(extension.into()) > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_in_brackets_is_the_value() {
        let chosen = ["always [madvise] never", "a b", "[x]"].map(chosen);
        assert_eq!(chosen, ["madvise", "a b", "[x]"]);
    }

    #[test]
    fn spellings_of_one_value_are_the_same() {
        let agrees = |setting: &str, to: &str, read: &str| Target::new(setting, to).agrees(read);
        for (to, read, same) in [
            ("1", "Y", true),
            ("N", "0", true),
            ("0x10", "16", true),
            ("a b", "a\tb", true),
            ("1", "N", false),
            ("auto", "N", false),
            ("2", "Y", false),
        ] {
            assert_eq!(agrees("kvm.x", to, read), same, "{to} {read}");
        }
        let pages = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
        assert!(agrees(pages, "4", "5") && !agrees(pages, "4", "3"));
        assert!(!agrees(pages, "4", "nothing"));
        assert!(agrees("kvm.nx_huge_pages", "force", "Y"));
        assert!(!agrees("kvm.nx_huge_pages", "never", "N"));
    }
}
