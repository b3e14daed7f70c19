//! The queue for the host: a directory in which each hold is a numbered file, locked by flock(2) for as long as it lasts.
//! So that of a dead process is free at once. The last one to leave removes the directory.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Access, FlockOperation, Mode, OFlags, access, flock, open, openat};
use rustix::process::geteuid;

use super::hold::Hold;
use crate::environment::journal;
use crate::environment::root::Root;
use crate::model::file;

/// Where root's queue is, in the directory of the journal. It is a directory of its own, since others write to it.
const HOLDS: &str = "holds";

/// The most that is read of a file, in bytes: other users write some of them.
const LONGEST: u64 = 64 << 10;

/// How often it is looked whether somebody else still hands out a number.
const BRIEF: Duration = Duration::from_millis(1);

/// How long somebody may hand out a number before that is worth a word.
const MOMENT: Duration = Duration::from_secs(1);

/// How often a directory is made that others remove at the same time.
const ATTEMPTS: usize = 100;

/// A queue, open.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) path: PathBuf,
    directory: File,
    /// What is removed by the last one who leaves.
    made: Vec<PathBuf>,
}

/// A hold of somebody who is in a queue.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) number: u64,
    pub(super) hold: Hold,
    path: PathBuf,
}

/// A number of our own. Dropping it leaves the queue.
#[derive(Debug)]
pub(super) struct Number {
    path: PathBuf,
    made: Vec<PathBuf>,
    _lock: File,
}

impl Drop for Number {
    fn drop(&mut self) {
        // 1. The file while it is locked, so that nobody else takes it for a dead one's and removes it.
        fs::remove_file(&self.path).ok();
        // 2. The directories.
        remove_unused(&self.made);
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        remove_unused(&self.made);
    }
}

/// Removes directories, each in the one after it, unless somebody is left in them.
fn remove_unused(directories: &[PathBuf]) {
    let is_gone = |directory: &PathBuf| fs::remove_dir(directory).is_ok();
    directories.iter().all(is_gone);
}

impl Queued {
    /// Whether it is still held.
    pub(super) fn is_held(&self) -> bool {
        held(&self.path).is_some()
    }
}

impl Number {
    /// Everybody else in its queue.
    pub(super) fn others(&self) -> Vec<Queued> {
        let mut queued = self.path.parent().map_or(Vec::new(), queued);
        queued.retain(|one| one.path != self.path);
        queued
    }
}

/// Root's queue, for every user who may open /dev/kvm.
pub(super) fn of_root(root: &Root) -> PathBuf {
    root.path(journal::DIRECTORY).join(HOLDS)
}

/// The queue of this user, for those who find none of root's.
pub(super) fn of_user(root: &Root) -> PathBuf {
    let uid = geteuid().as_raw();
    let runtime = root.path(format!("/run/user/{uid}"));
    if runtime.is_dir() {
        runtime.join("kvm-tests")
    } else {
        root.path(format!("/tmp/kvm-tests-{uid}"))
    }
}

/// Everybody in the queue at `path`; nobody where there is none.
pub(super) fn queued(path: &Path) -> Vec<Queued> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let queued = entries.filter_map(|entry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        let path = entry.path();
        let hold = read(held(&path)?)?;
        Some(Queued { number, hold, path })
    });
    queued.collect()
}

/// The file of a hold, if somebody holds it; that of a dead one is removed.
fn held(path: &Path) -> Option<File> {
    let file = file::open(path).ok()?;
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => {
            // Another user's stays; it is in nobody's way.
            fs::remove_file(path).ok();
            None
        }
        Err(_) => Some(file),
    }
}

fn read(file: File) -> Option<Hold> {
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

impl Queue {
    /// The queues in which a user has to stand: that of root, where it may be used, and for others one of their own
    /// besides, since that of root comes and goes with root's runs.
    ///
    /// # Errors
    /// There is none, and none can be made.
    pub(super) fn open_all(root: &Root) -> io::Result<Vec<Self>> {
        let of_root = of_root(root);
        let mut queues = Vec::new();
        if root.may_change() {
            queues.extend(Self::open(of_root, Some(root)));
            if !queues.is_empty() {
                return Ok(queues);
            }
        } else {
            queues.extend(Self::join(of_root));
        }
        match Self::open(of_user(root), None) {
            Err(error) if queues.is_empty() => return Err(error),
            own => queues.extend(own),
        }
        Ok(queues)
    }

    /// Opens root's queue, or that of this user, and makes it where it is not there.
    fn open(path: PathBuf, of_root: Option<&Root>) -> io::Result<Self> {
        let say = |error: io::Error| io::Error::other(format!("{}: {error}", path.display()));
        for _ in 1..ATTEMPTS {
            match open_directory(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                directory => {
                    let directory = directory.map_err(say)?;
                    let mut made = vec![path.clone()];
                    made.extend(of_root.map(|root| root.path(journal::DIRECTORY)));
                    return Ok(Self {
                        path,
                        directory,
                        made,
                    });
                }
            }
            match make(&path, of_root) {
                // Somebody has just left and removed what it was to be made in.
                Err(error) if error.kind() == io::ErrorKind::NotFound && of_root.is_some() => {}
                made => made.map_err(say)?,
            }
        }
        Err(say(io::Error::other("it is removed again and again")))
    }

    /// Opens the queue of root for another user, if there is one and this user may write to it.
    fn join(path: PathBuf) -> Option<Self> {
        let directory = open_directory(&path).ok()?;
        access(&path, Access::WRITE_OK | Access::EXEC_OK).ok()?;
        Some(Self {
            path,
            directory,
            made: Vec::new(),
        })
    }

    /// Takes the next number for what `hold` makes of those who were there before.
    ///
    /// # Errors
    /// It cannot be used; `NotFound` where it has just been removed. `None` if the wait was broken off.
    pub(super) fn line_up(
        mut self,
        hold: impl FnOnce(&[Queued]) -> Hold,
        wait: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> io::Result<Option<(Number, Hold, Vec<Queued>)>> {
        // Locked for a moment, until this queue is closed when it is dropped.
        let start = Instant::now();
        while flock(&self.directory, FlockOperation::NonBlockingLockExclusive).is_err() {
            thread::sleep(BRIEF);
            let message = || format!("waiting for whoever has locked {}", self.path.display());
            if start.elapsed() > MOMENT && wait(&message()).is_break() {
                return Ok(None);
            }
        }
        let ahead = queued(&self.path);
        let hold = hold(&ahead);
        let mut number = ahead.iter().map(|other| other.number).max().unwrap_or(0);
        let file = loop {
            number = number.saturating_add(1);
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
            let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
            match openat(&self.directory, number.to_string(), flags, mode) {
                // A dead one's, of another user.
                Err(rustix::io::Errno::EXIST) if number < u64::MAX => {}
                file => break File::from(file?),
            }
        };
        let number = Number {
            path: self.path.join(number.to_string()),
            made: std::mem::take(&mut self.made),
            _lock: file,
        };
        flock(&number._lock, FlockOperation::NonBlockingLockExclusive)?;
        (&number._lock).write_all(&serde_json::to_vec(&hold)?)?;
        Ok(Some((number, hold, ahead)))
    }
}

/// Opens a directory that is root's or this user's: in a directory that everybody may write to, somebody else may have
/// been there first, also with a link.
fn open_directory(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = File::from(open(path, flags, Mode::empty())?);
    let owner = directory.metadata()?.uid();
    if owner != 0 && owner != geteuid().as_raw() {
        return Err(io::Error::other("it is another user's"));
    }
    Ok(directory)
}

/// Makes the directory of a queue. Into root's write those who may open /dev/kvm, and nobody else: they could disturb a
/// test in any case. They cannot remove each other's files.
fn make(path: &Path, of_root: Option<&Root>) -> io::Result<()> {
    if let Some(root) = of_root {
        journal::directory(root)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        made => made?,
    }
    let device = of_root.and_then(|root| fs::metadata(root.path("/dev/kvm")).ok());
    if let Some(device) = device {
        let directory = open_directory(path)?;
        let may_use = |who: u32| {
            if device.mode() & who == who {
                who | who >> 1
            } else {
                0
            }
        };
        let mode = 0o1700 | may_use(0o060) | may_use(0o006);
        // Where this is not possible, other users make do with their own.
        if fchown(&directory, None, Some(device.gid())).is_ok() {
            directory.set_permissions(Permissions::from_mode(mode)).ok();
        }
    }
    Ok(())
}
