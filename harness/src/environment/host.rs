//! What this host is, read and never changed: its facts for reports, and its virtualization.

use std::collections::BTreeMap;
use std::fmt;

use rustix::fs::{Access, access};

use super::kmod::{Module, Presence};
use crate::model::host::{Host, Modules, Root};

/// Reads what there is; what cannot be read is left empty.
pub fn probe(root: &Root) -> Host {
    let uname = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    let cpuinfo = read("/proc/cpuinfo");
    let of_cpu = |key: &str| field(&cpuinfo, key).map(str::to_owned);
    let machine = text(uname.machine());
    let cpu_vendor = of_cpu("vendor_id").or_else(|| of_cpu("CPU implementer"));
    Host {
        hostname: text(uname.nodename()),
        kernel: text(uname.release()),
        boot_id: read("/proc/sys/kernel/random/boot_id").trim().to_owned(),
        kernel_version: text(uname.version()),
        cpu_vendor: cpu_vendor.unwrap_or_else(|| machine.clone()),
        cpu_model: of_cpu("model name").unwrap_or_default(),
        machine,
        cpus: num_cpus::get(),
        microcode: of_cpu("microcode").unwrap_or_default(),
        command_line: read("/proc/cmdline"),
        memory: memory(&Root::host(), "MemTotal").unwrap_or(0),
        free_hugepages: hugepages().map(|(size, _, free)| (size, free)).collect(),
        kvm_problem: kvm_problem(root),
        modules: modules(root),
        taint: 0,
    }
}

/// The memory that can be had without swapping now, in bytes.
pub fn available_memory() -> u64 {
    memory(&Root::host(), "MemAvailable").unwrap_or(0)
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
    let in_use = |(size, all, free): (u64, u64, u64)| (size, all.saturating_sub(free));
    hugepages().map(in_use).collect()
}

/// Each size of hugepages, in bytes; how many there are, and how many of them are free.
fn hugepages() -> impl Iterator<Item = (u64, u64, u64)> {
    let pools = Root::host().names(HUGEPAGES).into_iter();
    pools.filter_map(|pool| {
        let kib = pool.strip_prefix("hugepages-")?.strip_suffix("kB")?;
        let count = |file: &str| read(&format!("{HUGEPAGES}/{pool}/{file}")).parse().ok();
        let size = kib.parse::<u64>().ok()? * 1024;
        Some((size, count("nr_hugepages")?, count("free_hugepages")?))
    })
}

/// The parameters of the loaded `kvm*` modules, as /sys/module shows them; those that cannot be read are left out.
pub fn modules(root: &Root) -> Modules {
    let mut names = root.names("/sys/module");
    names.retain(|name| name == "kvm" || name.starts_with("kvm_"));
    let modules = names.into_iter().map(|module| {
        let directory = format!("/sys/module/{module}/parameters");
        let names = root.names(&directory).into_iter();
        let readable = names.filter_map(|name| {
            let value = root.read(format!("{directory}/{name}")).ok()?;
            Some((name, value))
        });
        (module, readable.collect())
    });
    modules.collect()
}

/// A file of the host itself, also where a directory stands for it.
fn read(path: &str) -> String {
    Root::host().read(path).unwrap_or_default()
}

/// The value of the first line `KEY : VALUE`.
fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    let field = fields.find(|(found, _)| found.trim() == key);
    field.map(|(_, value)| value.trim())
}

/// A number of KiB in /proc/meminfo (proc_meminfo(5)), in bytes.
pub(super) fn memory(root: &Root, key: &str) -> Option<u64> {
    let text = root.read("/proc/meminfo").ok()?;
    let kib: u64 = field(&text, key)?.strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

/// Whose virtualization a host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Vendor {
    /// Intel's VMX, and that of the CPUs which follow it.
    Intel,
    /// AMD's SVM, and Hygon's.
    Amd,
    /// 64-bit Arm's.
    Arm,
    /// IBM Z's.
    S390,
    /// POWER's.
    Power,
    /// RISC-V's hypervisor extension.
    Riscv,
    /// LoongArch's.
    Loongarch,
    /// Nobody's that is known here: KVM by a vendor module that no table has, or a CPU that cannot be told.
    Unknown,
}

/// The names of those that are known, in their order.
pub(super) const VENDORS: [&str; 7] = [
    "Intel",
    "AMD",
    "Arm",
    "s390",
    "POWER",
    "RISC-V",
    "LoongArch",
];

/// This host's virtualization.
#[derive(Debug, Clone)]
pub struct Platform {
    /// Whose it is.
    pub(super) vendor: Vendor,
    /// `kvm` and, where there is one, its vendor module, in the order in which they are loaded.
    pub(super) modules: Vec<Module>,
    /// Why KVM cannot work here, as far as the CPU tells.
    pub(super) lacks: Option<String>,
}

/// Where the kernel keeps the pools of hugepages, a directory for each size.
pub(super) const HUGEPAGES: &str = "/sys/kernel/mm/hugepages";

/// KVM's modules that are known here.
pub(super) const MODULES: &[&str] = &["kvm", "kvm_intel", "kvm_amd", "kvm_hv", "kvm_pr"];

/// What /proc/cpuinfo shows on each architecture (`arch/*/kernel/…/proc.c`, `setup.c`, `processor.c`): a key, and what its
/// value begins with.
const CPUS: &[(&str, &str, Vendor)] = &[
    ("vendor_id", "GenuineIntel", Vendor::Intel),
    ("vendor_id", "CentaurHauls", Vendor::Intel),
    ("vendor_id", "Shanghai", Vendor::Intel),
    ("vendor_id", "AuthenticAMD", Vendor::Amd),
    ("vendor_id", "HygonGenuine", Vendor::Amd),
    ("vendor_id", "IBM/S390", Vendor::S390),
    ("CPU implementer", "", Vendor::Arm),
    ("cpu", "POWER", Vendor::Power),
    ("isa", "rv", Vendor::Riscv),
    ("CPU Family", "Loongson", Vendor::Loongarch),
];

impl Vendor {
    /// Its vendor modules, the usual one first, none where `kvm` is everything; and the CPU's flag without which there is
    /// no virtualization, where the kernel shows one.
    fn modules(self) -> (&'static [&'static str], Option<&'static str>) {
        match self {
            Self::Intel => (&["kvm_intel"], Some("vmx")),
            Self::Amd => (&["kvm_amd"], Some("svm")),
            Self::Power => (&["kvm_hv", "kvm_pr"], None),
            Self::Arm | Self::S390 | Self::Riscv | Self::Loongarch | Self::Unknown => (&[], None),
        }
    }

    fn of_cpu(cpuinfo: &str) -> Self {
        let shows = |key: &str, start: &str| {
            field(cpuinfo, key).is_some_and(|value| value.starts_with(start))
        };
        let row = CPUS.iter().find(|(key, start, _)| shows(key, start));
        row.map_or(Self::Unknown, |(.., vendor)| *vendor)
    }
}

impl fmt::Display for Vendor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = VENDORS.get(*self as usize);
        f.write_str(name.unwrap_or(&"an unknown platform"))
    }
}

impl Platform {
    /// Reads what the host shows, changing nothing.
    pub(super) fn probe(root: &Root) -> Self {
        let cpuinfo = root.read("/proc/cpuinfo").unwrap_or_default();
        let mut vendor = Vendor::of_cpu(&cpuinfo);
        let (known, flag) = vendor.modules();
        let mut live = known.iter().map(|name| Module::of_sysfs(root, name));
        let mut top = live.find(Module::is_live);
        let mut lacks = None;
        if top.is_none() {
            if let Some(unknown) = unknown_vendor_module(root) {
                vendor = Vendor::Unknown;
                top = Some(Module::of_sysfs(root, &unknown));
            } else {
                top = known.first().map(|name| Module::probe(root, name));
                let flag =
                    flag.filter(|flag| !cpuinfo.split_whitespace().any(|word| word == *flag));
                lacks = flag.map(|flag| {
                    format!(
                        "this CPU shows no {flag}: it has no virtualization, or firmware or hypervisor keep it off"
                    )
                });
            }
        }
        let mut modules = vec![Module::probe(root, "kvm")];
        modules.extend(top.filter(|module| module.presence != Presence::Absent));
        Self {
            vendor,
            modules,
            lacks,
        }
    }

    /// The module of this name, if it is one of those that make up KVM here.
    pub(super) fn module(&self, name: &str) -> Option<&Module> {
        let mut modules = self.modules.iter();
        modules.find(|module| module.name == name && module.presence != Presence::Absent)
    }

    /// The module on which everything else stands: the vendor's, or `kvm` where that is all.
    pub(super) fn top(&self) -> &Module {
        &self.modules[self.modules.len() - 1]
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.vendor)?;
        for module in &self.modules {
            write!(f, ", {} ", module.name)?;
            match module.presence {
                Presence::Loaded { uses } => write!(f, "loaded ({uses} uses)")?,
                Presence::BuiltIn => f.write_str("built in")?,
                Presence::Available => f.write_str("not loaded")?,
                Presence::Absent => f.write_str("absent")?,
            }
        }
        match &self.lacks {
            Some(lacks) => write!(f, "; {lacks}"),
            None => Ok(()),
        }
    }
}

/// A loaded `kvm_*` module that is no vendor's known here, yet does a vendor module's work.
fn unknown_vendor_module(root: &Root) -> Option<String> {
    let mut names = root.names("/sys/module").into_iter();
    names.find(|name| name.starts_with("kvm_") && !MODULES.contains(&name.as_str()))
}
