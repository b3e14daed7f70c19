//! run.json as it was before version 2, for `compare` and `report`.

use serde::Deserialize;

use crate::model::event::{KernelEnd, LeftBehind, Part, PartEnd, Span};
use crate::model::outcome::{Outcome, Splat};
use crate::model::state::{Share, State};
use crate::model::time::{of_seconds, whole_ms};

/// A run of one part, with its end beside it.
#[derive(Deserialize)]
struct Run {
    run: Part,
    outcomes: Vec<Outcome>,
    #[serde(default)]
    stays: Vec<Span>,
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

/// Reads the text of such a file.
///
/// # Errors
/// It is none.
pub fn read(text: &[u8]) -> anyhow::Result<State> {
    let run: Run = serde_json::from_slice(text)?;
    let duration_s = run.duration_s.unwrap_or(0.0);
    let lasted_ms = whole_ms(of_seconds(duration_s));
    let end = run.finished.then(|| PartEnd {
        at_ms: run.run.started_ms.saturating_add(lasted_ms),
        duration_s,
        interrupted_by: run.interrupted_by,
        kernel: KernelEnd {
            lost: run.kernel_records_lost,
            stray: run.splats.len(),
            taint: run.taint.unwrap_or(run.run.host.taint),
            ..KernelEnd::default()
        },
        left_behind: run.left_behind,
        ..PartEnd::default()
    });
    let mut state = State::default();
    state.selected = run.outcomes.len();
    state.outcomes = run.outcomes;
    state.environments = run.stays;
    state.splats = run.splats;
    state.finished = run.finished;
    state.parts = vec![Share { part: run.run, end }];
    Ok(state.indexed())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::case::name::CaseName;
    use crate::model::host::Host;

    #[test]
    fn a_run_of_version_1_is_a_run_of_one_part() {
        let host = Host {
            free_hugepages: [(2 << 20, 4)].into(),
            taint: 512,
            ..Host::default()
        };
        let run = json!({
            "schema_version": 1, "version": "0.1.0", "command_line": ["kvm-tests", "run"], "started_ms": 5000,
            "host": host, "selftests": ["/selftests"], "workers": 2, "shuffle_seed": null, "selected": 1,
        });
        let stay = json!({
            "environment": "shadow_mmu", "pid": 7, "settings": ["tdp=off"], "notes": [], "modules": {},
            "entering_ms": 1, "entered_ms": 2, "leaving_ms": 3, "left_ms": 4, "problem": null,
        });
        let text = json!({
            "schema_version": 1, "run": run, "outcomes": [Outcome::no_run(&CaseName::new("s", "v"), 0, "")],
            "stays": [stay], "finished": true, "duration_s": 1.5, "interrupted_by": 2,
        });
        let state = read(text.to_string().as_bytes()).unwrap();
        let share = state.last().unwrap();
        assert_eq!((&share.part.host, share.part.workers), (&host, 2));
        let end = share.end.as_ref().unwrap();
        assert_eq!((end.at_ms, end.interrupted_by), (6500, Some(2)));
        assert_eq!((end.kernel.taint, state.selected), (512, 1));
        assert!(state.outcome("s::v").is_some());
        assert_eq!(
            state.last_span(None, "shadow_mmu").unwrap().left_ms,
            Some(4)
        );
    }
}
