//! One results directory for the processes of one run of nextest.
//!
//! The first process makes it, and leaves a link with the run's ID; the others follow that. Each holds a shared lock on
//! the journal, and appends to it. The one that finds nobody else when it ends writes run.json and the reports: so they
//! are right whenever no process of that run is there, and cost little while there are many. A lock of flock(2) dies
//! with its process.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::Context;
use rustix::fs::{FlockOperation, flock};

use crate::log::no_links;
use crate::log::record::Record;
use crate::log::results::{JOURNAL, Results, new_directory};
use crate::model::entry::Entry;
use crate::model::name::CaseName;
use crate::model::outcome::now_ms;

/// Where the links are, in the directory of all results.
const LINKS: &str = ".nextest";

/// Enters the run `id` with `cases`: finds its directory, or has it begun by `begin`. `parent` is the directory of all
/// results.
///
/// # Errors
/// It cannot be made, found or written.
pub fn enter(
    parent: &Path,
    id: &str,
    cases: Vec<CaseName>,
    begin: impl FnOnce(Vec<CaseName>) -> anyhow::Result<Results>,
) -> anyhow::Result<Results> {
    let links = parent.join(LINKS);
    let io = || format!("use {}", links.display());
    new_directory(&links).with_context(io)?;
    let lock = no_links::private()
        .write(true)
        .open(links.join("lock"))
        .with_context(io)?;
    flock(&lock, FlockOperation::LockExclusive)
        .map_err(io::Error::from)
        .with_context(io)?;
    let link = links.join(id);
    if link.join(JOURNAL).is_file() {
        let results = Results::join(&link)?;
        // The others need not wait until the reports are written.
        drop(lock);
        if !results.leave_to_others() {
            // The run seemed to be over.
            let (record, _) = Record::read(results.root())?;
            Record::begun(record.run).write(results.root())?;
        }
        results.come_back();
        results.record(&Entry::RunJoined {
            at_ms: now_ms(),
            cases,
        })?;
        return Ok(results);
    }
    let results = begin(cases)?.shared();
    remove_dangling(&links).with_context(io)?;
    symlink(results.root(), &link).with_context(io)?;
    Ok(results)
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
