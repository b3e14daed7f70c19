//! The processes of one run of nextest, with what it sets for them. (`.ci/steps` has nextest itself.)

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::Status;
use crate::support::{Fixture, events};

const ID: &str = "1f79aa0d-4ec8-4a5c-aa83-5e8dc2f36573";

/// What nextest starts for a case.
fn process(fixture: &Fixture, case: &str) -> Command {
    let mut command = fixture.command(&[
        "--selftests",
        "selftests",
        "--config",
        "suite.toml",
        "--output",
        "run",
    ]);
    command
        .args(["--exact", case, "--nocapture"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
        .env("NEXTEST_RUN_ID", ID)
        .env("NEXTEST_TEST_NAME", case);
    command
        .env("NEXTEST_ATTEMPT", "1")
        .env("NEXTEST_TOTAL_ATTEMPTS", "3")
        .env("NEXTEST_STRESS_CURRENT", "none");
    command
}

fn ends_with(child: Child, code: i32) {
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(code),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn outcomes(fixture: &Fixture) -> Vec<(String, Status)> {
    let mut outcomes: Vec<_> = fixture
        .record()
        .outcomes
        .into_iter()
        .map(|outcome| (outcome.name, outcome.status))
        .collect();
    outcomes.sort();
    outcomes
}

#[test]
fn processes_side_by_side_share_one_results_directory_and_set_a_suite_up_one_at_a_time() {
    let names: Vec<String> = (0..8).map(|number| format!("case_{number}")).collect();
    let mut suite = "setup = \"mkdir up\"\nteardown = \"rmdir up\"\n".to_owned();
    for name in &names {
        suite += &format!("[[test]]\nname = \"{name}\"\ncommand = \"test -d up\"\n");
    }
    let fixture = Fixture::new()
        .selftest("a_test", "exit 0")
        .file("suite.toml", &suite);
    let cases: Vec<String> = names.iter().map(|name| format!("suite::{name}")).collect();
    let children: Vec<Child> = cases
        .iter()
        .map(|case| process(&fixture, case).spawn().unwrap())
        .collect();
    children.into_iter().for_each(|child| ends_with(child, 0));
    assert_eq!(
        outcomes(&fixture),
        cases
            .iter()
            .map(|case| (case.clone(), Status::Passed))
            .collect::<Vec<_>>()
    );
    let record = fixture.record();
    assert_eq!((record.finished, record.selected), (true, 8));
    assert_eq!(record.first()["nextest_run_id"], ID);
    // What started them is this test.
    assert!(
        record.first()["command_line"][0]
            .as_str()
            .unwrap()
            .contains("/it-"),
        "{:?}",
        record.first()
    );
    let junit = fs::read_to_string(fixture.results().join("junit.xml")).unwrap();
    assert!(
        junit.contains("tests=\"8\" ") && junit.contains("failures=\"0\""),
        "{junit}"
    );
    assert!(
        fixture
            .results()
            .join("suite/case_3/suite_setup.stdout")
            .is_file()
    );
}

#[test]
fn after_each_of_several_processes_the_reports_are_those_of_all_so_far_and_a_retry_is_an_iteration()
{
    let fixture = Fixture::new()
        .selftest("a_test", "exit 0")
        .selftest(
            "flaky_test",
            "[ -e ../tried ] || { touch ../tried; exit 1; }",
        )
        .selftest("skip_test", "exit 4")
        .file("suite.toml", "[[test]]\nname = \"x\"\ncommand = \"true\"\n");
    let mut expected = Vec::new();
    for (case, attempt, code, name, status) in [
        ("a_test::default", "1", 0, "a_test::default", Status::Passed),
        (
            "flaky_test::default",
            "1",
            101,
            "flaky_test::default",
            Status::Failed,
        ),
        (
            "flaky_test::default",
            "2",
            0,
            "flaky_test::default::iteration_2",
            Status::Passed,
        ),
        (
            "skip_test::default",
            "1",
            0,
            "skip_test::default",
            Status::Skipped,
        ),
    ] {
        ends_with(
            process(&fixture, case)
                .env("NEXTEST_ATTEMPT", attempt)
                .spawn()
                .unwrap(),
            code,
        );
        expected.push((name.to_owned(), status));
        assert_eq!(outcomes(&fixture), expected);
        assert!(fixture.record().finished);
        assert_eq!(fixture.record().parts.len(), expected.len());
        let junit = fs::read_to_string(fixture.results().join("junit.xml")).unwrap();
        assert!(
            junit.contains(&format!("tests=\"{}\" ", expected.len())),
            "{junit}"
        );
    }
    // Another run of nextest does not get into this one.
    let mut other = process(&fixture, "a_test::default");
    ends_with(other.env("NEXTEST_RUN_ID", "another").spawn().unwrap(), 2);
    assert_eq!(outcomes(&fixture), expected);
}

#[test]
fn what_failed_in_a_process_is_repeated_in_it_and_stays_a_failure() {
    let fixture = Fixture::new()
        .selftest(
            "flaky_test",
            "[ -e ../tried ] || { touch ../tried; exit 1; }",
        )
        .file("suite.toml", "[[test]]\nname = \"x\"\ncommand = \"true\"\n");
    let mut first = process(&fixture, "flaky_test::default");
    ends_with(first.args(["--retry-failed", "2"]).spawn().unwrap(), 101);
    let reason = "failed 1 of 3: exit code 1".to_owned();
    assert_eq!(
        fixture.verdict("flaky_test::default"),
        (Status::Failed, reason)
    );
    // nextest's own retry is another iteration.
    let mut second = process(&fixture, "flaky_test::default");
    second.env("NEXTEST_ATTEMPT", "2");
    ends_with(second.spawn().unwrap(), 0);
    let again = "flaky_test::default::iteration_2".to_owned();
    assert_eq!(outcomes(&fixture)[1], (again, Status::Passed));
}

#[test]
fn a_killed_process_of_many_has_its_case_as_no_run_and_the_others_are_kept() {
    let fixture = Fixture::new()
        .selftest("a_test", "exit 0")
        .selftest("hang_test", "touch ../hangs; exec sleep 1000")
        .file("suite.toml", "[[test]]\nname = \"x\"\ncommand = \"true\"\n");
    let mut killed = process(&fixture, "hang_test::default").spawn().unwrap();
    let begin = Instant::now();
    // Only once it is in the journal is it known.
    let is_known = || {
        let events = events(&fixture.results());
        events.iter().any(|(name, _)| name == "step_started")
    };
    while !is_known() {
        assert!(begin.elapsed() < Duration::from_secs(60), "waited in vain");
        thread::sleep(Duration::from_millis(5));
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    ends_with(process(&fixture, "a_test::default").spawn().unwrap(), 0);
    let expected = [
        ("a_test::default", Status::Passed),
        ("hang_test::default", Status::NoRun),
    ];
    assert_eq!(
        outcomes(&fixture),
        expected.map(|(name, status)| (name.to_owned(), status))
    );
    assert_eq!(
        (fixture.record().finished, fixture.record().selected),
        (false, 2)
    );
    let junit = fs::read_to_string(fixture.results().join("junit.xml")).unwrap();
    assert!(
        junit.contains("tests=\"2\" ") && junit.contains("failures=\"1\""),
        "{junit}"
    );
}

#[test]
fn a_run_that_a_test_of_another_program_starts_is_no_part_of_the_run_of_nextest() {
    let fixture = Fixture::new()
        .selftest("a_test", "exit 0")
        .file("suite.toml", "[[test]]\nname = \"x\"\ncommand = \"true\"\n");
    let mut command = process(&fixture, "a_test::default");
    ends_with(
        command
            .env("NEXTEST_TEST_NAME", "their::test")
            .spawn()
            .unwrap(),
        0,
    );
    assert_eq!(
        fixture.record().first()["nextest_run_id"],
        serde_json::Value::Null
    );
}
