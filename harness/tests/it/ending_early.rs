//! The real program told to end before all has run: by failures, or by the time that the run may take.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::support::fake_host::FakeHost;
use crate::support::{Fixture, Ran, Status, lines_with};

/// A suite of which the first case fails, and which notes in `log` what of it ran.
const SUITE: &str = "teardown = \"echo down >> ../log\"\n\
    [[test]]\nname = \"fails\"\ntimeout_s = 1000\ncommand = \"echo fails >> ../log; exit 1\"\n\
    [[test]]\nname = \"one\"\ncommand = \"echo one >> ../log\"\n\
    [[test]]\nname = \"two\"\ncommand = \"echo two >> ../log\"\n";

const NOT_STARTED: &str = "not started: 1 case failed (--max-fail)";

fn fixture(suite: &str) -> Fixture {
    Fixture::new()
        .selftest("z_test", "exit 0")
        .file("suite.toml", suite)
}

fn log(fixture: &Fixture) -> String {
    fs::read_to_string(fixture.path().join("log")).unwrap_or_default()
}

#[test]
fn after_a_failure_no_more_is_started_and_a_resumed_run_does_the_rest() {
    for words in [
        &["--fail-fast"][..],
        &["--fail-fast", "-Zunstable-options"],
        &["-Z", "unstable-options", "--max-fail", "1"],
    ] {
        let fixture = fixture(SUITE);
        let one_by_one = ["--config", "suite.toml", "--test-threads", "1"];
        let ran = fixture.run(&[&one_by_one, words].concat());
        assert_eq!(ran.code, Some(101), "{}{}", ran.stdout, ran.stderr);
        assert_eq!(log(&fixture), "fails\ndown\n");
        for name in ["suite::one", "suite::two", "z_test::default"] {
            assert_eq!(
                fixture.verdict(name),
                (Status::NoRun, NOT_STARTED.to_owned())
            );
        }
        for line in ["ENDED EARLY: 1 case failed (--max-fail)", "go on with: "] {
            assert_eq!(lines_with(&ran.stdout, line).len(), 1, "{}", ran.stdout);
        }

        let resumed = fixture.command(&["--resume", "run"]).output();
        let resumed = Ran::of(resumed.unwrap());
        assert_eq!(resumed.code, Some(101), "{}", resumed.stderr);
        let counts = "3 PASSED, 1 FAILED of 4 cases";
        assert_eq!(
            lines_with(&resumed.stdout, counts).len(),
            1,
            "{}",
            resumed.stdout
        );
        assert_eq!(lines_with(&log(&fixture), "fails").len(), 1);
    }
}

#[test]
fn what_runs_when_enough_have_failed_goes_on_to_its_end() {
    let fixture = fixture(
        "[[test]]\nname = \"waits\"\ntimeout_s = 1000\n\
         command = \"while ! test -e ../go; do sleep 0.05; done\"\n\
         [[test]]\nname = \"fails\"\ntimeout_s = 900\ncommand = \"exit 1\"\n\
         [[test]]\nname = \"fails_too\"\ntimeout_s = 800\ncommand = \"exit 1\"\n\
         [[test]]\nname = \"never\"\ncommand = \"true\"\n",
    );
    let mut command = fixture.command(&["--selftests", "selftests", "--output", "run"]);
    command.args([
        "--config",
        "suite.toml",
        "--test-threads",
        "2",
        "--max-fail",
        "2",
    ]);
    let streams = command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = streams.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let is_told = |line: &str| line.starts_with("2 cases failed (--max-fail): what runs goes on");
    assert!(lines.any(|line| is_told(&line.unwrap())));
    fs::write(fixture.path().join("go"), "").unwrap();
    lines.for_each(drop);
    assert_eq!(child.wait().unwrap().code(), Some(101));
    let status = |name: &str| fixture.outcome(name).status;
    let statuses = ["waits", "fails", "fails_too", "never"];
    let statuses = statuses.map(|name| status(&format!("suite::{name}")));
    let [passed, failed, no_run] = [Status::Passed, Status::Failed, Status::NoRun];
    assert_eq!(statuses, [passed, failed, failed, no_run]);
}

#[test]
fn a_stream_of_tap_that_ends_early_has_a_line_for_every_case() {
    let fixture = fixture(SUITE);
    let ktap = ["--config", "suite.toml", "--format", "ktap"];
    let ran = fixture.run(&[&ktap[..], &["--test-threads", "1", "--fail-fast"]].concat());
    let results = ran.stdout.lines().filter(|line| !line.starts_with('#'));
    let results: Vec<_> = results.collect();
    assert_eq!(results[..2], ["TAP version 13", "1..4"], "{}", ran.stdout);
    for (number, line) in (1..=4).zip(&results[2..]) {
        assert!(line.contains(&format!("ok {number} ")), "{line}");
    }
    assert_eq!(results.len(), 6);
    let never = lines_with(&ran.stdout, "# ERROR not started: 1 case failed");
    assert_eq!(never.len(), 3, "{}", ran.stdout);
}

#[test]
fn a_run_whose_time_is_up_ends_in_order() {
    let fixture = fixture(
        "teardown = \"echo down >> ../log\"\n\
         [[test]]\nname = \"hangs\"\ntimeout_s = 1000\ncommand = \"sleep 1000\"\n\
         teardown = \"echo torn down >> ../log\"\n\
         [[test]]\nname = \"never\"\ncommand = \"true\"\n",
    );
    let host = FakeHost::amd();
    let before = host.state();
    let mut command = fixture.command(&["--selftests", "selftests", "--output", "run"]);
    command.args(["--config", "suite.toml", "--set", "tdp=off", "suite::"]);
    // Long enough for the first case to have started, however busy this machine is.
    command.args(["--test-threads", "1", "--time-limit", "5s"]);
    command.env("KVM_TESTS_ROOT", host.path(""));
    let ran = Ran::of(command.env("PATH", host.search()).output().unwrap());
    assert_eq!(ran.code, Some(101), "{}{}", ran.stdout, ran.stderr);
    let no_run = |reason: &str| {
        let why = "its time of 5.0 s was up (--time-limit)";
        (Status::NoRun, format!("{reason}: {why}"))
    };
    let verdicts =
        ["hangs", "never"].map(|name| fixture.verdict(&format!("tdp_off::suite::{name}")));
    assert_eq!(
        verdicts,
        [
            no_run("interrupted"),
            no_run("interrupted before it started")
        ]
    );
    assert_eq!(log(&fixture), "torn down\ndown\n");
    assert_eq!((host.state(), host.is_left_alone()), (before, true));
    for name in ["junit.xml", "results.ktap", "report.html"] {
        let report = fs::read_to_string(fixture.results().join(name)).unwrap();
        assert!(report.contains("--time-limit"), "{name}: {report}");
    }
    assert_eq!(
        lines_with(&ran.stdout, "go on with: ").len(),
        1,
        "{}",
        ran.stdout
    );
}

#[test]
fn a_time_or_a_number_that_is_none_runs_nothing() {
    let fixture = fixture(SUITE);
    for words in [
        ["--time-limit", "0"],
        ["--time-limit", "soon"],
        ["--max-fail", "0"],
        ["--retry-failed", "101"],
    ] {
        let ran = fixture.run(&words);
        assert_eq!(ran.code, Some(2), "{words:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(words[0]), "{}", ran.stderr);
    }
    assert!(!fixture.results().exists());
}
