//! A run as tmt takes it from a test with `result: custom`: its `results.yaml`. YAML takes JSON.

use std::path::Path;

use serde_json::{Value, json};

use super::reported::Reported;
use crate::model::outcome::{Outcome, OutcomeKind, Step};
use crate::model::text::printable;
use crate::model::time::timestamp;

/// The results; outputs are named where the run lies in `data`, the test's directory.
pub(super) fn document(run: &Reported<'_>, data: Option<&Path>) -> Value {
    let place = data.and_then(|data| run.directory.strip_prefix(data).ok());
    run.outcomes()
        .map(|outcome| result(outcome, place))
        .collect()
}

fn result(outcome: &Outcome, place: Option<&Path>) -> Value {
    let whole = outcome.duration_s.clamp(0.0, 1e9).round() as u64;
    let known = outcome.known.as_deref().map(|known| format!("{known}\n"));
    let reason = outcome.reason.as_deref().unwrap_or_default();
    let reason = known.unwrap_or_default() + reason;
    let name = format!("/{}", outcome.name.replace("::", "/"));
    let mut result = json!({
        "name": printable(name.as_bytes()),
        "result": match outcome.kind() {
            OutcomeKind::Passed => "pass",
            // Told, and no failure.
            OutcomeKind::Known | OutcomeKind::Xpass => "info",
            OutcomeKind::Skipped => "skip",
            OutcomeKind::Failed | OutcomeKind::TimedOut => "fail",
            OutcomeKind::NoRun => "error",
        },
        "note": printable(reason.as_bytes()).lines().collect::<Vec<_>>(),
        "duration": format!("{:02}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60),
    });
    if let Some(time) = timestamp(outcome.started_ms) {
        result["start-time"] = json!(format!("{time:.3}"));
    }
    if let (Some(place), Some(output)) = (place, &outcome.output) {
        let file = |stream: &str| {
            place
                .join(output)
                .join(format!("{}.{stream}", Step::Selftest.file_stem()))
        };
        let files = ["stdout", "stderr"].map(|stream| file(stream).to_string_lossy().into_owned());
        result["log"] = json!(files);
    }
    result
}
