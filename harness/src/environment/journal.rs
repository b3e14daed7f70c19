//! The journal: what the host was before it was changed, kept where it outlives a killed runner, and no reboot.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::device::Permissions;
use super::root::Root;

/// Where the journal and the locks are.
pub const DIRECTORY: &str = "/run/kvm-tests";

/// The journal's version: one more with every change of its form.
const VERSION: u64 = 2;

/// How much of a journal that cannot be read is shown.
const MAX_SHOWN: usize = 400;

/// Arguments of modules, by module and parameter.
pub type Arguments = BTreeMap<String, BTreeMap<String, String>>;

/// What the host was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Journal {
    version: u64,
    /// The boot in which this was (/proc/sys/kernel/random/boot_id): another one has undone the change already.
    boot: String,
    /// The environment that the host was changed into.
    pub environment: String,
    /// Everything that this environment sets, a line each.
    #[serde(default)]
    pub settings: String,
    /// Whether the host is wholly in it.
    #[serde(default)]
    pub entered: bool,
    /// Who changed it.
    pub pid: u32,
    /// The modules that make up KVM, in the order in which they are loaded; empty if none was to be touched.
    pub modules: Vec<ModuleBefore>,
    /// What has to be passed to them besides what modprobe.d has, as far as that is known.
    pub arguments: Arguments,
    /// The modules that were not loaded, in the order in which modprobe loads them.
    pub unloaded: Vec<String>,
    /// The files that were to be written, in that order.
    pub files: Vec<FileBefore>,
    /// Who could open /dev/kvm.
    pub device: Option<Permissions>,
}

/// A module as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleBefore {
    /// Its name.
    pub name: String,
    /// Whether it was loaded.
    pub loaded: bool,
    /// Whether it was to be loaded anew.
    pub reload: bool,
    /// Its parameters.
    pub parameters: BTreeMap<String, ParameterBefore>,
}

/// A parameter as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParameterBefore {
    /// Its value.
    pub value: String,
    /// Whether it can be written while the module is loaded.
    pub writable: bool,
}

/// A file as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileBefore {
    /// Its absolute path.
    pub path: String,
    /// What it held.
    pub value: String,
}

impl Journal {
    /// An empty one for a change into an environment.
    pub fn new(root: &Root, environment: &str, settings: &str) -> Self {
        Self {
            version: VERSION,
            boot: boot(root),
            environment: environment.to_owned(),
            settings: settings.to_owned(),
            entered: false,
            pid: std::process::id(),
            modules: Vec::new(),
            arguments: Arguments::new(),
            unloaded: Vec::new(),
            files: Vec::new(),
            device: None,
        }
    }

    /// Reads the journal; `None` if there is none, or if the host was booted since.
    ///
    /// # Errors
    /// If it cannot be read or understood: what it holds, and what to do.
    pub fn load(root: &Root) -> Result<Option<Self>, String> {
        let path = path(root);
        let text = match fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("read {}: {error}", path.display())),
        };
        let not_understood = |why: &str| {
            let shown: String = text.chars().take(MAX_SHOWN).collect();
            format!(
                "{}, which tells what this host was before an environment changed it, {why}; it is not guessed at. \
                 Set back by hand what it holds, then remove it (a reboot does both): {}",
                path.display(),
                shown.escape_debug()
            )
        };
        // The version first: the rest of a newer one may have any form.
        let value: serde_json::Value = serde_json::from_str(&text)
            .map_err(|error| not_understood(&format!("is damaged ({error})")))?;
        match value.get("version").and_then(serde_json::Value::as_u64) {
            Some(1..=VERSION) => {}
            Some(version) if version > VERSION => {
                return Err(not_understood(&format!(
                    "is from a newer kvm-tests (version {version})"
                )));
            }
            _ => return Err(not_understood("is damaged (no version that was ever used)")),
        }
        let journal: Self = serde_json::from_value(value)
            .map_err(|error| not_understood(&format!("is damaged ({error})")))?;
        if journal.boot != boot(root) {
            Self::remove(root).map_err(|error| format!("remove {}: {error}", path.display()))?;
            return Ok(None);
        }
        Ok(Some(journal))
    }

    /// Writes it so that it is there whole, or not at all, whatever happens next.
    ///
    /// # Errors
    /// If it cannot be written, or its directory is not this user's alone.
    pub fn save(&self, root: &Root) -> io::Result<()> {
        let directory = directory(root)?;
        let (path, new) = (path(root), directory.join("journal.new"));
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(directory)?.sync_all()
    }

    /// Removes it, once everything is as it was.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(root: &Root) -> io::Result<()> {
        fs::remove_file(path(root))?;
        File::open(directory(root)?)?.sync_all()
    }
}

/// The directory of the journal and the locks: made if it is not there, and nobody else's. Other users may look into
/// it: they find the lock files there, and who is in an environment.
///
/// # Errors
/// If it cannot be made, or somebody else could write into it.
pub fn directory(root: &Root) -> io::Result<PathBuf> {
    let directory = root.path(DIRECTORY);
    match DirBuilder::new()
        .mode(0o755)
        .recursive(!root.is_host())
        .create(&directory)
    {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let metadata = fs::symlink_metadata(&directory)?;
    if !metadata.is_dir()
        || metadata.uid() != rustix::process::geteuid().as_raw()
        || metadata.mode() & 0o022 != 0
    {
        return Err(io::Error::other(
            "it is not a directory that only its owner, this user, can write into",
        ));
    }
    if metadata.mode() & 0o055 != 0o055 {
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
    }
    Ok(directory)
}

/// Where the journal is.
pub fn path(root: &Root) -> PathBuf {
    root.path(DIRECTORY).join("journal.json")
}

fn boot(root: &Root) -> String {
    root.read("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
}
