//! What this host's virtualization is: whose it is, and the modules that make it up.

use std::fmt;

use super::modinfo::Modinfo;
use super::module::{Module, Presence};
use super::root::Root;

/// Whose virtualization a host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vendor {
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

/// This host's virtualization.
#[derive(Debug, Clone)]
pub struct Platform {
    /// Whose it is.
    pub vendor: Vendor,
    /// `kvm` and, where there is one, its vendor module, in the order in which they are loaded.
    pub modules: Vec<Module>,
    /// Why KVM cannot work here, as far as the CPU tells.
    pub lacks: Option<String>,
    /// The kernel's command line.
    pub boot: String,
}

/// The vendor modules that are known here.
pub const VENDOR_MODULES: &[&str] = &["kvm_intel", "kvm_amd", "kvm_hv", "kvm_pr"];

impl Vendor {
    /// Every one that is known.
    pub const KNOWN: &[Self] = &[
        Self::Intel,
        Self::Amd,
        Self::Arm,
        Self::S390,
        Self::Power,
        Self::Riscv,
        Self::Loongarch,
    ];

    /// Its vendor modules, the usual one first; none where `kvm` is everything.
    fn modules(self) -> &'static [&'static str] {
        match self {
            Self::Intel => &["kvm_intel"],
            Self::Amd => &["kvm_amd"],
            Self::Power => &["kvm_hv", "kvm_pr"],
            Self::Arm | Self::S390 | Self::Riscv | Self::Loongarch | Self::Unknown => &[],
        }
    }

    /// The CPU's flag without which there is no virtualization, where the kernel shows one.
    fn flag(self) -> Option<&'static str> {
        match self {
            Self::Intel => Some("vmx"),
            Self::Amd => Some("svm"),
            _ => None,
        }
    }

    /// By what /proc/cpuinfo shows on each architecture (`arch/*/kernel/…/proc.c`, `setup.c`, `processor.c`).
    fn of_cpu(cpuinfo: &str) -> Self {
        let field = |key: &str| {
            let mut fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
            fields
                .find(|(found, _)| found.trim() == key)
                .map(|(_, value)| value.trim())
        };
        match field("vendor_id") {
            Some("GenuineIntel" | "CentaurHauls" | "Shanghai") => return Self::Intel,
            Some("AuthenticAMD" | "HygonGenuine") => return Self::Amd,
            Some("IBM/S390") => return Self::S390,
            _ => {}
        }
        if field("CPU implementer").is_some() {
            Self::Arm
        } else if field("cpu").is_some_and(|cpu| cpu.starts_with("POWER")) {
            Self::Power
        } else if field("isa").is_some_and(|isa| isa.starts_with("rv")) {
            Self::Riscv
        } else if field("CPU Family").is_some_and(|family| family.starts_with("Loongson")) {
            Self::Loongarch
        } else {
            Self::Unknown
        }
    }
}

impl fmt::Display for Vendor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Intel => "Intel",
            Self::Amd => "AMD",
            Self::Arm => "Arm",
            Self::S390 => "s390",
            Self::Power => "POWER",
            Self::Riscv => "RISC-V",
            Self::Loongarch => "LoongArch",
            Self::Unknown => "an unknown platform",
        })
    }
}

impl Platform {
    /// Reads what the host shows, changing nothing.
    pub fn probe(root: &Root, modinfo: &Modinfo) -> Self {
        let cpuinfo = root.read("/proc/cpuinfo").unwrap_or_default();
        let mut vendor = Vendor::of_cpu(&cpuinfo);
        let candidates = vendor
            .modules()
            .iter()
            .map(|name| Module::probe(root, modinfo, name));
        let mut known: Vec<Module> = candidates.collect();
        let live = known.iter().position(Module::is_live);
        let flag = vendor
            .flag()
            .filter(|flag| !cpuinfo.split_whitespace().any(|word| word == *flag));
        let mut lacks = flag.map(|flag| {
            format!(
                "this CPU shows no {flag}: it has no virtualization, or firmware or hypervisor keep it off"
            )
        });
        let mut module = match live {
            Some(index) => Some(known.swap_remove(index)),
            None if known.is_empty() => None,
            None => Some(known.swap_remove(0)),
        };
        if live.is_some() {
            lacks = None;
        } else if let Some(unknown) = unknown_vendor_module(root) {
            (vendor, module, lacks) = (
                Vendor::Unknown,
                Some(Module::probe(root, modinfo, &unknown)),
                None,
            );
        }
        let mut modules = vec![Module::probe(root, modinfo, "kvm")];
        modules.extend(module.filter(|module| module.presence != Presence::Absent));
        Self {
            vendor,
            modules,
            lacks,
            boot: root.read("/proc/cmdline").unwrap_or_default(),
        }
    }

    /// The module of this name, if it is one of those that make up KVM here.
    pub fn module(&self, name: &str) -> Option<&Module> {
        self.modules.iter().find(|module| module.name == name)
    }

    /// The module on which everything else stands: the vendor's, or `kvm` where that is all.
    pub fn top(&self) -> &Module {
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
        self.lacks
            .as_ref()
            .map_or(Ok(()), |lacks| write!(f, "; {lacks}"))
    }
}

/// A loaded `kvm_*` module that is no vendor's known here, yet does a vendor module's work.
fn unknown_vendor_module(root: &Root) -> Option<String> {
    let entries = std::fs::read_dir(root.path("/sys/module"))
        .into_iter()
        .flatten()
        .flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with("kvm_") && !VENDOR_MODULES.contains(&name.as_str()))
        .collect();
    names.sort();
    names.into_iter().next()
}
