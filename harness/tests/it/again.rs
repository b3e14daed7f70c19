//! What failed is run again: at the end of the run, and in another one.

use std::fs;
use std::process::Command;

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
fn repetitions_are_no_tests_of_libtests() {
    let fixture = Fixture::new().selftest("flaky_test", FLAKY);
    let json = fixture.run(&["--retry-failed", "2", "--format", "json"]);
    let events = lines_with(&json.stdout, "\"type\":\"test\"");
    assert_eq!(events.len(), 2, "{}", json.stdout);
    fs::remove_file(fixture.path().join("flaky")).unwrap();
    let tap = fixture.run(&["--retry-failed", "2", "--format", "ktap"]);
    let results = tap.stdout.lines().filter(|line| !line.starts_with('#'));
    assert_eq!(results.count(), 3, "{}", tap.stdout);
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

/// The names of the cases of the last run, sorted.
fn names(fixture: &Fixture) -> Vec<String> {
    let outcomes = fixture.record().outcomes.into_iter();
    let mut names: Vec<_> = outcomes.map(|outcome| outcome.name).collect();
    names.sort();
    names
}

#[test]
fn rerun_runs_what_did_not_pass_and_what_is_new_and_says_what_it_leaves_out() {
    let fixture = Fixture::new()
        .selftest("passes_test", "exit 0")
        .selftest("fails_test", "exit 1")
        .selftest("skips_test", "exit 4");
    // Where results are by default, `latest` is the last run.
    let first = fixture.command(&["--selftests", "selftests"]).output();
    assert_eq!(first.unwrap().status.code(), Some(101));
    let fixture = fixture.selftest("fails_test", "exit 0");
    let fixture = fixture.selftest("new_test", "exit 0");
    let ran = fixture.run(&["--rerun", "latest"]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    let expected = ["fails_test", "new_test", "skips_test"];
    assert_eq!(
        names(&fixture),
        expected.map(|name| format!("{name}::default"))
    );
    let said = "1 left out that passed there: passes_test::default";
    assert_eq!(lines_with(&ran.stderr, said).len(), 1, "{}", ran.stderr);

    // A directory will do, too; and where all has passed there is nothing to run.
    let ran = fixture.run(&["--output", "third", "--rerun", "run", "new_test"]);
    assert_eq!(ran.code, Some(2), "{}", ran.stdout);
    assert!(
        ran.stderr.contains("nothing to run again"),
        "{}",
        ran.stderr
    );
    assert!(!fixture.path().join("third").exists());
}

#[test]
fn after_a_run_of_several_hosts_only_what_passed_on_all_of_them_is_left_out() {
    let fixture = Fixture::new()
        .selftest("passes_test", "exit 0")
        .selftest("fails_test", "exit 1")
        .selftest(
            "once_test",
            "[ -e ../tried ] || { touch ../tried; exit 1; }",
        );
    // The same cases ran twice: to whoever reads of both, that was on two hosts.
    for run in ["first", "second"] {
        fixture.run(&["--output", run]);
    }
    let mut merge = fixture.program(&["merge", "both", "first", "second"]);
    let merged = Ran::of(merge.output().unwrap());
    assert_eq!(merged.code, Some(101), "{}{}", merged.stdout, merged.stderr);
    let ran = fixture.run(&["--rerun", "both"]);
    let expected = ["fails_test", "once_test"].map(|name| format!("{name}::default"));
    assert_eq!(names(&fixture), expected);
    let said = "1 left out that passed there: passes_test::default";
    assert_eq!(lines_with(&ran.stderr, said).len(), 1, "{}", ran.stderr);
}

#[test]
fn a_rerun_that_was_cut_short_is_gone_on_with() {
    let fixture = Fixture::new()
        .selftest("passes_test", "exit 0")
        .selftest("fails_test", "exit 1")
        .selftest("other_test", "exit 1");
    fixture.run(&["--output", "first"]);
    let cut = ["--rerun", "first", "--fail-fast", "--test-threads", "1"];
    assert_eq!(fixture.run(&cut).code, Some(101));
    assert_eq!(fixture.record().of_status(Status::NoRun).count(), 1);
    let resumed = fixture.command(&["--resume", "run"]).output().unwrap();
    assert_eq!(resumed.status.code(), Some(101));
    assert_eq!(
        names(&fixture),
        ["fails_test::default", "other_test::default"]
    );
    assert_eq!(fixture.record().of_status(Status::Failed).count(), 2);
}

/// What `moon_test` does in each commit of a small history, and what a step of a bisection makes of it.
const HISTORY: [(&str, i32); 8] = [
    ("#!/bin/sh\nexit 0 # the first\n", 0),
    ("#!/bin/sh\nexit 0 # still good\n", 0),
    ("#!/bin/sh\nexit 9 # another failure\n", 125),
    ("#!/bin/sh\nexit 0 # good again\n", 0),
    (
        "#!/bin/sh\necho 'not ok 1 the moon'; exit 1 # the culprit\n",
        1,
    ),
    ("#!/there/is/no/such/shell\n", 125),
    ("#!/bin/sh\nexit 4 # skipped\n", 125),
    (
        "#!/bin/sh\necho 'not ok 1 the moon'; exit 1 # still bad\n",
        1,
    ),
];

fn git(fixture: &Fixture, words: &[&str]) -> Ran {
    let mut git = Command::new("git");
    git.args(["-c", "user.name=a", "-c", "user.email=a@example.org"]);
    git.args(words).current_dir(fixture.path().join("tree"));
    git.env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1");
    Ran::of(git.output().unwrap())
}

/// A git repository with that history; its last commit is checked out, and its commits, the oldest first.
fn history() -> (Fixture, Vec<String>) {
    let mut fixture = Fixture::new().executable("tree/selftests/moon_test", "");
    assert_eq!(git(&fixture, &["init", "--quiet"]).code, Some(0));
    let mut commits = Vec::new();
    for (script, _) in HISTORY {
        fixture = fixture.executable("tree/selftests/moon_test", script);
        git(&fixture, &["add", "."]);
        let made = git(&fixture, &["commit", "--quiet", "-m", script]);
        assert_eq!(made.code, Some(0), "{}", made.stderr);
        let commit = git(&fixture, &["rev-parse", "HEAD"]).stdout;
        commits.push(commit.trim().to_owned());
    }
    (fixture, commits)
}

const BISECT: [&str; 4] = ["--selftests", "selftests", "--git-bisect", "../bad"];

#[test]
fn git_bisect_finds_the_commit_that_broke_a_selftest() {
    let (fixture, commits) = history();
    let mut bad = fixture.command(&["--selftests", "tree/selftests", "--output", "bad"]);
    let bad = Ran::of(bad.output().unwrap());
    assert_eq!(bad.code, Some(101), "{}", bad.stderr);
    for (commit, (script, code)) in commits.iter().zip(HISTORY) {
        assert_eq!(
            git(&fixture, &["checkout", "--quiet", commit]).code,
            Some(0)
        );
        let mut step = fixture.command(&BISECT);
        let ran = Ran::of(
            step.current_dir(fixture.path().join("tree"))
                .output()
                .unwrap(),
        );
        let told = lines_with(&ran.stdout, "bisect: ");
        assert_eq!(
            (ran.code, told.len()),
            (Some(code), 1),
            "{script}{}{}",
            ran.stdout,
            ran.stderr
        );
    }

    let [first, .., last] = commits.as_slice() else {
        panic!("{commits:?}")
    };
    git(&fixture, &["bisect", "start", last, first]);
    let step = fixture.command(&BISECT);
    let step = std::iter::once(step.get_program()).chain(step.get_args());
    let step: Vec<_> = step.map(|word| word.to_str().unwrap()).collect();
    let root = format!("KVM_TESTS_ROOT={}", fixture.path().join("root").display());
    let run = [&["bisect", "run", "env", &root], step.as_slice()].concat();
    let found = git(&fixture, &run);
    assert_eq!(found.code, Some(0), "{}{}", found.stdout, found.stderr);
    let said = format!("{} is the first bad commit", commits[4]);
    assert!(found.stdout.contains(&said), "{}", found.stdout);
}

#[test]
fn a_step_that_cannot_start_is_neither_good_nor_bad() {
    let fixture = Fixture::new()
        .selftest("fails_test", "exit 1")
        .selftest("passes_test", "exit 0")
        .file("broken.toml", "[[test]\n");
    fixture.run(&["--output", "bad"]);
    let bisect = ["--git-bisect", "bad"];
    for words in [
        &["--git-bisect=nowhere"][..],
        &["--git-bisect", "bad", "--config", "broken.toml"],
        &["--git-bisect", "bad", "--no-such-option"],
        &["--git-bisect", "bad", "no_such_case"],
        // It did not fail there.
        &["--git-bisect", "bad", "passes_test"],
        // Nothing may run at all.
        &["--git-bisect", "bad", "--shard", "1/9"],
        &["--git-bisect", "bad", "--dry-run"],
    ] {
        let ran = fixture.run(words);
        assert_eq!(ran.code, Some(125), "{words:?}{}", ran.stdout);
        assert!(!ran.stderr.is_empty());
    }
    assert!(!fixture.results().exists());
    // Only what failed there runs, and a rate makes no other failure of it.
    let ran = fixture.run(&[&bisect[..], &["--retry-failed", "1"]].concat());
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert_eq!(names(&fixture), ["fails_test::default"]);
}

#[test]
fn what_failed_and_is_not_there_any_more_is_not_fine() {
    let fixture = Fixture::new()
        .selftest("gone_test", "exit 1")
        .selftest("mended_test", "exit 1");
    fixture.run(&["--output", "bad"]);
    fs::remove_file(fixture.path().join("selftests/gone_test")).unwrap();
    let fixture = fixture.selftest("mended_test", "exit 0");
    for (option, code, said) in [
        (
            "--git-bisect",
            125,
            "bisect: cannot be tested: gone_test::default: it is not there",
        ),
        ("--rerun", 101, "is not here: gone_test::default"),
    ] {
        let ran = fixture.run(&[option, "bad", "--overwrite"]);
        assert_eq!(ran.code, Some(code), "{}", ran.stderr);
        assert_eq!(lines_with(&ran.stdout, said).len(), 1, "{}", ran.stdout);
        // It was not asked for.
        let ran = fixture.run(&[option, "bad", "--overwrite", "mended"]);
        assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    }
}
