//! The directory that keeps a run's results.

use std::borrow::Cow;
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock, fstatvfs};
use rustix::io::Errno;

use crate::log::no_links;
use crate::model::entry::Entry;
use crate::model::name::CaseName;

/// The file that names what ran, as it happened.
pub const JOURNAL: &str = "journal.jsonl";

/// The file that holds the whole run once it has ended.
pub const RUN_JSON: &str = "run.json";

/// The results directory of a run that is under way.
#[derive(Debug)]
pub struct Results {
    root: PathBuf,
    journal: File,
    /// The journal's last line was written in part, when the disk was full or the runner killed: the next one must not
    /// continue it.
    is_torn: Mutex<bool>,
    is_resumed: bool,
    is_shared: bool,
}

impl Results {
    /// A new directory at `path`.
    ///
    /// # Errors
    /// `path` exists (and is left as it is), unless `overwrite`, which replaces the directory of an earlier run and
    /// nothing else; or it cannot be made.
    pub fn create_at(path: &Path, overwrite: bool) -> anyhow::Result<Self> {
        if overwrite && path.exists() {
            if !path.join(JOURNAL).is_file() {
                bail!(
                    "refuse to overwrite {}: it is not the directory of a run",
                    path.display()
                );
            }
            if Self::is_in_use(path) {
                bail!(
                    "refuse to overwrite {}: the run in it has not ended: wait for it, or end it",
                    path.display()
                );
            }
            fs::remove_dir_all(path)
                .with_context(|| format!("remove the earlier run {}", path.display()))?;
        }
        if let Some(parent) = path.parent() {
            new_directory(parent)
                .with_context(|| format!("make the directory {}", parent.display()))?;
        }
        match directory_builder().create(path) {
            Ok(()) => Self::open(path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                bail!(
                    "{} exists already: choose another directory for --output, or add --overwrite (or go on with the \
                     run in it: --resume)",
                    path.display()
                )
            }
            Err(error) => {
                Err(error).with_context(|| format!("make the directory {}", path.display()))
            }
        }
    }

    /// A new directory in `parent`, named after the time, with `parent`/latest pointing at it.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create_in(parent: &Path) -> anyhow::Result<Self> {
        new_directory(parent)
            .with_context(|| format!("make the directory {}", parent.display()))?;
        let time = jiff::Timestamp::now()
            .strftime("%Y-%m-%dT%H-%M-%SZ")
            .to_string();
        let names =
            std::iter::once(time.clone()).chain((2..).map(|number| format!("{time}-{number}")));
        for name in names {
            let path = parent.join(&name);
            match directory_builder().create(&path) {
                Ok(()) => {
                    point_latest_at(parent, &name)
                        .with_context(|| format!("point {}/latest at {name}", parent.display()))?;
                    return Self::open(&path);
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("make the directory {}", path.display()));
                }
            }
        }
        unreachable!("the names do not end")
    }

    /// The directory of a run that ended early, to go on with it.
    ///
    /// # Errors
    /// There is no run, it has not ended, or its journal cannot be written.
    pub fn reopen(root: &Path) -> anyhow::Result<Self> {
        if !root.join(JOURNAL).is_file() {
            bail!("{} is not the directory of a run", root.display());
        }
        let results = Self {
            is_resumed: true,
            ..Self::open(root)?
        };
        if !lock(&results.journal, FlockOperation::NonBlockingLockExclusive) {
            bail!(
                "the run in {} has not ended: wait for it, or end it",
                root.display()
            );
        }
        let is_whole =
            ends_with_newline(&results.journal).context("read the end of the journal")?;
        *results
            .is_torn
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = !is_whole;
        Ok(results)
    }

    /// The directory of a run that goes on, or seems to, to share it with its other processes.
    ///
    /// # Errors
    /// It is not there, or its journal cannot be written.
    pub fn join(root: &Path) -> anyhow::Result<Self> {
        Ok(Self::open(root)?.shared())
    }

    /// The same, to be shared with other processes.
    #[must_use]
    pub fn shared(self) -> Self {
        Self {
            is_shared: true,
            ..self
        }
    }

    /// Whether other processes may have this directory as well.
    pub fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// Leaves the run to the processes that share it with this one; `false` where there are none.
    pub fn leave_to_others(&self) -> bool {
        // This gives up the shared lock in any case: so of two that leave together, one finds nobody.
        self.is_shared && !lock(&self.journal, FlockOperation::NonBlockingLockExclusive)
    }

    /// Comes back after [leaving](Self::leave_to_others).
    pub fn come_back(&self) {
        lock(&self.journal, FlockOperation::LockShared);
    }

    fn open(root: &Path) -> anyhow::Result<Self> {
        let root = root
            .canonicalize()
            .with_context(|| format!("find the directory {}", root.display()))?;
        let journal = root.join(JOURNAL);
        let journal =
            no_links::append(&journal).with_context(|| format!("open {}", journal.display()))?;
        // Held as long as we live: by it others know whether the run goes on.
        lock(&journal, FlockOperation::LockShared);
        Ok(Self {
            root,
            journal,
            is_torn: Mutex::new(false),
            is_resumed: false,
            is_shared: false,
        })
    }

    /// Whether the run in a directory goes on at this moment.
    pub fn is_in_use(root: &Path) -> bool {
        File::open(root.join(JOURNAL))
            .is_ok_and(|journal| !lock(&journal, FlockOperation::NonBlockingLockExclusive))
    }

    /// The directory's absolute path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory itself, for what is read in it.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn directory(&self) -> anyhow::Result<OwnedFd> {
        no_links::directory(&self.root).with_context(|| format!("open {}", self.root.display()))
    }

    /// Where the output of `case` belongs, relative to the root: every segment of its name is a directory.
    pub fn place_of(case: &CaseName) -> PathBuf {
        case.segments().map(Cow::into_owned).collect()
    }

    /// Makes the directory `place` (relative to the root).
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make(&self, place: &Path) -> io::Result<PathBuf> {
        no_links::make_directory(&self.root, place)?;
        Ok(self.root.join(place))
    }

    /// Whether outputs of an earlier part of the run may be there.
    pub fn is_resumed(&self) -> bool {
        self.is_resumed
    }

    /// Appends a line to the journal.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn record(&self, entry: &Entry) -> anyhow::Result<()> {
        let mut is_torn = self.is_torn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut line = if *is_torn { vec![b'\n'] } else { Vec::new() };
        serde_json::to_writer(&mut line, entry).context("write a journal entry as JSON")?;
        line.push(b'\n');
        // One write(2) a line: what another process appends at the same time cannot fall into it.
        let written = (&self.journal).write_all(&line);
        *is_torn = written.is_err();
        written.with_context(|| format!("append to {}", self.root.join(JOURNAL).display()))
    }

    /// The journal from its start: the one that is written, whatever has been put in its place meanwhile.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn journal(&self) -> anyhow::Result<File> {
        File::open(format!("/proc/self/fd/{}", self.journal.as_raw_fd()))
            .context("open the journal")
    }

    /// Whether the journal is still where it was begun.
    ///
    /// # Errors
    /// It was removed, or something else was put in its place.
    pub fn check(&self) -> anyhow::Result<()> {
        let path = self.root.join(JOURNAL);
        if !no_links::is_at(&self.journal, &path) {
            bail!(
                "{} was removed or replaced while the run went on",
                path.display()
            );
        }
        Ok(())
    }

    /// Whether there is no room on the disk for more.
    pub fn disk_is_full(&self) -> bool {
        fstatvfs(&self.journal).is_ok_and(|disk| disk.f_bavail == 0)
    }

    /// Makes a directory that was removed again, with the journal in it, which is still open here and so still whole.
    /// What somebody else has put in its place is left alone.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make_again_if_removed(&self) -> anyhow::Result<()> {
        let path = self.root.join(JOURNAL);
        match path.symlink_metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            _ => return Ok(()),
        }
        let made = new_directory(&self.root).and_then(|()| no_links::create_new(&path));
        let mut journal = made.with_context(|| format!("make {} again", path.display()))?;
        io::copy(&mut self.journal()?, &mut journal)
            .with_context(|| format!("write {} again", path.display()))?;
        Ok(())
    }

    /// Returns when the journal's lines are on the disk.
    ///
    /// # Errors
    /// They may not be.
    pub fn sync(&self) -> anyhow::Result<()> {
        let synced = self.journal.sync_data();
        synced.with_context(|| format!("write {} to the disk", self.root.join(JOURNAL).display()))
    }

    /// The same, along with the names of the journal and of the directory.
    ///
    /// # Errors
    /// They may not be on the disk.
    pub fn sync_whole(&self) -> anyhow::Result<()> {
        for directory in [Some(self.root.as_path()), self.root.parent()]
            .into_iter()
            .flatten()
        {
            // Not every file system can do this for a directory; those that a host boots from can.
            File::open(directory)
                .and_then(|directory| directory.sync_all())
                .ok();
        }
        self.sync()
    }
}

/// Locks a file by flock(2); `false` where another process has it. Where there are no locks, everything is free.
fn lock(file: &File, how: FlockOperation) -> bool {
    flock(file, how) != Err(Errno::WOULDBLOCK)
}

/// Makes way for a new output: `command.stdout`, if there is one already, becomes `command.stdout.1`.
///
/// # Errors
/// It cannot be renamed.
pub fn put_aside(path: &Path) -> io::Result<()> {
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    let numbered = |number: u64| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    let free = (1..)
        .map(numbered)
        .find(|path| path.symlink_metadata().is_err());
    fs::rename(path, free.unwrap_or_default())
}

fn ends_with_newline(file: &File) -> io::Result<bool> {
    let mut last = [b'\n'];
    if let Some(end) = file.metadata()?.len().checked_sub(1) {
        file.read_exact_at(&mut last, end)?;
    }
    Ok(last == [b'\n'])
}

fn directory_builder() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.mode(0o755);
    builder
}

/// Makes a directory that nobody else can write to, and those above it.
///
/// # Errors
/// One cannot be made.
pub fn new_directory(path: &Path) -> io::Result<()> {
    let mut builder = directory_builder();
    builder.recursive(true).create(path)
}

/// Points the link `latest` at `name`, in one step: it is never missing.
fn point_latest_at(parent: &Path, name: &str) -> io::Result<()> {
    let unfinished = parent.join(format!(".latest.{}", std::process::id()));
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(name, &unfinished)?;
    fs::rename(&unfinished, parent.join("latest"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_directory_that_exists_is_refused_and_left_as_it_is() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("mine");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("thesis"), "years").unwrap();
        for overwrite in [false, true] {
            assert!(Results::create_at(&path, overwrite).is_err());
            assert_eq!(fs::read(path.join("thesis")).unwrap(), b"years");
        }
    }

    #[test]
    fn the_run_of_the_same_second_gets_a_directory_of_its_own() {
        let parent = tempfile::tempdir().unwrap();
        let runs: Vec<_> = (0..3)
            .map(|_| Results::create_in(parent.path()).unwrap().root().to_owned())
            .collect();
        assert!(runs[0] != runs[1] && runs[1] != runs[2]);
        assert_eq!(
            parent.path().join("latest").canonicalize().unwrap(),
            runs[2]
        );
    }
}
