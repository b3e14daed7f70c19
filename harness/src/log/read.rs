//! Reads a run back: from run.json, or from the journals of one that did not come to its end.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Deserialize;

use super::journal::{self, JOURNALS, RUN_JSON};
use super::{hosts, version1};
use crate::model::event::{Event, SCHEMA_VERSION};
use crate::model::file;
use crate::model::state::State;

/// The longest line of a journal that is read, in bytes: a million cases are named in less.
const LONGEST: u64 = 256 << 20;

/// How long a name like `2026-01-31T23-59-59Z` is.
const TIME_LENGTH: usize = 20;

/// How many runs are looked at for one that ran the same cases.
const LOOKED_AT: usize = 10;

/// Reads the run in a directory, or the one that a run.json lies in; returns it with its directory. Of a run that did not
/// come to its end the journals are read: what had not ended is `NO_RUN`.
///
/// # Errors
/// There is no run, it cannot be read, or it was written by a newer version.
pub fn read(path: &Path) -> anyhow::Result<(State, PathBuf)> {
    let (directory, run_json) = match path.is_dir() {
        true => (path, path.join(RUN_JSON)),
        false => (path.parent().unwrap_or(path), path.to_owned()),
    };
    let has_journals = directory.join(JOURNALS).is_dir();
    let finished = read_run_json(&run_json);
    let state = match finished {
        Ok(state) if state.finished || !has_journals => state,
        // A newer version's is not to be guessed from its journals.
        Err(error) if !has_journals || error.is::<Newer>() => {
            return Err(error.context(format!("read {}", run_json.display())));
        }
        _ => {
            let mut state = fold(directory)?;
            state.close();
            state
        }
    };
    Ok((state, directory.to_owned()))
}

/// What the journals in a run's directory add up to, without `NO_RUN` for what has not ended.
///
/// # Errors
/// One cannot be read, or does not say what it was to run.
pub fn fold(directory: &Path) -> anyhow::Result<State> {
    let mut state = State::default();
    for Opened { path, first, label } in opened(directory)? {
        let context = || format!("read {}", path.display());
        let on_host = |event: Event| match &label {
            Some(label) => event.on(label),
            None => event,
        };
        state.apply(&on_host(first.with_context(context)?));
        let mut lines = Lines::open(&path).with_context(context)?;
        lines.next().with_context(context)?;
        // A line that cannot be read says nothing: the last one may have been cut off with its writer or the disk's space,
        // and a crash of the host can leave zeros where the file system had no time to write. Its case has no outcome then.
        while let Some(line) = lines.next().with_context(context)? {
            if let Ok(event) = serde_json::from_slice(line) {
                state.apply(&on_host(event));
            }
        }
    }
    Ok(state)
}

/// A journal, as far as its first line.
pub(super) struct Opened {
    pub(super) path: PathBuf,
    pub(super) first: anyhow::Result<Event>,
    /// What the host of the part is called, where the run has several.
    pub(super) label: Option<String>,
}

/// The journals in a run's directory.
///
/// # Errors
/// It is none of a run, or cannot be read. What a journal's first line says may be one, too.
pub(super) fn opened(directory: &Path) -> anyhow::Result<Vec<Opened>> {
    let paths = journal::all_in(directory)
        .with_context(|| format!("read {}", directory.join(JOURNALS).display()))?;
    if paths.is_empty() {
        bail!("{} is not the directory of a run", directory.display());
    }
    let open = |path: PathBuf| {
        let first = Lines::open(&path)
            .map_err(Into::into)
            .and_then(|mut lines| lines.first());
        Opened {
            path,
            first,
            label: None,
        }
    };
    let mut all: Vec<_> = paths.into_iter().map(open).collect();
    let parts = all.iter().filter_map(|one| match &one.first {
        Ok(Event::PartStarted { part, cases }) => Some((&**part, cases.as_slice())),
        _ => None,
    });
    let mut labels = hosts::labels(&parts.collect::<Vec<_>>()).into_iter();
    for one in &mut all {
        if let Ok(Event::PartStarted { .. }) = one.first {
            one.label = labels.next().flatten();
        }
    }
    Ok(all)
}

/// Whether a directory is that of a run: the first line of a journal in it can be read.
pub fn is_run(directory: &Path) -> bool {
    let journals = journal::all_in(directory).unwrap_or_default();
    let mut journals = journals.iter();
    journals.any(|path| Lines::open(path).is_ok_and(|mut lines| lines.first().is_ok()))
}

/// The names that stand at the top of a run's directory because of its cases.
///
/// # Errors
/// The journals cannot be read.
pub fn top_directories(directory: &Path) -> anyhow::Result<BTreeSet<OsString>> {
    let mut names = BTreeSet::new();
    for Opened { first, label, .. } in opened(directory)? {
        match (label, first) {
            (Some(label), _) => drop(names.insert(label.into())),
            (None, Ok(Event::PartStarted { cases, .. })) => {
                let top = cases.iter().filter_map(|case| case.segments().next());
                names.extend(top.map(|segment| OsString::from(segment.into_owned())));
            }
            _ => {}
        }
    }
    Ok(names)
}

/// The run before the one in a directory that ran the same cases: of the directories beside it that are named after the
/// time, the latest such one.
pub fn before(directory: &Path, state: &State) -> Option<(State, PathBuf)> {
    let directory = directory.canonicalize().ok()?;
    let (parent, name) = (directory.parent()?, directory.file_name()?);
    let is_time =
        |name: &OsStr| name.len() >= TIME_LENGTH && name.as_encoded_bytes().starts_with(b"20");
    let entries = fs::read_dir(parent).ok()?.flatten();
    let names = entries.map(|entry| entry.file_name());
    let mut earlier: Vec<_> = names
        .filter(|other| is_time(other) && is_time(name) && other.as_os_str() < name)
        .collect();
    earlier.sort();
    let listed = |state: &State| -> BTreeSet<String> {
        let outcomes = state.outcomes.iter();
        outcomes
            .map(|outcome| outcome.listed().to_owned())
            .collect()
    };
    let ours = listed(state);
    let mut latest = earlier.iter().rev().take(LOOKED_AT);
    latest.find_map(|name| {
        let read = read(&parent.join(name)).ok();
        // One that ended early knows nothing of many cases.
        let is_whole = |state: &State| {
            state.finished && state.interrupted_by().is_none() && state.ended_early().is_none()
        };
        read.filter(|(state, _)| is_whole(state) && listed(state) == ours)
    })
}

fn read_run_json(path: &Path) -> anyhow::Result<State> {
    let text = file::read(path)?;
    match check_version(&text)? {
        Some(1) => version1::read(&text),
        _ => Ok(serde_json::from_slice::<State>(&text)?.indexed()),
    }
}

/// As much of a run.json, of a plan and of the first line of a part as every version has.
#[derive(Deserialize)]
struct AnyVersion {
    schema_version: Option<u32>,
    #[serde(alias = "planned", alias = "part_started")]
    part: Option<Box<Self>>,
}

/// A newer version of this program wrote it.
#[derive(Debug)]
struct Newer(u32);

impl std::error::Error for Newer {}

impl fmt::Display for Newer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(version) = self;
        write!(
            f,
            "it has schema version {version}, and this program knows versions up to {SCHEMA_VERSION}: use the kvm-tests \
             that wrote it, or a newer one"
        )
    }
}

/// The version that such a text says that it has.
///
/// # Errors
/// A newer version of this program wrote it.
pub(super) fn check_version(text: &[u8]) -> anyhow::Result<Option<u32>> {
    let mut any: Option<AnyVersion> = serde_json::from_slice(text).ok();
    while let Some(AnyVersion {
        schema_version,
        part,
    }) = any
    {
        match schema_version {
            Some(version) if version > SCHEMA_VERSION => bail!(Newer(version)),
            Some(version) => return Ok(Some(version)),
            None => any = part.map(|part| *part),
        }
    }
    Ok(None)
}

/// The lines of a journal.
struct Lines {
    reader: BufReader<fs::File>,
    line: Vec<u8>,
}

impl Lines {
    fn open(path: &Path) -> io::Result<Self> {
        let reader = BufReader::new(file::open(path)?);
        let line = Vec::new();
        Ok(Self { reader, line })
    }

    /// The next line, without the zeros that a crash of the host may have left before it.
    fn next(&mut self) -> io::Result<Option<&[u8]>> {
        self.line.clear();
        let mut limited = io::Read::take(&mut self.reader, LONGEST);
        let length = limited.read_until(b'\n', &mut self.line)?;
        let zeros = self.line.iter().take_while(|&&byte| byte == 0).count();
        Ok((length > 0).then(|| &self.line[zeros..]))
    }

    /// The first line, which says what the part was to run.
    fn first(&mut self) -> anyhow::Result<Event> {
        let line = self.next()?.unwrap_or_default();
        check_version(line)?;
        let damaged = "line 1, which says what it was to run, is damaged";
        match serde_json::from_slice(line).context(damaged)? {
            event @ (Event::PartStarted { .. } | Event::Planned(_)) => Ok(event),
            _ => bail!(damaged),
        }
    }
}
