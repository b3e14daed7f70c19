//! What a big run costs at its end: the real program runs 5,000 cases that print 20 KiB each, and its reports and its
//! memory are measured. Fails where they need twice what is promised: `cargo bench -p harness --bench whole_run`.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot be set up is of no use"
)]

#[expect(
    dead_code,
    reason = "only memory counts here, and there is no time limit"
)]
#[path = "runners/measure.rs"]
mod measure;
#[path = "runners/stand_in.rs"]
mod stand_in;

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use harness::log::record::Record;
use harness::log::results::{JOURNAL, RUN_JSON};
use harness::model::entry::Entry;

/// How many cases there are; without `--bench` (as in `cargo test --benches`), just to see that it runs.
const MEASURED: usize = 5000;
const TRIED: usize = 50;

/// What each of them prints, in bytes, one half of it as an error.
const OUTPUT: usize = 20 * 1024;

/// What is promised: from the end of the last case to the last report, and the most memory of the runner.
const REPORTED_IN: Duration = Duration::from_secs(2);
const MEMORY: u64 = 100_000_000;

/// Every tenth case fails with an assertion, and every third of the others is skipped.
const SELFTEST: &str = r#"#!/bin/sh
cat "${0%/*}/output"
cat "${0%/*}/output" >&2
[ "$1" -ne 254 ] || printf '==== Test Assertion Failure ====\n  a.c:7: x == %s\n  pid=%s tid=%s errno=4 - x\nno\n' "$2" $$ $$ >&2
exit "$1"
"#;

fn main() {
    let is_measured = std::env::args().any(|arg| arg == "--bench");
    let cases = if is_measured { MEASURED } else { TRIED };
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path(), cases);
    println!("{cases} cases, {} KiB of output each:", OUTPUT / 1024);
    let mut is_missed = false;
    for format in ["terse", "json"] {
        let memory = run(directory.path(), format);
        let reported_in = reported_in(&directory.path().join("run"));
        println!(
            "  --format {format:5}  reports after {:.2} s, at most {:.0} MB of memory",
            reported_in.as_secs_f64(),
            memory as f64 / 1e6
        );
        is_missed |= reported_in > 2 * REPORTED_IN || memory > 2 * MEMORY;
    }
    let record = Record::read(&directory.path().join("run")).unwrap().0;
    assert_eq!(record.outcomes.len(), cases);
    println!(
        "promised: {:.0} s and {:.0} MB",
        REPORTED_IN.as_secs_f64(),
        MEMORY as f64 / 1e6
    );
    assert!(!is_missed, "more than twice what is promised");
}

fn prepare(directory: &Path, cases: usize) {
    let line = "Iteration 31 clear dirty log time: 0.000021953s & <vCPU 3> halted 13110 times\n";
    fs::create_dir(directory.join("selftests")).unwrap();
    fs::write(
        directory.join("selftests/output"),
        line.repeat(OUTPUT / 2 / line.len() + 1),
    )
    .unwrap();
    let selftest = directory.join("selftests/printing_test");
    fs::write(&selftest, SELFTEST).unwrap();
    fs::set_permissions(&selftest, fs::Permissions::from_mode(0o755)).unwrap();
    let mut suite = String::new();
    for number in 0..cases {
        let code = [254, 0, 0, 4, 0, 0, 4, 0, 0, 4][number % 10];
        writeln!(
            suite,
            "[[test]]\nname = \"n{number}\"\nselftest = \"printing_test\"\nargs = [\"{code}\", \"{number}\"]"
        )
        .unwrap();
    }
    fs::write(directory.join("big.toml"), suite).unwrap();
}

/// Runs all cases, and returns the most memory that any one process of the run had, in bytes.
fn run(directory: &Path, format: &str) -> u64 {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvm-tests-runner"));
    command.args([
        "run",
        "--selftests",
        "selftests",
        "--config",
        "big.toml",
        "--output",
        "run",
        "--overwrite",
    ]);
    command
        .args(["--format", format, "big::"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let figures = measure::run(stand_in::use_host_in(directory, &mut command));
    assert_eq!(figures.code, 101);
    figures.peak
}

/// How long it was from the end of the last case until all reports were there.
fn reported_in(run: &Path) -> Duration {
    let journal = fs::read_to_string(run.join(JOURNAL)).unwrap();
    let Entry::RunFinished { at_ms, .. } =
        serde_json::from_str(journal.lines().last().unwrap()).unwrap()
    else {
        panic!("the run did not come to its end");
    };
    let written =
        |name: &str| -> SystemTime { fs::metadata(run.join(name)).unwrap().modified().unwrap() };
    let last = [RUN_JSON, "junit.xml", "results.ktap", "report.html"]
        .map(written)
        .into_iter()
        .max()
        .unwrap();
    last.duration_since(UNIX_EPOCH + Duration::from_millis(at_ms))
        .unwrap()
}
