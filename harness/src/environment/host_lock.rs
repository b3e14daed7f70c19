//! The host while tests run on it: shared by those of every run, or one test's alone.
//!
//! Two lock files, across processes and users:
//! 1. the turnstile, which everybody passes. Who wants the host alone shuts it first, and keeps it shut to the end: so
//!    nobody new comes in, and a stream of others cannot starve him;
//! 2. the host, shared or alone for as long as a test runs.
//!
//! For a test that shares the host this takes a few system calls.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FlockOperation, flock};

use super::lock_file::{HOST, Place, TURNSTILE, holders, lock, try_lock};
use super::process::is_ancestor;
use super::root::Root;

/// The lock on a host.
#[derive(Debug)]
pub struct HostLock {
    root: Root,
    place: Mutex<Place>,
    /// This runs inside a test that has the lock: waiting for that one would be for ever, and it covers this as well.
    is_inside: bool,
}

/// How a test uses the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Beside others.
    Shared,
    /// Alone.
    Alone,
}

/// The lock, held until this is dropped.
#[derive(Debug, Default)]
#[must_use = "the host is given back when this is dropped"]
pub struct Held {
    _files: Vec<File>,
}

impl HostLock {
    /// The lock of the host whose files are under `root`.
    pub fn new(root: Root) -> Self {
        let place = Place::find(&root);
        let is_inside = place
            .open(HOST)
            .ok()
            .flatten()
            .is_some_and(|host| is_held_by_an_ancestor(&host));
        Self {
            root,
            place: Mutex::new(place),
            is_inside,
        }
    }

    /// What the user should know of it: whom it does not see.
    pub fn limit(&self) -> Option<String> {
        match &*self.place.lock().unwrap_or_else(PoisonError::into_inner) {
            Place::EveryUsers(_) => None,
            Place::ThisUsers(directory) => Some(format!(
                "in {}: other users' runs are not seen, until a run of root has made {}",
                directory.display(),
                super::journal::DIRECTORY
            )),
            Place::Nowhere(why) => Some(format!("none, other runs are not seen: {why}")),
        }
    }

    /// Takes the host. `wait` hears again and again whom it waits for, and may break the wait off.
    ///
    /// # Errors
    /// A lock file cannot be used. `None` if the wait was broken off.
    pub fn take(
        &self,
        how: Use,
        wait: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> io::Result<Option<Held>> {
        if self.is_inside {
            return Ok(Some(Held::default()));
        }
        let Some((turnstile, host)) = self.open()? else {
            return Ok(Some(Held::default()));
        };
        let operation = match how {
            Use::Shared => FlockOperation::NonBlockingLockShared,
            Use::Alone => FlockOperation::NonBlockingLockExclusive,
        };
        let for_one = |who: &str| format!("waiting for {who}: it needs this host alone");
        let for_others =
            |who: &str| format!("waiting to have this host alone: tests of {who} still run");
        let passed = lock(&turnstile, operation, for_one, wait)?;
        let taken = passed
            .map(|()| lock(&host, operation, for_others, wait))
            .transpose()?
            .flatten();
        Ok(taken.map(|()| match how {
            Use::Shared => Held { _files: vec![host] },
            Use::Alone => Held {
                _files: vec![host, turnstile],
            },
        }))
    }

    /// Opened anew each time: each lock has a holder of its own, and root may have made the place meanwhile.
    fn open(&self) -> io::Result<Option<(File, File)>> {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*place, Place::EveryUsers(_)) {
            *place = Place::find(&self.root);
        }
        Ok(place.open(TURNSTILE)?.zip(place.open(HOST)?))
    }
}

/// Whether this runs inside a test that has locked `host`. Nobody has it where it can be taken for a moment: to ask the
/// kernel who has makes it wait for all CPUs (a writer's lock in fs/locks.c), which takes about 13 ms.
fn is_held_by_an_ancestor(host: &File) -> bool {
    let is_free = try_lock(host, FlockOperation::NonBlockingLockExclusive).unwrap_or(false);
    if is_free {
        flock(host, FlockOperation::Unlock).ok();
        return false;
    }
    host.metadata()
        .is_ok_and(|host| holders(&host).iter().any(|holder| is_ancestor(holder.pid)))
}
