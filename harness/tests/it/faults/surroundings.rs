//! What a run is started in, and what others do meanwhile.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use crate::support::Status;

use super::check_that_nothing_is_lost;
use crate::support::{Fixture, Ran, lines_with};

/// The program through a shell that redirects it.
fn redirected(fixture: &Fixture, redirections: &str) -> Ran {
    let run = fixture.command(&["--selftests", "selftests", "--output", "run", "--overwrite"]);
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!("exec \"$0\" \"$@\" {redirections}"));
    command
        .arg(run.get_program())
        .args(run.get_args())
        .current_dir(fixture.path());
    command.env_clear().envs(
        run.get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    Ran::of(command.output().unwrap())
}

#[test]
fn without_standard_streams_everything_is_in_the_results() {
    let fixture = Fixture::new()
        .selftest("a_test", "echo heard")
        .selftest("b_test", "exit 3");
    for redirections in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        let ran = redirected(&fixture, redirections);
        check_that_nothing_is_lost(&fixture, &ran);
        assert_eq!(ran.code, Some(101), "{redirections}: {}", ran.stderr);
        assert_eq!(fixture.verdict("a_test::default").0, Status::Passed);
        let heard =
            fs::read_to_string(fixture.results().join("a_test/default/command.stdout")).unwrap();
        assert_eq!(heard, "heard\n");
    }
}

#[test]
fn where_the_standard_output_goes_to_a_full_disk_the_run_ends_and_says_why() {
    let fixture = Fixture::new().selftest("a_test", "exit 0");
    let ran = redirected(&fixture, "> /dev/full");
    check_that_nothing_is_lost(&fixture, &ran);
    assert_eq!(ran.code, Some(141), "{}", ran.stderr);
    assert!(
        ran.stderr
            .contains("cannot print the results: No space left on device"),
        "{}",
        ran.stderr
    );
    assert_eq!(fixture.record().outcomes.len(), 1);
}

#[test]
fn an_environment_of_any_bytes_changes_nothing() {
    let fixture = Fixture::new().selftest("a_test", "exit 0");
    let odd = OsStr::from_bytes(b"\xff=\x1b[31m");
    let mut command = fixture.command(&["--selftests", "selftests", "--output", "run"]);
    command
        .env("HOME", odd)
        .env("TERM", odd)
        .env("LANG", odd)
        .env("LC_ALL", odd)
        .env("COLUMNS", odd);
    let ran = Ran::of(command.output().unwrap());
    check_that_nothing_is_lost(&fixture, &ran);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[test]
fn in_a_directory_that_was_removed_nothing_starts() {
    let fixture = Fixture::new().selftest("a_test", "exit 0");
    fs::create_dir(fixture.path().join("gone")).unwrap();
    let run = fixture.command(&["--selftests"]);
    let mut command = Command::new("sh");
    command
        .args(["-c", "rmdir ../gone && exec \"$0\" \"$@\""])
        .arg(run.get_program())
        .args(run.get_args());
    command
        .arg(fixture.path().join("selftests"))
        .current_dir(fixture.path().join("gone"));
    let ran = Ran::of(
        command
            .env("KVM_TESTS_ROOT", fixture.path().join("root"))
            .output()
            .unwrap(),
    );
    assert_eq!(ran.code, Some(2));
    assert_eq!(
        lines_with(&ran.stderr, "error: find the current directory").len(),
        1,
        "{}",
        ran.stderr
    );
}

#[test]
fn a_set_up_that_hangs_is_no_run_and_torn_down() {
    let suite = "timeout_s = 1\nsetup = \"sleep 1000\"\nteardown = \"echo down >> ../log\"\n\
                 [[test]]\nname = \"a\"\ncommand = \"true\"\n";
    let fixture = Fixture::new()
        .selftest("a_test", "exit 0")
        .file("suite.toml", suite);
    let ran = fixture.run(&["--config", "suite.toml", "--timeout", "1", "suite::"]);
    check_that_nothing_is_lost(&fixture, &ran);
    let (status, reason) = fixture.verdict("suite::a");
    assert!(
        status == Status::NoRun && reason.starts_with("the set-up of suite suite failed"),
        "{reason}"
    );
    assert_eq!(
        fs::read_to_string(fixture.path().join("log")).unwrap(),
        "down\n"
    );
}

#[test]
fn a_value_of_the_environment_changed_by_hand_is_put_back_all_the_same() {
    let setting = "root/sys/kernel/mm/ksm/run";
    let environment = "description = \"merging\"\nsysfs = { \"/sys/kernel/mm/ksm/run\" = 1 }\n";
    let fixture = Fixture::new()
        .selftest(
            "a_test",
            &format!("cat ../{setting}; echo 2 > ../{setting}"),
        )
        .file("merging.toml", environment)
        .file(setting, "0\n");
    let ran = fixture.run(&[
        "--config",
        "merging.toml",
        "--environment",
        "merging",
        "merging::",
    ]);
    check_that_nothing_is_lost(&fixture, &ran);
    assert_eq!(
        fixture.verdict("merging::a_test::default").0,
        Status::Passed,
        "{}",
        ran.stderr
    );
    assert_eq!(
        fs::read_to_string(fixture.path().join(setting))
            .unwrap()
            .trim(),
        "0"
    );
}
