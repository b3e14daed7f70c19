//! The reports of a run: written at its end, again by `kvm-tests report`, and read by the tools that others have.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::made::{HOSTILE, asserting, everything, inside, kept, outcome, run, with};
use crate::support::{Fixture, Ran, Status, report};

mod junit;
mod ktap;
mod printed;

/// The report of this name of a run with these files.
pub(crate) fn report_of(run: &Value, name: &str, files: &[(&str, &[u8])]) -> String {
    let directory = kept(run, files);
    report(directory.path()).unwrap();
    fs::read_to_string(directory.path().join(name)).unwrap()
}

/// The program, in this directory.
pub(crate) fn program(arguments: &[&str], directory: &Path) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvm-tests-runner"));
    let command = command.args(arguments).current_dir(directory);
    Ran::of(command.env_remove("TMT_TEST_DATA").output().unwrap())
}

#[test]
fn a_run_ends_with_its_reports_and_they_can_be_written_again() {
    let fixture = Fixture::new()
        .selftest("pass_test", "echo told")
        .selftest("fail_test", "exit 1");
    assert_eq!(fixture.run(&[]).code, Some(101));
    let paths = ["junit.xml", "results.ktap"].map(|name| fixture.results().join(name));
    let read = || {
        paths
            .each_ref()
            .map(|path| fs::read_to_string(path).unwrap())
    };
    let written = read();
    assert!(written[0].contains("<system-out>told"), "{}", written[0]);
    paths.iter().for_each(|path| fs::remove_file(path).unwrap());
    let again = program(&["report", "run"], fixture.path());
    let named = "run/junit.xml\nrun/results.ktap\nrun/report.html\n";
    assert_eq!((again.code, again.stdout.as_str()), (Some(0), named));
    assert_eq!(read(), written);
    let nothing = program(&["report", "nothing"], fixture.path());
    assert_eq!(nothing.code, Some(2));
    assert!(
        nothing.stderr.starts_with("error: read nothing"),
        "{}",
        nothing.stderr
    );
}

#[test]
fn a_run_whose_report_cannot_be_written_says_so_and_fails() {
    let in_the_way = "mkdir \"$OLDPWD/run/junit.xml\"";
    let fixture = Fixture::new();
    let in_the_way = in_the_way.replace("$OLDPWD", &fixture.path().to_string_lossy());
    let fixture = fixture.selftest("pass_test", &in_the_way);
    let ran = fixture.run(&[]);
    assert_eq!(ran.code, Some(101), "{}", ran.stderr);
    let said = format!(
        "cannot write the reports: write {}/junit.xml: ",
        fixture.results().display()
    );
    assert!(ran.stderr.contains(&said), "{}", ran.stderr);
    assert_eq!(fixture.record().of_status(Status::Passed).count(), 1);
    assert!(fixture.results().join("results.ktap").is_file());
}

#[test]
fn one_report_that_cannot_be_written_does_not_stop_the_others() {
    let directory = kept(&everything(), &[]);
    fs::create_dir(directory.path().join("junit.xml")).unwrap();
    let ran = program(&["report", "."], directory.path());
    assert_eq!(ran.code, Some(2));
    assert!(
        ran.stderr.starts_with("error: write ./junit.xml: "),
        "{}",
        ran.stderr
    );
    let entries = directory.path().read_dir().unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(
        names,
        ["junit.xml", "report.html", "results.ktap", "run.json"]
    );
}

#[test]
fn only_regular_files_of_the_run_are_quoted() {
    let directory = kept(&json!(null), &[("a/command.stdout", b"told")]);
    let path = directory.path();
    std::os::unix::fs::symlink("command.stdout", path.join("a/command.stderr")).unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("command.stdout"), "secret").unwrap();
    std::os::unix::fs::symlink(outside.path(), path.join("link")).unwrap();
    let outside = outside.path().to_str().unwrap();
    let up = format!(
        "../{}",
        Path::new(outside).file_name().unwrap().to_str().unwrap()
    );
    for (place, told) in [("a", 1), ("b", 0), ("link", 0), (&up, 0), (outside, 0)] {
        let run = run(&[with(
            &outcome("a::b", "PASSED", ""),
            json!({"output": place}),
        )]);
        fs::write(path.join("run.json"), run.to_string()).unwrap();
        report(path).unwrap();
        let junit = fs::read_to_string(path.join("junit.xml")).unwrap();
        let has = |text: &str| junit.matches(text).count();
        assert_eq!(has("<system-out>told</system-out>"), told, "{place}");
        assert_eq!(has("secret"), 0, "{place}");
        assert!(
            place != "a" || has("<system-err>(cannot read command.stderr: ") == 1,
            "{junit}"
        );
    }
}

#[test]
fn what_is_new_is_said_against_the_last_run_of_the_same_cases() {
    let results = TempDir::new().unwrap();
    let keep = |time: &str, run: &Value| {
        let directory = results.path().join(format!("2026-01-{time}T00-00-00Z"));
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("run.json"), run.to_string()).unwrap();
        directory
    };
    let case = |status: &str| outcome("a::default", status, "why");
    keep("01", &run(&[case("FAILED")]));
    keep("02", &run(&[case("PASSED")]));
    keep("03", &run(&[outcome("b::default", "PASSED", "")]));
    let mut interrupted = run(&[case("NO_RUN")]);
    interrupted["parts"][0]["end"]["interrupted_by"] = json!(2);
    keep("04", &interrupted);
    let last = keep("05", &run(&[case("FAILED")]));
    assert_eq!(program(&["report", "."], &last).code, Some(0));
    let page = fs::read_to_string(last.join("report.html")).unwrap();
    assert!(
        page.contains("NEW is what did not fail in the run 2026-01-02T00-00-00Z"),
        "{page}"
    );
    assert!(page.contains(">NEW</span>"), "{page}");
}

/// The directory of a run that was killed while its second case ran, and while it wrote a line.
fn killed() -> TempDir {
    let run = run(&[]);
    let case = |variant: &str| json!({"suite": "a", "variant": variant});
    let cases = ["ended", "running", "waiting"].map(case);
    let names = ["a::ended", "a::running"];
    let step = json!({"case": "a::running", "step": "selftest", "pid": 7, "worker": 0, "at_ms": 1});
    let events = [
        json!({"part_started": {"part": run["parts"][0]["part"], "cases": cases}}),
        json!({"starting": {"cases": names}}),
        json!({"finished": outcome(names[0], "PASSED", "")}),
        json!({"step_started": step}),
    ];
    let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
    let directory = TempDir::new().unwrap();
    fs::create_dir(directory.path().join("journal")).unwrap();
    let journal = directory.path().join("journal/part.jsonl");
    fs::write(journal, lines + "{\"finished\":{\"name\":\"cut").unwrap();
    directory
}

#[test]
fn the_reports_of_a_killed_run_say_what_was_running() {
    let directory = killed();
    assert_eq!(program(&["report", "."], directory.path()).code, Some(0));
    let read = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
    let ktap = read("results.ktap");
    for part in [
        "# finished: no: the runner was gone before its end; 1 cases ran then, or may have, and 1 had not run\n",
        "  ok 1 ended\n",
        "  not ok 2 running # ERROR the run ended while this was running\n",
        "  not ok 3 waiting # ERROR the run ended before this was started\n",
    ] {
        assert!(ktap.contains(part), "{part}\nis not in\n{ktap}");
    }
    let junit = read("junit.xml");
    assert!(junit.contains("tests=\"3\" failures=\"2\""), "{junit}");
}

#[test]
fn a_run_of_a_newer_version_is_refused_with_a_sentence() {
    let directory = kept(&with(&everything(), json!({"schema_version": 99})), &[]);
    for arguments in [&["report", "."][..], &["compare", ".", "."]] {
        let ran = program(arguments, directory.path());
        let expected = "it has schema version 99, and this program knows versions up to 2: use the kvm-tests that wrote it, \
            or a newer one\n";
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""));
        assert!(ran.stderr.ends_with(expected), "{}", ran.stderr);
    }
    assert!(!directory.path().join("junit.xml").exists());
}

/// What a selftest says in KTAP, nested, and with names that are not easy.
fn with_sub_tests() -> Value {
    let subtests = |list: &[(&str, &str)]| -> Value {
        let subtests = list.iter();
        subtests
            .map(|(name, result)| json!({"name": name, "result": result, "reason": null}))
            .collect()
    };
    let nested = [
        ("o/i/leaf", "not_ok"),
        ("o/i", "not_ok"),
        ("o/other", "ok"),
        ("o", "not_ok"),
        ("l/x", "ok"),
        ("l", "not_ok"),
    ];
    let strange = [
        ("strange", "ok"),
        ("- dash", "ok"),
        ("strange_names", "skip"),
        ("issue#7", "todo"),
        ("x", "xpass"),
    ];
    let case = |name: &str, status: &str, list: &[(&str, &str)]| {
        with(
            &outcome(name, status, "why"),
            json!({"subtests": subtests(list)}),
        )
    };
    run(&[
        case("tap::nested", "FAILED", &nested),
        case("tap::strange", "PASSED", &strange),
        case("tap::ends_badly", "FAILED", &[("exit", "ok")]),
        case(
            "tap::skips_half_way",
            "SKIPPED",
            &[("one", "ok"), ("two", "skip")],
        ),
        inside("shadow", &case("tap::strange", "PASSED", &strange)),
    ])
}

#[test]
#[ignore = "needs python3 with junitparser, xmlschema, jsonschema, kcidb-io and tmt, and the kernel's sources in KERNEL_SRC"]
fn other_readers_count_the_same() {
    let assertion = asserting("asserting::default", HOSTILE, 7, HOSTILE, HOSTILE);
    let hostile = ["FAILED", "SKIPPED", "TIMED_OUT"].map(|status| {
        let name = format!("hostile::{}", status.to_lowercase());
        outcome(&name, status, HOSTILE)
    });
    let bytes = b"\xff\xfe\xc3( \xed\xa0\x80\n\0\x1b]0;title\x07";
    let files = [
        "hostile/failed/command.stdout",
        "hostile/failed/command.stderr",
    ]
    .map(|name| (name, &bytes[..]));
    let hostile = run(&[&hostile[..], &[assertion]].concat());
    let made = [
        kept(&everything(), &[]),
        kept(&with_sub_tests(), &[]),
        kept(&hostile, &files),
        killed(),
    ];
    let mut directories: Vec<PathBuf> = made.iter().map(|made| made.path().to_owned()).collect();
    // A run of real selftests, where there is one.
    directories.extend(std::env::var_os("KVM_TESTS_RUN").map(PathBuf::from));
    for directory in directories {
        assert_eq!(program(&["report", "."], &directory).code, Some(0));
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/reports/readers.py");
        let mut python = Command::new("python3");
        let python = python
            .arg(script)
            .arg(env!("CARGO_BIN_EXE_kvm-tests-runner"));
        assert!(
            python.arg(&directory).status().unwrap().success(),
            "{}",
            directory.display()
        );
    }
}
