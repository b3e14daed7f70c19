//! A run in parts: `--shard`, `--plan-only` and `--plan`, by the real program.

use std::collections::BTreeSet;
use std::fs;
use std::process::Stdio;

use serde_json::Value;

use crate::support::{Fixture, Ran, Record, Status, lines_with};

/// Twelve cases in a suite, of which each says its name, and two selftests.
fn fixture() -> Fixture {
    let case = |number| {
        format!("[[test]]\nname = \"case_{number}\"\ncommand = \"echo case_{number} >>../ran\"\n")
    };
    let suite: String = (0..12).map(case).collect();
    Fixture::new()
        .selftest("a_test", "exit 0")
        .selftest("b_test", "exit 0")
        .file("suite.toml", &suite)
}

/// The program with these selftests, and the suite.
fn ran(fixture: &Fixture, arguments: &[&str]) -> Ran {
    let given = ["--selftests", "selftests", "--config", "suite.toml"];
    let mut command = fixture.command(&given);
    Ran::of(command.args(arguments).output().unwrap())
}

fn names(fixture: &Fixture, directory: &str) -> BTreeSet<String> {
    let record = Record::read(&fixture.path().join(directory)).unwrap();
    record.outcomes.into_iter().map(|one| one.name).collect()
}

#[test]
fn shards_are_the_whole_each_case_in_one_and_the_list_agrees() {
    let fixture = fixture();
    assert_eq!(ran(&fixture, &["--output", "whole"]).code, Some(0));
    let whole = names(&fixture, "whole");
    assert_eq!(whole.len(), 14);
    let mut together = Vec::new();
    for number in 1..=4 {
        let (shard, output) = (format!("{number}/4"), format!("part{number}"));
        let ended = ran(&fixture, &["--shard", &shard, "--output", &output]);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let part = names(&fixture, &output);
        let listed = ran(
            &fixture,
            &["--shard", &shard, "--list", "--format", "terse"],
        );
        let listed = listed.stdout.lines().map(|line| line.replace(": test", ""));
        assert_eq!(part, listed.collect(), "shard {shard}");
        together.extend(part);
        let record = Record::read(&fixture.path().join(&output)).unwrap();
        assert_eq!(record.first()["shard"], shard);
        let plan = fs::read(fixture.path().join(&output).join("plan.json")).unwrap();
        let plan: Value = serde_json::from_slice(&plan).unwrap();
        assert_eq!(plan["planned"]["cases"].as_array().unwrap().len(), 14);
    }
    assert_eq!(together.len(), whole.len(), "none is in two shards");
    assert_eq!(together.into_iter().collect::<BTreeSet<_>>(), whole);
}

#[test]
fn a_shard_that_has_no_case_is_a_run_all_the_same() {
    let fixture = fixture();
    let mut empty = 0;
    for number in 1..=40 {
        let shard = format!("{number}/40");
        let output = format!("part{number}");
        let ended = ran(
            &fixture,
            &["--shard", &shard, "--output", &output, "a_test"],
        );
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        empty += usize::from(names(&fixture, &output).is_empty());
    }
    assert_eq!(empty, 39);
}

#[test]
fn what_is_no_shard_is_refused_before_anything_runs() {
    let fixture = fixture();
    for (shard, expected) in [
        (
            "0/4",
            "should be K/N, such as 1/4 to 4/4, or environment=NAME",
        ),
        (
            "5/4",
            "should be K/N, such as 1/4 to 4/4, or environment=NAME",
        ),
        (
            "environment=nested_of",
            "no case of the plan is in the environment `nested_of`",
        ),
    ] {
        let ended = ran(&fixture, &["--shard", shard, "--output", "run"]);
        assert_eq!(ended.code, Some(2));
        assert_eq!(
            lines_with(&ended.stderr, expected).len(),
            1,
            "{}",
            ended.stderr
        );
        assert!(!fixture.results().exists());
    }
}

/// Writes the plan `plan` with these arguments.
fn plan(fixture: &Fixture, arguments: &[&str]) -> Value {
    let ended = ran(fixture, &[&["--plan-only", "plan"], arguments].concat());
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(0), ""),
        "{}",
        ended.stderr
    );
    let text = fs::read(fixture.path().join("plan")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// Runs what a plan says, from the standard input, on the selftests of `fixture`.
fn run_plan(fixture: &Fixture, plan: &Value, arguments: &[&str]) -> Ran {
    fs::write(fixture.path().join("given"), format!("{plan}\n")).unwrap();
    let mut command = fixture.command(&["--plan", "-", "--output", "run", "--overwrite"]);
    let given = fs::File::open(fixture.path().join("given")).unwrap();
    Ran::of(
        command
            .args(arguments)
            .stdin(Stdio::from(given))
            .output()
            .unwrap(),
    )
}

#[test]
fn a_plan_runs_as_it_was_made_and_only_what_it_has() {
    let fixture = fixture();
    let made = plan(&fixture, &["case_1", "--iterations", "2"]);
    assert!(!fixture.path().join("ran").exists(), "a plan runs nothing");
    let ended = run_plan(&fixture, &made, &[]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let ran = fs::read_to_string(fixture.path().join("ran")).unwrap();
    let mut ran: Vec<_> = ran.lines().collect();
    ran.sort_unstable();
    let twice = |name| [name, name];
    assert_eq!(ran, ["case_1", "case_10", "case_11"].map(twice).concat());
    let whole = names(&fixture, "run");

    let mut together = BTreeSet::new();
    for shard in ["1/2", "2/2"] {
        assert_eq!(run_plan(&fixture, &made, &["--shard", shard]).code, Some(0));
        let kept = fs::read(fixture.results().join("plan.json")).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&kept).unwrap(), made);
        together.append(&mut names(&fixture, "run"));
    }
    assert_eq!(together, whole);

    // What the plan does not have does not run, though the options would select it.
    let mut less = made.clone();
    less["planned"]["cases"].as_array_mut().unwrap().truncate(1);
    assert_eq!(run_plan(&fixture, &less, &[]).code, Some(0));
    assert_eq!(names(&fixture, "run").len(), 1);
}

#[test]
fn fail_fast_holds_although_the_plan_allows_for_more_failures() {
    let fixture = fixture()
        .selftest("a_test", "exit 1")
        .selftest("b_test", "exit 1");
    let made = plan(&fixture, &["_test", "--max-fail", "5"]);
    let ended = run_plan(&fixture, &made, &["--fail-fast", "--test-threads", "1"]);
    assert_eq!(ended.code, Some(101), "{}", ended.stderr);
    assert_eq!(fixture.record().of_status(Status::NoRun).count(), 1);
}

#[test]
fn a_plan_that_cannot_be_carried_out_is_refused_before_anything_runs() {
    let fixture = fixture().executable("others/a_test", "#!/bin/sh\nexit 1\n");
    let made = plan(&fixture, &[]);
    let with = |name: &str, value: Value| {
        let mut other = made.clone();
        other["planned"][name] = value;
        other
    };
    let newer = with("schema_version", 99.into());
    let version = with("version", "9.9".into());
    let machine = with("machine", "m68k".into());
    let mut more = made.clone();
    let gone = serde_json::json!({"suite": "gone", "variant": "default"});
    more["planned"]["cases"].as_array_mut().unwrap().push(gone);
    for (plan, arguments, expected) in [
        (
            &made,
            &["--selftests", "others"][..],
            "it is for other selftests: ",
        ),
        (
            &made,
            &["--kernel-src", "x"],
            "there is no place for what is built",
        ),
        (&newer, &[], "it has schema version 99"),
        (&version, &[], "kvm-tests 9.9 made it, and this is "),
        (&machine, &[], "it was made for m68k, and this is "),
        (
            &more,
            &[],
            "1 case of it are not here, as other suites or environments are: gone::default",
        ),
        (&Value::Null, &[], "it is no plan: --plan-only writes one"),
    ] {
        let ended = run_plan(&fixture, plan, arguments);
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        assert_eq!(
            lines_with(&ended.stderr, expected).len(),
            1,
            "{}",
            ended.stderr
        );
        assert!(!fixture.results().exists() && !fixture.path().join("ran").exists());
    }
}

#[test]
fn a_part_that_is_resumed_stays_that_part() {
    let fixture = fixture();
    let made = plan(&fixture, &["case_"]);
    assert_eq!(run_plan(&fixture, &made, &["--shard", "1/2"]).code, Some(0));
    let whole = names(&fixture, "run");
    let run = fixture.results();
    fs::remove_file(run.join("run.json")).unwrap();
    let journal = &crate::support::journals(&run)[0];
    let first = fs::read_to_string(journal).unwrap();
    let first = first.split_inclusive('\n').next().unwrap();
    fs::write(journal, first).unwrap();
    fs::remove_file(fixture.path().join("ran")).unwrap();
    // The plan itself was on the standard input.
    let ended = Ran::of(fixture.command(&["--resume", "run"]).output().unwrap());
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    assert_eq!(names(&fixture, "run"), whole);
    let ran = fs::read_to_string(fixture.path().join("ran")).unwrap();
    assert_eq!(ran.lines().count(), whole.len());
    let record = fixture.record();
    let [first, second] = [0, 1].map(|at| record.parts[at]["part"].clone());
    assert_eq!(first["id"], second["run"], "both are of one run");
    assert_eq!(first["plan"], second["plan"]);
}
