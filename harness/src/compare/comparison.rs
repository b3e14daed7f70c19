//! Two runs, compared: what happened to each case.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::OsString;
use std::path::PathBuf;

use serde::Serialize;

use super::case::{CaseChange, ChangeKind, Tally};
use super::difference::{RunDifference, between, trouble};
use crate::model::case::name::on_host;
use crate::model::event::Part;
use crate::model::outcome::{Counts, Outcome};
use crate::model::state::State;
use crate::model::time::{SLOWER_FACTOR, is_slower_by, of_seconds};
use crate::options;

/// The version of the JSON; raised with every change that an older reader would get wrong.
const SCHEMA_VERSION: u32 = 1;

/// A run to compare.
#[derive(Debug, Clone)]
pub struct Side {
    /// What the user calls it.
    pub place: PathBuf,
    /// What it came to.
    pub state: State,
    /// The cases that exist and were not selected, by their names without iterations, where that is known. Of a run that
    /// was read back it is not: its options tell.
    pub left_out: Option<HashSet<String>>,
}

/// Two runs, compared. Its JSON is what docs/compare.md describes.
#[derive(Debug, Serialize)]
pub struct Comparison<'a> {
    schema_version: u32,
    /// Whether anything got worse.
    worse: bool,
    pub(super) old: Head<'a>,
    pub(super) new: Head<'a>,
    /// In what they differ before any case.
    pub(super) differences: Vec<RunDifference>,
    /// What is wrong with the new run beside its cases, and was not with the old one.
    pub(super) trouble: Vec<String>,
    /// Every case that fails, or that is not as it was, by name.
    pub(super) changes: Vec<CaseChange<'a>>,
    /// The names of all others: they pass, or are skipped, as before.
    unchanged: Vec<Cow<'a, str>>,
    /// How many cases were not selected in one of the runs.
    pub(super) not_compared: NotCompared,
    /// How many times as long (and 2 s longer) a case takes that is slower.
    pub(super) slower_factor: f64,
    pub(super) slower_is_worse: bool,
    pub(super) slower: Vec<Pace<'a>>,
    faster: Vec<Pace<'a>>,
}

/// What is said of a run: the part that began first, and what it came to.
#[derive(Debug, Serialize)]
pub(super) struct Head<'a> {
    pub(super) path: Cow<'a, str>,
    #[serde(flatten)]
    pub(super) part: Option<&'a Part>,
    pub(super) finished: bool,
    pub(super) interrupted_by: Option<i32>,
    pub(super) counts: Counts,
    #[serde(skip)]
    pub(super) state: &'a State,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct NotCompared {
    pub(super) old_only: usize,
    pub(super) new_only: usize,
}

/// A case that passes in both runs, and takes longer or less.
#[derive(Debug, Serialize)]
pub(super) struct Pace<'a> {
    pub(super) name: Cow<'a, str>,
    /// How long it took to pass, in seconds; of iterations the median.
    pub(super) old_s: f64,
    pub(super) new_s: f64,
}

impl<'a> Comparison<'a> {
    /// Compares `new` with `old`; cases that take `slower` times as long are worse.
    pub fn of(old: &'a Side, new: &'a Side, slower: Option<f64>) -> Self {
        let has_hosts = [old, new].iter().any(|side| side.state.hosts().len() > 1);
        let (mut was, mut is) = (old.cases(has_hosts), new.cases(has_hosts));
        let selected = [old, new].map(|side| selection(&side.state));
        let alike = selected[0] == selected[1];
        let selected = selected.map(|options| !options.is_empty());
        let mut comparison = Self {
            schema_version: SCHEMA_VERSION,
            worse: false,
            old: old.head(),
            new: new.head(),
            differences: between(&old.state, &new.state),
            trouble: trouble(&old.state, &new.state),
            changes: Vec::new(),
            unchanged: Vec::new(),
            not_compared: NotCompared::default(),
            slower_factor: slower.unwrap_or(SLOWER_FACTOR),
            slower_is_worse: slower.is_some(),
            slower: Vec::new(),
            faster: Vec::new(),
        };
        let names: BTreeSet<Cow<'a, str>> = was.keys().chain(is.keys()).cloned().collect();
        for name in names {
            match (was.remove(&name), is.remove(&name)) {
                (Some(old), None) if new.has_left_out(old[0], alike, selected[1]) => {
                    comparison.not_compared.old_only += 1;
                }
                (None, Some(new)) if old.has_left_out(new[0], alike, selected[0]) => {
                    comparison.not_compared.new_only += 1;
                }
                (old, new) => {
                    let [old, new] = [old, new].map(|case| case.as_deref().map(Tally::of));
                    comparison.add(CaseChange::of(name, old, new));
                }
            }
        }
        comparison.worse = comparison.changes.iter().any(|change| change.worse)
            || !comparison.trouble.is_empty()
            || (slower.is_some() && !comparison.slower.is_empty());
        comparison
    }

    fn add(&mut self, change: CaseChange<'a>) {
        let name = change.name.clone();
        if let Some([old_s, new_s]) = change.durations_s() {
            let (old, new) = (of_seconds(old_s), of_seconds(new_s));
            let pace = Pace {
                name: name.clone(),
                old_s,
                new_s,
            };
            if is_slower_by(old, new, self.slower_factor) {
                self.slower.push(pace);
            } else if is_slower_by(new, old, self.slower_factor) {
                self.faster.push(pace);
            }
        }
        match change.kind {
            ChangeKind::Unchanged => self.unchanged.push(name),
            _ => self.changes.push(change),
        }
    }

    /// Whether anything got worse.
    pub fn is_worse(&self) -> bool {
        self.worse
    }

    pub(super) fn of_kind(&self, kind: ChangeKind) -> impl Iterator<Item = &CaseChange<'a>> {
        let changes = self.changes.iter();
        changes.filter(move |change| change.kind == kind)
    }
}

impl Side {
    fn head(&self) -> Head<'_> {
        Head {
            path: self.place.to_string_lossy(),
            part: self.state.first(),
            finished: self.state.finished,
            interrupted_by: self.state.interrupted_by(),
            counts: self.state.counts(),
            state: &self.state,
        }
    }

    /// The outcomes of each case, by its name without iterations. Where one of the runs has several hosts, a case on Intel is
    /// another one than that on AMD, and hosts of one vendor stand for each other.
    fn cases(&self, has_hosts: bool) -> BTreeMap<Cow<'_, str>, Vec<&Outcome>> {
        let mut cases: BTreeMap<Cow<'_, str>, Vec<&Outcome>> = BTreeMap::new();
        for outcome in &self.state.outcomes {
            let part = self.state.first_on(outcome.host.as_deref());
            let name = match part.filter(|_| has_hosts) {
                Some(part) => on_host(&part.host.cpu_vendor, outcome.listed_there()).into(),
                None => outcome.listed().into(),
            };
            cases.entry(name).or_default().push(outcome);
        }
        cases
    }

    /// Whether this run has not a case of the other because it was not selected; `alike` says whether both had the same
    /// selection, `has_selected` whether this one had any. One that had none had all on the host as it was.
    fn has_left_out(&self, case: &Outcome, alike: bool, has_selected: bool) -> bool {
        match &self.left_out {
            Some(names) => names.contains(case.listed_there()),
            None => !alike && (has_selected || case.environment.is_some()),
        }
    }
}

/// The options of a run that say which cases it is to have.
fn selection(state: &State) -> Vec<(&str, Vec<OsString>)> {
    let first = state.first();
    let mut selection = first.map_or_else(Vec::new, |part| options::selecting(&part.options));
    selection.retain(|(option, _)| *option != "shard" || !state.is_merged());
    selection
}
