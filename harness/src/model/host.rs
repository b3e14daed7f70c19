//! A host: what tests and reports want to know of it, its architecture, and where its files are.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{env, fmt};

use rustix::fs::{Access, access};
use rustix::process::geteuid;
use schemars::JsonSchema;
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};

use super::case::Requires;
use super::problem::{excerpt, hint};
use super::value::{Count, Size, Text};

/// The parameters of modules, by their names.
pub type Modules = BTreeMap<String, BTreeMap<String, String>>;

/// What this host is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    /// The node name (uname(2)).
    pub hostname: String,
    /// The kernel's release, such as `6.12.117`.
    pub kernel: String,
    /// Which time it has booted, as the kernel names that; empty where it does not.
    #[serde(default)]
    pub boot_id: String,
    /// The kernel's version: its build number and date.
    pub kernel_version: String,
    /// The machine, such as `x86_64`.
    pub machine: String,
    /// The CPU's vendor as the kernel names it (`GenuineIntel`, `AuthenticAMD`), or the machine where it names none.
    pub cpu_vendor: String,
    /// The CPU's model name; empty where the kernel tells none.
    pub cpu_model: String,
    /// The revision of the CPU's microcode; empty where the kernel tells none.
    #[serde(default)]
    pub microcode: String,
    /// The kernel's command line (/proc/cmdline).
    #[serde(default)]
    pub command_line: String,
    /// CPUs that this process may use.
    pub cpus: usize,
    /// Memory in bytes (`MemTotal` of /proc/meminfo).
    pub memory: u64,
    /// Free hugepages: their size in bytes, and how many.
    pub free_hugepages: BTreeMap<u64, u64>,
    /// What is the matter with `/dev/kvm`, where something is.
    pub kvm_problem: Option<String>,
    /// The parameters of the loaded `kvm*` modules, as /sys/module shows them; those that cannot be read are left out.
    pub modules: Modules,
    /// The kernel's taint mask (/proc/sys/kernel/tainted).
    pub taint: u64,
}

impl Host {
    /// The commit that the kernel was built from, where its release ends with one, as `git describe` has it
    /// (`6.18.0-rc3-00123-gabcdef012345`: CONFIG_LOCALVERSION_AUTO).
    pub fn kernel_commit(&self) -> Option<&str> {
        let parts = self.kernel.split(['-', '+']);
        let mut commits = parts.filter_map(|part| part.strip_prefix('g'));
        let is_commit =
            |part: &&str| part.len() >= 7 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        commits.rfind(is_commit)
    }

    /// What there is to know of it beside its modules, each by a name, in the same order for every host; what is empty says
    /// nothing.
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let pages = self.free_hugepages.iter();
        let pages = pages.map(|(page, count)| format!("{count} of {}", size(*page)));
        let cpu = format!("{} {}", self.cpu_vendor, self.cpu_model);
        vec![
            ("name", self.hostname.clone()),
            ("kernel", self.kernel.clone()),
            ("kernel_version", self.kernel_version.clone()),
            ("command_line", self.command_line.clone()),
            ("machine", self.machine.clone()),
            ("cpu", cpu.trim_end().to_owned()),
            ("microcode", self.microcode.clone()),
            ("cpus", self.cpus.to_string()),
            ("memory", size(self.memory)),
            ("free_hugepages", Vec::from_iter(pages).join(", ")),
            ("taint", show_taint(self.taint)),
            ("kvm_problem", self.kvm_problem.clone().unwrap_or_default()),
        ]
    }

    /// What of `requires` this host does not have, in words.
    pub fn lacks(&self, requires: &Requires) -> Option<String> {
        let mut missing = Vec::new();
        if let Some(Count(cpus)) = requires.cpus.filter(|cpus| cpus.0 as usize > self.cpus) {
            missing.push(format!("{cpus} CPUs (there are {})", self.cpus));
        }
        if let Some(Size(memory)) = requires.memory.filter(|memory| memory.0 > self.memory) {
            missing.push(format!(
                "{} of memory (there is {})",
                size(memory),
                size(self.memory)
            ));
        }
        for (&page, &count) in &requires.hugepages.0 {
            let free = self.free_hugepages.get(&page).copied().unwrap_or(0);
            if count > free {
                missing.push(format!(
                    "{count} free hugepages of {} (there are {free})",
                    size(page)
                ));
            }
        }
        (!missing.is_empty()).then(|| format!("requires {}", missing.join(" and ")))
    }
}

/// A number of bytes in the largest binary unit that keeps it readable: `2M`, `1.5G`.
pub fn size(bytes: u64) -> String {
    let units = [("T", 40), ("G", 30), ("M", 20), ("K", 10)];
    match units.iter().find(|(_, shift)| bytes >> shift > 0) {
        Some((unit, shift)) if bytes.trailing_zeros() >= *shift => {
            format!("{}{unit}", bytes >> shift)
        }
        #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
        Some((unit, shift)) => format!("{:.1}{unit}", bytes as f64 / (1_u64 << shift) as f64),
        None => bytes.to_string(),
    }
}

/// The flags by bit: the letter, and what it tells (Documentation/admin-guide/tainted-kernels.rst).
const TAINT_FLAGS: [(char, &str); 20] = [
    ('P', "a proprietary module was loaded"),
    ('F', "a module was loaded by force"),
    ('S', "the kernel runs out of its hardware's specification"),
    ('R', "a module was unloaded by force"),
    ('M', "the processor reported a machine check"),
    ('B', "a bad page was found"),
    ('U', "user space asked for it"),
    ('D', "the kernel died: an Oops or a BUG"),
    ('A', "an ACPI table was overridden"),
    ('W', "the kernel warned"),
    ('C', "a staging driver was loaded"),
    ('I', "a firmware's bug was worked around"),
    ('O', "an out-of-tree module was loaded"),
    ('E', "an unsigned module was loaded"),
    ('L', "a soft lockup occurred"),
    ('K', "the kernel was patched while it ran"),
    ('X', "the distribution set it"),
    ('T', "the layout of structures is randomized"),
    ('N', "an in-kernel test was run"),
    ('J', "user space used a debug operation of fwctl"),
];

/// The flags that a splat sets: B, D, W and L.
const OF_SPLATS: u64 = 1 << 5 | 1 << 7 | 1 << 9 | 1 << 14;

/// The mask with its letters: `512 (W)`; `no` where it is 0.
pub fn show_taint(mask: u64) -> String {
    let letters: String = taint_flags(mask).map(|(letter, _)| letter).collect();
    match (mask, letters.as_str()) {
        (0, _) => "no".to_owned(),
        (_, "") => mask.to_string(),
        _ => format!("{mask} ({letters})"),
    }
}

/// What each letter of the mask means: `W: the kernel warned`.
pub fn taint_meanings(mask: u64) -> impl Iterator<Item = String> {
    taint_flags(mask).map(|(letter, meaning)| format!("{letter}: {meaning}"))
}

/// Whether a splat must have set what is in `after` and was not in `before`.
pub fn tells_of_splat(before: u64, after: u64) -> bool {
    after & !before & OF_SPLATS != 0
}

fn taint_flags(mask: u64) -> impl Iterator<Item = (char, &'static str)> {
    TAINT_FLAGS
        .into_iter()
        .enumerate()
        .filter(move |(bit, _)| mask >> bit & 1 == 1)
        .map(|(_, flag)| flag)
}

/// The hidden environment variable that names a directory to be used in place of the host's own `/`.
const VARIABLE: &str = "KVM_TESTS_ROOT";

/// The root of the files that make up the host.
#[derive(Debug, Clone)]
pub struct Root {
    directory: PathBuf,
    may_change: bool,
}

impl Root {
    /// The host itself, or what [`VARIABLE`] names. That is asked once, and the answer passed on.
    pub fn from_env() -> Self {
        match env::var_os(VARIABLE).filter(|directory| !directory.is_empty()) {
            Some(directory) => Self::at(Path::new(&directory)),
            None => Self::host(),
        }
    }

    /// The host itself.
    pub fn host() -> Self {
        Self {
            directory: PathBuf::from("/"),
            may_change: geteuid().is_root(),
        }
    }

    /// A directory that stands for a host, for those who may write to it.
    pub fn at(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            may_change: access(directory, Access::WRITE_OK).is_ok(),
        }
    }

    /// The same, for a user who may change nothing.
    #[cfg(test)]
    pub fn unprivileged(self) -> Self {
        Self {
            may_change: false,
            ..self
        }
    }

    /// What is to be said whenever this is not the host itself.
    pub fn announcement(&self) -> Option<String> {
        let directory = self.directory.display();
        (!self.is_host()).then(|| {
            format!("{VARIABLE}: {directory} stands for this host; the host itself is left alone")
        })
    }

    /// Whether this is the host itself.
    pub fn is_host(&self) -> bool {
        self.directory == Path::new("/")
    }

    /// Whether modules may be loaded and files of the kernel written: by root only.
    pub fn may_change(&self) -> bool {
        self.may_change
    }

    /// Where the host's file of this absolute path is.
    pub fn path(&self, absolute: impl AsRef<Path>) -> PathBuf {
        let absolute = absolute.as_ref();
        self.directory
            .join(absolute.strip_prefix("/").unwrap_or(absolute))
    }

    /// The text of a file, without blanks around it.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(&self, absolute: impl AsRef<Path>) -> io::Result<String> {
        fs::read(self.path(absolute)).map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// The names of what is in a directory, in order; none where it cannot be read.
    pub fn names(&self, absolute: impl AsRef<Path>) -> Vec<String> {
        let entries = fs::read_dir(self.path(absolute)).into_iter().flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    /// Whether a file may be written by its owner: what root can do tells nothing of a file of the kernel.
    pub fn is_writable(&self, absolute: impl AsRef<Path>) -> bool {
        let metadata = fs::metadata(self.path(absolute));
        metadata.is_ok_and(|metadata| metadata.mode() & 0o200 != 0)
    }

    /// Writes a value into a file that is there: in one write(2), as files of the kernel want it.
    ///
    /// # Errors
    /// If there is no such file, or it does not take the value.
    pub fn write(&self, absolute: impl AsRef<Path>, value: &str) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let file = options.write(true).truncate(true);
        file.open(self.path(absolute))?.write_all(value.as_bytes())
    }
}

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
    use crate::model::value::Pages;

    #[test]
    fn sizes_are_shown_in_their_largest_unit() {
        assert_eq!(
            [size(512), size(2 << 20), size(3 << 29), size(1 << 30)],
            ["512", "2M", "1.5G", "1G"]
        );
    }

    #[test]
    fn the_commit_of_a_kernel_is_taken_from_its_release() {
        for (kernel, commit) in [
            ("6.18.0-rc3-00123-gabcdef012345", Some("abcdef012345")),
            ("6.18.0-rc3-00123-gabcdef012345-dirty", Some("abcdef012345")),
            ("6.12.117+deb13-amd64", None),
            ("6.18.0-generic", None),
        ] {
            let host = Host {
                kernel: kernel.to_owned(),
                ..Host::default()
            };
            assert_eq!(host.kernel_commit(), commit);
        }
    }

    #[test]
    fn each_unmet_requirement_is_named() {
        let host = Host {
            cpus: 2,
            memory: 1 << 30,
            free_hugepages: BTreeMap::new(),
            ..Host::default()
        };
        let requires = Requires {
            cpus: Some(Count(4)),
            memory: Some(Size(2 << 30)),
            hugepages: Pages(BTreeMap::from([(2 << 20, 64)])),
        };
        let reason = host.lacks(&requires).unwrap();
        let expected = "requires 4 CPUs (there are 2) and 2G of memory (there is 1G) and 64 free hugepages of 2M (there are 0)";
        assert_eq!(reason, expected);
        assert_eq!(host.lacks(&Requires::default()), None);
    }

    #[test]
    fn taint_is_shown_as_the_kernel_shows_it() {
        assert_eq!(
            [
                show_taint(0),
                show_taint(512),
                show_taint(4097),
                show_taint(1 << 40)
            ],
            ["no", "512 (W)", "4097 (PO)", "1099511627776"]
        );
        assert_eq!(
            taint_meanings(512 + 4096).collect::<Vec<_>>(),
            [
                "W: the kernel warned",
                "O: an out-of-tree module was loaded"
            ]
        );
    }

    #[test]
    fn a_warning_tells_of_a_splat_and_a_module_does_not() {
        assert!(tells_of_splat(0, 512) && tells_of_splat(4096, 4096 + 128));
        assert!(!tells_of_splat(512, 512) && !tells_of_splat(0, 4096) && !tells_of_splat(512, 0));
    }

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
