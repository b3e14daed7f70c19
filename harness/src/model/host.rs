//! A host, as far as tests and reports want to know it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::case::Requires;
use super::taint;

/// The parameters of modules, by their names.
pub type Modules = BTreeMap<String, BTreeMap<String, String>>;

/// What this host is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    /// The node name (uname(2)).
    pub hostname: String,
    /// The kernel's release, such as `6.12.117`.
    pub kernel: String,
    /// The kernel's version: its build number and date.
    pub kernel_version: String,
    /// The machine, such as `x86_64`.
    pub machine: String,
    /// The CPU's vendor as the kernel names it (`GenuineIntel`, `AuthenticAMD`), or the machine where it names none.
    pub cpu_vendor: String,
    /// The CPU's model name; empty where the kernel tells none.
    pub cpu_model: String,
    /// The revision of the CPU's microcode; empty where the kernel tells none.
    #[serde(default)]
    pub microcode: String,
    /// The kernel's command line (/proc/cmdline).
    #[serde(default)]
    pub command_line: String,
    /// CPUs that this process may use.
    pub cpus: usize,
    /// Memory in bytes (`MemTotal` of /proc/meminfo).
    pub memory: u64,
    /// Free hugepages: their size in bytes, and how many.
    pub free_hugepages: BTreeMap<u64, u64>,
    /// What is the matter with `/dev/kvm`, where something is.
    pub kvm_problem: Option<String>,
    /// The parameters of the loaded `kvm*` modules, as /sys/module shows them; those that cannot be read are left out.
    pub modules: Modules,
    /// The kernel's taint mask (/proc/sys/kernel/tainted).
    pub taint: u64,
}

impl Host {
    /// The commit that the kernel was built from, where its release ends with one, as `git describe` has it
    /// (`6.18.0-rc3-00123-gabcdef012345`: CONFIG_LOCALVERSION_AUTO).
    pub fn kernel_commit(&self) -> Option<&str> {
        let parts = self.kernel.split(['-', '+']);
        let mut commits = parts.filter_map(|part| part.strip_prefix('g'));
        let is_commit =
            |part: &&str| part.len() >= 7 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        commits.rfind(is_commit)
    }

    /// What there is to know of it beside its modules, each by a name, in the same order for every host; what is empty says
    /// nothing.
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let pages = self.free_hugepages.iter();
        let pages = pages.map(|(page, count)| format!("{count} of {}", size(*page)));
        let cpu = format!("{} {}", self.cpu_vendor, self.cpu_model);
        vec![
            ("name", self.hostname.clone()),
            ("kernel", self.kernel.clone()),
            ("kernel_version", self.kernel_version.clone()),
            ("command_line", self.command_line.clone()),
            ("machine", self.machine.clone()),
            ("cpu", cpu.trim_end().to_owned()),
            ("microcode", self.microcode.clone()),
            ("cpus", self.cpus.to_string()),
            ("memory", size(self.memory)),
            ("free_hugepages", Vec::from_iter(pages).join(", ")),
            ("taint", taint::show(self.taint)),
            ("kvm_problem", self.kvm_problem.clone().unwrap_or_default()),
        ]
    }

    /// What of `requires` this host does not have, in words.
    pub fn lacks(&self, requires: &Requires) -> Option<String> {
        let mut missing = Vec::new();
        if let Some(cpus) = requires.cpus.filter(|&cpus| cpus > self.cpus as u64) {
            missing.push(format!("{cpus} CPUs (there are {})", self.cpus));
        }
        if let Some(memory) = requires.memory.filter(|&memory| memory > self.memory) {
            missing.push(format!(
                "{} of memory (there is {})",
                size(memory),
                size(self.memory)
            ));
        }
        for (&page, &count) in &requires.hugepages {
            let free = self.free_hugepages.get(&page).copied().unwrap_or(0);
            if count > free {
                missing.push(format!(
                    "{count} free hugepages of {} (there are {free})",
                    size(page)
                ));
            }
        }
        (!missing.is_empty()).then(|| format!("requires {}", missing.join(" and ")))
    }
}

/// A number of bytes in the largest binary unit that keeps it readable: `2M`, `1.5G`.
pub fn size(bytes: u64) -> String {
    let units = [("T", 40), ("G", 30), ("M", 20), ("K", 10)];
    match units.iter().find(|(_, shift)| bytes >> shift > 0) {
        Some((unit, shift)) if bytes.trailing_zeros() >= *shift => {
            format!("{}{unit}", bytes >> shift)
        }
        #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
        Some((unit, shift)) => format!("{:.1}{unit}", bytes as f64 / (1_u64 << shift) as f64),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_in_their_largest_unit() {
        assert_eq!(
            [size(512), size(2 << 20), size(3 << 29), size(1 << 30)],
            ["512", "2M", "1.5G", "1G"]
        );
    }

    #[test]
    fn the_commit_of_a_kernel_is_taken_from_its_release() {
        for (kernel, commit) in [
            ("6.18.0-rc3-00123-gabcdef012345", Some("abcdef012345")),
            ("6.18.0-rc3-00123-gabcdef012345-dirty", Some("abcdef012345")),
            ("6.12.117+deb13-amd64", None),
            ("6.18.0-generic", None),
        ] {
            let host = Host {
                kernel: kernel.to_owned(),
                ..Host::default()
            };
            assert_eq!(host.kernel_commit(), commit);
        }
    }

    #[test]
    fn each_unmet_requirement_is_named() {
        let host = Host {
            cpus: 2,
            memory: 1 << 30,
            free_hugepages: BTreeMap::new(),
            ..Host::default()
        };
        let requires = Requires {
            cpus: Some(4),
            memory: Some(2 << 30),
            hugepages: BTreeMap::from([(2 << 20, 64)]),
        };
        let reason = host.lacks(&requires).unwrap();
        let expected = "requires 4 CPUs (there are 2) and 2G of memory (there is 1G) and 64 free hugepages of 2M (there are 0)";
        assert_eq!(reason, expected);
        assert_eq!(host.lacks(&Requires::default()), None);
    }
}
