//! This host, read once and changed never.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rustix::fs::{Access, access};

use super::root::Root;
use crate::model::host::{Host, Modules};

/// Reads what there is; what cannot be read is left empty.
pub fn probe(root: &Root) -> Host {
    let uname = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    let cpuinfo = read("/proc/cpuinfo");
    let machine = text(uname.machine());
    Host {
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
        microcode: field(&cpuinfo, &["microcode"])
            .unwrap_or_default()
            .to_owned(),
        command_line: read("/proc/cmdline").trim().to_owned(),
        memory: field(&read("/proc/meminfo"), &["MemTotal"]).map_or(0, kib),
        free_hugepages: hugepages(|there| there("free_hugepages")),
        kvm_problem: kvm_problem(root),
        modules: modules(root),
        taint: 0,
    }
}

/// The memory that can be had without swapping now, in bytes (MemAvailable in proc_meminfo(5)).
pub fn available_memory() -> u64 {
    field(&read("/proc/meminfo"), &["MemAvailable"]).map_or(0, kib)
}

fn kvm_problem(root: &Root) -> Option<String> {
    let error = access(root.path("/dev/kvm"), Access::READ_OK | Access::WRITE_OK).err()?;
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

/// Those in use of each size, in bytes.
pub fn hugepages_in_use() -> BTreeMap<u64, u64> {
    hugepages(|there| Some(there("nr_hugepages")?.saturating_sub(there("free_hugepages")?)))
}

/// For each size of hugepages, in bytes, what `value` makes of the files that tell of it.
fn hugepages(value: impl Fn(&dyn Fn(&str) -> Option<u64>) -> Option<u64>) -> BTreeMap<u64, u64> {
    let pools = fs::read_dir("/sys/kernel/mm/hugepages");
    let pools = pools.into_iter().flatten().flatten();
    let values = pools.filter_map(|pool| {
        let name = pool.file_name().into_string().ok()?;
        let kib = name.strip_prefix("hugepages-")?.strip_suffix("kB")?;
        let kib: u64 = kib.parse().ok()?;
        let there = |file: &str| read(pool.path().join(file)).trim().parse().ok();
        Some((kib * 1024, value(&there)?))
    });
    values.collect()
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
