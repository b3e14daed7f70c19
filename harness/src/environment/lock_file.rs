//! Locks of flock(2) on files that are neither written nor read: the kernel frees those of the dead at once, and tells
//! who holds one.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{Access, FlockOperation, OFlags, access, flock, major, minor};
use rustix::process::geteuid;

use super::journal;
use super::lock::POLL;
use super::process::Process;
use super::root::Root;

/// How long after a first try the second one comes; each later one waits twice as long, up to [`POLL`].
const FIRST_POLL: Duration = Duration::from_millis(1);

/// All lock files.
pub const NAMES: [&str; 3] = [TURNSTILE, HOST, USERS];

/// Passed by whoever takes the host; shut by who wants it alone.
pub const TURNSTILE: &str = "turnstile";

/// Held for as long as a test runs.
pub const HOST: &str = "host";

/// Held by those who can change nothing, for as long as they need the host as it is.
pub const USERS: &str = "users";

/// Where lock files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the directory of the journal, for every user who may open /dev/kvm.
    EveryUsers(PathBuf),
    /// In a directory of this user, since only root can make the other one: other users' locks are not seen.
    ThisUsers(PathBuf),
    /// Nowhere, for this reason.
    Nowhere(String),
}

impl Place {
    /// Where they are now. Root makes them; others find them, or make do with some of their own.
    pub fn find(root: &Root) -> Self {
        if root.may_change()
            && let Ok(directory) = journal::directory(root)
            && make(&directory, Some(root)).is_ok()
        {
            return Self::EveryUsers(directory);
        }
        let of_every_user = root.path(journal::DIRECTORY);
        let is_roots =
            fs::symlink_metadata(&of_every_user).is_ok_and(|found| is_only_of(&found, 0));
        if is_roots
            && NAMES
                .iter()
                .all(|name| access(of_every_user.join(name), Access::READ_OK).is_ok())
        {
            return Self::EveryUsers(of_every_user);
        }
        let uid = geteuid().as_raw();
        let own = match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
            Some(directory) if directory.is_dir() => directory.join("kvm-tests"),
            _ => std::env::temp_dir().join(format!("kvm-tests-{uid}")),
        };
        match make_own(&own, uid).and_then(|()| make(&own, None)) {
            Ok(()) => Self::ThisUsers(own),
            Err(error) => Self::Nowhere(format!("{}: {error}", own.display())),
        }
    }

    /// Opens the lock file `name`, one of [`NAMES`]; `None` where there is no place.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(&self, name: &str) -> io::Result<Option<File>> {
        match self {
            Self::EveryUsers(directory) | Self::ThisUsers(directory) => {
                options().open(directory.join(name)).map(Some)
            }
            Self::Nowhere(_) => Ok(None),
        }
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    options
}

/// Makes the lock files. Those that are for every user may be locked by who may open /dev/kvm and by nobody else: such
/// a user could disturb a test in any case.
fn make(directory: &Path, for_users_of_kvm: Option<&Root>) -> io::Result<()> {
    let device = for_users_of_kvm.and_then(|root| fs::metadata(root.path("/dev/kvm")).ok());
    for name in NAMES {
        let file = options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(directory.join(name))?;
        if let Some(device) = &device {
            // Where this is not possible, other users make do with their own.
            drop(fchown(&file, None, Some(device.gid())));
            drop(file.set_permissions(Permissions::from_mode(0o600 | device.mode() & 0o044)));
        }
    }
    Ok(())
}

/// Waits for a lock. `wait` hears again and again what it waits for, and may break the wait off.
///
/// # Errors
/// The file cannot be locked. `None` if the wait was broken off.
pub fn lock(
    file: &File,
    operation: FlockOperation,
    message: impl Fn(&str) -> String,
    wait: &mut dyn FnMut(&str) -> ControlFlow<()>,
) -> io::Result<Option<()>> {
    let mut pause = FIRST_POLL;
    let mut said = None;
    while !try_lock(file, operation)? {
        if said.is_none() && pause > FIRST_POLL {
            let holders = holders(&file.metadata()?);
            // Those of other containers are not seen. Nor is one that is just gone: wait and see.
            said = match holders.as_slice() {
                [] if pause < POLL => None,
                [] => Some(message("a process that cannot be seen from here")),
                holders => Some(message(&list(holders))),
            };
        }
        if said.as_deref().is_some_and(|said| wait(said).is_break()) {
            return Ok(None);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(POLL);
    }
    Ok(Some(()))
}

/// Takes a lock if nobody is in its way.
///
/// # Errors
/// The file cannot be locked.
pub fn try_lock(file: &File, operation: FlockOperation) -> io::Result<bool> {
    match flock(file, operation) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Who holds a lock on a file, as far as they can be seen: those of this PID namespace and below (proc_locks(5)).
pub fn holders(file: &Metadata) -> Vec<Process> {
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let place = format!(
        "{:02x}:{:02x}:{}",
        major(file.dev()),
        minor(file.dev()),
        file.ino()
    );
    let mut pids: Vec<u32> = locks
        .lines()
        .filter_map(|line| holder(line, &place))
        .collect();
    pids.sort_unstable();
    pids.dedup();
    let root = Root::at(Path::new("/"), "");
    pids.into_iter()
        .map(|pid| Process::of_pid(&root, pid))
        .collect()
}

/// `1: FLOCK  ADVISORY  WRITE 1234 08:02:1311 0 EOF`; one who waits has `->` before the kind.
fn holder(line: &str, place: &str) -> Option<u32> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        [_, "FLOCK", _, _, pid, at, ..] if at == place => pid.parse().ok().filter(|&pid| pid > 0),
        _ => None,
    }
}

/// Several processes in words, with the times when they were started.
pub fn list(processes: &[Process]) -> String {
    processes
        .iter()
        .map(Process::at_length)
        .collect::<Vec<_>>()
        .join(", ")
}

fn is_only_of(directory: &Metadata, uid: u32) -> bool {
    directory.is_dir() && directory.uid() == uid && directory.mode() & 0o022 == 0
}

fn make_own(directory: &Path, uid: u32) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // In a directory that everybody may write into, somebody else may have been there first, also with a link.
    match is_only_of(&fs::symlink_metadata(directory)?, uid) {
        true => Ok(()),
        false => Err(io::Error::other(
            "it is not a directory that only its owner, this user, can write into",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_who_holds_a_lock_until_it_is_free() {
        let directory = tempfile::tempdir().unwrap();
        let file = File::create(directory.path().join("lock")).unwrap();
        assert_eq!(holders(&file.metadata().unwrap()), []);
        assert!(try_lock(&file, FlockOperation::NonBlockingLockShared).unwrap());
        let pids: Vec<_> = holders(&file.metadata().unwrap())
            .iter()
            .map(|holder| holder.pid)
            .collect();
        assert_eq!(pids, [std::process::id()]);
    }

    #[test]
    fn a_link_in_place_of_a_lock_or_of_its_directory_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::create_dir(path("place")).unwrap();
        fs::write(path("victim"), "").unwrap();
        std::os::unix::fs::symlink(path("victim"), path("place/host")).unwrap();
        std::os::unix::fs::symlink(path("place"), path("link")).unwrap();
        assert!(make(&path("place"), None).is_err());
        assert!(Place::ThisUsers(path("place")).open(HOST).is_err());
        assert!(make_own(&path("link"), geteuid().as_raw()).is_err());
        assert!(make_own(&path("place"), geteuid().as_raw() + 1).is_err());
    }
}
