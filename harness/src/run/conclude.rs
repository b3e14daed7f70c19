//! How a run ends: its files, what is said of it, and the exit status.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;

use super::begin::{Begun, Ready};
use super::earlier::Earlier;
use crate::compare::{Comparison, ComparisonFormat, Side};
use crate::log::{Member, Recorder, fold, write_run_json};
use crate::model::state::State;
use crate::model::text::one_line;
use crate::plan::Selection;
use crate::report;
use crate::show::Display;

/// A run whose cases have ended, and which has put the host back.
pub(super) struct RunEnd {
    pub(super) state: State,
    pub(super) display: Arc<Display>,
    /// Everything that happened is in the journal, and that is where it was.
    pub(super) is_kept: bool,
}

impl RunEnd {
    /// When everything has happened.
    ///
    /// # Errors
    /// That is not so.
    pub(super) fn of(
        recorder: Arc<Recorder>,
        display: Arc<Display>,
        begun: &Begun,
    ) -> anyhow::Result<Self> {
        let recorder = Arc::into_inner(recorder).context("a thread still records events")?;
        let (state, journal, is_complete) = recorder.into_parts();
        let kept = journal.make_again_if_removed(&begun.directory);
        if let Err(error) = &kept {
            display.say(&format!("{error:#}"));
        }
        Ok(Self {
            state,
            display,
            is_kept: is_complete && kept.is_ok(),
        })
    }
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
    } = ended;
    let interrupted_by = state.interrupted_by();
    state.close();
    let written = match begun.member.as_ref().is_none_or(Member::is_last) {
        true => write(&state, begun),
        false => Ok(()),
    };
    if let Err(error) = run.history.save(&state.outcomes) {
        display.say(&format!(
            "cannot keep the durations for the next run: {error}"
        ));
    }
    if let Err(error) = &written {
        display.say(&format!("cannot write the reports: {error:#}"));
    }
    display.end(&state);
    let is_worse = match baseline {
        Some(_) if interrupted_by.is_some() || state.ended_early().is_some() => {
            // What it did not get to is no news.
            display.print("\nnot compared with the baseline: this run ended early\n");
            false
        }
        Some(baseline) => is_worse_than(run, &state, begun, baseline, &display),
        None => false,
    };
    let earlier = run.earlier.as_ref().filter(|_| interrupted_by.is_none());
    let vanished = earlier.and_then(Earlier::vanished);
    let told = vanished
        .iter()
        .map(|line| format!("\n{}\n", one_line(line)));
    told.for_each(|line| display.print(&line));
    let is_bad = state.has_ended_badly() || !is_kept || written.is_err() || vanished.is_some();
    if let Some((code, why)) = earlier.and_then(|earlier| earlier.answer(&state, is_bad)) {
        display.print(&format!("\nbisect: {}\n", one_line(&why)));
        return Ok(ExitCode::from(code));
    }
    let forgives = run.options.kselftest.no_error_on_fail;
    let has_failed = state.counts().failures() > 0 && !forgives;
    let failed = (has_failed || is_bad || is_worse).then(|| run.options.exit_failed());
    let signal = interrupted_by.map(|signal| u8::try_from(signal).unwrap_or(0));
    let interrupted = signal.map(|signal| 128_u8.saturating_add(signal));
    Ok(ExitCode::from(interrupted.or(failed).unwrap_or(0)))
}

/// Writes run.json and the reports: of a run of nextest for all of its processes.
fn write(state: &State, begun: &Begun) -> anyhow::Result<()> {
    let directory = &begun.directory;
    let mut of_all = State::default();
    if begun.is_nextest() {
        of_all = fold(directory)?;
        of_all.close();
    }
    let state = if begun.is_nextest() { &of_all } else { state };
    write_run_json(state, directory)?;
    report::write_all(state, directory).map(drop)
}

fn is_worse_than(
    run: &Ready<'_>,
    state: &State,
    begun: &Begun,
    (old, place): (State, PathBuf),
    display: &Display,
) -> bool {
    let there = run.discovered.names(&Selection::everything());
    let old = Side {
        place,
        state: old,
        left_out: None,
    };
    let new = Side {
        place: begun.directory.clone(),
        state: state.clone(),
        // What exists and has no outcome was not selected.
        left_out: Some(there.into_iter().collect()),
    };
    let comparison = Comparison::of(&old, &new, None);
    display.print(&format!("\n{}", comparison.render(ComparisonFormat::Text)));
    comparison.is_worse()
}
