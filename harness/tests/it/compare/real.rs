//! Real runs of the real program, compared by it.

use std::fs;
use std::io;
use std::process::{Command, Stdio};

use harness::log::results::{JOURNAL, RUN_JSON};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Fixture, Ran};

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
    Ran::of(
        fixture
            .command(&["--selftests", "selftests"])
            .args(arguments)
            .output()
            .unwrap(),
    )
}

fn compare(fixture: &Fixture, arguments: &[&str]) -> Command {
    let mut command = program(fixture, &["compare"]);
    command.args(arguments);
    command
}

fn program(fixture: &Fixture, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvm-tests-runner"));
    command.current_dir(fixture.path()).args(arguments);
    command
}

fn compared(fixture: &Fixture, arguments: &[&str]) -> Ran {
    Ran::of(compare(fixture, arguments).output().unwrap())
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
    let ran = compared(&fixture, &["one", "two/run.json"]);
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
    let ran = compared(&fixture, &["one", "two"]);
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
    let run_json = fixture.path().join("newer").join(RUN_JSON);
    let text = fs::read_to_string(&run_json).unwrap();
    fs::write(
        &run_json,
        text.replace("\"schema_version\":1", "\"schema_version\":2"),
    )
    .unwrap();
    let refused = [
        compared(&fixture, &["one", "newer"]),
        compared(&fixture, &["newer/run.json", "one"]),
        Ran::of(program(&fixture, &["report", "newer"]).output().unwrap()),
        run(&fixture, &["--output", "two", "--baseline", "newer"]),
    ];
    for ran in refused {
        let expected = "error: read newer/run.json: it has schema version 2, and this program knows versions up to 1: use the \
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
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    assert_eq!(
        compare(&fixture, &["one", "two"])
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
    let ran = compared(&fixture, &["one", "two"]);
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
    assert_eq!(run(&fixture, &["--output", "run"]).code, Some(101));
    let ran = run(&fixture, &again);
    assert!(
        ran.code == Some(0)
            && ran
                .stdout
                .ends_with("selftests from the same place\n\nNothing changed.\n"),
        "{}",
        ran.stdout
    );
    // What was not selected is no news, but what does not exist any more is.
    run(&fixture, &["--output", "run", "--overwrite"]);
    std::fs::remove_file(fixture.path().join("selftests/crash_test")).unwrap();
    let ran = run(&fixture, &again);
    let vanished = "VANISHED\n  crash_test::default: was FAILED: killed by SIGSEGV\n\nIt got WORSE: vanished.\n";
    assert!(
        ran.code == Some(101) && ran.stdout.ends_with(vanished),
        "{}",
        ran.stdout
    );
    let fixture = fixture.selftest("pass_test", "echo '1..0 # SKIP no moon'; exit 4");
    let ran = run(&fixture, &again);
    assert!(
        ran.stdout
            .contains("NEWLY SKIPPED\n  pass_test::default (was PASSED)\n    no moon\n"),
        "{}",
        ran.stdout
    );
    assert_eq!(ran.code, Some(101));
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
    let journal = fixture.path().join("two").join(JOURNAL);
    while !std::fs::read_to_string(&journal).is_ok_and(|text| text.contains("\"started\"")) {
        assert_eq!(child.try_wait().unwrap(), None);
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let ran = Ran::of(child.wait_with_output().unwrap());
    assert_eq!(ran.code, Some(130));
    assert!(
        ran.stdout
            .ends_with("\nnot compared with the baseline: this run was interrupted\n"),
        "{}",
        ran.stdout
    );
}
