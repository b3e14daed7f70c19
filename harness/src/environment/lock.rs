//! Who is in which environment, across processes.
//!
//! Two things, both locked by flock(2), so that those of the dead are free at once:
//! 1. the gate, held by whoever is about to look, join, change or restore; never while tests run;
//! 2. for each user of an environment a file that says which one, locked for as long as it is used.
//!
//! Since both are looked at and changed only under the gate, the first user of an environment is the one that finds
//! nobody else, and changes the host; the last is the one that leaves nobody else, and restores it, whoever changed it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::journal::DIRECTORY;
use super::lock_file::{holders, try_lock};
use super::process::Process;
use super::root::Root;

/// How often it is looked whether others are done. A wait in flock(2) itself would be deaf to the user's Ctrl-C.
pub const POLL: Duration = Duration::from_millis(50);

/// The file of the gate.
const GATE: &str = "gate";

/// What the names of the files begin with that say who uses an environment; the process ID follows.
const USE: &str = "use-";

/// The right to look, join, change and restore.
#[derive(Debug)]
pub struct Gate {
    directory: PathBuf,
    _file: File,
}

/// A use of an environment.
#[derive(Debug)]
pub struct Use {
    path: PathBuf,
    _file: File,
}

/// Somebody else's use of an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Other {
    /// Who.
    pub process: Process,
    /// What environment, in all that it sets.
    pub environment: String,
}

impl Gate {
    /// Waits for the gate of this directory; `wait` hears, again and again, whom it waits for, and may break it off.
    ///
    /// # Errors
    /// If the file of the lock cannot be used. `None` if the wait was broken off.
    pub fn enter(
        directory: &Path,
        mut wait: impl FnMut(&str) -> ControlFlow<()>,
    ) -> io::Result<Option<Self>> {
        let path = directory.join(GATE);
        let options = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .clone();
        let mut file = options.open(path)?;
        while !try_lock(&file, FlockOperation::NonBlockingLockExclusive)? {
            let mut who = String::new();
            file.rewind()?;
            file.read_to_string(&mut who)?;
            if wait(&format!(
                "waiting for {who}, which changes or restores this host"
            ))
            .is_break()
            {
                return Ok(None);
            }
            thread::sleep(POLL);
        }
        file.set_len(0)?;
        file.rewind()?;
        write!(file, "{}", this_process().at_length())?;
        Ok(Some(Self {
            directory: directory.to_owned(),
            _file: file,
        }))
    }

    /// Everybody who uses an environment now.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn others(&self) -> io::Result<Vec<Other>> {
        let mut others = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let Some(pid) = name
                .strip_prefix(USE)
                .and_then(|name| name.split('-').next()?.parse().ok())
            else {
                continue;
            };
            let mut file = OpenOptions::new().read(true).write(true).open(&path)?;
            if try_lock(&file, FlockOperation::NonBlockingLockExclusive)? {
                // Its holder is dead.
                fs::remove_file(&path)?;
                continue;
            }
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            let (command, environment) = text.split_once('\n').unwrap_or_default();
            let process = Process {
                pid,
                command: command.to_owned(),
            };
            others.push(Other {
                process,
                environment: environment.to_owned(),
            });
        }
        others.sort_by_key(|other| other.process.pid);
        Ok(others)
    }

    /// Uses an environment.
    ///
    /// # Errors
    /// If the file that says so cannot be made.
    pub fn register(&self, environment: &str) -> io::Result<Use> {
        let Process { pid, command } = this_process();
        let mut number = 0;
        let (path, mut file) = loop {
            let path = self.directory.join(format!("{USE}{pid}-{number}"));
            match OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)
            {
                Ok(file) => break (path, file),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(error),
            }
        };
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        write!(file, "{command}\n{environment}")?;
        Ok(Use { path, _file: file })
    }

    /// Ends a use of an environment.
    ///
    /// # Errors
    /// If the file that says so cannot be removed.
    pub fn unregister(&self, used: Use) -> io::Result<()> {
        fs::remove_file(used.path)
    }
}

/// Those who use an environment, or stand in the gate: for everybody to see, also without the right to enter.
pub fn users(root: &Root) -> Vec<Process> {
    let entries = fs::read_dir(root.path(DIRECTORY))
        .into_iter()
        .flatten()
        .flatten();
    let is_lock = |entry: &fs::DirEntry| {
        entry.file_name() == GATE
            || entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(USE.as_bytes())
    };
    let mut users: Vec<Process> = entries
        .filter(is_lock)
        .filter_map(|entry| entry.metadata().ok())
        .flat_map(|file| holders(&file))
        .collect();
    users.sort_by_key(|user| user.pid);
    users.dedup();
    users
}

fn this_process() -> Process {
    // Always of the real /proc: a directory that stands for a host knows nothing of this process.
    Process::of_pid(&Root::at(Path::new("/"), ""), std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_are_seen_until_they_end_and_those_of_the_dead_never() {
        let directory = tempfile::tempdir().unwrap();
        let never = |_: &str| panic!("nobody holds the gate");
        let gate = Gate::enter(directory.path(), never).unwrap().unwrap();
        fs::write(directory.path().join("use-1-0"), "dead\nb").unwrap();
        let used = gate.register("a\nb").unwrap();
        let others = gate.others().unwrap();
        assert_eq!(
            (others.len(), others[0].process.pid),
            (1, std::process::id())
        );
        assert_eq!(others[0].environment, "a\nb");
        gate.unregister(used).unwrap();
        assert_eq!(gate.others().unwrap(), []);
    }

    #[test]
    fn a_closed_gate_names_its_holder_and_the_wait_can_be_broken_off() {
        let directory = tempfile::tempdir().unwrap();
        let gate = Gate::enter(directory.path(), |_| ControlFlow::Break(())).unwrap();
        let mut said = String::new();
        let second = Gate::enter(directory.path(), |message| {
            said = message.to_owned();
            ControlFlow::Break(())
        });
        assert!(second.unwrap().is_none());
        assert!(
            said.contains(&format!("pid {}", std::process::id())),
            "{said}"
        );
        drop(gate);
    }
}
