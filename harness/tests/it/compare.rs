//! `kvm-tests compare` and `--baseline`: real runs of the real program, compared by it.

use std::fs;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::reports::program;
use crate::support::made::{iteration, outcome, with};
use crate::support::{Fixture, Ran, events};

mod kinds;
mod told;

/// The program's comparison of two runs, `before` and `after`, and whether it got worse.
fn compared(old: &Value, new: &Value, arguments: &[&str]) -> (String, bool) {
    let directory = tempfile::tempdir().unwrap();
    for (name, run) in [("before", old), ("after", new)] {
        fs::create_dir(directory.path().join(name)).unwrap();
        let path = directory.path().join(name).join("run.json");
        fs::write(path, run.to_string()).unwrap();
    }
    let arguments = [&["compare", "before", "after"], arguments].concat();
    let ran = program(&arguments, directory.path());
    assert!(matches!(ran.code, Some(0 | 1)), "{}", ran.stderr);
    (ran.stdout, ran.code == Some(1))
}

/// What is printed of it.
fn printed(old: &Value, new: &Value, format: &str) -> String {
    compared(old, new, &["--format", format]).0
}

fn json_of(old: &Value, new: &Value, arguments: &[&str]) -> Value {
    let (json, is_worse) = compared(old, new, &[&["--format", "json"], arguments].concat());
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["worse"], is_worse);
    json
}

fn passed(name: &str) -> Value {
    outcome(name, "PASSED", "")
}

fn lasting(name: &str, seconds: f64) -> Value {
    with(&passed(name), json!({"duration_s": seconds}))
}

fn iterations(name: &str, failing: &[u32]) -> Vec<Value> {
    let of = |number| {
        let reason = format!("exit code 1; last output: page {number}");
        match failing.contains(&number) {
            true => iteration(number, &outcome(name, "FAILED", &reason)),
            false => iteration(number, &passed(name)),
        }
    };
    (1..=10).map(of).collect()
}

/// A selftest's failed assertion, with numbers that differ from run to run.
fn failing(expression: &str) -> String {
    format!(
        "printf '==== Test Assertion Failure ====\\n  a.c:%d: {expression}\\n  pid=%d tid=%d errno=4 - x\\n  1 0x1: f\\n  at 0x%x\\n' \
         $$ $$ $$ $$ >&2; exit 254"
    )
}

fn fixture() -> Fixture {
    Fixture::new()
        .selftest("assert_test", &failing("page == NULL"))
        .selftest("crash_test", "kill -SEGV $$")
        .selftest("pass_test", "exit 0")
}

fn run(fixture: &Fixture, arguments: &[&str]) -> Ran {
    let mut command = fixture.command(&["--selftests", "selftests"]);
    Ran::of(command.args(arguments).output().unwrap())
}

fn comparison(fixture: &Fixture, arguments: &[&str]) -> Ran {
    Ran::of(
        fixture
            .program(&[&["compare"], arguments].concat())
            .output()
            .unwrap(),
    )
}

/// What is said after the runs themselves.
fn changes(text: &str) -> &str {
    text.split_once("\n\n").unwrap().1
}

#[test]
fn two_runs_of_the_same_selftests_are_the_same() {
    let fixture = fixture();
    assert_eq!(
        [
            run(&fixture, &["--output", "one"]).code,
            run(&fixture, &["--output", "two"]).code
        ],
        [Some(101); 2]
    );
    let ran = comparison(&fixture, &["one", "two/run.json"]);
    let expected = "THE SAME FAILURES IN BOTH\n  assert_test::default, crash_test::default\n\nNothing changed.\n";
    assert_eq!(
        (ran.code, changes(&ran.stdout), ran.stderr.as_str()),
        (Some(0), expected, "")
    );
}

#[test]
fn a_selftest_replaced_by_one_that_fails_otherwise_is_told_as_exactly_that() {
    let fixture = fixture();
    run(&fixture, &["--output", "one"]);
    let fixture = fixture.selftest("crash_test", "echo off >&2; exit 7");
    run(&fixture, &["--output", "two"]);
    let ran = comparison(&fixture, &["one", "two"]);
    let expected = "\
DIFFERENT FAILURES UNDER THE SAME NAME
  crash_test::default
    old: FAILED: killed by SIGSEGV
    new: FAILED: exit code 7; last output: off

THE SAME FAILURES IN BOTH
  assert_test::default

It got WORSE: different failures.
";
    assert_eq!((ran.code, changes(&ran.stdout)), (Some(1), expected));
}

#[test]
fn a_run_of_a_newer_schema_version_is_refused_by_compare_report_and_baseline() {
    let fixture = fixture();
    run(&fixture, &["--output", "one"]);
    run(&fixture, &["--output", "newer"]);
    let run_json = fixture.path().join("newer").join("run.json");
    let text = fs::read_to_string(&run_json).unwrap();
    fs::write(
        &run_json,
        text.replace("\"schema_version\":2", "\"schema_version\":3"),
    )
    .unwrap();
    let refused = [
        comparison(&fixture, &["one", "newer"]),
        comparison(&fixture, &["newer/run.json", "one"]),
        Ran::of(fixture.program(&["report", "newer"]).output().unwrap()),
        run(&fixture, &["--output", "two", "--baseline", "newer"]),
    ];
    for ran in refused {
        let expected = "error: read newer/run.json: it has schema version 3, and this program knows versions up to 2: use the \
            kvm-tests that wrote it, or a newer one\n";
        assert_eq!(
            (ran.code, ran.stdout.as_str(), ran.stderr.as_str()),
            (Some(2), "", expected)
        );
    }
    assert!(!fixture.path().join("two").exists());
}

#[test]
fn a_reader_that_goes_away_does_not_change_the_exit_status() {
    let fixture = fixture();
    run(&fixture, &["--output", "one"]);
    let fixture = fixture.selftest("pass_test", "exit 1");
    run(&fixture, &["--output", "two"]);
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    drop(reader);
    assert_eq!(
        fixture
            .program(&["compare", "one", "two"])
            .stdout(writer)
            .status()
            .unwrap()
            .code(),
        Some(1)
    );
}

#[test]
fn runs_that_cannot_be_compared_are_told_apart_from_worse_ones() {
    let fixture = fixture();
    let ran = comparison(&fixture, &["one", "two"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""));
    assert!(
        ran.stderr.starts_with("error: read one: "),
        "{}",
        ran.stderr
    );
    let ran = run(&fixture, &["--output", "two", "--baseline", "one"]);
    assert_eq!(ran.code, Some(2));
    assert!(!fixture.path().join("two").exists());
}

#[test]
fn a_run_is_compared_with_its_baseline_even_where_it_replaces_it() {
    let fixture = fixture();
    let again = [
        "--output",
        "run",
        "--overwrite",
        "--baseline",
        "run",
        "pass_test",
    ];
    let end_of = |ran: &Ran, from: &str| ran.stdout[ran.stdout.find(from).unwrap()..].to_owned();
    assert_eq!(run(&fixture, &["--output", "run"]).code, Some(101));
    let ran = run(&fixture, &again);
    let left_out = "NOT COMPARED\n  3 selected in the old run only\n\nNothing changed.\n";
    assert_eq!(
        (ran.code, end_of(&ran, "NOT ").as_str()),
        (Some(0), left_out)
    );
    // What was not selected is not compared, but what does not exist any more is.
    run(&fixture, &["--output", "run", "--overwrite"]);
    fs::remove_file(fixture.path().join("selftests/crash_test")).unwrap();
    let ran = run(&fixture, &again);
    let vanished = "VANISHED
  crash_test::default: was FAILED: killed by SIGSEGV

NOT COMPARED
  2 selected in the old run only

It got WORSE: vanished.
";
    assert_eq!(
        (ran.code, end_of(&ran, "VANISHED").as_str()),
        (Some(101), vanished)
    );
    let fixture = fixture.selftest("pass_test", "echo '1..0 # SKIP no moon'; exit 4");
    let ran = run(&fixture, &again);
    let skipped = "NEWLY SKIPPED
  pass_test::default (was PASSED)
    no moon

It got WORSE: newly skipped.
";
    assert_eq!(
        (ran.code, end_of(&ran, "NEWLY").as_str()),
        (Some(101), skipped)
    );
}

#[test]
fn a_run_that_is_interrupted_is_not_compared() {
    let fixture = fixture().selftest("hang_test", "while :; do sleep 1000; done");
    run(&fixture, &["--output", "one", "pass_test"]);
    let mut command = fixture.command(&[
        "--selftests",
        "selftests",
        "--output",
        "two",
        "--baseline",
        "one",
    ]);
    command
        .arg("hang_test")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let two = fixture.path().join("two");
    while !events(&two).iter().any(|(name, _)| name == "step_started") {
        assert_eq!(child.try_wait().unwrap(), None);
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let ran = Ran::of(child.wait_with_output().unwrap());
    assert_eq!(ran.code, Some(130));
    assert!(
        ran.stdout
            .ends_with("\nnot compared with the baseline: this run ended early\n"),
        "{}",
        ran.stdout
    );
}

#[test]
fn a_filter_leaves_cases_out_of_the_comparison_and_a_cover_letter_says_only_what_changed() {
    let fixture = fixture();
    run(&fixture, &["--output", "one"]);
    run(&fixture, &["--output", "two", "crash_test", "pass_test"]);
    let ran = comparison(&fixture, &["one", "two"]);
    let expected = "\
THE SAME FAILURES IN BOTH
  crash_test::default

NOT COMPARED
  2 selected in the old run only

Nothing changed.
";
    assert_eq!((ran.code, changes(&ran.stdout)), (Some(0), expected));
    let cover = comparison(&fixture, &["one", "two", "--format", "cover"]).stdout;
    assert!(cover.starts_with("Tested-on: Linux "), "{cover}");
    let end = "Not compared:\n\n    2 selected in the old run only\n\nNothing changed.\n";
    assert!(
        cover.ends_with(end) && !cover.contains("crash_test"),
        "{cover}"
    );
}
