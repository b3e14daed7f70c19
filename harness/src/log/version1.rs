//! run.json as it was before version 2, for `compare` and `report`.

use std::ffi::OsString;
use std::path::PathBuf;

use serde::Deserialize;

use crate::model::event::{KernelEnd, LeftBehind, Part, PartEnd, Span};
use crate::model::host::{Host, Modules};
use crate::model::outcome::{Outcome, Splat};
use crate::model::state::{Share, State};
use crate::model::time::{of_seconds, whole_ms};

#[derive(Deserialize)]
struct Run {
    run: Info,
    outcomes: Vec<Outcome>,
    #[serde(default)]
    stays: Vec<Stay>,
    #[serde(default)]
    splats: Vec<Splat>,
    #[serde(default)]
    taint: Option<u64>,
    #[serde(default)]
    kernel_records_lost: u64,
    finished: bool,
    duration_s: Option<f64>,
    interrupted_by: Option<i32>,
    #[serde(default)]
    left_behind: Vec<LeftBehind>,
}

#[derive(Deserialize)]
struct Info {
    schema_version: u32,
    version: String,
    command_line: Vec<String>,
    #[serde(default)]
    options: Vec<String>,
    #[serde(default)]
    directory: PathBuf,
    started_ms: u64,
    host: Host,
    selftests: Vec<PathBuf>,
    workers: usize,
    shuffle_seed: Option<u64>,
    selected: usize,
    #[serde(default)]
    nextest_run_id: Option<String>,
}

/// What is a [`Span`] now.
#[derive(Deserialize)]
struct Stay {
    environment: String,
    pid: u32,
    settings: Vec<String>,
    notes: Vec<String>,
    modules: Modules,
    entering_ms: u64,
    entered_ms: u64,
    leaving_ms: Option<u64>,
    left_ms: Option<u64>,
    problem: Option<String>,
}

/// Reads the text of such a file.
///
/// # Errors
/// It is none.
pub fn read(text: &[u8]) -> anyhow::Result<State> {
    let run: Run = serde_json::from_slice(text)?;
    let started_ms = run.run.started_ms;
    let end = run.finished.then(|| {
        let duration_s = run.duration_s.unwrap_or(0.0);
        PartEnd {
            part: String::new(),
            at_ms: started_ms.saturating_add(whole_ms(of_seconds(duration_s))),
            duration_s,
            interrupted_by: run.interrupted_by,
            ended_early: None,
            kernel: KernelEnd {
                lost: run.kernel_records_lost,
                stray: run.splats.len(),
                taint: run.taint.unwrap_or(run.run.host.taint),
                ..KernelEnd::default()
            },
            left_behind: run.left_behind,
            not_restored: Vec::new(),
            died: None,
        }
    });
    let mut state = State::default();
    state.selected = run.run.selected;
    state.outcomes = run.outcomes;
    state.environments = run.stays.into_iter().map(span).collect();
    state.splats = run.splats;
    state.finished = run.finished;
    state.parts = vec![Share {
        part: part(run.run),
        end,
    }];
    Ok(state.indexed())
}

fn part(info: Info) -> Part {
    let plain = |list: Vec<String>| list.into_iter().map(OsString::from);
    Part {
        id: "version-1".to_owned(),
        schema_version: info.schema_version,
        version: info.version,
        command_line: plain(info.command_line).collect(),
        options: plain(info.options).collect(),
        directory: info.directory,
        started_ms: info.started_ms,
        pid: 0,
        host: info.host,
        selftests: info.selftests,
        selftests_commit: None,
        workers: info.workers,
        shuffle_seed: info.shuffle_seed,
        nextest_run_id: info.nextest_run_id,
        resumes: false,
        ..Part::default()
    }
}

fn span(stay: Stay) -> Span {
    Span {
        host: None,
        environment: stay.environment,
        part: stay.pid.to_string(),
        settings: stay.settings,
        notes: stay.notes,
        modules: stay.modules,
        entering_ms: stay.entering_ms,
        entered_ms: stay.entered_ms,
        leaving_ms: stay.leaving_ms,
        left_ms: stay.left_ms,
        problem: stay.problem,
    }
}
