//! Features: one name for what every vendor calls differently. The table here is the one that the README shows.

use super::platform::Vendor;
use super::value;

/// The value of a feature that is on.
pub const ON: &str = "on";

/// The value of a feature that is off.
pub const OFF: &str = "off";

/// A feature: a vendor-neutral knob.
#[derive(Debug)]
pub struct Feature {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub meaning: &'static str,
    /// What it can be set to.
    pub values: Values,
    intel: Knob,
    amd: Knob,
    arm: Knob,
    s390: Knob,
    power: Knob,
    riscv: Knob,
    loongarch: Knob,
}

/// What a feature can be set to.
#[derive(Debug)]
pub enum Values {
    /// On (`true`) or off (`false`), spelled as the parameter's type wants it.
    Switch,
    /// One of these words.
    Words(&'static [Word]),
    /// A number, 0 being off.
    Number,
}

/// A word that a feature can be set to.
#[derive(Debug)]
pub struct Word {
    /// The word.
    pub name: &'static str,
    /// What is written for it.
    pub write: &'static str,
    /// What may be read afterwards.
    pub reads: &'static [&'static str],
}

/// What a feature is on a platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Knob {
    /// A parameter of a module.
    Parameter(&'static str, &'static str),
    /// A file of sysfs.
    File(&'static str),
    /// On, always.
    Always,
    /// On if the kernel was booted with this parameter.
    Boot(&'static str),
    /// Nothing.
    None,
}

use Knob::{Always, Boot, File, None as No, Parameter};

/// `nx_huge_pages` reads back as a bool, but for `never` (`get_nx_huge_pages` in `arch/x86/kvm/mmu/mmu.c`). `off` and
/// `on` stand for the booleans here and below.
const NX_HUGE_PAGES: &[Word] = &[
    Word {
        name: "off",
        write: "off",
        reads: &["N"],
    },
    Word {
        name: "force",
        write: "force",
        reads: &["Y"],
    },
    Word {
        name: "on",
        write: "force",
        reads: &["Y"],
    },
    Word {
        name: "auto",
        write: "auto",
        reads: &["Y", "N"],
    },
    Word {
        name: "never",
        write: "never",
        reads: &["never"],
    },
];

/// Documentation/admin-guide/mm/transhuge.rst
const HUGE_PAGES: &[Word] = &[
    Word {
        name: "always",
        write: "always",
        reads: &["always"],
    },
    Word {
        name: "on",
        write: "always",
        reads: &["always"],
    },
    Word {
        name: "madvise",
        write: "madvise",
        reads: &["madvise"],
    },
    Word {
        name: "never",
        write: "never",
        reads: &["never"],
    },
    Word {
        name: "off",
        write: "never",
        reads: &["never"],
    },
];

/// Where the kernel keeps whether memory is backed by transparent huge pages.
pub const TRANSPARENT_HUGE_PAGES: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

/// One and the same knob everywhere.
const fn everywhere(
    name: &'static str,
    meaning: &'static str,
    values: Values,
    knob: Knob,
) -> Feature {
    Feature {
        name,
        meaning,
        values,
        intel: knob,
        amd: knob,
        arm: knob,
        s390: knob,
        power: knob,
        riscv: knob,
        loongarch: knob,
    }
}

/// A feature of x86 alone.
const fn x86(name: &'static str, meaning: &'static str, intel: Knob, amd: Knob) -> Feature {
    Feature {
        intel,
        amd,
        ..everywhere(name, meaning, Values::Switch, No)
    }
}

/// The same parameter of `kvm` for all of x86.
const fn common(name: &'static str, meaning: &'static str, parameter: &'static str) -> Feature {
    x86(
        name,
        meaning,
        Parameter("kvm", parameter),
        Parameter("kvm", parameter),
    )
}

const fn intel(name: &'static str, meaning: &'static str, parameter: &'static str) -> Feature {
    x86(name, meaning, Parameter("kvm_intel", parameter), No)
}

const fn amd(name: &'static str, meaning: &'static str, parameter: &'static str) -> Feature {
    x86(name, meaning, No, Parameter("kvm_amd", parameter))
}

/// Every feature. Those on which others depend stand before them: what a user had set is looked for in this order.
///
/// The parameters are those of Linux 6.12: `arch/x86/kvm/{x86.c,mmu/mmu.c,vmx/vmx.c,svm/svm.c}`, `virt/kvm/kvm_main.c`,
/// `arch/arm64/kvm/arm.c`, `arch/s390/kvm/kvm-s390.c`, `arch/powerpc/kvm/book3s_hv.c`.
pub const FEATURES: &[Feature] = &[
    Feature {
        arm: Always,
        s390: Always,
        riscv: Always,
        loongarch: Always,
        ..x86(
            "tdp",
            "two-dimensional paging",
            Parameter("kvm_intel", "ept"),
            Parameter("kvm_amd", "npt"),
        )
    },
    Feature {
        arm: Boot("kvm-arm.mode=nested"),
        s390: Parameter("kvm", "nested"),
        power: Parameter("kvm_hv", "nested"),
        ..x86(
            "nested",
            "VMs inside VMs",
            Parameter("kvm_intel", "nested"),
            Parameter("kvm_amd", "nested"),
        )
    },
    x86(
        "apicv",
        "APIC virtualization, x2APIC included",
        Parameter("kvm_intel", "enable_apicv"),
        Parameter("kvm_amd", "avic"),
    ),
    x86(
        "ipiv",
        "IPI virtualization",
        Parameter("kvm_intel", "enable_ipiv"),
        Parameter("kvm_amd", "enable_ipiv"),
    ),
    x86(
        "unrestricted_guest",
        "real mode without emulation",
        Parameter("kvm_intel", "unrestricted_guest"),
        Always,
    ),
    intel("ept_ad", "accessed and dirty bits in EPT", "eptad"),
    intel("pml", "page modification logging", "pml"),
    intel("vpid", "tagged TLB entries", "vpid"),
    intel("flexpriority", "TPR shadowing", "flexpriority"),
    amd("vgif", "virtual global interrupt flag", "vgif"),
    x86(
        "vnmi",
        "virtual NMIs",
        Parameter("kvm_intel", "vnmi"),
        Parameter("kvm_amd", "vnmi"),
    ),
    amd("vls", "virtual VMLOAD and VMSAVE", "vls"),
    amd("lbrv", "virtual last-branch records", "lbrv"),
    common(
        "tdp_mmu",
        "the MMU for two-dimensional paging alone",
        "tdp_mmu",
    ),
    common(
        "mmio_caching",
        "MMIO remembered in page tables",
        "mmio_caching",
    ),
    common("pmu", "performance counters for guests", "enable_pmu"),
    common(
        "vmware_backdoor",
        "VMware's I/O port",
        "enable_vmware_backdoor",
    ),
    common(
        "eager_page_split",
        "huge pages split ahead of dirty logging",
        "eager_page_split",
    ),
    common(
        "emulation_prefix",
        "instructions emulated when prefixed",
        "force_emulation_prefix",
    ),
    common("ignore_msrs", "unknown MSRs ignored", "ignore_msrs"),
    Feature {
        values: Values::Words(NX_HUGE_PAGES),
        ..common(
            "nx_huge_pages",
            "huge pages not executable",
            "nx_huge_pages",
        )
    },
    everywhere(
        "halt_polling",
        "how long a halted vCPU polls, in nanoseconds",
        Values::Number,
        Parameter("kvm", "halt_poll_ns"),
    ),
    everywhere(
        "huge_pages",
        "transparent huge pages behind guest memory",
        Values::Words(HUGE_PAGES),
        File(TRANSPARENT_HUGE_PAGES),
    ),
];

impl Feature {
    /// The one of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        FEATURES.iter().find(|feature| feature.name == name)
    }

    /// What it is on a platform. On an unknown one only what every vendor shares is known.
    pub fn knob(&self, vendor: Vendor) -> Knob {
        match vendor {
            Vendor::Intel => self.intel,
            Vendor::Amd => self.amd,
            Vendor::Arm => self.arm,
            Vendor::S390 => self.s390,
            Vendor::Power => self.power,
            Vendor::Riscv => self.riscv,
            Vendor::Loongarch => self.loongarch,
            Vendor::Unknown if self.intel == self.amd => self.intel,
            Vendor::Unknown => Knob::None,
        }
    }

    /// Whether it is this parameter of a module on a platform.
    pub fn is_parameter(&self, vendor: Vendor, module: &str, name: &str) -> bool {
        matches!(self.knob(vendor), Knob::Parameter(m, n) if m == module && n == name)
    }

    /// What a boolean means for it.
    pub fn of_bool(&self, on: bool) -> Option<String> {
        match (&self.values, on) {
            (Values::Switch, _) => Some(if on { ON } else { OFF }.to_owned()),
            (Values::Words(_), _) => self.of_word(if on { ON } else { OFF }),
            (Values::Number, false) => Some("0".to_owned()),
            (Values::Number, true) => None,
        }
    }

    /// What a number means for it.
    pub fn of_number(&self, number: u32) -> Option<String> {
        matches!(self.values, Values::Number).then(|| number.to_string())
    }

    /// What a word means for it.
    pub fn of_word(&self, name: &str) -> Option<String> {
        let Values::Words(words) = self.values else {
            return None;
        };
        words
            .iter()
            .any(|word| word.name == name)
            .then(|| name.to_owned())
    }

    /// What the text of an option of the command line means for it.
    pub fn of_text(&self, text: &str) -> Option<String> {
        let on = match text {
            "true" | "yes" => Some(true),
            "false" | "no" => Some(false),
            _ => value::switch(text),
        };
        let number = || self.of_number(text.parse().ok()?);
        self.of_word(text)
            .or_else(number)
            .or_else(|| self.of_bool(on?))
    }

    /// What it takes, in words that follow "must be".
    pub fn takes(&self) -> String {
        match self.values {
            Values::Switch => "`true` or `false`".to_owned(),
            Values::Number => "a number, or `false` for 0".to_owned(),
            Values::Words(words) => {
                let names: Vec<String> = words
                    .iter()
                    .map(|word| format!("\"{}\"", word.name))
                    .collect();
                format!("one of {}", names.join(", "))
            }
        }
    }
}

impl Knob {
    fn describe(self) -> String {
        match self {
            Self::Parameter(module, parameter) => format!("`{module}.{parameter}`"),
            Self::File(path) => format!("`{}`", path.trim_start_matches("/sys/kernel/mm/")),
            Self::Always => "always".to_owned(),
            Self::Boot(parameter) => format!("`{parameter}`, boot only"),
            Self::None => "–".to_owned(),
        }
    }
}

/// The table of features in Markdown, as the README shows it.
pub fn markdown() -> String {
    let vendors: Vec<String> = Vendor::KNOWN.iter().map(ToString::to_string).collect();
    let mut table = format!("| feature | values | {} |\n", vendors.join(" | "));
    table.push_str(&format!("|{}\n", "---|".repeat(2 + vendors.len())));
    for feature in FEATURES {
        let values = match feature.values {
            Values::Switch => "on, off".to_owned(),
            Values::Number => "a number, off".to_owned(),
            Values::Words(words) => words
                .iter()
                .map(|word| word.name)
                .collect::<Vec<_>>()
                .join(", "),
        };
        let knobs: Vec<String> = Vendor::KNOWN
            .iter()
            .map(|&vendor| feature.knob(vendor).describe())
            .collect();
        let row = format!(
            "| `{}`: {} | {values} | {} |\n",
            feature.name,
            feature.meaning,
            knobs.join(" | ")
        );
        table.push_str(&row);
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
            assert!(
                Vendor::KNOWN
                    .iter()
                    .any(|&vendor| feature.knob(vendor) != No),
                "{}",
                feature.name
            );
        }
        assert_eq!(markdown().lines().count(), FEATURES.len() + 2);
        assert!(markdown().contains(
            "| `kvm_intel.ept` | `kvm_amd.npt` | always | always | – | always | always |"
        ));
    }
}
