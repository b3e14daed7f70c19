//! What failed is run again: at the end of the run, and in another one.

use std::fs;

use crate::support::fake_host::FakeHost;
use crate::support::{Fixture, Ran, Status, lines_with};

/// Says which run it is, and fails in the first one alone. No other case may run beside a later one.
const FLAKY: &str = "cd ..; echo run >> flaky; n=$(wc -l < flaky); echo \"run $n\"
    test $n = 1 && { echo 'not ok 1 the moon'; exit 1; }
    mkdir alone || touch not_alone; rmdir alone";

/// A selftest that fails now and then, one that always does, and some that do not.
fn failing() -> Fixture {
    let suite = "setup = \"echo up >> ../suite\"\nteardown = \"echo down >> ../suite\"\n\
        [[test]]\nname = \"dead\"\ncommand = \"mkdir ../alone || touch ../not_alone; rmdir ../alone; exit 3\"\n\
        [[test]]\nname = \"fine\"\ncommand = \"true\"\n";
    Fixture::new()
        .selftest("flaky_test", FLAKY)
        .selftest("skips_test", "exit 4")
        .file("suite.toml", suite)
}

const CONFIG: [&str; 4] = ["--config", "suite.toml", "--test-threads", "3"];

#[test]
fn a_failure_is_repeated_alone_and_stays_one_with_its_rate() {
    let fixture = failing();
    let ran = fixture.run(&[&CONFIG[..], &["--retry-failed", "3"]].concat());
    assert_eq!(ran.code, Some(101), "{}{}", ran.stdout, ran.stderr);
    let failed = |rate: &str| (Status::Failed, rate.to_owned());
    let flaky = fixture.outcome("flaky_test::default");
    assert_eq!(
        fixture.verdict("flaky_test::default"),
        failed("failed 1 of 4: not ok: the moon")
    );
    assert_eq!(
        fixture.verdict("suite::dead"),
        failed("failed 4 of 4: exit code 3")
    );
    assert!(!fixture.path().join("not_alone").exists());
    // A case is one, however often it ran.
    let counts = "1 PASSED, 1 SKIPPED, 2 FAILED of 4 cases";
    assert_eq!(lines_with(&ran.stdout, counts).len(), 1, "{}", ran.stdout);
    // Each repetition is there with all that is known of it, and what it printed is kept.
    let repetitions = flaky.rest["repetitions"].as_array().unwrap();
    for (number, repetition) in (2..).zip(repetitions) {
        assert_eq!(repetition["status"], "PASSED");
        let output = fixture
            .results()
            .join(repetition["output"].as_str().unwrap());
        let printed = fs::read_to_string(output.join("command.stdout")).unwrap();
        assert_eq!(printed, format!("run {number}\n"));
    }
    assert_eq!(repetitions.len(), 3);
    let said = "AGAIN FAILED suite::dead::retry_3: exit code 3";
    assert_eq!(lines_with(&ran.stderr, said).len(), 1, "{}", ran.stderr);
    // Their suite is set up for them once more, and torn down.
    let suite = fs::read_to_string(fixture.path().join("suite")).unwrap();
    assert_eq!(suite, "up\ndown\nup\ndown\n");
    let junit = fs::read_to_string(fixture.results().join("junit.xml")).unwrap();
    assert!(junit.contains("failed 1 of 4: not ok: the moon"), "{junit}");
}

#[test]
fn a_failure_with_a_rate_is_the_same_failure() {
    let fixture = Fixture::new().selftest("dead_test", "exit 3");
    fixture.run(&["--output", "once"]);
    let ran = fixture.run(&["--retry-failed", "2"]);
    assert_eq!(ran.code, Some(101), "{}", ran.stderr);
    let compared = fixture.program(&["compare", "once", "run"]).output();
    let compared = Ran::of(compared.unwrap());
    assert_eq!(compared.code, Some(0), "{}", compared.stdout);
}

#[test]
fn what_failed_in_an_environment_is_repeated_in_it_and_the_host_is_put_back() {
    let fixture = Fixture::new().selftest("flaky_test", FLAKY);
    let host = FakeHost::amd();
    let before = host.state();
    let mut command = fixture.command(&["--selftests", "selftests", "--output", "run"]);
    command.args(["--set", "tdp=off", "--retry-failed", "1"]);
    command.env("KVM_TESTS_ROOT", host.path(""));
    let ran = Ran::of(command.env("PATH", host.search()).output().unwrap());
    assert_eq!(ran.code, Some(101), "{}{}", ran.stdout, ran.stderr);
    let (_, reason) = fixture.verdict("tdp_off::flaky_test::default");
    assert_eq!(reason, "failed 1 of 2: not ok: the moon");
    assert_eq!((host.state(), host.is_left_alone()), (before, true));
    let spans = fixture.record().environments;
    let repetition = fixture.outcome("tdp_off::flaky_test::default").rest["repetitions"][0].clone();
    let [_, again] = spans.as_slice() else {
        panic!("{spans:?}")
    };
    assert!(again["entered_ms"].as_u64() <= repetition["started_ms"].as_u64());
}
