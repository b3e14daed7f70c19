//! Features: one name for what every vendor calls differently. docs/environments.md shows the table here.

use super::host::{VENDORS, Vendor};

/// The value of a feature that is on.
pub(super) const ON: &str = "on";

/// The value of a feature that is off.
const OFF: &str = "off";

/// The knob of a feature that is on, always.
pub(super) const ALWAYS: &str = "always";

/// The knob of a feature that there is not.
pub(super) const NONE: &str = "–";

/// The knob of a feature that is on where KVM has the capability [`ARM_EL2`], for which the kernel has to be booted so.
pub(super) const BOOT: &str = "kvm-arm.mode=nested";

/// KVM_CAP_ARM_EL2 (`include/uapi/linux/kvm.h`): Linux 6.16 and later have it.
pub(super) const ARM_EL2: u32 = 240;

/// A feature: a vendor-neutral knob.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Feature {
    /// Its name.
    pub(super) name: &'static str,
    /// What it does.
    meaning: &'static str,
    /// What it can be set to.
    pub(super) values: Allowed,
    /// What it is on the hosts of each of [`VENDORS`]: a parameter of a module (`kvm.tdp_mmu`), the path of a file, or one
    /// of the constants above.
    knobs: [&'static str; VENDORS.len()],
}

/// What a feature can be set to.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Allowed {
    /// On (`true`) or off (`false`).
    Switch,
    /// One of these words.
    Words(&'static [Word]),
    /// A number, 0 being off.
    Number,
}

/// A word that a feature can be set to, what is written for it, and what may be read afterwards.
pub type Word = (&'static str, &'static str, &'static [&'static str]);

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

/// Where the kernel keeps whether memory is backed by transparent huge pages.
const TRANSPARENT_HUGE_PAGES: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

/// A switch that is one and the same knob everywhere.
const fn everywhere(name: &'static str, meaning: &'static str, knob: &'static str) -> Feature {
    Feature {
        name,
        meaning,
        values: Allowed::Switch,
        knobs: [knob; VENDORS.len()],
    }
}

/// A switch of x86.
const fn x86(
    name: &'static str,
    meaning: &'static str,
    intel: &'static str,
    amd: &'static str,
) -> Feature {
    let none = everywhere(name, meaning, NONE);
    none.on(Vendor::Intel, intel).on(Vendor::Amd, amd)
}

/// A switch of `kvm` itself on x86.
const fn common(name: &'static str, meaning: &'static str, knob: &'static str) -> Feature {
    x86(name, meaning, knob, knob)
}

/// Every feature. Those on which others depend stand before them: what a user had set is looked for in this order.
///
/// The parameters are those of Linux 6.12 to 7.3: `arch/x86/kvm/{x86.c,mmu/mmu.c,vmx/vmx.c,svm/svm.c,svm/sev.c}`,
/// `virt/kvm/kvm_main.c`, `arch/arm64/kvm/arm.c`, `arch/s390/kvm/kvm-s390.c`, `arch/powerpc/kvm/book3s_hv.c`,
/// `arch/riscv/kvm/mmu.c`.
#[rustfmt::skip] // A table: a row a line.
pub(super) const FEATURES: &[Feature] = &[
    x86("tdp", "two-dimensional paging", "kvm_intel.ept", "kvm_amd.npt")
        .on(Vendor::Arm, ALWAYS).on(Vendor::S390, ALWAYS).on(Vendor::Riscv, ALWAYS).on(Vendor::Loongarch, ALWAYS),
    x86("nested", "VMs inside VMs", "kvm_intel.nested", "kvm_amd.nested").on(Vendor::Arm, BOOT)
        .on(Vendor::S390, "kvm.nested").on(Vendor::Power, "kvm_hv.nested"),
    x86("apicv", "APIC virtualization, x2APIC included", "kvm_intel.enable_apicv", "kvm_amd.avic"),
    x86("ipiv", "IPI virtualization", "kvm_intel.enable_ipiv", "kvm_amd.enable_ipiv"),
    x86("device_posted_irqs", "interrupts of devices posted to vCPUs",
        "kvm_intel.enable_device_posted_irqs", "kvm_amd.enable_device_posted_irqs"),
    x86("unrestricted_guest", "real mode without emulation", "kvm_intel.unrestricted_guest", ALWAYS),
    x86("smaller_maxphyaddr", "guests with fewer physical address bits", "kvm_intel.allow_smaller_maxphyaddr", NONE),
    x86("ept_ad", "accessed and dirty bits in EPT", "kvm_intel.eptad", NONE),
    x86("pml", "page modification logging", "kvm_intel.pml", NONE),
    x86("shadow_vmcs", "VMREAD and VMWRITE of nested hypervisors without exits", "kvm_intel.enable_shadow_vmcs", NONE),
    x86("preemption_timer", "the APIC timer by VMX's own", "kvm_intel.preemption_timer", NONE),
    x86("vpid", "tagged TLB entries", "kvm_intel.vpid", NONE),
    x86("flexpriority", "TPR shadowing", "kvm_intel.flexpriority", NONE),
    x86("tsc_scaling", "a TSC frequency of the guest's own", NONE, "kvm_amd.tsc_scaling"),
    x86("nrips", "the next RIP saved on exits", NONE, "kvm_amd.nrips"),
    x86("vgif", "virtual global interrupt flag", NONE, "kvm_amd.vgif"),
    x86("vnmi", "virtual NMIs", "kvm_intel.vnmi", "kvm_amd.vnmi"),
    x86("vls", "virtual VMLOAD and VMSAVE", NONE, "kvm_amd.vls"),
    x86("lbrv", "virtual last-branch records", NONE, "kvm_amd.lbrv"),
    x86("sev", "encrypted memory", NONE, "kvm_amd.sev"),
    x86("sev_es", "encrypted registers", NONE, "kvm_amd.sev_es"),
    common("tdp_mmu", "the MMU for two-dimensional paging alone", "kvm.tdp_mmu"),
    common("mmio_caching", "MMIO remembered in page tables", "kvm.mmio_caching"),
    common("pmu", "performance counters for guests", "kvm.enable_pmu"),
    x86("mediated_pmu", "performance counters that a guest has to itself",
        "kvm_intel.enable_mediated_pmu", "kvm_amd.enable_mediated_pmu"),
    common("virt_at_load", "virtualization on as soon as the module is loaded", "kvm.enable_virt_at_load"),
    common("vmware_backdoor", "VMware's I/O port", "kvm.enable_vmware_backdoor"),
    common("eager_page_split", "huge pages split ahead of dirty logging", "kvm.eager_page_split")
        .on(Vendor::Riscv, "kvm.eager_page_split"),
    common("emulation_prefix", "instructions emulated when prefixed", "kvm.force_emulation_prefix"),
    common("ignore_msrs", "unknown MSRs ignored", "kvm.ignore_msrs"),
    common("nx_huge_pages", "huge pages not executable", "kvm.nx_huge_pages").of(Allowed::Words(NX_HUGE_PAGES)),
    everywhere("hpage", "guests backed by huge pages", NONE).on(Vendor::S390, "kvm.hpage"),
    everywhere("halt_polling", "how long a halted vCPU polls, in nanoseconds", "kvm.halt_poll_ns").of(Allowed::Number),
    everywhere("huge_pages", "transparent huge pages behind guest memory", TRANSPARENT_HUGE_PAGES)
        .of(Allowed::Words(HUGE_PAGES)),
];

impl Feature {
    /// The same, with another knob on the hosts of `vendor`.
    const fn on(mut self, vendor: Vendor, knob: &'static str) -> Self {
        self.knobs[vendor as usize] = knob;
        self
    }

    /// The same, with other values.
    const fn of(mut self, values: Allowed) -> Self {
        self.values = values;
        self
    }

    /// What it is on a platform. On an unknown one only what both of x86 share is known.
    pub(super) fn knob(&self, vendor: Vendor) -> &'static str {
        match self.knobs.get(vendor as usize) {
            Some(knob) => knob,
            None if self.knobs[0] == self.knobs[1] => self.knobs[0],
            None => NONE,
        }
    }

    /// Whether it is this setting, a parameter or a file, on some host.
    pub(super) fn is(&self, setting: &str) -> bool {
        self.knobs.contains(&setting)
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
            Allowed::Words(words) => format!("one of {}", names(words)),
        }
    }
}

fn names(words: &[Word]) -> String {
    let names: Vec<&str> = words.iter().map(|word| word.0).collect();
    names.join(", ")
}

/// What may be read of a setting, a parameter or a file, after a word of its own was written to it.
pub(super) fn read_after(setting: &str, written: &str) -> Option<&'static [&'static str]> {
    let features = FEATURES.iter().filter(|feature| feature.is(setting));
    let mut words = features.flat_map(|feature| match feature.values {
        Allowed::Words(words) => words,
        Allowed::Switch | Allowed::Number => &[],
    });
    let word = words.find(|word| word.1 == written);
    word.map(|(.., reads)| *reads)
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
    let number = match value.strip_prefix("0x") {
        Some(digits) => i128::from_str_radix(digits, 16),
        None => value.parse(),
    };
    number.ok()
}

/// A knob as the table shows it.
fn in_markdown(knob: &str) -> String {
    match knob {
        ALWAYS | NONE => knob.to_owned(),
        BOOT => format!("`{knob}`, boot only"),
        _ => format!("`{}`", knob.trim_start_matches("/sys/kernel/mm/")),
    }
}

/// The table of features in Markdown.
pub fn markdown() -> String {
    let mut table = format!("| feature | values | {} |\n", VENDORS.join(" | "));
    table += &format!("|{}\n", "---|".repeat(2 + VENDORS.len()));
    for feature in FEATURES {
        let values = match feature.values {
            Allowed::Switch => "on, off".to_owned(),
            Allowed::Number => "a number, off".to_owned(),
            Allowed::Words(words) => names(words),
        };
        let knobs: Vec<String> = feature.knobs.iter().map(|knob| in_markdown(knob)).collect();
        let (name, meaning, knobs) = (feature.name, feature.meaning, knobs.join(" | "));
        table += &format!("| `{name}`: {meaning} | {values} | {knobs} |\n");
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
            let has_knob = feature.knobs.iter().any(|knob| *knob != NONE);
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
