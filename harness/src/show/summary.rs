//! What a run came to, for people: said once, at its end.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::exec::left_behind;
use crate::model::event::{Event, Observer};
use crate::model::outcome::{LeftBehind, Outcome, Status};
use crate::model::printable::printable;
use crate::show::pace::Pace;
use crate::show::running::Counts;

/// How many of the reasons for skipping are shown, the commonest first.
const SHOWN_REASONS: usize = 12;

/// How many of the things that were left behind are shown.
const SHOWN_LEFT_BEHIND: usize = 12;

/// How many cases are named behind a reason for skipping.
const NAMED: usize = 4;

/// Collects what the end of the run has to say.
#[derive(Debug)]
pub struct Summary {
    pace: Arc<Pace>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    counts: Counts,
    failures: Vec<Failure>,
    skipped: BTreeMap<String, Vec<String>>,
    slower: Vec<String>,
    leaks: Vec<String>,
    suspects: Vec<String>,
    left_behind: Vec<String>,
}

#[derive(Debug)]
struct Failure {
    status: Status,
    name: String,
    reason: String,
}

impl Observer for Summary {
    fn notify(&self, event: Event<'_>) {
        let Event::Finished(outcome) = event else {
            return;
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.counts.add(outcome.status);
        let reason = first_line(outcome);
        match outcome.status {
            Status::Passed => {}
            Status::Skipped => state
                .skipped
                .entry(reason)
                .or_default()
                .push(outcome.name.clone()),
            Status::Failed | Status::TimedOut | Status::NoRun => {
                let (status, name) = (outcome.status, outcome.name.clone());
                state.failures.push(Failure {
                    status,
                    name,
                    reason,
                });
            }
        }
        if let Some(last) = self.pace.was_faster_than(outcome) {
            state.slower.push(slower(outcome, last));
        }
        if outcome.suspect {
            state
                .suspects
                .push(format!("{}: {}", outcome.name, outcome.status.as_str()));
        }
        state.left_behind.extend(
            outcome
                .left_behind
                .iter()
                .map(left_behind::describe_certain),
        );
        if !outcome.leaks.is_empty() {
            let named: Vec<_> = outcome
                .leaks
                .iter()
                .take(NAMED)
                .map(|leak| format!("{} (pid {})", leak.command, leak.pid))
                .collect();
            let more = outcome.leaks.len().saturating_sub(NAMED);
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            state.leaks.push(format!(
                "{}: {}{more}",
                outcome.name,
                printable(named.join(", ").as_bytes())
            ));
        }
    }
}

impl Summary {
    /// An empty one, of a run at this `pace`.
    pub fn new(pace: Arc<Pace>) -> Self {
        Self {
            pace,
            state: Mutex::default(),
        }
    }

    /// Counts a case that is listed as ignored, for this reason.
    pub fn ignored(&self, name: &str, reason: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.counts.add(Status::Skipped);
        state
            .skipped
            .entry(reason.to_owned())
            .or_default()
            .push(name.to_owned());
    }

    /// What appeared on the host while the run went on.
    pub fn left_behind(&self, found: &[LeftBehind]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state
            .left_behind
            .extend(found.iter().map(left_behind::describe));
    }

    /// How many there were, by status.
    pub fn counts(&self) -> Counts {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .counts
    }

    /// What has failed so far, in the order in which it did, each in a line.
    pub fn failures(&self) -> Vec<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let line = |failure: &Failure| {
            format!(
                "{} {}: {}",
                failure.status.as_str(),
                failure.name,
                failure.reason
            )
        };
        state.failures.iter().map(line).collect()
    }

    /// The summary as text; `results` is where the rest is.
    pub fn render(&self, results: &Path) -> String {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        state.render(&mut text, results).expect("write to a string");
        text
    }
}

impl State {
    fn render(&self, text: &mut String, results: &Path) -> std::fmt::Result {
        writeln!(text, "{} of {} cases", self.counts, self.counts.total())?;
        if self.counts.of(Status::Passed) == 0
            && self.failures.is_empty()
            && self.counts.of(Status::Skipped) > 0
        {
            writeln!(
                text,
                "\nNOTHING WAS TESTED: every case was skipped. The commonest reasons:"
            )?;
        }
        if !self.skipped.is_empty() {
            writeln!(text, "\nSKIPPED")?;
            self.render_skipped(text)?;
        }
        for status in [Status::NoRun, Status::TimedOut, Status::Failed] {
            let mut failures: Vec<_> = self
                .failures
                .iter()
                .filter(|failure| failure.status == status)
                .collect();
            failures.sort_by_key(|failure| &failure.name);
            if !failures.is_empty() {
                writeln!(text, "\n{}", status.as_str())?;
            }
            for Failure { name, reason, .. } in failures {
                writeln!(text, "  {name}: {reason}")?;
            }
        }
        if !self.slower.is_empty() {
            writeln!(text, "\nSLOWER THAN BEFORE")?;
            self.slower
                .iter()
                .try_for_each(|line| writeln!(text, "  {line}"))?;
        }
        if !self.suspects.is_empty() {
            writeln!(
                text,
                "\nSUSPECTS: they ran, or may have, when this run died before"
            )?;
            self.suspects
                .iter()
                .try_for_each(|suspect| writeln!(text, "  {suspect}"))?;
        }
        if !self.leaks.is_empty() {
            writeln!(text, "\nLEFT RUNNING by its case, and killed")?;
            self.leaks
                .iter()
                .try_for_each(|leak| writeln!(text, "  {leak}"))?;
        }
        if !self.left_behind.is_empty() {
            writeln!(
                text,
                "\nLEFT BEHIND on this host, or made by others while the run went on"
            )?;
            self.left_behind
                .iter()
                .take(SHOWN_LEFT_BEHIND)
                .try_for_each(|line| writeln!(text, "  {line}"))?;
            let more = self.left_behind.len().saturating_sub(SHOWN_LEFT_BEHIND);
            if more > 0 {
                writeln!(text, "  and {more} more (run.json has them all)")?;
            }
        }
        writeln!(text, "\nresults: {}", results.display())
    }

    fn render_skipped(&self, text: &mut String) -> std::fmt::Result {
        let mut reasons: Vec<_> = self.skipped.iter().collect();
        reasons.sort_by_key(|(_, names)| std::cmp::Reverse(names.len()));
        for (reason, names) in reasons.iter().take(SHOWN_REASONS) {
            let more = names.len().saturating_sub(NAMED);
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            let named = names[..names.len().min(NAMED)].join(", ");
            writeln!(text, "  {:>3} x {reason}: {named}{more}", names.len())?;
        }
        let others: usize = reasons
            .iter()
            .skip(SHOWN_REASONS)
            .map(|(_, names)| names.len())
            .sum();
        if others > 0 {
            writeln!(
                text,
                "  {others:>3} x other reasons (run.json has them all)"
            )?;
        }
        Ok(())
    }
}

/// Says how long a case took, and how long it took `last` time.
pub fn slower(outcome: &Outcome, last: Duration) -> String {
    format!(
        "{}: {:.1} s, last time {:.1} s",
        outcome.name,
        outcome.duration_s,
        last.as_secs_f64()
    )
}

fn first_line(outcome: &Outcome) -> String {
    let reason = outcome.reason.as_deref().unwrap_or("no reason given");
    printable(reason.lines().next().unwrap_or_default().as_bytes())
}
