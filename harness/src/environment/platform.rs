//! What this host's virtualization is: whose it is, and the modules that make it up.

use std::fmt;

use super::program;
use super::root::Root;

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

/// A module of the kernel.
#[derive(Debug, Clone)]
pub(super) struct Module {
    /// Its name, with underscores (`kvm_intel`).
    pub(super) name: String,
    /// Whether it is there, and how.
    pub(super) presence: Presence,
    /// The loaded modules that use it.
    pub(super) used_by: Vec<String>,
}

/// Whether a module is there, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// It is loaded, and can be unloaded once nothing uses it.
    Loaded {
        /// How many uses of it there are, those by other modules included.
        uses: usize,
    },
    /// It is a part of the kernel itself.
    BuiltIn,
    /// It could be loaded.
    Available,
    /// This kernel has no such module.
    Absent,
}

/// KVM's modules that are known here.
pub(super) const MODULES: &[&str] = &["kvm", "kvm_intel", "kvm_amd", "kvm_hv", "kvm_pr"];

impl Vendor {
    /// Every one that is known.
    pub(super) const KNOWN: &[Self] = &[
        Self::Intel,
        Self::Amd,
        Self::Arm,
        Self::S390,
        Self::Power,
        Self::Riscv,
        Self::Loongarch,
    ];

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

    /// By what /proc/cpuinfo shows on each architecture (`arch/*/kernel/…/proc.c`, `setup.c`, `processor.c`).
    fn of_cpu(cpuinfo: &str) -> Self {
        let field = |key: &str| {
            let mut fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
            let field = fields.find(|(found, _)| found.trim() == key);
            field.map(|(_, value)| value.trim())
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

impl Module {
    /// Reads what is known of a module, changing nothing.
    fn probe(root: &Root, name: &str) -> Self {
        let mut module = Self::of_sysfs(root, name);
        if !module.is_live() {
            // It fails for a module that is not there.
            let file = program::run(root, "modinfo", &["-F", "filename", name]);
            module.presence = match file.as_deref().map(str::trim) {
                Ok("(builtin)") => Presence::BuiltIn,
                Ok(file) if !file.is_empty() => Presence::Available,
                _ => Presence::Absent,
            };
        }
        module
    }

    /// Reads what sysfs alone shows of a module: that takes no other program.
    pub(super) fn of_sysfs(root: &Root, name: &str) -> Self {
        let directory = format!("/sys/module/{name}");
        let uses = root.read(format!("{directory}/refcnt")).unwrap_or_default();
        let presence = match uses.parse() {
            Ok(uses) => Presence::Loaded { uses },
            // A module without a count of its uses cannot be unloaded: it is built in (`kernel/params.c`), or the
            // kernel has no CONFIG_MODULE_UNLOAD.
            Err(_) if root.path(&directory).is_dir() => Presence::BuiltIn,
            Err(_) => Presence::Absent,
        };
        Self {
            name: name.to_owned(),
            presence,
            used_by: root.names(format!("{directory}/holders")),
        }
    }

    /// Whether its code is in the kernel now.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.presence, Presence::Loaded { .. } | Presence::BuiltIn)
    }

    /// The names of its parameters. Of one that is not loaded modinfo shows them as `NAME:DESCRIPTION (TYPE)`, where the
    /// description may have several lines.
    pub(super) fn parameters(&self, root: &Root) -> Vec<String> {
        if self.is_live() {
            return root.names(format!("/sys/module/{}/parameters", self.name));
        }
        let shown = program::run(root, "modinfo", &["-p", &self.name]).unwrap_or_default();
        let names = shown.lines().filter_map(|line| line.split_once(':'));
        names.map(|(name, _)| name.to_owned()).collect()
    }
}

/// The file of a parameter that is called `MODULE.PARAMETER`.
pub(super) fn parameter_path(setting: &str) -> String {
    let (module, parameter) = setting.split_once('.').unwrap_or_default();
    format!("/sys/module/{module}/parameters/{parameter}")
}
