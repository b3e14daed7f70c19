//! This host, as far as tests and reports want to know it: read once, changed never.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rustix::fs::{Access, access};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::environment::root::Root;
use crate::model::case::Requires;
use crate::model::taint;

/// The parameters of modules, by their names.
pub type Modules = BTreeMap<String, BTreeMap<String, String>>;

/// What this host is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
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
    /// Reads what there is; what cannot be read is left empty.
    pub fn probe() -> Self {
        let uname = rustix::system::uname();
        let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
        let cpuinfo = read("/proc/cpuinfo");
        let machine = text(uname.machine());
        Self {
            hostname: text(uname.nodename()),
            kernel: text(uname.release()),
            kernel_version: text(uname.version()),
            cpu_vendor: field(&cpuinfo, &["vendor_id", "CPU implementer"])
                .unwrap_or(&machine)
                .to_owned(),
            cpu_model: field(&cpuinfo, &["model name"])
                .unwrap_or_default()
                .to_owned(),
            machine,
            cpus: num_cpus::get(),
            memory: field(&read("/proc/meminfo"), &["MemTotal"]).map_or(0, kib),
            free_hugepages: free_hugepages(),
            kvm_problem: kvm_problem(),
            modules: modules(&Root::from_env()),
            taint: taint::read(&Root::from_env()),
        }
    }

    /// The memory that can be had without swapping now, in bytes (MemAvailable in proc_meminfo(5)).
    pub fn available_memory() -> u64 {
        field(&read("/proc/meminfo"), &["MemAvailable"]).map_or(0, kib)
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

fn kvm_problem() -> Option<String> {
    let error = access(
        Root::from_env().path("/dev/kvm"),
        Access::READ_OK | Access::WRITE_OK,
    )
    .err()?;
    Some(match error {
        rustix::io::Errno::NOENT => {
            "/dev/kvm is not there: load the module for this CPU (modprobe kvm_intel or kvm_amd), or turn virtualization \
             on in the firmware"
                .to_owned()
        }
        rustix::io::Errno::ACCESS => {
            "/dev/kvm may not be opened by this user: run as root, or join the group kvm (usermod -aG kvm $USER, then \
             log in again)"
                .to_owned()
        }
        error => format!("/dev/kvm: {error}"),
    })
}

fn free_hugepages() -> BTreeMap<u64, u64> {
    let entries = fs::read_dir("/sys/kernel/mm/hugepages")
        .into_iter()
        .flatten()
        .flatten();
    let free = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let kib: u64 = name
            .strip_prefix("hugepages-")?
            .strip_suffix("kB")?
            .parse()
            .ok()?;
        let free = read(entry.path().join("free_hugepages"))
            .trim()
            .parse()
            .ok()?;
        Some((kib * 1024, free))
    });
    free.collect()
}

/// The parameters of the loaded `kvm*` modules, as /sys/module shows them; those that cannot be read are left out.
pub fn modules(root: &Root) -> Modules {
    let entries = fs::read_dir(root.path("/sys/module"))
        .into_iter()
        .flatten()
        .flatten();
    let kvm = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        (name == "kvm" || name.starts_with("kvm_"))
            .then(|| (name, parameters(&entry.path().join("parameters"))))
    });
    kvm.collect()
}

fn parameters(directory: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let readable = entries.filter_map(|entry| {
        let value = fs::read(entry.path()).ok()?;
        Some((
            entry.file_name().into_string().ok()?,
            String::from_utf8_lossy(&value).trim().to_owned(),
        ))
    });
    readable.collect()
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

/// The value of the first line `KEY : VALUE` whose key is one of `keys`.
fn field<'a>(text: &'a str, keys: &[&str]) -> Option<&'a str> {
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    fields
        .find(|(key, _)| keys.contains(&key.trim()))
        .map(|(_, value)| value.trim())
}

fn kib(value: &str) -> u64 {
    value
        .trim_end_matches(" kB")
        .parse()
        .map_or(0, |kib: u64| kib * 1024)
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
    fn each_unmet_requirement_is_named() {
        let host = Host {
            cpus: 2,
            memory: 1 << 30,
            free_hugepages: BTreeMap::new(),
            ..Host::probe()
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
