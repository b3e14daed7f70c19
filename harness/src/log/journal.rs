//! One part's journal: an event a line, appended as it happens, and on the disk before a case starts. And what it and the
//! other files in a run's directory are called.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::model::event::Event;
use crate::model::file;

/// The directory of the journals, one for each part.
pub const JOURNALS: &str = "journal";

/// The file that holds the whole run once it has ended.
pub const RUN_JSON: &str = "run.json";

/// The plan that the run has a share in.
pub const PLAN_JSON: &str = "plan.json";

/// What the kernel logged, and what a guest printed: each host has its own.
pub const LOGS: [&str; 2] = ["kernel.log", "console.log"];

/// The directory of what places print.
pub const CONSOLES: &str = "places";

/// What stands beside the cases' directories, or those of hosts.
pub const FILES: [&str; 9] = [
    CONSOLES,
    JOURNALS,
    RUN_JSON,
    PLAN_JSON,
    "junit.xml",
    "results.ktap",
    "report.html",
    LOGS[0],
    LOGS[1],
];

/// How a journal's name ends.
const EXTENSION: &str = "jsonl";

/// The journal of a part that goes on.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    /// The last line was written in part, as the disk was full: the next one must not continue it.
    is_torn: bool,
}

impl Journal {
    /// Begins the journal of the part `id` in the run's directory `root`, with its first line on the disk.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn begin(root: &Path, id: &str, first: &Event) -> anyhow::Result<Self> {
        let path = root.join(JOURNALS).join(format!("{id}.{EXTENSION}"));
        let file = file::create_new(&path).with_context(|| format!("create {}", path.display()))?;
        let mut journal = Self {
            file,
            path,
            is_torn: false,
        };
        journal.append(&line_of(first))?;
        journal.sync()?;
        // Not every file system can do this for a directory; those that a host boots from can.
        for directory in [Some(root), root.parent()].into_iter().flatten() {
            let synced = File::open(directory).and_then(|directory| directory.sync_all());
            synced.ok();
        }
        Ok(journal)
    }

    /// How many parts the run in a directory has by now.
    ///
    /// # Errors
    /// Its journals cannot be listed.
    pub fn count_in(root: &Path) -> anyhow::Result<usize> {
        let journals = all_in(root);
        let count = journals.map(|paths| paths.len());
        count.with_context(|| format!("read {}", root.join(JOURNALS).display()))
    }

    /// Appends a line: one write(2), so that a reader finds whole lines but for the last one.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn append(&mut self, line: &[u8]) -> anyhow::Result<()> {
        if self.is_torn {
            self.file.write_all(b"\n").with_context(|| self.doing())?;
        }
        let written = self.file.write_all(line);
        self.is_torn = written.is_err();
        written.with_context(|| self.doing())
    }

    /// Returns when all lines are on the disk.
    ///
    /// # Errors
    /// They may not be.
    pub fn sync(&self) -> anyhow::Result<()> {
        let synced = self.file.sync_data();
        synced.with_context(|| format!("write {} to the disk", self.path.display()))
    }

    /// A handle with which another thread can [sync](Self::sync).
    ///
    /// # Errors
    /// There are no descriptors left.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            file: self.file.try_clone()?,
            path: self.path.clone(),
            is_torn: false,
        })
    }

    /// Makes a run's directory that was removed again, with the journal in it. What somebody else has put in its place is
    /// left alone, and is an error.
    ///
    /// # Errors
    /// It was replaced, or cannot be made.
    pub fn make_again_if_removed(&self, root: &Path) -> anyhow::Result<()> {
        if file::is_at(&self.file, &self.path) {
            return Ok(());
        }
        if self.path.symlink_metadata().is_ok() || root.symlink_metadata().is_ok() {
            bail!(
                "{} was removed or replaced while the run went on",
                self.path.display()
            );
        }
        let again = || -> io::Result<()> {
            file::make_directories(root)?;
            file::make_below(root, Path::new(JOURNALS))?;
            // The file itself is still open here, and so still whole.
            let mut ours = File::open(format!("/proc/self/fd/{}", self.file.as_raw_fd()))?;
            io::copy(&mut ours, &mut file::create_new(&self.path)?)?;
            Ok(())
        };
        again().with_context(|| format!("make {} again", self.path.display()))?;
        bail!(
            "{} was removed or replaced while the run went on",
            root.display()
        )
    }

    fn doing(&self) -> String {
        format!("append to {}", self.path.display())
    }
}

/// An event as a line.
pub fn line_of(event: &Event) -> Vec<u8> {
    let mut line = serde_json::to_vec(event).expect("an event has a form in JSON");
    line.push(b'\n');
    line
}

/// The journals of a run, in the order in which its parts began.
///
/// # Errors
/// The directory cannot be read.
pub fn all_in(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(root.join(JOURNALS))? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == EXTENSION) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
