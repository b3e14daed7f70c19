//! Features: one name for what every vendor calls differently. docs/environments.md shows the table here.

use super::platform::Vendor;
use Knob::{Always, Boot, File, None as No, Parameter};

/// The value of a feature that is on.
pub(super) const ON: &str = "on";

/// The value of a feature that is off.
pub(super) const OFF: &str = "off";

/// A feature: a vendor-neutral knob.
#[derive(Debug)]
pub(super) struct Feature {
    /// Its name.
    pub(super) name: &'static str,
    /// What it does.
    pub(super) meaning: &'static str,
    /// What it can be set to.
    pub(super) values: Allowed,
    /// What it is on each of the known vendors' hosts, in their order.
    knobs: [Knob; Vendor::KNOWN.len()],
}

/// What a feature can be set to.
#[derive(Debug)]
pub(super) enum Allowed {
    /// On (`true`) or off (`false`).
    Switch,
    /// One of these words.
    Words(&'static [Word]),
    /// A number, 0 being off.
    Number,
}

/// A word that a feature can be set to, what is written for it, and what may be read afterwards.
pub(super) type Word = (&'static str, &'static str, &'static [&'static str]);

/// What a feature is on a platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Knob {
    /// A parameter of a module.
    Parameter(&'static str, &'static str),
    /// A file of sysfs.
    File(&'static str),
    /// On, always.
    Always,
    /// On where KVM has this capability (KVM_CHECK_EXTENSION), for which the kernel has to be booted with a parameter.
    Boot(u32, &'static str),
    /// Nothing.
    None,
}

/// `nx_huge_pages` reads back as a bool, but for `never` (`get_nx_huge_pages` in `arch/x86/kvm/mmu/mmu.c`). `off` and
/// `on` stand for the booleans here and below.
const NX_HUGE_PAGES: &[Word] = &[
    (OFF, "off", &["N"]),
    ("force", "force", &["Y"]),
    (ON, "force", &["Y"]),
    ("auto", "auto", &["Y", "N"]),
    ("never", "never", &["never"]),
];

/// Documentation/admin-guide/mm/transhuge.rst
const HUGE_PAGES: &[Word] = &[
    ("always", "always", &["always"]),
    (ON, "always", &["always"]),
    ("madvise", "madvise", &["madvise"]),
    ("never", "never", &["never"]),
    (OFF, "never", &["never"]),
];

/// KVM_CAP_ARM_EL2 (`include/uapi/linux/kvm.h`): Linux 6.16 and later have it.
const ARM_EL2: u32 = 240;

/// Where the kernel keeps whether memory is backed by transparent huge pages.
const TRANSPARENT_HUGE_PAGES: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

const fn kvm(parameter: &'static str) -> Knob {
    Knob::Parameter("kvm", parameter)
}

const fn kvm_intel(parameter: &'static str) -> Knob {
    Knob::Parameter("kvm_intel", parameter)
}

const fn kvm_amd(parameter: &'static str) -> Knob {
    Knob::Parameter("kvm_amd", parameter)
}

/// A switch that is one and the same knob everywhere.
const fn everywhere(name: &'static str, meaning: &'static str, knob: Knob) -> Feature {
    Feature {
        name,
        meaning,
        values: Allowed::Switch,
        knobs: [knob; Vendor::KNOWN.len()],
    }
}

/// A switch of x86.
const fn x86(name: &'static str, meaning: &'static str, intel: Knob, amd: Knob) -> Feature {
    let none = everywhere(name, meaning, Knob::None);
    none.on(Vendor::Intel, intel).on(Vendor::Amd, amd)
}

/// A switch of Intel's alone.
const fn intel(name: &'static str, meaning: &'static str, parameter: &'static str) -> Feature {
    x86(name, meaning, kvm_intel(parameter), Knob::None)
}

/// A switch of AMD's alone.
const fn amd(name: &'static str, meaning: &'static str, parameter: &'static str) -> Feature {
    x86(name, meaning, Knob::None, kvm_amd(parameter))
}

/// A switch that both of x86's vendor modules have by this name.
const fn both(name: &'static str, meaning: &'static str, parameter: &'static str) -> Feature {
    x86(name, meaning, kvm_intel(parameter), kvm_amd(parameter))
}

/// A switch of `kvm` itself on x86.
const fn common(name: &'static str, meaning: &'static str, parameter: &'static str) -> Feature {
    x86(name, meaning, kvm(parameter), kvm(parameter))
}

/// Every feature. Those on which others depend stand before them: what a user had set is looked for in this order.
///
/// The parameters are those of Linux 6.12 to 7.3: `arch/x86/kvm/{x86.c,mmu/mmu.c,vmx/vmx.c,svm/svm.c,svm/sev.c}`,
/// `virt/kvm/kvm_main.c`, `arch/arm64/kvm/arm.c`, `arch/s390/kvm/kvm-s390.c`, `arch/powerpc/kvm/book3s_hv.c`,
/// `arch/riscv/kvm/mmu.c`.
#[rustfmt::skip] // A table: a row a line.
pub(super) const FEATURES: &[Feature] = &[
    x86("tdp", "two-dimensional paging", kvm_intel("ept"), kvm_amd("npt"))
        .on(Vendor::Arm, Always).on(Vendor::S390, Always).on(Vendor::Riscv, Always).on(Vendor::Loongarch, Always),
    both("nested", "VMs inside VMs", "nested").on(Vendor::Arm, Boot(ARM_EL2, "kvm-arm.mode=nested"))
        .on(Vendor::S390, kvm("nested")).on(Vendor::Power, Parameter("kvm_hv", "nested")),
    x86("apicv", "APIC virtualization, x2APIC included", kvm_intel("enable_apicv"), kvm_amd("avic")),
    both("ipiv", "IPI virtualization", "enable_ipiv"),
    both("device_posted_irqs", "interrupts of devices posted to vCPUs", "enable_device_posted_irqs"),
    x86("unrestricted_guest", "real mode without emulation", kvm_intel("unrestricted_guest"), Always),
    intel("smaller_maxphyaddr", "guests with fewer physical address bits", "allow_smaller_maxphyaddr"),
    intel("ept_ad", "accessed and dirty bits in EPT", "eptad"),
    intel("pml", "page modification logging", "pml"),
    intel("shadow_vmcs", "VMREAD and VMWRITE of nested hypervisors without exits", "enable_shadow_vmcs"),
    intel("preemption_timer", "the APIC timer by VMX's own", "preemption_timer"),
    intel("vpid", "tagged TLB entries", "vpid"),
    intel("flexpriority", "TPR shadowing", "flexpriority"),
    amd("tsc_scaling", "a TSC frequency of the guest's own", "tsc_scaling"),
    amd("nrips", "the next RIP saved on exits", "nrips"),
    amd("vgif", "virtual global interrupt flag", "vgif"),
    both("vnmi", "virtual NMIs", "vnmi"),
    amd("vls", "virtual VMLOAD and VMSAVE", "vls"),
    amd("lbrv", "virtual last-branch records", "lbrv"),
    amd("sev", "encrypted memory", "sev"),
    amd("sev_es", "encrypted registers", "sev_es"),
    common("tdp_mmu", "the MMU for two-dimensional paging alone", "tdp_mmu"),
    common("mmio_caching", "MMIO remembered in page tables", "mmio_caching"),
    common("pmu", "performance counters for guests", "enable_pmu"),
    both("mediated_pmu", "performance counters that a guest has to itself", "enable_mediated_pmu"),
    common("virt_at_load", "virtualization on as soon as the module is loaded", "enable_virt_at_load"),
    common("vmware_backdoor", "VMware's I/O port", "enable_vmware_backdoor"),
    common("eager_page_split", "huge pages split ahead of dirty logging", "eager_page_split")
        .on(Vendor::Riscv, kvm("eager_page_split")),
    common("emulation_prefix", "instructions emulated when prefixed", "force_emulation_prefix"),
    common("ignore_msrs", "unknown MSRs ignored", "ignore_msrs"),
    common("nx_huge_pages", "huge pages not executable", "nx_huge_pages").of(Allowed::Words(NX_HUGE_PAGES)),
    everywhere("hpage", "guests backed by huge pages", No).on(Vendor::S390, kvm("hpage")),
    everywhere("halt_polling", "how long a halted vCPU polls, in nanoseconds", kvm("halt_poll_ns")).of(Allowed::Number),
    everywhere("huge_pages", "transparent huge pages behind guest memory", File(TRANSPARENT_HUGE_PAGES))
        .of(Allowed::Words(HUGE_PAGES)),
];

impl Feature {
    /// The same, with another knob on the hosts of `vendor`.
    const fn on(mut self, vendor: Vendor, knob: Knob) -> Self {
        self.knobs[vendor as usize] = knob;
        self
    }

    /// The same, with other values.
    const fn of(mut self, values: Allowed) -> Self {
        self.values = values;
        self
    }

    /// The one of this name.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        FEATURES.iter().find(|feature| feature.name == name)
    }

    /// What it is on a platform. On an unknown one only what both of x86 share is known.
    pub(super) fn knob(&self, vendor: Vendor) -> Knob {
        match self.knobs.get(vendor as usize) {
            Some(knob) => *knob,
            None if self.knobs[0] == self.knobs[1] => self.knobs[0],
            None => Knob::None,
        }
    }

    /// Whether it is this setting, a parameter or a file, on some host.
    pub(super) fn is(&self, setting: &str) -> bool {
        self.knobs.iter().any(|knob| knob.label() == setting)
    }

    /// The value that a text of the user's means for it.
    pub(super) fn value(&self, text: &str) -> Option<String> {
        let boolean = match text {
            "true" | "yes" => Some(true),
            "false" | "no" => Some(false),
            _ => switch(text),
        };
        let word = boolean.map(|on| if on { ON } else { OFF });
        match self.values {
            Allowed::Switch => word.map(str::to_owned),
            Allowed::Number if boolean == Some(false) => Some("0".to_owned()),
            Allowed::Number => text.parse().ok().map(|number: u32| number.to_string()),
            Allowed::Words(words) => {
                let mut names = words.iter().map(|word| word.0);
                names
                    .find(|&name| name == text || Some(name) == word)
                    .map(str::to_owned)
            }
        }
    }

    /// What it takes, in words that follow "must be".
    pub(super) fn takes(&self) -> String {
        match self.values {
            Allowed::Switch => "`true` or `false`".to_owned(),
            Allowed::Number => "a number, or `false` for 0".to_owned(),
            Allowed::Words(words) => {
                let names: Vec<String> = words.iter().map(|word| format!("{:?}", word.0)).collect();
                format!("one of {}", names.join(", "))
            }
        }
    }
}

/// On or off, in the spellings that the kernel takes (`kstrtobool` in `lib/kstrtox.c`).
pub(super) fn switch(value: &str) -> Option<bool> {
    match value {
        "Y" | "y" | "1" | "on" | "On" | "ON" => Some(true),
        "N" | "n" | "0" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

/// A whole number, decimal or hexadecimal.
pub(super) fn number(value: &str) -> Option<i128> {
    let (sign, digits) = match value.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, value),
    };
    let number = match digits.strip_prefix("0x") {
        Some(digits) => i128::from_str_radix(digits, 16),
        None => digits.parse(),
    };
    number.ok().map(|number| sign * number)
}

impl Knob {
    /// What it is called as a setting.
    fn label(self) -> String {
        match self {
            Self::Parameter(module, parameter) => format!("{module}.{parameter}"),
            Self::File(path) => path.to_owned(),
            Self::Always => "always".to_owned(),
            Self::Boot(_, parameter) => parameter.to_owned(),
            Self::None => "–".to_owned(),
        }
    }

    fn describe(self) -> String {
        let label = self.label();
        match self {
            Self::Parameter(..) | Self::File(_) => {
                format!("`{}`", label.trim_start_matches("/sys/kernel/mm/"))
            }
            Self::Boot(..) => format!("`{label}`, boot only"),
            Self::Always | Self::None => label,
        }
    }
}

/// The table of features in Markdown.
pub fn markdown() -> String {
    let vendors: Vec<String> = Vendor::KNOWN.iter().map(ToString::to_string).collect();
    let mut table = format!("| feature | values | {} |\n", vendors.join(" | "));
    table.push_str(&format!("|{}\n", "---|".repeat(2 + vendors.len())));
    for feature in FEATURES {
        let values = match feature.values {
            Allowed::Switch => "on, off".to_owned(),
            Allowed::Number => "a number, off".to_owned(),
            Allowed::Words(words) => {
                let names: Vec<&str> = words.iter().map(|word| word.0).collect();
                names.join(", ")
            }
        };
        let knobs: Vec<String> = feature.knobs.iter().map(|knob| knob.describe()).collect();
        let (name, meaning, knobs) = (feature.name, feature.meaning, knobs.join(" | "));
        table.push_str(&format!("| `{name}`: {meaning} | {values} | {knobs} |\n"));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_has_one_row_and_a_knob_somewhere() {
        let mut names: Vec<&str> = FEATURES.iter().map(|feature| feature.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FEATURES.len());
        for feature in FEATURES {
            let has_knob = feature.knobs.iter().any(|knob| *knob != Knob::None);
            assert!(has_knob, "{}", feature.name);
        }
        assert_eq!(markdown().lines().count(), FEATURES.len() + 2);
        assert!(markdown().contains(
            "| `kvm_intel.ept` | `kvm_amd.npt` | always | always | – | always | always |"
        ));
    }

    #[test]
    fn numbers_are_decimal_or_hexadecimal() {
        let numbers = ["0x10", "16", "-1", "010", "", "-", "1x"].map(number);
        assert_eq!(
            numbers,
            [Some(16), Some(16), Some(-1), Some(10), None, None, None]
        );
    }
}
