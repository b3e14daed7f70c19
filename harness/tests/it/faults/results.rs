//! The directory of the results, in other hands than the run's.

use std::fs;
use std::process::Command;

use crate::support::Status;
use rustix::process::{Pid, Signal, kill_process};

use super::check_that_nothing_is_lost;
use crate::support::{Fixture, Ran, lines_with, processes, wait_until};

/// Three cases one after another, of which the second does this.
fn with_second(script: &str) -> Fixture {
    Fixture::new()
        .selftest("a_test", "exit 0")
        .selftest("b_test", script)
        .selftest("c_test", "exit 0")
}

fn run_with_second(script: &str) -> (Fixture, Ran) {
    let fixture = with_second(script);
    let ran = fixture.run(&["--test-threads", "1"]);
    (fixture, ran)
}

#[test]
fn a_results_directory_removed_during_the_run_is_there_again_with_every_outcome() {
    let (fixture, ran) = run_with_second("rm -r ../run");
    check_that_nothing_is_lost(&fixture, &ran);
    assert_eq!(ran.code, Some(101));
    assert_eq!(
        lines_with(&ran.stderr, "was removed or replaced while the run went on").len(),
        1,
        "{}",
        ran.stderr
    );
    assert_eq!(fixture.verdict("a_test::default").0, Status::Passed);
    assert!(
        fixture
            .verdict("b_test::default")
            .1
            .contains("No such file"),
        "its output is gone"
    );
    assert_eq!(
        fixture.verdict("c_test::default").0,
        Status::NoRun,
        "it has nowhere to print to"
    );
    assert!(fixture.record().finished && fixture.results().join("junit.xml").is_file());
    let ran = Ran::of(fixture.command(&["--resume", "run"]).output().unwrap());
    assert_eq!(
        ran.code,
        Some(101),
        "it is a run as any other: {}",
        ran.stderr
    );
}

#[test]
fn a_results_directory_replaced_by_something_else_is_left_to_its_owner_and_said() {
    let (fixture, ran) = run_with_second("rm -r ../run; echo years > ../run");
    assert_eq!(ran.code, Some(101));
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    assert_eq!(fs::read_to_string(fixture.results()).unwrap(), "years\n");
    assert!(
        ran.stdout
            .contains("1 PASSED, 1 FAILED, 1 NO_RUN of 3 cases"),
        "{}",
        ran.stdout
    );
    assert!(
        ran.stderr.contains("cannot write the reports"),
        "{}",
        ran.stderr
    );
}

#[test]
fn the_output_of_a_case_removed_during_the_run_fails_that_case_alone() {
    let (fixture, ran) = run_with_second("rm -r ../run/b_test");
    check_that_nothing_is_lost(&fixture, &ran);
    assert_eq!(ran.code, Some(101));
    assert_eq!(fixture.verdict("b_test::default").0, Status::Failed);
    assert_eq!(fixture.record().of_status(Status::Passed).count(), 2);
}

#[test]
fn a_results_directory_that_becomes_read_only_loses_no_outcome() {
    let fixture = with_second("mount --bind ../run ../run && mount -o remount,bind,ro ../run");
    let program = fixture.command(&[
        "--selftests",
        "selftests",
        "--output",
        "run",
        "--test-threads",
        "1",
    ]);
    let mut command = Command::new("unshare");
    command
        .args(["--map-root-user", "--mount"])
        .arg(program.get_program())
        .args(program.get_args());
    command
        .current_dir(fixture.path())
        .env("KVM_TESTS_ROOT", fixture.path().join("root"));
    let ran = Ran::of(command.output().unwrap());
    check_that_nothing_is_lost(&fixture, &ran);
    assert_eq!(ran.code, Some(101), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("cannot write the reports"),
        "{}",
        ran.stderr
    );
    assert_eq!(fixture.verdict("b_test::default").0, Status::Passed);
    let (status, reason) = fixture.verdict("c_test::default");
    assert!(
        status == Status::NoRun && reason.contains("Read-only file system"),
        "{reason}"
    );
}

#[test]
fn a_run_that_goes_on_is_not_overwritten() {
    let mark = format!("overwritten{}", std::process::id());
    let fixture = Fixture::new().selftest("a_test", &format!("sh -c 'sleep 1000; : {mark}'"));
    let arguments = ["--selftests", "selftests", "--output", "run"];
    let first = fixture.start(&[]);
    wait_until(|| !processes(&mark).is_empty());
    for (more, message) in [
        (&[][..], "exists already"),
        (&["--overwrite"], "has not ended"),
    ] {
        let ran = Ran::of(fixture.command(&arguments).args(more).output().unwrap());
        assert_eq!(ran.code, Some(2));
        assert!(ran.stderr.contains(message), "{}", ran.stderr);
    }
    kill_process(Pid::from_child(&first), Signal::INT).unwrap();
    assert_eq!(Ran::of(first.wait_with_output().unwrap()).code, Some(130));
    assert_eq!(fixture.verdict("a_test::default").1, "interrupted");
}

#[test]
fn of_several_that_overwrite_a_run_at_once_one_does() {
    let fixture = Fixture::new().selftest("a_test", "sleep 1");
    assert_eq!(fixture.run(&[]).code, Some(0));
    let children = [(); 4].map(|()| fixture.start(&["--overwrite"]));
    let mut codes = children.map(|child| {
        let ran = Ran::of(child.wait_with_output().unwrap());
        let is_refused = ran.stderr.starts_with("error: ") && ran.stderr.lines().count() == 1;
        assert!(ran.code == Some(0) || is_refused, "{}", ran.stderr);
        ran.code.unwrap()
    });
    codes.sort_unstable();
    assert_eq!(codes, [0, 2, 2, 2]);
    assert!(fixture.record().finished);
    assert_eq!(fixture.verdict("a_test::default").0, Status::Passed);
    let beside = fs::read_dir(fixture.path()).unwrap();
    let names = beside.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.starts_with("run")).count(), 1);
}

#[test]
fn garbage_where_a_run_should_be_is_refused_with_a_sentence_and_left_as_it_is() {
    let fixture = Fixture::new().selftest("a_test", "exit 0");
    fs::create_dir_all(fixture.results().join("journal")).unwrap();
    let garbage = b"\xff\0{\"event\":7}\n[[[[\n";
    for file in ["run.json", "journal/1.jsonl"] {
        fs::write(fixture.results().join(file), garbage).unwrap();
    }
    for arguments in [
        &["--resume", "run"][..],
        &["--selftests", "selftests", "--baseline", "run"],
    ] {
        let ran = Ran::of(fixture.command(arguments).output().unwrap());
        assert_eq!(ran.code, Some(2));
        assert!(
            ran.stderr.starts_with("error: ") && !ran.stderr.contains("panicked"),
            "{}",
            ran.stderr
        );
    }
    assert_eq!(
        fs::read(fixture.results().join("journal/1.jsonl")).unwrap(),
        garbage
    );
}

#[test]
fn durations_that_cannot_be_kept_or_read_cost_nothing_else() {
    let fixture = Fixture::new()
        .selftest("a_test", "exit 0")
        .file("kvm-tests-results/durations.jsonl/file", "");
    let ran = fixture.run(&[]);
    check_that_nothing_is_lost(&fixture, &ran);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("cannot keep the durations"),
        "{}",
        ran.stderr
    );
}
