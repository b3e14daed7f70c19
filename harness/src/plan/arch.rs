//! The architectures that KVM selftests exist for, and the names that each goes by.

use std::fmt;

/// An architecture with KVM selftests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    /// Intel's and AMD's 64-bit one.
    X86_64,
    /// Arm's 64-bit one.
    Aarch64,
    /// IBM Z.
    S390x,
    /// RISC-V, 64-bit.
    Riscv64,
    /// LoongArch, 64-bit.
    Loongarch64,
}

impl Arch {
    /// Every one.
    pub const ALL: &[Self] = &[
        Self::X86_64,
        Self::Aarch64,
        Self::S390x,
        Self::Riscv64,
        Self::Loongarch64,
    ];

    /// This host's, if it is one of them.
    pub fn host() -> Option<Self> {
        Self::from_name(std::env::consts::ARCH)
    }

    /// Whether it is this host's.
    pub fn is_host(self) -> bool {
        Self::host() == Some(self)
    }

    /// The one of this name: as `uname -m` has it, or the kernel's directory of it.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|arch| arch.as_str() == name || arch.directories().contains(&name))
    }

    /// Every name that [`Arch::from_name`] knows: first those of `uname -m`.
    pub fn names() -> impl Iterator<Item = &'static str> {
        let directories = Self::ALL
            .iter()
            .flat_map(|arch| arch.directories().iter().copied());
        Self::ALL
            .iter()
            .map(|arch| arch.as_str())
            .chain(directories)
    }

    /// Its name, as `uname -m` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
            Self::S390x => "s390x",
            Self::Riscv64 => "riscv64",
            Self::Loongarch64 => "loongarch64",
        }
    }

    /// The directories that its selftests are built in: the name up to Linux 6.13, and from 6.14 on
    /// (tools/testing/selftests/kvm/Makefile).
    pub fn directories(self) -> &'static [&'static str] {
        match self {
            Self::X86_64 => &["x86_64", "x86"],
            Self::Aarch64 => &["aarch64", "arm64"],
            Self::S390x => &["s390x", "s390"],
            Self::Riscv64 => &["riscv"],
            Self::Loongarch64 => &["loongarch"],
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
