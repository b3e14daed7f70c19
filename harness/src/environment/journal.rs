//! The journal: what the host was before it was changed, kept where it outlives a killed runner, and no reboot.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;

use rustix::process::geteuid;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::device::Permissions;
use super::root::Root;
use crate::model::file;

/// Where the journal and the queue of the host lock are.
pub(super) const DIRECTORY: &str = "/run/kvm-tests";

/// The journal's version: one more with every change of its form.
const VERSION: u64 = 2;

/// How much of a journal that cannot be read is shown, in characters.
const MAX_SHOWN: usize = 400;

/// Values of parameters that are called `MODULE.PARAMETER`.
pub(super) type Parameters = BTreeMap<String, String>;

/// What the host was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// Their parameters, as far as they were loaded.
    pub(super) parameters: Parameters,
    /// What has to be passed to them besides what modprobe.d has, as far as that is known.
    pub(super) arguments: Parameters,
    /// The modules that were not loaded, in the order in which modprobe loads them.
    pub(super) unloaded: Vec<String>,
    /// The files that were to be written, by absolute path.
    pub(super) files: BTreeMap<String, String>,
    /// Who could open /dev/kvm.
    pub(super) device: Option<Permissions>,
}

/// A module as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModuleBefore {
    pub(super) name: String,
    /// Whether it was loaded.
    pub(super) loaded: bool,
    /// Whether it was to be loaded anew.
    pub(super) reload: bool,
}

impl HostJournal {
    /// An empty one for a change into an environment.
    pub(super) fn new(root: &Root, environment: &str, settings: &str) -> Self {
        Self {
            version: VERSION,
            boot: boot(root),
            environment: environment.to_owned(),
            settings: settings.to_owned(),
            entered: false,
            pid: std::process::id(),
            modules: Vec::new(),
            parameters: Parameters::new(),
            arguments: Parameters::new(),
            unloaded: Vec::new(),
            files: BTreeMap::new(),
            device: None,
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
                let text = String::from_utf8_lossy(&bytes);
                let shown: String = text.chars().take(MAX_SHOWN).collect();
                Err(format!(
                    "{}, which tells what this host was before an environment changed it, {why}; it is not guessed at. \
                     Set back by hand what it holds, then remove it (a reboot does both): {}",
                    path.display(),
                    shown.escape_debug()
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
    let mut builder = DirBuilder::new();
    match builder
        .mode(0o755)
        .recursive(!root.is_host())
        .create(&directory)
    {
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
