//! How a run ends: its files, what is said of it, and the exit status.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use super::begin::Begun;
use super::ready::Ready;
use crate::compare::{Comparison, ComparisonFormat, Side};
use crate::log::{Member, fold, write_run_json};
use crate::model::state::State;
use crate::plan::Selection;
use crate::report;
use crate::show::Display;

/// Something failed.
const EXIT_FAILED: u8 = 101;

/// A run whose cases have ended, and which has put the host back.
pub(super) struct RunEnd {
    pub(super) state: State,
    pub(super) display: Arc<Display>,
    /// Everything that happened is in the journal, and that is where it was.
    pub(super) is_kept: bool,
    pub(super) interrupted_by: Option<i32>,
}

/// Writes run.json and the reports, says what the run came to and what changed since the `baseline`.
///
/// # Errors
/// The baseline cannot be compared with.
pub(super) fn conclude(
    run: &Ready<'_>,
    ended: RunEnd,
    begun: &Begun,
    baseline: Option<(State, PathBuf)>,
) -> anyhow::Result<ExitCode> {
    let RunEnd {
        mut state,
        display,
        is_kept,
        interrupted_by,
    } = ended;
    state.close();
    let mut problems = Vec::new();
    let is_ours_to_report = begun.member.as_ref().is_none_or(Member::is_last);
    if is_ours_to_report {
        let written = write(&state, begun);
        problems.extend(
            written
                .err()
                .map(|error| format!("cannot write the reports: {error:#}")),
        );
    }
    if let Err(error) = run.history.save(&state.outcomes) {
        display.say(&format!(
            "cannot keep the durations for the next run: {error}"
        ));
    }
    problems.iter().for_each(|problem| display.say(problem));
    display.end(&state);
    let is_worse = match baseline {
        Some(_) if interrupted_by.is_some() => {
            // What it did not get to is no news.
            display.print("\nnot compared with the baseline: this run was interrupted\n");
            false
        }
        Some(baseline) => is_worse_than(run, &state, begun, baseline, &display),
        None => false,
    };
    let has_failed = state.counts().failures() > 0
        || kernel_has_failed(&state)
        || has_changed_the_host(&state)
        || is_worse
        || !is_kept
        || !problems.is_empty();
    Ok(exit_code(has_failed, interrupted_by))
}

/// Whether this part's kernel log fails the run, whatever became of its cases.
fn kernel_has_failed(state: &State) -> bool {
    let part = state
        .last()
        .and_then(|share| share.end.as_ref().zip(Some(&share.part)));
    part.is_some_and(|(end, part)| end.kernel.has_failed(part.host.taint))
}

/// Writes run.json and the reports: of a run of nextest for all of its processes.
fn write(state: &State, begun: &Begun) -> anyhow::Result<()> {
    let directory = &begun.directory;
    let of_all = match begun.is_nextest() {
        true => {
            let mut all = fold(directory)?;
            all.close();
            Some(all)
        }
        false => None,
    };
    let state = of_all.as_ref().unwrap_or(state);
    write_run_json(state, directory)?;
    report::write_all(state, directory).map(drop)
}

fn has_changed_the_host(state: &State) -> bool {
    let mut ends = state.parts.iter().filter_map(|share| share.end.as_ref());
    ends.next_back()
        .is_some_and(|end| !end.not_restored.is_empty())
}

fn is_worse_than(
    run: &Ready<'_>,
    state: &State,
    begun: &Begun,
    (old, place): (State, PathBuf),
    display: &Display,
) -> bool {
    let there = run
        .discovered
        .names(&Selection::everything())
        .into_iter()
        .collect();
    let old = Side {
        place,
        state: old,
        left_out: None,
    };
    let new = Side {
        place: begun.directory.clone(),
        state: state.clone(),
        // What exists and has no outcome was not selected.
        left_out: Some(there),
    };
    let comparison = Comparison::of(&old, &new, None);
    display.print(&format!("\n{}", comparison.render(ComparisonFormat::Text)));
    comparison.is_worse()
}

fn exit_code(has_failed: bool, interrupted_by: Option<i32>) -> ExitCode {
    match interrupted_by {
        Some(signal) => {
            let signal = u8::try_from(signal).unwrap_or(0);
            ExitCode::from(128_u8.saturating_add(signal))
        }
        None if has_failed => ExitCode::from(EXIT_FAILED),
        None => ExitCode::SUCCESS,
    }
}
