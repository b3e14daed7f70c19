//! A comparison for machines: one JSON object. The types are its documentation; a member once there keeps its meaning.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::compare::change::Kind;
use crate::compare::difference::Difference;
use crate::compare::signature::Signature;
use crate::compare::tally::Tally;
use crate::compare::{Comparison, Pace, Run, flat};
use crate::model::host::Host;
use crate::model::outcome::Status;
use crate::model::printable::printable;

/// The version of this form; raised with every change that an older reader would get wrong.
pub const SCHEMA_VERSION: u32 = 1;

/// The whole object.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Whether anything got worse: whether `compare` exits with 1.
    pub worse: bool,
    /// The run that came first.
    pub old: RunHead<'a>,
    /// The run that was looked at.
    pub new: RunHead<'a>,
    /// In what they differ before any case.
    pub differences: &'a [Difference],
    /// Every case that fails, or that is not as it was.
    pub changes: Vec<ChangedCase<'a>>,
    /// The names of all other cases: they pass, or are skipped, as before.
    pub unchanged: Vec<&'a str>,
    /// How many times as long (and 1 s longer) a case takes that is in `slower`; in `faster`, the other way round.
    pub slower_factor: f64,
    /// Whether a case in `slower` is worse for it (`--slower`).
    pub slower_is_worse: bool,
    /// The cases that pass in both, and take longer.
    pub slower: Vec<Pace<'a>>,
    /// The cases that pass in both, and take less.
    pub faster: Vec<Pace<'a>>,
}

/// What is said of a run.
#[derive(Debug, Serialize)]
pub struct RunHead<'a> {
    /// Where it was read.
    pub path: String,
    /// Its command line.
    pub command_line: &'a [String],
    /// When it began, in milliseconds since the epoch.
    pub started_ms: u64,
    /// Whether it came to its end.
    pub finished: bool,
    /// The signal that interrupted it.
    pub interrupted_by: Option<i32>,
    /// The host, as in run.json.
    pub host: &'a Host,
    /// How many outcomes there are of each status, iterations one by one.
    pub counts: BTreeMap<&'static str, usize>,
}

/// A case that fails, or that is not as it was.
#[derive(Debug, Serialize)]
pub struct ChangedCase<'a> {
    /// Its name, without iterations.
    pub name: &'a str,
    /// What happened to it: `new_failure`, `different_failure`, `fails_more_often`, `newly_skipped`, `vanished`,
    /// `fixed`, `newly_run`, `appeared`, `same_failure`.
    pub kind: Kind,
    /// Whether it got worse.
    pub worse: bool,
    /// What became of it in the old run; null where it was not there.
    pub old: Option<Side>,
    /// And in the new one.
    pub new: Option<Side>,
}

/// What became of a case in one run.
#[derive(Debug, Serialize)]
pub struct Side {
    /// How many of its iterations ended so; without iterations, one.
    pub counts: BTreeMap<&'static str, usize>,
    /// How long it took to pass, in seconds, of iterations the median; null where it did not pass.
    pub duration_s: Option<f64>,
    /// Why it was skipped, where it was.
    pub skip_reason: Option<String>,
    /// Each of its failures, as it was first seen.
    pub failures: Vec<FailureSeen>,
}

/// A failure, as often as it was seen.
#[derive(Debug, Serialize)]
pub struct FailureSeen {
    /// In how many iterations.
    pub count: usize,
    /// Why, in full, as it was first seen.
    pub reason: String,
    /// What it is known by: two failures are the same where this is.
    pub signature: Signature,
    /// A shell command that repeats it by hand.
    pub reproduce: String,
}

/// The comparison as JSON: indented, ASCII only, with a newline at its end.
pub fn render(comparison: &Comparison<'_>) -> String {
    let (unchanged, changed): (Vec<_>, Vec<_>) = comparison
        .changes
        .iter()
        .partition(|change| change.kind == Kind::Unchanged);
    let changes = changed.into_iter().map(|change| ChangedCase {
        name: change.name,
        kind: change.kind,
        worse: change.is_worse(),
        old: change.old.as_ref().map(Side::of),
        new: change.new.as_ref().map(Side::of),
    });
    let document = Document {
        schema_version: SCHEMA_VERSION,
        worse: comparison.is_worse(),
        old: RunHead::of(comparison.old),
        new: RunHead::of(comparison.new),
        differences: &comparison.differences,
        changes: changes.collect(),
        unchanged: unchanged.into_iter().map(|change| change.name).collect(),
        slower_factor: comparison.factor(),
        slower_is_worse: comparison.slower.is_some(),
        slower: comparison.slower(),
        faster: comparison.faster(),
    };
    let mut text =
        ascii(&serde_json::to_string_pretty(&document).expect("write a comparison as JSON"));
    text.push('\n');
    text
}

/// JSON without the characters that a terminal could take for more than text. Outside of strings there are none.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        if character == '\n' || (' '..='~').contains(&character) {
            text.push(character);
        } else {
            text.extend(
                character
                    .encode_utf16(&mut [0; 2])
                    .iter()
                    .map(|unit| format!("\\u{unit:04x}")),
            );
        }
    }
    text
}

impl<'a> RunHead<'a> {
    fn of(run: &'a Run) -> Self {
        let record = &run.record;
        Self {
            path: flat(&run.place.to_string_lossy()),
            command_line: &record.run.command_line,
            started_ms: record.run.started_ms,
            finished: record.finished,
            interrupted_by: record.interrupted_by,
            host: &record.run.host,
            counts: counts(record.outcomes.iter().map(|outcome| outcome.status)),
        }
    }
}

impl Side {
    fn of(tally: &Tally<'_>) -> Self {
        let skipped = tally
            .outcomes
            .iter()
            .find(|outcome| outcome.status == Status::Skipped);
        let failures = tally.failures().into_iter().map(|failure| FailureSeen {
            count: failure.count,
            reason: printable(
                failure
                    .first
                    .reason
                    .as_deref()
                    .unwrap_or_default()
                    .as_bytes(),
            ),
            signature: failure.signature,
            reproduce: printable(failure.first.reproduce.as_bytes()),
        });
        Self {
            counts: counts(tally.outcomes.iter().map(|outcome| outcome.status)),
            duration_s: tally.duration_s(),
            skip_reason: skipped
                .and_then(|outcome| outcome.reason.as_deref())
                .map(|reason| printable(reason.as_bytes())),
            failures: failures.collect(),
        }
    }
}

fn counts(statuses: impl Iterator<Item = Status>) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for status in statuses {
        *counts.entry(status.as_str()).or_default() += 1;
    }
    counts
}
