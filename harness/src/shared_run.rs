//! One results directory for the processes of one run of nextest.
//!
//! The first process makes it, and leaves a link with the run's ID; the others follow that. Each holds a shared lock on
//! the journal, and appends to it. The one that finds nobody else when it ends writes run.json and the reports: so they
//! are right whenever no process of that run is there, and cost little while there are many. A lock of flock(2) dies
//! with its process.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::Context;
use rustix::fs::{FlockOperation, flock};
use serde::Deserialize;

use crate::environment::lock_file::try_lock;
use crate::outcome::now_ms;
use crate::results::{Entry, JOURNAL, Results, RunInfo};

/// Where the links are, in the directory of all results.
const LINKS: &str = ".nextest";

/// Enters the run `id`: makes a directory with `create`, or finds the one that is there. `parent` is the directory of
/// all results.
///
/// # Errors
/// It cannot be made, found or written.
pub fn enter(
    parent: &Path,
    id: &str,
    info: &RunInfo,
    create: impl FnOnce() -> anyhow::Result<Results>,
) -> anyhow::Result<Results> {
    let links = parent.join(LINKS);
    let io = || format!("use {}", links.display());
    fs::create_dir_all(&links).with_context(io)?;
    let lock = File::create(links.join("lock")).with_context(io)?;
    flock(&lock, FlockOperation::LockExclusive).map_err(io::Error::from).with_context(io)?;
    let link = links.join(id);
    if link.join(JOURNAL).is_file() {
        let mut results = Results::open(&link)?;
        // The others need not wait until the reports are written.
        drop(lock);
        let member = member(results.root())?;
        if try_lock(&member, FlockOperation::NonBlockingLockExclusive)? {
            // The run seemed to be over.
            results.write_unfinished()?;
        }
        flock(&member, FlockOperation::LockShared).map_err(io::Error::from).with_context(io)?;
        results.share(member);
        results.record(&Entry::RunJoined { at_ms: now_ms(), selected: info.selected })?;
        return Ok(results);
    }
    let mut results = create()?;
    let member = member(results.root())?;
    flock(&member, FlockOperation::LockShared).map_err(io::Error::from).with_context(io)?;
    results.share(member);
    results.begin(info)?;
    remove_dangling(&links).with_context(io)?;
    symlink(results.root(), &link).with_context(io)?;
    Ok(results)
}

fn member(root: &Path) -> anyhow::Result<File> {
    let journal = root.join(JOURNAL);
    File::open(&journal).with_context(|| format!("open {}", journal.display()))
}

/// Removes the links to runs that were removed.
fn remove_dangling(links: &Path) -> io::Result<()> {
    for entry in fs::read_dir(links)? {
        let path = entry?.path();
        if !path.exists() {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// What the processes of a run come to together.
#[derive(Debug, Default)]
pub struct Totals {
    /// How many cases there are besides those of the first process.
    pub selected: usize,
    /// How many processes came, and have not said that they left.
    pub present: usize,
    /// When the last one left, in milliseconds since the epoch.
    pub ended_ms: u64,
    /// The signal that interrupted one of them.
    pub interrupted_by: Option<i32>,
}

/// The few members of a journal line that count here.
#[derive(Deserialize)]
struct Line<'a> {
    event: &'a str,
    selected: Option<usize>,
    at_ms: Option<u64>,
    interrupted_by: Option<i32>,
}

impl Totals {
    /// Those that a journal tells.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(mut journal: impl BufRead) -> io::Result<Self> {
        let mut totals = Self::default();
        let mut text = String::new();
        while journal.read_line(&mut text)? > 0 {
            // A line that was cut off by the end of a process says nothing.
            if let Ok(line) = serde_json::from_str::<Line>(&text) {
                totals.add(&line);
            }
            text.clear();
        }
        Ok(totals)
    }

    fn add(&mut self, line: &Line) {
        match line.event {
            "run_started" => self.present += 1,
            "run_joined" => {
                self.present += 1;
                self.selected += line.selected.unwrap_or(0);
            }
            "run_finished" => {
                self.present = self.present.saturating_sub(1);
                self.ended_ms = self.ended_ms.max(line.at_ms.unwrap_or(0));
                self.interrupted_by = self.interrupted_by.or(line.interrupted_by);
            }
            _ => {}
        }
    }
}

/// Opens the journal of the run in `root` for [`Totals::read`] and the like.
///
/// # Errors
/// It cannot be opened.
pub fn journal(root: &Path) -> anyhow::Result<BufReader<File>> {
    Ok(BufReader::new(member(root)?))
}
