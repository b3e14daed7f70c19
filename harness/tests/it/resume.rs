//! Runs that ended early, resumed by the real program.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use crate::support::{Fixture, Ran, Status, events, journals, lines_with, processes, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const CASES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// Six cases that say in `order` that they run, and as many on the standard output.
fn six() -> Fixture {
    let case = |name: &str| {
        format!("[[test]]\nname = \"{name}\"\ncommand = \"echo {name} | tee -a ../order\"\n")
    };
    let suite = CASES.map(case).concat();
    Fixture::new()
        .selftest("a_test", "exit 0")
        .file("suite.toml", &suite)
}

/// What is left on the disk of a host that died: the journal up to where `case` was about to start, and zeros.
fn die_before(fixture: &Fixture, case: &str) -> BTreeSet<String> {
    let run = fixture.results();
    fs::remove_file(run.join("run.json")).unwrap();
    let journals = journals(&run);
    let [path] = journals.as_slice() else {
        panic!("{journals:?}")
    };
    let mut kept = Vec::new();
    let mut suspects = BTreeSet::new();
    for line in fs::read_to_string(path).unwrap().split_inclusive('\n') {
        kept.extend(line.as_bytes());
        let event: Value = serde_json::from_str(line).unwrap();
        suspects.extend(names(&event["starting"]));
        if let Some(name) = event["finished"]["name"].as_str() {
            suspects.remove(name);
        }
        if suspects.contains(case) {
            break;
        }
    }
    kept.extend([0; 4096]);
    fs::write(path, kept).unwrap();
    suspects
}

/// The names of the cases that may start from then on.
fn names(starting: &Value) -> Vec<String> {
    let cases = starting["cases"].as_array().into_iter().flatten();
    cases
        .map(|name| name.as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn after_a_dead_host_a_run_goes_on_with_the_suspects_last_and_alone() {
    let fixture = six();
    let ran = fixture.run(&["--config", "suite.toml", "--test-threads", "1", "suite::"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stdout);
    let suspects = die_before(&fixture, "suite::c");
    let left = fixture.record();
    assert!(!left.finished);
    let marked: BTreeSet<_> = left
        .outcomes
        .iter()
        .filter(|outcome| outcome.suspect)
        .map(|outcome| outcome.name.clone())
        .collect();
    assert_eq!(marked, suspects);
    assert_eq!(left.outcomes.len(), CASES.len());
    assert_eq!(
        fixture.verdict("suite::f").1,
        "the run ended before this was started"
    );
    let passed: BTreeSet<_> = left
        .of_status(Status::Passed)
        .map(|outcome| outcome.name.clone())
        .collect();
    assert!(passed.contains("suite::a") && !passed.contains("suite::c"));

    fs::remove_file(fixture.path().join("order")).unwrap();
    let ran = Ran::of(
        fixture
            .command(&["--resume", "run", "--test-threads", "3"])
            .output()
            .unwrap(),
    );
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    assert_eq!(
        lines_with(&ran.stderr, "suspects     last and alone").len(),
        1,
        "{}",
        ran.stderr
    );
    assert_eq!(
        lines_with(&ran.stdout, "6 PASSED of 6 cases").len(),
        1,
        "{}",
        ran.stdout
    );
    assert_eq!(
        lines_with(&ran.stdout, "  suite::c: PASSED").len(),
        1,
        "{}",
        ran.stdout
    );

    let whole = fixture.record();
    assert!(whole.finished && whole.parts.len() == 2);
    assert_eq!(whole.of_status(Status::Passed).count(), CASES.len());
    assert!(
        whole
            .outcomes
            .iter()
            .all(|outcome| outcome.suspect == suspects.contains(&outcome.name))
    );
    for outcome in left.of_status(Status::Passed) {
        assert!(
            whole.outcomes.contains(outcome),
            "{} was not run again",
            outcome.name
        );
    }
    let order = fs::read_to_string(fixture.path().join("order")).unwrap();
    let order: Vec<_> = order.lines().map(|name| format!("suite::{name}")).collect();
    let (others, last) = order.split_at(CASES.len() - passed.len() - suspects.len());
    assert!(
        others
            .iter()
            .all(|name| !suspects.contains(name) && !passed.contains(name)),
        "{order:?}"
    );
    assert_eq!(
        last.iter().cloned().collect::<BTreeSet<_>>(),
        suspects,
        "{order:?}"
    );
    check_that_suspects_run_alone(&fixture.results(), &suspects);

    let output = fixture.results().join("suite/c");
    for file in ["command.stdout", "command.stdout.1"] {
        assert_eq!(
            fs::read_to_string(output.join(file)).unwrap(),
            "c\n",
            "what it printed each time is kept"
        );
    }
}

fn check_that_suspects_run_alone(run: &Path, suspects: &BTreeSet<String>) {
    let events = events(run);
    let is_resumed =
        |(event, it): &(String, Value)| event == "part_started" && it["part"]["resumes"] == true;
    let resumed = events.iter().position(is_resumed).unwrap();
    let mut running: BTreeSet<&str> = BTreeSet::new();
    for (event, it) in &events[resumed..] {
        match event.as_str() {
            "starting" => {
                let names = names(it);
                let has_suspect = names.iter().any(|name| suspects.contains(name));
                assert!(names.len() == 1 || !has_suspect, "{names:?}");
            }
            "step_started" => {
                running.insert(it["case"].as_str().unwrap());
                let has_suspect = running.iter().any(|name| suspects.contains(*name));
                assert!(running.len() == 1 || !has_suspect, "{running:?}");
            }
            "finished" => drop(running.remove(it["name"].as_str().unwrap())),
            _ => {}
        }
    }
}

#[test]
fn every_case_is_named_in_the_journal_before_it_starts() {
    let fixture = six();
    fixture.run(&["--config", "suite.toml", "--iterations", "10", "suite::"]);
    let mut announced = BTreeSet::new();
    let mut started = 0;
    for (event, it) in events(&fixture.results()) {
        if event == "starting" {
            for name in names(&it) {
                assert!(announced.insert(name), "twice");
            }
        }
        if event == "step_started" {
            started += 1;
            assert!(announced.contains(it["case"].as_str().unwrap()), "{it}");
        }
    }
    assert_eq!((started, announced.len()), (60, 60));
}

#[test]
fn an_interrupted_run_goes_on_from_anywhere_with_its_own_options() {
    let mark = format!("resumed{}", std::process::id());
    let suite = format!(
        "setup = \"echo up >> ../log\"\nteardown = \"echo down >> ../log\"\n\
         [[test]]\nname = \"fails\"\ncommand = \"exit 7\"\n\
         [[test]]\nname = \"hangs\"\ncommand = \"[ -e ../go ] || sleep 1000; : {mark}\"\n\
         [[test]]\nname = \"waits\"\ncommand = \"true\"\n[[test]]\nname = \"unwanted\"\ncommand = \"true\"\n"
    );
    let fixture = Fixture::new()
        .selftest("a_test", "exit 0")
        .file("suite.toml", &suite);
    let which = ["--config", "suite.toml", "suite::", "--skip", "unwanted"];
    let child = fixture.start(&[&["--test-threads", "1"], &which[..]].concat());
    wait_until(|| !processes(&mark).is_empty());
    let ran = Ran::of(fixture.command(&["--resume", "run"]).output().unwrap());
    assert_eq!(ran.code, Some(2));
    assert!(
        ran.stderr.contains("has not ended: wait for it, or end it"),
        "{}",
        ran.stderr
    );
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(Ran::of(child.wait_with_output().unwrap()).code, Some(130));
    assert_eq!(fixture.record().of_status(Status::NoRun).count(), 2);

    fs::write(fixture.path().join("go"), "").unwrap();
    let mut command = fixture.command(&["--resume"]);
    let ran = Ran::of(
        command
            .arg(fixture.results())
            .current_dir("/")
            .output()
            .unwrap(),
    );
    assert_eq!(
        ran.code,
        Some(101),
        "what failed before counts: {}{}",
        ran.stdout,
        ran.stderr
    );
    assert_eq!(
        lines_with(&ran.stdout, "2 PASSED, 1 FAILED of 3 cases").len(),
        1,
        "{}",
        ran.stdout
    );
    let record = fixture.record();
    assert!(
        record.finished && record.end()["interrupted_by"].is_null() && record.outcomes.len() == 3
    );
    assert!(
        record.outcomes.iter().all(|outcome| !outcome.suspect),
        "the runner knows how they ended"
    );
    assert_eq!(
        fs::read_to_string(fixture.path().join("log")).unwrap(),
        "up\ndown\nup\ndown\n"
    );
    assert!(
        fixture
            .results()
            .join("suite/suite_setup.stdout.1")
            .is_file()
    );
    let junit = fs::read_to_string(fixture.results().join("junit.xml")).unwrap();
    assert_eq!(lines_with(&junit, "<testcase ").len(), 3, "{junit}");

    // A whole run is resumed without harm: there is nothing left to do.
    let ran = Ran::of(fixture.command(&["--resume", "run"]).output().unwrap());
    assert_eq!(ran.code, Some(101), "{}", ran.stderr);
    assert_eq!(fixture.record().outcomes, record.outcomes);
}

#[test]
fn what_cannot_be_resumed_is_refused_with_a_sentence_and_left_as_it_is() {
    let fixture = six();
    fixture.run(&["--config", "suite.toml", "suite::"]);
    let journal = || fs::read(&journals(&fixture.results())[0]).unwrap();
    let before = journal();
    for (arguments, message) in [
        (&["--resume", "run", "suite::a"][..], "cannot be used with"),
        (
            &["--resume", "run", "--environment", "host"],
            "cannot be used with",
        ),
        (
            &["--resume", "run", "--shard", "2/2"],
            "cannot be used with",
        ),
        (
            &["--resume", "selftests"],
            "selftests is not the directory of a run",
        ),
    ] {
        let ran = Ran::of(fixture.command(arguments).output().unwrap());
        assert_eq!(ran.code, Some(2));
        assert!(ran.stderr.contains(message), "{}", ran.stderr);
    }
    assert_eq!(journal(), before);
}

#[test]
fn a_case_that_is_there_no_more_is_said_to_be_gone() {
    let fixture = six();
    fixture.run(&["--config", "suite.toml", "--test-threads", "1", "suite::"]);
    die_before(&fixture, "suite::c");
    let suite = "[[test]]\nname = \"c\"\ncommand = \"true\"\n";
    let fixture = fixture.file("suite.toml", suite);
    let ran = Ran::of(fixture.command(&["--resume", "run"]).output().unwrap());
    assert_eq!(ran.code, Some(101), "{}", ran.stderr);
    let gone = (
        Status::NoRun,
        "it is there no more: its suite or its selftest has changed".to_owned(),
    );
    assert_eq!(fixture.verdict("suite::f"), gone);
    assert_eq!(fixture.outcome("suite::c").status, Status::Passed);
    assert_eq!(fixture.record().outcomes.len(), CASES.len());
}

#[test]
fn the_next_run_says_once_that_the_last_one_was_killed() {
    let mark = format!("next{}", std::process::id());
    let suite = format!("[[test]]\nname = \"hangs\"\ncommand = \"sleep 1000; : {mark}\"\n");
    let fixture = Fixture::new()
        .selftest("a_test", "exit 0")
        .file("suite.toml", &suite);
    let command = |filter: &str| {
        fixture.command(&["--selftests", "selftests", "--config", "suite.toml", filter])
    };
    let mut child = command("suite::")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until(|| !processes(&mark).is_empty());
    let alive = Ran::of(command("--list").output().unwrap());
    assert_eq!(lines_with(&alive.stderr, "was killed"), [""; 0]);
    child.kill().unwrap();
    child.wait().unwrap();
    let latest = fixture
        .path()
        .join("kvm-tests-results/latest")
        .canonicalize()
        .unwrap();

    let next = Ran::of(command("a_test::").output().unwrap());
    let told = lines_with(
        &next.stderr,
        "was killed while these ran, or may have: suite::hangs",
    );
    assert!(
        told.len() == 1 && told[0].contains(latest.to_str().unwrap()),
        "{}",
        next.stderr
    );
    assert_eq!(
        lines_with(&next.stderr, &format!("--resume {}", latest.display())).len(),
        1,
        "{}",
        next.stderr
    );
    let after_that = Ran::of(command("a_test::").output().unwrap());
    assert_eq!(lines_with(&after_that.stderr, "was killed"), [""; 0]);
}
