//! The journal: what the host was before it was changed, kept where it outlives a killed runner, and no reboot.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rustix::fs::XattrFlags;
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::definition::Definition;
use super::kmod::{Parameters, run};
use super::target::{file_of, value_of};
use crate::model::file;
use crate::model::host::Root;
use crate::model::problem::excerpt_within;

/// The device.
const DEVICE: &str = "/dev/kvm";

/// Where the kernel keeps a file's access control list (acl(5)).
const ACL: &str = "system.posix_acl_access";

/// Where the journal and the queue of the host lock are.
pub(super) const DIRECTORY: &str = "/run/kvm-tests";

/// The journal's version: one more with every change of its form.
const VERSION: u64 = 3;

/// How much of a journal that cannot be read is shown, in characters.
const MAX_SHOWN: usize = 400;

/// A setting that is not what it was; what it was, and what it is.
pub(super) type Difference = (String, String, String);

/// What the host was.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HostJournal {
    version: u64,
    /// The boot in which this was (/proc/sys/kernel/random/boot_id): another one has undone the change already.
    boot: String,
    /// The environment that the host was changed into.
    pub(super) environment: String,
    /// Everything that this environment sets, a line each.
    pub(super) settings: String,
    /// Whether the host is wholly in it.
    pub(super) entered: bool,
    /// Who changed it.
    pub(super) pid: u32,
    /// The modules that make up KVM, in the order in which they are loaded; empty if none was to be touched.
    pub(super) modules: Vec<ModuleBefore>,
    /// From which of them on they were to be loaded anew.
    pub(super) first: usize,
    /// The values that there were: of the parameters of these modules, as far as they were loaded, and of what else was
    /// to be written: a parameter, as `MODULE.PARAMETER`, or a file, by its absolute path.
    pub(super) values: Parameters,
    /// What has to be passed to them besides what modprobe.d has, as far as that is known.
    pub(super) arguments: Parameters,
    /// The modules that were not loaded, in the order in which modprobe loads them.
    pub(super) unloaded: Vec<String>,
    /// Who could open /dev/kvm.
    pub(super) device: Option<Permissions>,
}

/// A module as it was.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModuleBefore {
    pub(super) name: String,
    /// Whether it was loaded.
    pub(super) loaded: bool,
}

impl HostJournal {
    /// An empty one for a change into an environment.
    pub(super) fn new(root: &Root, definition: &Definition) -> Self {
        Self {
            version: VERSION,
            boot: boot(root),
            environment: definition.name.clone(),
            settings: definition.settings().join("\n"),
            pid: std::process::id(),
            ..Self::default()
        }
    }

    /// Whether there is one.
    pub(super) fn exists(root: &Root) -> bool {
        path(root).exists()
    }

    /// Reads the journal; `None` if there is none, or if the host was booted since: that one is removed.
    ///
    /// # Errors
    /// If it cannot be read or understood: what it holds, and what to do.
    pub(super) fn load(root: &Root) -> Result<Option<Self>, String> {
        let journal = Self::of_this_boot(root)?;
        if journal.is_none() && Self::exists(root) {
            Self::remove(root)?;
        }
        Ok(journal)
    }

    /// The same, and nothing is removed.
    ///
    /// # Errors
    /// If it cannot be read or understood: what it holds, and what to do.
    pub(super) fn of_this_boot(root: &Root) -> Result<Option<Self>, String> {
        let path = path(root);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("read {}: {error}", path.display())),
        };
        match understand(&bytes) {
            Ok(journal) => Ok(Some(journal).filter(|journal| journal.boot == boot(root))),
            Err(why) => {
                let (path, text) = (path.display(), String::from_utf8_lossy(&bytes));
                Err(format!(
                    "{path}, which tells what this host was before an environment changed it, {why}; it is not guessed at. \
                     Set back by hand what it holds, then remove it (a reboot does both): {}",
                    excerpt_within(&text, MAX_SHOWN)
                ))
            }
        }
    }

    /// Writes it so that it is there whole, or not at all, whatever happens to this process. It need not outlive the host.
    ///
    /// # Errors
    /// If it cannot be written, or its directory is not this user's alone.
    pub(super) fn save(&self, root: &Root) -> Result<(), String> {
        let saved = directory(root).and_then(|_| {
            let text = serde_json::to_vec_pretty(self)?;
            file::replace(&path(root), |file| file.write_all(&text))
        });
        saved.map_err(|error| format!("write {}: {error}", path(root).display()))
    }

    /// Removes it, once everything is as it was.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub(super) fn remove(root: &Root) -> Result<(), String> {
        let path = path(root);
        fs::remove_file(&path).map_err(|error| format!("remove {}: {error}", path.display()))
    }

    /// The settings that are not what they were.
    pub(super) fn differences(&self, root: &Root) -> Vec<Difference> {
        let mut differences = Vec::new();
        for (setting, was) in &self.values {
            let now = value_of(root, setting).unwrap_or_else(|_| "nothing".to_owned());
            if now != *was {
                differences.push((setting.clone(), was.clone(), now));
            }
        }
        differences
    }

    /// Writes the settings that can be written, are not what they were, and are to be. Whether that helped is seen in the
    /// differences that are left: some take no value but once, such as `pi_inject_timer`.
    pub(super) fn write_back(&self, root: &Root, is_to_be: impl Fn(&str) -> bool) {
        for (setting, was, _) in self.differences(root) {
            let path = file_of(&setting);
            if is_to_be(&setting) && root.is_writable(&path) {
                root.write(path, &was).ok();
            }
        }
    }
}

/// Who may open /dev/kvm, which every loading of the modules makes anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Permissions {
    mode: u32,
    owner: u32,
    group: u32,
    acl: Option<Vec<u8>>,
}

impl Permissions {
    /// Those that hold now; `None` where there is no device.
    pub(super) fn read(root: &Root) -> Option<Self> {
        let path = root.path(DEVICE);
        let metadata = fs::metadata(&path).ok()?;
        let mut acl = vec![0; 4096];
        let length = rustix::fs::getxattr(&path, ACL, &mut acl[..]).ok();
        Some(Self {
            mode: metadata.mode() & 0o7777,
            owner: metadata.uid(),
            group: metadata.gid(),
            acl: length.map(|length| acl[..length].to_vec()),
        })
    }

    /// Gives them back to a device that was made anew, if it has others.
    ///
    /// # Errors
    /// What was lost, with the command that would bring it back.
    pub(super) fn put_back(&self, root: &Root) -> Result<(), String> {
        // udev, where it runs, sets owner and mode a moment after the kernel has made a device, and would undo what was
        // given back before that. Whatever comes of it, they are read back.
        if root.path("/run/udev/control").exists() {
            run("udevadm", &["settle", "--timeout=10"]).ok();
        }
        let is_there = || Self::read(root).as_ref() == Some(self);
        let set = if is_there() { Ok(()) } else { self.set(root) };
        if is_there() {
            return Ok(());
        }
        let (owner, group, mode) = (self.owner, self.group, self.mode);
        let acl = match self.acl {
            Some(_) => " and an access control list (setfacl)",
            None => "",
        };
        let error = set.err().map(|error| format!(": {error}"));
        let error = error.unwrap_or_default();
        Err(format!(
            "{DEVICE} had owner {owner}, group {group} and mode {mode:o}{acl}{error}; to set them: \
             chown {owner}:{group} {DEVICE} && chmod {mode:o} {DEVICE}"
        ))
    }

    fn set(&self, root: &Root) -> io::Result<()> {
        let path = root.path(DEVICE);
        // 1. Owner and group: a change of them may clear bits of the mode. 2. The mode. 3. The list, which contains it.
        chown(&path, Some(self.owner), Some(self.group))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(self.mode))?;
        match &self.acl {
            Some(acl) => rustix::fs::setxattr(&path, ACL, acl, XattrFlags::empty())?,
            // Mostly there is none; whether one is left is seen when they are read back.
            None => drop(rustix::fs::removexattr(&path, ACL)),
        }
        Ok(())
    }
}

/// Reads the bytes of a journal; else it is said what they are.
fn understand(bytes: &[u8]) -> Result<HostJournal, String> {
    let damaged = |error: serde_json::Error| format!("is damaged ({error})");
    // The version first: the rest of another one may have any form.
    let value: Value = serde_json::from_slice(bytes).map_err(damaged)?;
    match value.get("version").and_then(Value::as_u64) {
        Some(VERSION) => serde_json::from_value(value).map_err(damaged),
        Some(version) => Err(format!("is from another kvm-tests (version {version})")),
        None => Err("is damaged (it has no version)".to_owned()),
    }
}

/// The directory of the journal and the queue: made if it is not there, and nobody else's. Other users may look into it.
///
/// # Errors
/// If it cannot be made, or somebody else could write into it.
pub(super) fn directory(root: &Root) -> io::Result<PathBuf> {
    let directory = root.path(DIRECTORY);
    // A host without /run gets none.
    let make: fn(&Path) -> io::Result<()> = match root.is_host() {
        true => file::make_directory,
        false => file::make_directories,
    };
    match make(&directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let metadata = fs::symlink_metadata(&directory)?;
    let is_ours = metadata.is_dir() && metadata.uid() == geteuid().as_raw();
    if !is_ours || metadata.mode() & 0o022 != 0 {
        return Err(io::Error::other(format!(
            "{} is not a directory that only its owner, this user, can write into",
            directory.display()
        )));
    }
    if metadata.mode() & 0o055 != 0o055 {
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
    }
    Ok(directory)
}

fn path(root: &Root) -> PathBuf {
    root.path(DIRECTORY).join("journal.json")
}

fn boot(root: &Root) -> String {
    root.read("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
}
