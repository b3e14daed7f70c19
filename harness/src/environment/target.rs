//! Targets: what a definition comes down to on a platform, value by value.

use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;

use kvm_ioctls::Kvm;

use super::definition::{Definition, Setting};
use super::feature::{Allowed, FEATURES, Feature, Knob, ON, number, switch};
use super::platform::{MODULES, Platform, Vendor, parameter_path};
use super::refusal::Refusal::{self, Failed, Impossible};
use super::root::Root;
use crate::model::host;
use crate::model::problem::hint;

const HUGEPAGES: &str = "/sys/kernel/mm/hugepages";
const NODES: &str = "/sys/devices/system/node";

/// One value that is to be.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// What is to have it: a parameter or a file.
    pub(super) setting: Setting,
    /// The value, as it is written.
    pub(super) to: String,
    /// What reads back as this value.
    reads: Reads,
    /// The feature that is turned on by it: the CPU may lack it, and then only reading back tells.
    pub(super) turns_on: Option<&'static str>,
}

/// What reads back as a value.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Reads {
    /// The same value in any spelling.
    Same,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// This number of hugepages or a greater one: pages that are there already may be in use.
    AtLeast,
}

impl Target {
    fn new(setting: Setting, to: impl Into<String>) -> Self {
        Self {
            setting,
            to: to.into(),
            reads: Reads::Same,
            turns_on: None,
        }
    }

    /// Its file.
    pub(super) fn path(&self) -> String {
        match &self.setting {
            Setting::Parameter(..) => parameter_path(&self.setting.to_string()),
            other => other.to_string(),
        }
    }

    /// The name of the module whose parameter it is.
    pub(super) fn module(&self) -> Option<&str> {
        match &self.setting {
            Setting::Parameter(module, _) => Some(module),
            _ => None,
        }
    }

    /// What is there now; `None` where nothing can be read.
    pub(super) fn now(&self, root: &Root) -> Option<String> {
        let text = root.read(self.path()).ok()?;
        Some(chosen(&text).to_owned())
    }

    /// Whether it is there.
    pub(super) fn is_there(&self, root: &Root) -> bool {
        self.now(root).is_some_and(|now| self.agrees(&now))
    }

    /// Whether it is a number of hugepages.
    pub(super) fn is_hugepages(&self) -> bool {
        self.reads == Reads::AtLeast
    }

    /// Whether it may read otherwise than it was written: a word of a parameter's own, such as `auto`.
    pub(super) fn is_word(&self) -> bool {
        let is_plain = switch(&self.to).is_some() || number(&self.to).is_some();
        self.module().is_some() && self.reads == Reads::Same && !is_plain
    }

    /// Whether it can be set or undone only by a reload: `never` for `nx_huge_pages` is final while the module is loaded
    /// (`set_nx_huge_pages` in `arch/x86/kvm/mmu/mmu.c`).
    pub(super) fn is_one_way(&self, root: &Root) -> bool {
        self.setting == Setting::Parameter("kvm".to_owned(), "nx_huge_pages".to_owned())
            && (self.to == "never") != (self.now(root).as_deref() == Some("never"))
    }

    fn agrees(&self, read: &str) -> bool {
        match &self.reads {
            Reads::OneOf(words) => words.contains(&read),
            Reads::AtLeast => number(read) >= number(&self.to),
            Reads::Same => {
                let to = &self.to;
                to.split_whitespace().eq(read.split_whitespace())
                    || number(to).is_some() && number(to) == number(read)
                    || switch(to).is_some() && switch(to) == switch(read)
            }
        }
    }

    /// The files that change when it is written. The number of hugepages in all is the sum of those of the nodes; written
    /// back as a sum it would be spread over them anew.
    pub(super) fn written_with(&self, root: &Root) -> Vec<String> {
        let path = self.path();
        if let Some(below) = path.strip_prefix(HUGEPAGES).filter(|_| self.is_hugepages()) {
            let nodes = root.names(NODES).into_iter();
            let files = nodes.map(|node| format!("{NODES}/{node}/hugepages{below}"));
            let files: Vec<String> = files.filter(|file| root.path(file).is_file()).collect();
            if !files.is_empty() {
                return files;
            }
        }
        vec![path]
    }
}

/// The word in brackets, in a file that shows all choices (`always [madvise] never`), or else all of it.
pub(super) fn chosen(text: &str) -> &str {
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
    let host = ThisHost { root, platform };
    let (mut targets, mut failed) = (Vec::new(), None);
    for (setting, wanted) in &definition.wanted {
        let target = match setting {
            Setting::Feature(name) => host.of_feature(name, wanted),
            Setting::Parameter(module, name) => host.of_parameter(module, name, wanted).map(Some),
            Setting::Hugepages(size, node) => host.of_hugepages(*size, *node, wanted).map(Some),
            Setting::File(path) => {
                let setting = host.file(path, Failed);
                setting.map(|setting| Some(Target::new(setting, wanted)))
            }
        };
        match target {
            Ok(target) => targets.extend(target),
            // That comes first: no mending of the definition would help.
            Err(Impossible(reason)) => return Err(Impossible(reason)),
            Err(other) => failed = failed.or(Some(other)),
        }
    }
    failed.map_or(Ok(targets), Err)
}

struct ThisHost<'a> {
    root: &'a Root,
    platform: &'a Platform,
}

impl ThisHost<'_> {
    fn of_feature(&self, name: &'static str, wanted: &str) -> Result<Option<Target>, Refusal> {
        let feature = Feature::named(name).ok_or(Impossible(format!("no feature {name}")))?;
        let (vendor, on) = (self.platform.vendor, wanted == ON);
        let top = &self.platform.top().name;
        let refused = |reason| Err(Impossible(format!("`{name}` {reason}")));
        let setting = match feature.knob(vendor) {
            Knob::Parameter(module, name) => self.parameter(module, name, Impossible)?,
            Knob::File(path) => self.file(path, Impossible)?,
            Knob::Always if on => return Ok(None),
            Knob::Always => return refused(format!("is always on with {vendor}")),
            Knob::Boot(extension, boot) => {
                return match (on, self.has_extension(extension)) {
                    (true, false) => refused(format!(
                        "takes a CPU that has it, and a kernel booted with {boot}"
                    )),
                    (false, true) => refused(format!("is on: the kernel was booted with {boot}")),
                    _ => Ok(None),
                };
            }
            Knob::None if vendor == Vendor::Unknown => {
                return refused(format!("is not known for the vendor module {top}"));
            }
            Knob::None => return Err(Impossible(format!("{vendor} has no `{name}`"))),
        };
        let mut target = Target::new(setting, wanted);
        match feature.values {
            Allowed::Number => {}
            Allowed::Switch => {
                let now = target.now(self.root);
                let spelled = match now.as_deref() {
                    Some("Y" | "N") => ["N", "Y"],
                    _ => ["0", "1"],
                };
                target.to = spelled[usize::from(on)].to_owned();
                target.turns_on = on.then_some(name);
            }
            Allowed::Words(words) => {
                for (_, write, reads) in words.iter().filter(|word| word.0 == wanted) {
                    (target.to, target.reads) = ((*write).to_owned(), Reads::OneOf(reads));
                }
            }
        }
        Ok(Some(target))
    }

    fn of_parameter(&self, module: &str, name: &str, wanted: &str) -> Result<Target, Refusal> {
        let setting = self.parameter(module, name, Failed)?;
        let mut target = Target::new(setting, wanted);
        // A parameter with words of its own reads back as its feature says.
        for feature in FEATURES
            .iter()
            .filter(|one| one.is(&format!("{module}.{name}")))
        {
            let Allowed::Words(words) = feature.values else {
                continue;
            };
            for (.., reads) in words.iter().filter(|word| word.1 == wanted) {
                target.reads = Reads::OneOf(reads);
            }
        }
        Ok(target)
    }

    /// A parameter that is there; where there is none, that is `missing`.
    fn parameter(
        &self,
        module: &str,
        name: &str,
        missing: fn(String) -> Refusal,
    ) -> Result<Setting, Refusal> {
        let platform = self.platform;
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
        let names = found.parameters(self.root);
        if !names.iter().any(|known| known == name) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let hint = hint(name, &names);
            return Err(missing(format!("{module} has no parameter `{name}`{hint}")));
        }
        Ok(Setting::Parameter(module.to_owned(), name.to_owned()))
    }

    /// A file that can be read; where it cannot, that is `missing`.
    fn file(&self, path: &str, missing: fn(String) -> Refusal) -> Result<Setting, Refusal> {
        let read = self.root.read(path);
        read.map_err(|error| missing(format!("read {path}: {error}")))?;
        Ok(Setting::File(path.to_owned()))
    }

    fn of_hugepages(&self, size: u64, node: Option<u32>, wanted: &str) -> Result<Target, Refusal> {
        let directory = format!("hugepages-{}kB", size / 1024);
        let path = match node {
            None => format!("{HUGEPAGES}/{directory}/nr_hugepages"),
            Some(node) => format!("{NODES}/node{node}/hugepages/{directory}/nr_hugepages"),
        };
        let memory = self.root.read("/proc/meminfo").unwrap_or_default();
        let memory = memory
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"));
        let memory = memory.and_then(|memory| number(memory.trim().trim_end_matches(" kB")));
        let needed = number(wanted).map(|count| count * i128::from(size) / 1024);
        let size = host::size(size);
        if !self.root.path(&path).exists() {
            Err(Impossible(format!(
                "this host has no hugepages of {size} ({path})"
            )))
        } else if memory.is_some_and(|memory| Some(memory) < needed) {
            let pages = format!("{wanted} hugepages of {size}");
            Err(Impossible(format!(
                "this host has less memory than {pages}"
            )))
        } else {
            let target = Target::new(Setting::File(path), wanted);
            Ok(Target {
                reads: Reads::AtLeast,
                ..target
            })
        }
    }

    /// Whether KVM has a capability: what a kernel was booted with tells nothing of a CPU that lacks it.
    fn has_extension(&self, extension: u32) -> bool {
        let path = self.root.path("/dev/kvm").into_os_string().into_vec();
        let kvm = CString::new(path)
            .ok()
            .and_then(|path| Kvm::new_with_path(path).ok());
        kvm.is_some_and(|kvm| kvm.check_extension_raw(extension.into()) > 0)
    }
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
        let agrees = |to: &str, reads, read: &str| {
            let setting = Setting::Parameter("kvm".to_owned(), "x".to_owned());
            Target {
                reads,
                ..Target::new(setting, to)
            }
            .agrees(read)
        };
        for (to, read, same) in [
            ("1", "Y", true),
            ("N", "0", true),
            ("0x10", "16", true),
            ("a b", "a\tb", true),
            ("1", "N", false),
            ("auto", "N", false),
            ("2", "Y", false),
        ] {
            assert_eq!(agrees(to, Reads::Same, read), same, "{to} {read}");
        }
        assert!(agrees("4", Reads::AtLeast, "5") && !agrees("4", Reads::AtLeast, "3"));
        assert!(!agrees("4", Reads::AtLeast, "nothing"));
        assert!(agrees("force", Reads::OneOf(&["Y"]), "Y"));
    }
}
