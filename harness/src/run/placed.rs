//! A run whose cases are executed at places.

use std::sync::Arc;

use anyhow::Context;

use super::begin::{Begun, Ready};
use super::conclude::RunEnd;
use super::live::{self, Live};
use crate::exec::Signals;
use crate::fleet::{Fleet, Place};
use crate::model::case::Case;
use crate::model::text::plural;
use crate::supervise::Supervisors;

/// How long a case may take of which nothing is known, in seconds.
const UNKNOWN_S: f64 = 1.0;

/// Has the places run the cases; whatever runs beside them has ended, too, when this returns.
pub(super) fn execute(
    run: &Ready<'_>,
    mut begun: Begun,
    signals: Signals,
    places: &[Place],
) -> anyhow::Result<(RunEnd, Begun)> {
    let supervisors = Arc::new(Supervisors::new());
    let display = Arc::new(live::display(run, &begun, &supervisors)?);
    for line in header(run, &begun, places) {
        display.say(&line);
    }
    display.begin();
    let recorder = begun.recorder(&run.cases, Arc::clone(&display), false)?;
    let live = Live::start(run, &recorder, &display, &supervisors, signals)?;
    let fleet = Fleet {
        cases: &run.cases,
        planned: begun.planned().context("find the plan")?,
        own: &begun.part,
        config: &run.options.config,
        known: &run.options.known,
        root: &begun.directory,
        recorder: &recorder,
        supervisors: &supervisors,
        copy: run.options.copy,
        max_fail: run.options.max_fail(),
    };
    let seconds = |case: &Case| {
        let expected = run.history.expected(&case.name.listed());
        expected.map_or(UNKNOWN_S, |expected| expected.as_secs_f64())
    };
    fleet.run(places, seconds);
    live.stop();
    let ended = RunEnd::of(recorder, display, &begun)?;
    Ok((ended, begun))
}

/// What is said before anything runs.
fn header(run: &Ready<'_>, begun: &Begun, places: &[Place]) -> Vec<String> {
    let cases = plural(run.cases.len(), "case");
    let (version, count) = (&begun.part.version, plural(places.len(), "place"));
    let mut lines = vec![format!("kvm-tests {version}: {cases} at {count}")];
    lines.extend(live::rows(live::of_cases(run)));
    for alike in places.chunk_by(|a, b| a.command == b.command) {
        let names: Vec<_> = alike.iter().map(|place| &*place.name).collect();
        let (names, place) = (names.join(", "), &alike[0]);
        lines.push(format!("  place        {names}: {}", place.command));
        lines.extend(place.about.map(|about| format!("               {about}")));
    }
    if run.options.copy && !cfg!(target_feature = "crt-static") {
        let like = "it is not static, so the libraries there must be like those here";
        lines.push(format!("  copied       kvm-tests: {like}"));
    }
    lines.push(format!("  results      {}", begun.directory.display()));
    lines.extend(begun.notes.iter().cloned());
    lines
}
