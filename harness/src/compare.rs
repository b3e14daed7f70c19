//! What changed between two runs: `kvm-tests compare OLD NEW`, and `--baseline RUN` at the end of a run.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};

use crate::compare::change::{Change, Kind};
use crate::compare::difference::Difference;
use crate::compare::tally::Tally;
use crate::log::record::Record;
use crate::model::name::listed;
use crate::model::printable::printable;

pub mod change;
pub mod difference;
pub mod json;
pub mod layout;
pub mod markdown;
pub mod sections;
pub mod share;
pub mod signature;
pub mod tally;
pub mod text;

/// Something got worse.
const EXIT_WORSE: u8 = 1;

/// How many times as long as before a case takes that is told to be slower, where `--slower` does not say it.
const SLOWER: f64 = 2.0;

/// A case that is slower by less than this many seconds is not told to be: that is noise.
const SLOWER_BY_S: f64 = 1.0;

/// What `kvm-tests compare` is asked for.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The run to compare with: its directory, or its run.json
    #[arg(value_name = "OLD")]
    pub old: PathBuf,

    /// The run to look at
    #[arg(value_name = "NEW")]
    pub new: PathBuf,

    /// How to print
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,

    /// A case that passes, but takes FACTOR times as long (and 1 s longer) got worse. Where not given, those that take
    /// twice as long are told, and nothing is worse for it
    #[arg(long, value_name = "FACTOR", value_parser = factor)]
    pub slower: Option<f64>,
}

/// `--format`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For a terminal
    #[default]
    Text,
    /// One object, for machines
    Json,
    /// For a cover letter: reads well as plain text, too
    Markdown,
}

fn factor(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(factor) if factor > 1.0 && f64::is_finite(factor) => Ok(factor),
        _ => Err("should be a number above 1".to_owned()),
    }
}

/// Compares two runs and prints what came of it: 0 where nothing got worse, 1 where something did.
///
/// # Errors
/// They cannot be compared.
pub fn compare(options: &Options) -> anyhow::Result<ExitCode> {
    let (old, new) = (Run::read(&options.old)?, Run::read(&options.new)?);
    let comparison = Comparison::of(&old, &new, options.slower);
    let text = comparison.render(options.format);
    match io::stdout()
        .write_all(text.as_bytes())
        .and_then(|()| io::stdout().flush())
    {
        // A reader that went away has said that it wants no more; the exit status is still good.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            return Err(error).context("print the comparison");
        }
        _ => {}
    }
    Ok(if comparison.is_worse() {
        ExitCode::from(EXIT_WORSE)
    } else {
        ExitCode::SUCCESS
    })
}

/// A run to compare, and what the user calls it.
#[derive(Debug, Clone)]
pub struct Run {
    /// Where it was read.
    pub place: PathBuf,
    /// What it tells.
    pub record: Record,
}

impl Run {
    /// Reads the run in a directory, or a run.json.
    ///
    /// # Errors
    /// There is none, it cannot be read, or it has no case.
    pub fn read(place: &Path) -> anyhow::Result<Self> {
        let (record, _) = Record::read(place)?;
        if record.outcomes.is_empty() {
            bail!(
                "nothing to compare: {} has no outcome of any case",
                place.display()
            );
        }
        Ok(Self {
            place: place.to_owned(),
            record,
        })
    }

    /// The run without its cases called so (iterations do not count).
    pub fn without(mut self, cases: &HashSet<String>) -> Self {
        self.record
            .outcomes
            .retain(|outcome| !cases.contains(listed(&outcome.name)));
        self
    }

    fn tallies(&self) -> BTreeMap<&str, Tally<'_>> {
        let mut tallies: BTreeMap<&str, Tally<'_>> = BTreeMap::new();
        for outcome in &self.record.outcomes {
            tallies
                .entry(listed(&outcome.name))
                .or_default()
                .outcomes
                .push(outcome);
        }
        tallies
    }
}

/// Two runs, compared.
#[derive(Debug)]
pub struct Comparison<'a> {
    /// The run that came first.
    pub old: &'a Run,
    /// The one to look at.
    pub new: &'a Run,
    /// In what they differ before any case.
    pub differences: Vec<Difference>,
    /// Every case of either, by name.
    pub changes: Vec<Change<'a>>,
    /// How many times as long makes a case worse; `None`: being slower is no harm.
    pub slower: Option<f64>,
}

/// A case whose pace has changed.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Pace<'a> {
    /// Its name.
    pub name: &'a str,
    /// How long it took to pass in the old run, in seconds; of iterations the median.
    pub old_s: f64,
    /// And in the new one.
    pub new_s: f64,
}

impl<'a> Comparison<'a> {
    /// Compares `new` with `old`; cases that take `slower` times as long are worse.
    pub fn of(old: &'a Run, new: &'a Run, slower: Option<f64>) -> Self {
        let (mut was, mut is) = (old.tallies(), new.tallies());
        let names: Vec<&str> = was
            .keys()
            .chain(is.keys())
            .copied()
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect();
        let changes = names
            .into_iter()
            .map(|name| Change::of(name, was.remove(name), is.remove(name)));
        Self {
            differences: difference::between(&old.record, &new.record),
            changes: changes.collect(),
            old,
            new,
            slower,
        }
    }

    /// Whether anything got worse.
    pub fn is_worse(&self) -> bool {
        self.changes.iter().any(Change::is_worse)
            || (self.slower.is_some() && !self.slower().is_empty())
    }

    /// The cases that this happened to.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Change<'a>> {
        self.changes
            .iter()
            .filter(move |change| change.kind == kind)
    }

    /// How many times as long a case takes that is told to be slower.
    pub fn factor(&self) -> f64 {
        self.slower.unwrap_or(SLOWER)
    }

    /// The cases that got slower.
    pub fn slower(&self) -> Vec<Pace<'a>> {
        self.paces(|old_s, new_s| (old_s, new_s))
    }

    /// The cases that got faster.
    pub fn faster(&self) -> Vec<Pace<'a>> {
        self.paces(|old_s, new_s| (new_s, old_s))
    }

    fn paces(&self, less_and_more: fn(f64, f64) -> (f64, f64)) -> Vec<Pace<'a>> {
        let paces = self.changes.iter().filter_map(|change| {
            let (old_s, new_s) = change.durations_s()?;
            let (less, more) = less_and_more(old_s, new_s);
            let is_told = more >= less * self.factor() && more - less >= SLOWER_BY_S;
            is_told.then_some(Pace {
                name: change.name,
                old_s,
                new_s,
            })
        });
        paces.collect()
    }

    /// What is to be printed.
    pub fn render(&self, format: Format) -> String {
        match format {
            Format::Text => text::render(self),
            Format::Json => json::render(self),
            Format::Markdown => markdown::render(self),
        }
    }
}

/// What a test or a host said, on one line.
fn flat(text: &str) -> String {
    printable(text.as_bytes())
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}
