//! The architectures that KVM selftests exist for, and the names that each goes by.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer};

use crate::model::problem::{excerpt, hint};
use crate::model::value::Text;

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

    /// The one of this name: as `uname -m` has it, or the kernel's directory of it.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|arch| arch.names().any(|one| one == name))
    }

    /// Every name that it goes by.
    fn names(self) -> impl Iterator<Item = &'static str> {
        let directories = self.directories().iter().copied();
        let others = directories.filter(move |name| *name != self.as_str());
        std::iter::once(self.as_str()).chain(others)
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

impl<'de> Deserialize<'de> for Arch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Text(name) = Text::deserialize(deserializer)?;
        Self::from_name(&name).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().flat_map(|arch| arch.names()).collect();
            let (hint, name) = (hint(&name, &known), excerpt(&name));
            de::Error::custom(format!("unknown word `{name}`{hint}"))
        })
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_known() {
        for arch in Arch::ALL {
            assert!(
                arch.names()
                    .all(|name| Arch::from_name(name) == Some(*arch))
            );
        }
        assert_eq!(Arch::from_name("x86"), Some(Arch::X86_64));
        assert_eq!(Arch::from_name("x86-64"), None);
    }
}
