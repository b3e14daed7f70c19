//! nextest starts this program once for each case: all processes of one of its runs share a directory.
//!
//! The first process makes it, and leaves a link with the run's ID; the others follow that. Each has a part and a journal of
//! its own. Whoever finds nobody else when it ends writes run.json and the reports: so they are right whenever no process of
//! that run is there.

use std::env;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::process::getppid;

use super::directory::RunDirectory;
use super::read;
use crate::model::case::Case;
use crate::model::file;
use crate::model::text;

/// Where the links are, in the directory of all results.
const LINKS: &str = ".nextest";

/// The longest ID that is taken; nextest's are UUIDs, of 36 characters.
const LONGEST_ID: usize = 64;

/// A run of nextest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nextest {
    /// Its ID, by which its processes know each other: letters, digits and `-`.
    pub run_id: String,
    /// How often this case was run before in that run, as a retry or under stress.
    repeated: u32,
}

impl Nextest {
    /// The run of nextest that started this process for `case`; `None` where it did not: a run that a test of another
    /// program starts has the same variables.
    ///
    /// # Errors
    /// The run's ID could not be the name of a file.
    pub fn of(case: Option<&str>) -> anyhow::Result<Option<Self>> {
        let (Ok(run_id), Ok(name)) = (env::var("NEXTEST_RUN_ID"), env::var("NEXTEST_TEST_NAME"))
        else {
            return Ok(None);
        };
        if case != Some(&name) {
            return Ok(None);
        }
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if !run_id.bytes().all(is_plain) || run_id.is_empty() || run_id.len() > LONGEST_ID {
            bail!(
                "NEXTEST_RUN_ID is `{}`, should be a UUID",
                run_id.escape_debug()
            );
        }
        let number = |name| env::var(name).ok()?.parse::<u32>().ok();
        // Attempts count from 1, rounds of stress from 0; there is `none` where there is no stress.
        let attempts = number("NEXTEST_TOTAL_ATTEMPTS").unwrap_or(1);
        let before = number("NEXTEST_STRESS_CURRENT").unwrap_or(0) * attempts;
        let attempt = number("NEXTEST_ATTEMPT").unwrap_or(1);
        Ok(Some(Self {
            run_id,
            repeated: before + attempt.saturating_sub(1),
        }))
    }

    /// The command line of nextest itself, which started this process.
    pub fn command_line() -> Option<Vec<std::ffi::OsString>> {
        let line = fs::read(format!("/proc/{}/cmdline", getppid()?)).ok()?;
        let line = String::from_utf8_lossy(&line).into_owned();
        let words = line.trim_end_matches('\0').split('\0');
        Some(words.map(text::decode).collect())
    }

    /// Numbers `cases` so that a case that is run again is another iteration of it.
    pub fn number(&self, cases: &mut [Case], iterations: u32) {
        for case in cases.iter_mut().filter(|_| self.repeated > 0) {
            let count = case.iterations.saturating_mul(iterations);
            let iteration = case.name.iteration.unwrap_or(1);
            let before = self.repeated.saturating_mul(count);
            case.name.iteration = Some(before.saturating_add(iteration));
        }
    }

    /// The run's directory, which is made by `create` where this is its first process; `parent` is the directory of all
    /// results. As long as the [`Member`] lives, no other process takes itself for the last.
    ///
    /// # Errors
    /// It cannot be made, or found.
    pub fn enter(
        &self,
        parent: &Path,
        create: impl FnOnce() -> anyhow::Result<RunDirectory>,
    ) -> anyhow::Result<(RunDirectory, Member)> {
        let links = parent.join(LINKS);
        let doing = || format!("use {}", links.display());
        file::make_directories(&links).with_context(doing)?;
        let entrance = file::append(&links.join("lock")).with_context(doing)?;
        file::lock(&entrance).with_context(doing)?;
        let link = links.join(&self.run_id);
        let directory = match read::is_run(&link) {
            true => RunDirectory::join(&link)?,
            false => {
                let directory = create()?;
                remove_dangling(&links).with_context(doing)?;
                symlink(directory.root(), &link).with_context(doing)?;
                directory
            }
        };
        let members = members_of(&link);
        let members = file::append(&members).with_context(doing)?;
        file::lock_shared(&members).with_context(doing)?;
        Ok((directory, Member { members, entrance }))
    }
}

/// A process of a run of nextest, from its entry to its end.
#[derive(Debug)]
pub struct Member {
    members: File,
    entrance: File,
}

impl Member {
    /// The entry is over: the run's directory is one by now, and the next one may enter.
    pub fn entered(&self) {
        file::unlock(&self.entrance);
    }

    /// Whether this is the last process of the run that is there. Nobody but members has this lock, so that of two that
    /// leave together one finds nobody.
    pub fn is_last(&self) -> bool {
        file::unlock(&self.members);
        file::try_lock(&self.members)
    }
}

/// Removes what belongs to runs that were removed.
fn remove_dangling(links: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(links)? {
        let path = entry?.path();
        if path.is_symlink() && !path.exists() {
            fs::remove_file(&path)?;
            fs::remove_file(members_of(&path)).ok();
        }
    }
    Ok(())
}

fn members_of(link: &Path) -> PathBuf {
    link.with_extension("members")
}
