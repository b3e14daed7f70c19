//! Real selftests, those that end soon.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use harness::log::record::Record;
use harness::model::outcome::{Exit, Outcome};

use crate::Options;
use crate::comparison::Comparison;
use crate::contenders;
use crate::table;
use crate::workload::{Workload, lower_bound};

const WORKERS: usize = 2;

/// Measures and prints it.
pub(crate) fn measure(options: &Options, scratch: &Path) {
    let selftests = options
        .selftests
        .as_deref()
        .expect("--selftests DIR, for the real ones");
    let workload = Workload::of(
        scratch.join("real"),
        quick(selftests, options.under, scratch),
    );
    let comparison = Comparison::new(&workload, WORKERS, options);
    // The bound of the very run whose time is told.
    let run = contenders::results(&workload, WORKERS, comparison.best_round_of_ours());
    let durations: Vec<Duration> = outcomes(&run).iter().map(duration).collect();
    let bound = lower_bound(&durations, WORKERS);
    let title = format!(
        "**{} real selftests that end in {} s, {WORKERS} at a time**: they take at least {}, by the durations that the \
         second run recorded:",
        workload.programs.len(),
        options.under.as_secs_f64(),
        table::seconds(bound)
    );
    comparison.print(&title, "ratio to the least", bound);
}

/// The selftests that end by themselves in `limit`.
fn quick(selftests: &Path, limit: Duration, scratch: &Path) -> Vec<PathBuf> {
    let directory = scratch.join("quick");
    fs::create_dir(&directory).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvm-tests-runner"));
    command.args([
        "run",
        "--test-threads",
        &WORKERS.to_string(),
        "--output",
        "run",
        "--selftests",
    ]);
    command
        .arg(selftests)
        .arg("::default")
        .current_dir(&directory);
    // In whole seconds there.
    command
        .arg("--timeout")
        .arg(limit.as_secs_f64().ceil().to_string());
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    let outcomes = outcomes(&directory.join("run"));
    let is_quick = |outcome: &&Outcome| {
        matches!(outcome.exit, Some(Exit::Code(_))) && duration(outcome) < limit
    };
    let names = outcomes
        .iter()
        .filter(is_quick)
        .map(|outcome| outcome.suite.as_str());
    let is_installed = selftests.join("kvm").is_dir();
    let place = if is_installed {
        selftests.join("kvm")
    } else {
        selftests.to_owned()
    };
    let programs = names
        .map(|name| place.join(name))
        .filter(|program| program.is_file());
    programs
        .map(|program| program.canonicalize().unwrap())
        .collect()
}

fn outcomes(run: &Path) -> Vec<Outcome> {
    Record::read(run).unwrap().0.outcomes
}

fn duration(outcome: &Outcome) -> Duration {
    Duration::from_secs_f64(outcome.duration_s)
}
