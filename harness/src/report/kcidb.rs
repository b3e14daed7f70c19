//! A run as KCIDB takes it, the database of kernel test results (its I/O schema, version 5.3).

use serde_json::{Map, Value, json};

use super::reported::{Reported, account, name_in_suite, of_modules};
use crate::model::event::Part;
use crate::model::outcome::{Outcome, Status, Step};
use crate::model::text::printable_within;
use crate::model::time::timestamp;

/// How much is quoted of an account and of each output, in bytes: an excerpt of all three has at most 16,384 characters.
const QUOTED: usize = 5000;

/// The run as reported by `origin`, a CI system, of a build that is known there as `build_id`.
pub(super) fn document(run: &Reported<'_>, origin: &str, build_id: &str) -> Value {
    let host = &run.part.host;
    let id = |id: &str| match id.contains(':') {
        true => text(id),
        false => format!("{origin}:{}", text(id)),
    };
    let (checkout, build) = (id(&host.kernel), id(build_id));
    let tests = run.outcomes().map(|outcome| {
        let mut test = test(run, outcome);
        let Part {
            started_ms, host, ..
        } = run.part_on(outcome.host.as_deref());
        let place = format!("{origin}:{started_ms}-{}", text(&host.hostname));
        test["id"] = json!(format!("{place}-{}", text(&outcome.name)));
        test["build_id"] = json!(build);
        test["origin"] = json!(origin);
        test
    });
    let name = text(&host.kernel);
    let mut checkouts = json!([{"id": checkout, "origin": origin, "git_commit_name": name}]);
    if let Some(commit) = host.kernel_commit().filter(|commit| commit.len() == 40) {
        checkouts[0]["git_commit_hash"] = json!(commit);
    }
    let architecture = segments(&host.machine).to_lowercase();
    let build = json!({
        "id": build, "origin": origin, "checkout_id": checkout, "architecture": architecture, "misc": misc(run.facts(run.part.label.as_deref())),
    });
    json!({
        "version": {"major": 5, "minor": 3},
        "checkouts": checkouts,
        "builds": [build],
        "tests": tests.collect::<Vec<_>>(),
    })
}

fn test(run: &Reported<'_>, outcome: &Outcome) -> Value {
    let part = run.part_on(outcome.host.as_deref());
    let facts = match &outcome.environment {
        Some(environment) => run.facts_in(outcome.host.as_deref(), environment),
        None => of_modules(&part.host.modules).collect(),
    };
    let status = match outcome.status {
        Status::Passed => "PASS",
        Status::Skipped => "SKIP",
        Status::Failed | Status::TimedOut => "FAIL",
        Status::NoRun => "MISS",
    };
    let name = format!("{}::{}", outcome.suite, name_in_suite(outcome));
    let mut test = json!({
        "path": format!("kselftest.kvm.{}", segments(&name)),
        "status": status,
        "duration": outcome.duration_s,
        "environment": {"comment": text(&part.host.hostname), "misc": misc(facts)},
        "misc": {"status": outcome.status.as_str(), "reproduce": text(&outcome.reproduce)},
    });
    if let Some(known) = &outcome.known {
        let link = known.link.as_deref().unwrap_or_default();
        test["misc"]["known"] = json!({"reason": text(&known.reason), "link": text(link)});
    }
    if let Some(time) = timestamp(outcome.started_ms) {
        test["start_time"] = json!(time.to_string());
    }
    if outcome.status != Status::Passed {
        let output = |stream| run.output(outcome, Step::Selftest, stream, QUOTED);
        let excerpt = [
            Some(text(&account(outcome))),
            output("stdout"),
            output("stderr"),
        ];
        test["log_excerpt"] = json!(Vec::from_iter(excerpt.into_iter().flatten()).join("\n"));
    }
    test
}

fn misc(facts: Vec<(String, String)>) -> Map<String, Value> {
    let facts = facts.into_iter();
    let facts = facts.map(|(name, value)| (text(&name), json!(text(&value))));
    facts.collect()
}

/// A name as a path has it: with dots between its segments.
fn segments(name: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' {
            c
        } else {
            '_'
        }
    };
    let segments = name.split("::").map(|segment| match segment {
        "" => "_".to_owned(),
        segment => segment.chars().map(plain).collect(),
    });
    Vec::from_iter(segments).join(".")
}

fn text(text: &str) -> String {
    printable_within(text.as_bytes(), QUOTED)
}
