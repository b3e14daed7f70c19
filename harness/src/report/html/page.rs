//! What the sections of a page share: the run, and where on the page each case is spoken of.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use crate::log::record::Record;
use crate::model::outcome::{Outcome, Status};

/// A page about a run.
pub(super) struct Page<'a> {
    pub(super) record: &'a Record,
    /// Where the outputs lie.
    pub(super) directory: &'a Path,
    /// The outcomes of the run before, by name; `None` where there is no such run.
    pub(super) previous: Option<HashMap<&'a str, &'a Outcome>>,
    /// `None`, the host as it was, and then the others as they came.
    pub(super) environments: Vec<Option<&'a str>>,
    /// What is new comes first.
    pub(super) failures: Vec<&'a Outcome>,
    /// The first lines of the reasons for skipping, the commonest first, each with its cases.
    pub(super) skips: Vec<(&'a str, Vec<&'a Outcome>)>,
    /// The element that says more about a case, by the case's name.
    anchors: HashMap<&'a str, String>,
}

impl<'a> Page<'a> {
    pub(super) fn new(
        record: &'a Record,
        directory: &'a Path,
        previous: Option<&'a Record>,
    ) -> Self {
        let previous: Option<HashMap<_, _>> = previous.map(|run| {
            run.outcomes
                .iter()
                .map(|outcome| (outcome.name.as_str(), outcome))
                .collect()
        });
        let mut page = Self {
            record,
            directory,
            previous,
            environments: environments(&record.outcomes),
            failures: record
                .outcomes
                .iter()
                .filter(|outcome| outcome.status.is_failure())
                .collect(),
            skips: skips(record),
            anchors: HashMap::new(),
        };
        let mut failures = std::mem::take(&mut page.failures);
        failures.sort_by_key(|outcome| {
            (
                !page.is_new_failure(outcome),
                outcome.status,
                &outcome.environment,
                &outcome.name,
            )
        });
        page.failures = failures;

        let failed = page
            .failures
            .iter()
            .zip(1..)
            .map(|(outcome, number)| (*outcome, format!("f{number}")));
        let skipped = page
            .skips
            .iter()
            .zip(1..)
            .flat_map(|((_, outcomes), number)| {
                outcomes
                    .iter()
                    .map(move |outcome| (*outcome, format!("s{number}")))
            });
        page.anchors = failed
            .chain(skipped)
            .map(|(outcome, anchor)| (outcome.name.as_str(), anchor))
            .collect();
        page
    }

    /// The ID of the element that says more about `outcome`: every failure and every skipped case has one.
    pub(super) fn anchor(&self, outcome: &Outcome) -> Option<&str> {
        self.anchors.get(outcome.name.as_str()).map(String::as_str)
    }

    /// How long after the run's start `ms` was, in seconds: a clock that was set back meanwhile puts nothing before it.
    pub(super) fn seconds(&self, ms: u64) -> f64 {
        Duration::from_millis(ms.saturating_sub(self.record.run.started_ms)).as_secs_f64()
    }

    /// What became of the same case in the run before.
    pub(super) fn before(&self, outcome: &Outcome) -> Option<&'a Outcome> {
        self.previous.as_ref()?.get(outcome.name.as_str()).copied()
    }

    /// Whether `outcome` is a failure, and the run before had none under this name.
    pub(super) fn is_new_failure(&self, outcome: &Outcome) -> bool {
        self.previous.is_some()
            && outcome.status.is_failure()
            && !self
                .before(outcome)
                .is_some_and(|before| before.status.is_failure())
    }
}

/// The worst of several statuses: what they are taken for when shown as one.
pub(super) fn worst(statuses: impl IntoIterator<Item = Status>) -> Option<Status> {
    statuses.into_iter().max()
}

fn environments(outcomes: &[Outcome]) -> Vec<Option<&str>> {
    let mut seen = HashSet::new();
    let mut environments: Vec<_> = outcomes
        .iter()
        .map(|outcome| outcome.environment.as_deref())
        .filter(|environment| seen.insert(*environment))
        .collect();
    environments.sort_by_key(Option::is_some);
    environments
}

fn skips(record: &Record) -> Vec<(&str, Vec<&Outcome>)> {
    let mut reasons: BTreeMap<&str, Vec<&Outcome>> = BTreeMap::new();
    for outcome in record.of_status(Status::Skipped) {
        let reason = outcome
            .reason
            .as_deref()
            .and_then(|reason| reason.lines().next());
        reasons
            .entry(reason.unwrap_or("no reason given"))
            .or_default()
            .push(outcome);
    }
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, outcomes)| std::cmp::Reverse(outcomes.len()));
    reasons
}
