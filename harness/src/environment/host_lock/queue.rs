//! The queue for the host: a directory in which each hold is a numbered file, locked by flock(2) for as long as it lasts.
//! So that of a dead process is free at once. The last one to leave removes the directory.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Access, FlockOperation, Mode, OFlags, access, flock, openat};
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};

use crate::environment::journal;
use crate::model::file;
use crate::model::host::Root;
use crate::model::problem::excerpt;
use crate::model::time;

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

/// How the host, or something on it, is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Use {
    /// A test runs on it beside others.
    Shared,
    /// A test runs on it, and no other.
    Alone,
    /// The suite of this name is set up, which nobody else may have set up at the same time.
    Suite(String),
    /// It is to stay in an environment.
    Environment,
    /// It is changed or restored by one of those who need it in the same environment.
    Change,
}

/// A use of the host, as its file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hold {
    /// Who uses it.
    pub(super) pid: u32,
    /// The PID namespace in which that is its ID: the processes of another container may stand in the same queue.
    pub(super) namespace: u64,
    pub(super) command: String,
    /// Since when it uses the host, in milliseconds since the epoch.
    pub(super) since_ms: u64,
    #[serde(rename = "use")]
    pub(super) how: Use,
    /// What the environment sets that the host is to be in meanwhile, a line each; nothing for the host as it is.
    pub(super) environment: String,
}

impl Hold {
    /// Its user, as messages name it.
    pub(super) fn user(&self) -> String {
        let (pid, command) = (self.pid, excerpt(&self.command));
        match time::timestamp(self.since_ms) {
            Some(since) => format!("pid {pid} ({command}, started at {since:.0})"),
            None => format!("pid {pid} ({command})"),
        }
    }
}

/// Whether two uses cannot be at the same time.
pub(super) fn excludes(one: &Hold, other: &Hold) -> bool {
    match (&one.how, &other.how) {
        (Use::Suite(one), Use::Suite(other)) => one == other,
        (Use::Change, Use::Change) => true,
        (Use::Suite(_) | Use::Change, _) | (_, Use::Suite(_) | Use::Change) => false,
        _ if one.environment != other.environment => true,
        (Use::Alone, Use::Alone | Use::Shared) | (Use::Shared, Use::Alone) => true,
        (Use::Alone | Use::Shared | Use::Environment, _) => false,
    }
}

/// A queue, open.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) path: PathBuf,
    directory: File,
    /// What is removed by the last one who leaves: directories, each in the one after it.
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
    pub(super) hold: Hold,
    /// Those before it, as far as they are still there.
    pub(super) ahead: Vec<Queued>,
    path: PathBuf,
    queue: Queue,
    lock: File,
}

impl Drop for Number {
    fn drop(&mut self) {
        // While it is locked, so that nobody else takes it for a dead one's and removes it.
        fs::remove_file(&self.path).ok();
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // Unless somebody is left in them.
        let is_gone = |directory: &PathBuf| fs::remove_dir(directory).is_ok();
        self.made.iter().all(is_gone);
    }
}

impl Number {
    /// Looks who of those before it is still there.
    pub(super) fn look_again(&mut self) {
        self.ahead.retain(|queued| held(&queued.path).is_some());
    }

    /// Everybody else in its queue.
    pub(super) fn others(&self) -> Vec<Queued> {
        let mut queued = queued(&self.queue.path);
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
        let mut queues = Vec::new();
        if !root.may_change() {
            queues.extend(Self::join(of_root(root)));
        } else if let Ok(queue) = Self::open(of_root(root), Some(root)) {
            return Ok(vec![queue]);
        }
        match Self::open(of_user(root), None) {
            Err(error) if queues.is_empty() => return Err(error),
            own => queues.extend(own),
        }
        Ok(queues)
    }

    /// Opens root's queue, or that of this user, and makes it where it is not there.
    fn open(path: PathBuf, of_root: Option<&Root>) -> io::Result<Self> {
        let is_gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        let mut directory = open_directory(&path);
        for _ in 0..ATTEMPTS {
            // Somebody may just have left, and removed it or what it is made in; or there is no /run.
            if !directory.as_ref().is_err_and(is_gone) {
                break;
            }
            directory = make(&path, of_root).and_then(|()| open_directory(&path));
        }
        let say = |error| io::Error::other(format!("{}: {error}", path.display()));
        let directory = directory.map_err(say)?;
        let mut made = vec![path.clone()];
        made.extend(of_root.map(|root| root.path(journal::DIRECTORY)));
        Ok(Self {
            path,
            directory,
            made,
        })
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
    /// It cannot be used; `NotFound` where it has just been removed, `Interrupted` where the wait was broken off.
    pub(super) fn line_up(
        self,
        hold: impl FnOnce(&[Queued]) -> Hold,
        wait: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> io::Result<Number> {
        let start = Instant::now();
        while !file::try_lock(&self.directory) {
            thread::sleep(BRIEF);
            let message = || format!("waiting for whoever has locked {}", self.path.display());
            if start.elapsed() > MOMENT && wait(&message()).is_break() {
                return Err(io::ErrorKind::Interrupted.into());
            }
        }
        let ahead = queued(&self.path);
        let hold = hold(&ahead);
        let mut number = ahead.iter().map(|other| other.number).max().unwrap_or(0);
        let lock = loop {
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
            hold,
            ahead,
            path: self.path.join(number.to_string()),
            queue: self,
            lock,
        };
        flock(&number.lock, FlockOperation::NonBlockingLockExclusive)?;
        (&number.lock).write_all(&serde_json::to_vec(&number.hold)?)?;
        file::unlock(&number.queue.directory);
        Ok(number)
    }
}

/// Opens a directory that is root's or this user's: in a directory that everybody may write to, somebody else may have
/// been there first, also with a link.
fn open_directory(path: &Path) -> io::Result<File> {
    let directory = file::open_directory(path)?;
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
