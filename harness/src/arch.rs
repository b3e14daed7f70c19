//! The architectures that have KVM selftests.

use std::fmt;

/// An architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 64-bit Arm.
    Aarch64,
    /// IBM Z.
    S390x,
    /// 64-bit RISC-V.
    Riscv64,
    /// 64-bit LoongArch.
    Loongarch64,
}

/// Every name that is understood: first those of `uname -m`, then those of the kernel's directories under `arch/`.
const NAMES: &[(&str, Arch)] = &[
    ("x86_64", Arch::X86_64),
    ("aarch64", Arch::Aarch64),
    ("s390x", Arch::S390x),
    ("riscv64", Arch::Riscv64),
    ("loongarch64", Arch::Loongarch64),
    ("x86", Arch::X86_64),
    ("arm64", Arch::Aarch64),
    ("s390", Arch::S390x),
    ("riscv", Arch::Riscv64),
    ("loongarch", Arch::Loongarch64),
];

impl Arch {
    /// The architecture of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, arch)| *arch)
    }

    /// Every name that [`Arch::from_name`] understands.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| *name)
    }

    /// Its name, as `uname -m` prints it.
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
            Self::S390x => "s390x",
            Self::Riscv64 => "riscv64",
            Self::Loongarch64 => "loongarch64",
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_architecture_is_found_by_what_uname_and_the_kernel_call_it() {
        for (name, arch) in NAMES {
            assert_eq!(Arch::from_name(name), Some(*arch));
            assert_eq!(Arch::from_name(arch.name()), Some(*arch));
        }
        assert_eq!(Arch::from_name("i386"), None);
    }
}
