//! Files, names and processes of strangers: none of them stops the runner or fools it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Fixture, Ran, Status, journals, lines_with, processes, wait_until};

#[test]
fn a_run_whose_first_line_is_damaged_is_no_run_that_goes_on_with_less() {
    let fixture = Fixture::new().selftest("a_test", "exit 0");
    fixture.run(&[]);
    fs::remove_file(fixture.results().join("run.json")).unwrap();
    let path = &journals(&fixture.results())[0];
    let text = fs::read_to_string(path).unwrap();
    fs::write(path, text.replacen("\"cases\"", "\"cases#", 1)).unwrap();
    let ran = Ran::of(fixture.command(&["--resume", "run"]).output().unwrap());
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("is not the directory of a run"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_damaged_line_costs_the_outcome_of_its_case_and_no_other() {
    let fixture = Fixture::new()
        .selftest("a_test", "exit 0")
        .selftest("b_test", "exit 0");
    fixture.run(&["--test-threads", "1"]);
    fs::remove_file(fixture.results().join("run.json")).unwrap();
    let path = &journals(&fixture.results())[0];
    let text = fs::read_to_string(path).unwrap();
    let damaged = text.replacen(
        "{\"finished\":{\"name\":\"b_test",
        "{\"finished\":\"name\":\"b_test",
        1,
    );
    assert_ne!(damaged, text);
    fs::write(path, damaged).unwrap();
    assert_eq!(fixture.verdict("b_test::default").0, Status::NoRun);
    let ran = Ran::of(fixture.command(&["--resume", "run"]).output().unwrap());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(fixture.record().of_status(Status::Passed).count(), 2);
}

#[test]
fn a_case_that_edits_the_journal_changes_no_outcome() {
    let edit = "sed -i 's/\"FAILED\"/\"PASSED\"/' ../run/journal/*.jsonl";
    let fixture = Fixture::new()
        .selftest("a_test", "exit 1")
        .selftest("b_test", edit);
    let ran = fixture.run(&["--test-threads", "1"]);
    assert_eq!(ran.code, Some(101));
    assert_eq!(fixture.verdict("a_test::default").0, Status::Failed);
    let junit = fs::read_to_string(fixture.results().join("junit.xml")).unwrap();
    assert!(junit.contains("failures=\"1\""), "{junit}");
}

#[test]
fn what_stands_in_the_place_of_the_durations_holds_up_nobody() {
    for put in [
        "mkfifo kvm-tests-results/durations.jsonl",
        "ln -s /dev/zero kvm-tests-results/durations.jsonl",
        "mkdir kvm-tests-results/durations.jsonl kvm-tests-results/latest",
    ] {
        let fixture = Fixture::new().selftest("a_test", "exit 0");
        fs::create_dir(fixture.path().join("kvm-tests-results")).unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", put]).current_dir(fixture.path());
        assert!(shell.status().unwrap().success());
        let ran = Ran::of(
            fixture
                .command(&["--selftests", "selftests"])
                .output()
                .unwrap(),
        );
        assert_eq!(ran.code, Some(0), "{put}: {}", ran.stderr);
        assert!(ran.stdout.contains("1 PASSED of 1 cases"), "{put}");
    }
}

#[test]
fn what_stands_in_the_place_of_the_last_run_holds_up_nobody() {
    let fixture = Fixture::new().selftest("a_test", "exit 0");
    let run = || {
        let mut command = fixture.command(&["--selftests", "selftests"]);
        Ran::of(command.output().unwrap()).code
    };
    for put in [
        "mkfifo journal",
        "ln -s /dev/zero journal",
        "mkdir journal; mkfifo journal/1.jsonl run.json",
        "mkdir journal; ln -s /dev/zero journal/1.jsonl; ln -s /dev/zero run.json",
    ] {
        assert_eq!(run(), Some(0), "{put}");
        let put = format!("cd kvm-tests-results/latest && rm -r run.json journal && {put}");
        let mut shell = Command::new("sh");
        shell.args(["-c", &put]).current_dir(fixture.path());
        assert!(shell.status().unwrap().success());
    }
    assert_eq!(run(), Some(0));
}

#[test]
fn any_number_of_threads_is_a_number() {
    let fixture = Fixture::new().selftest("a_test", "exit 0");
    let ran = fixture.run(&["--test-threads", "18446744073709551615"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[test]
fn a_runner_that_was_started_with_signals_blocked_can_be_ended() {
    let mark = format!("blocked{}", std::process::id());
    let fixture = Fixture::new().selftest("a_test", &format!("sh -c 'sleep 1000; : {mark}'"));
    let run = fixture.command(&["--selftests", "selftests", "--output", "run"]);
    let mut command = Command::new("env");
    command
        .arg("--block-signal=INT,TERM")
        .arg(run.get_program());
    command.args(run.get_args()).current_dir(fixture.path());
    command.env("KVM_TESTS_ROOT", fixture.path().join("root"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    wait_until(|| !processes(&mark).is_empty());
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(Ran::of(child.wait_with_output().unwrap()).code, Some(143));
    assert_eq!(processes(&mark), [0; 0]);
}

#[test]
fn a_limit_on_the_size_of_files_ends_nothing_without_a_word() {
    let fixture = Fixture::new().selftest("a_test", "exit 0").file(
        "suite.toml",
        "[[test]]\nname = \"long\"\ncommand = \"head -c 9000000 /dev/zero\"\nteardown = \"echo down > ../down\"\n",
    );
    let run = fixture.command(&["--selftests", "selftests", "--output", "run"]);
    let mut command = Command::new("prlimit");
    command.arg("--fsize=1000000").arg(run.get_program());
    command
        .args(run.get_args())
        .args(["--config", "suite.toml"]);
    command
        .current_dir(fixture.path())
        .env("KVM_TESTS_ROOT", fixture.path().join("root"));
    let ran = Ran::of(command.output().unwrap());
    assert_eq!(ran.code, Some(101), "{}", ran.stderr);
    assert!(fixture.path().join("down").exists());
    let outcome = fixture.outcome("suite::long");
    assert_eq!(outcome.status, Status::Failed);
    assert!(outcome.reason.unwrap().contains("File too large"));
    assert_eq!(fixture.verdict("a_test::default").0, Status::Passed);
}

#[test]
fn paths_are_bytes() {
    let fixture = Fixture::new().selftest("a_test", "echo here");
    let place = fixture.path().join(OsStr::from_bytes(b"no\xfftext"));
    fs::create_dir(&place).unwrap();
    let selftests = place.join(OsStr::from_bytes(b"\xfe\xff"));
    fs::rename(fixture.path().join("selftests"), &selftests).unwrap();
    let mut command = fixture.command(&["--output", "run", "--selftests"]);
    command.arg(&selftests).current_dir(&place);
    let ran = command.output().unwrap();
    assert_eq!(
        ran.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    assert_eq!(
        fs::read(place.join("run/a_test/default/command.stdout")).unwrap(),
        b"here\n"
    );
    let text = fs::read_to_string(place.join("run/run.json")).unwrap();
    assert!(text.contains(r"no\\xfftext"), "{text}");
    // It can be gone on with, from its own directory.
    let mut again = fixture.command(&["--resume"]);
    let again = again
        .arg(place.join("run"))
        .current_dir("/")
        .output()
        .unwrap();
    assert_eq!(
        again.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&again.stderr)
    );
}

#[test]
fn what_strangers_wrote_reaches_a_terminal_as_text() {
    let fixture = Fixture::new().selftest("a_test", "exit 0");
    let check = |ran: &Ran| {
        let all = format!("{}{}", ran.stdout, ran.stderr);
        assert!(!all.contains('\x1b'), "{}", all.escape_debug());
    };
    let selftests = "self\x1b[31mtests\n1 PASSED of 1 cases";
    fs::rename(
        fixture.path().join("selftests"),
        fixture.path().join(selftests),
    )
    .unwrap();
    let given = ["--selftests", selftests, "--output", "o\x1b[32m\nforged"];
    let ran = Ran::of(fixture.command(&given).output().unwrap());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    check(&ran);
    assert_eq!(lines_with(&ran.stdout, "1 PASSED of 1 cases").len(), 1);
    assert!(!ran.stdout.contains("\nforged"), "{}", ran.stdout);

    // The last run's journal names its cases otherwise, and it seems to have been killed.
    let next = || Ran::of(fixture.command(&given[..2]).output().unwrap());
    assert_eq!(next().code, Some(0));
    let latest = fixture.path().join("kvm-tests-results/latest");
    fs::remove_file(latest.join("run.json")).unwrap();
    let journal = &journals(&latest)[0];
    let text = fs::read_to_string(journal).unwrap();
    let kept = text
        .lines()
        .take_while(|line| !line.contains("\"finished\""));
    let kept: Vec<_> = kept
        .map(|line| line.replace("a_test::default", "evil\\u001b[31m\\n::x"))
        .collect();
    fs::write(journal, kept.join("\n") + "\n").unwrap();
    let ran = next();
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(
        lines_with(&ran.stderr, "was killed").len(),
        1,
        "{}",
        ran.stderr
    );
    check(&ran);
}

#[test]
fn a_run_that_cannot_start_leaves_latest_where_it_was() {
    let fixture = Fixture::new().selftest("a_test", "exit 0");
    let run = |more: &[&str]| {
        let mut command = fixture.command(&["--selftests", "selftests"]);
        Ran::of(command.args(more).output().unwrap())
    };
    assert_eq!(run(&[]).code, Some(0));
    let latest = fixture.path().join("kvm-tests-results/latest");
    let before = fs::read_link(&latest).unwrap();
    assert_eq!(run(&["no_such_case"]).code, Some(2));
    assert_eq!(run(&["--baseline", "nowhere"]).code, Some(2));
    assert_eq!(fs::read_link(&latest).unwrap(), before);
}

#[test]
fn only_a_run_is_overwritten_and_nothing_foreign_in_it() {
    let fixture = Fixture::new().selftest("a_test", "exit 0");
    fs::create_dir_all(fixture.results().join("journal")).unwrap();
    fs::write(fixture.results().join("journal/1.jsonl"), "mine\n").unwrap();
    fs::write(fixture.results().join("journal.jsonl"), "mine\n").unwrap();
    let ran = fixture.run(&[]);
    assert_eq!(ran.code, Some(2));
    assert_eq!(
        lines_with(&ran.stderr, "it is not the directory of a run").len(),
        1
    );
    fs::remove_dir_all(fixture.results()).unwrap();

    assert_eq!(fixture.run(&[]).code, Some(0));
    symlink("/etc", fixture.results().join("notes")).unwrap();
    let ran = fixture.run(&[]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert_eq!(lines_with(&ran.stderr, "notes is not of a run").len(), 1);
    fs::remove_file(fixture.results().join("notes")).unwrap();
    assert_eq!(fixture.run(&[]).code, Some(0));
}
