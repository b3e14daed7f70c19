//! Selftests that turn on those who run them, and files that are none.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::symlink;

use crate::support::Status;

use super::check_that_nothing_is_lost;
use crate::support::{Fixture, processes};

#[test]
fn who_turns_on_its_runner_harms_nobody_but_itself() {
    let mark = format!("turns{}", std::process::id());
    let hang = format!("sh -c 'sleep 1000; : {mark}'");
    let fixture = Fixture::new()
        .selftest("closes_its_output_test", "exec >&- 2>&-; exit 3")
        .selftest("kills_its_group_test", "kill -KILL 0")
        .selftest(
            "kills_its_supervisor_test",
            &format!("{hang} & kill -KILL $PPID; wait"),
        )
        .selftest("stops_itself_test", "kill -STOP $$")
        .selftest(
            "stops_its_supervisor_test",
            &format!("kill -STOP $PPID; {hang}"),
        )
        .selftest(
            "leaves_its_session_test",
            &format!("setsid {hang} & exec setsid -w sh -c 'exit 4'"),
        )
        .selftest("ok_test", "exit 0");
    let ran = fixture.run(&["--timeout", "2", "--test-threads", "7"]);
    check_that_nothing_is_lost(&fixture, &ran);
    assert_eq!(ran.code, Some(101));
    for (name, status, reason) in [
        ("closes_its_output", Status::Failed, "exit code 3"),
        ("kills_its_group", Status::Failed, "killed by SIGKILL"),
        (
            "kills_its_supervisor",
            Status::NoRun,
            "failed (signal: 9 (SIGKILL))",
        ),
        ("stops_itself", Status::TimedOut, "timeout of 2 s"),
        ("stops_its_supervisor", Status::TimedOut, "timeout of 2 s"),
        ("leaves_its_session", Status::Skipped, ""),
        ("ok", Status::Passed, ""),
    ] {
        let (found, found_reason) = fixture.verdict(&format!("{name}_test::default"));
        assert!(
            found == status && found_reason.contains(reason),
            "{name}: {found_reason}"
        );
    }
    assert_eq!(processes(&mark), [0; 0]);
}

#[test]
fn one_that_ends_the_runner_by_sigterm_ends_the_run_in_order() {
    let fixture = Fixture::new()
        .selftest(
            "a_test",
            "kill -TERM $(cut -d ' ' -f 4 /proc/$PPID/stat); exec sleep 1000",
        )
        .selftest("b_test", "exit 0");
    let ran = fixture.run(&["--test-threads", "1"]);
    check_that_nothing_is_lost(&fixture, &ran);
    assert_eq!(ran.code, Some(143), "{}", ran.stderr);
    assert_eq!(
        fixture.verdict("a_test::default"),
        (Status::NoRun, "interrupted".to_owned())
    );
    assert!(fixture.record().finished && fixture.record().outcomes.len() == 2);
}

#[test]
fn a_selftest_replaced_or_removed_during_the_run_is_what_it_is_when_it_starts() {
    let fixture = Fixture::new()
        .selftest("replaced_test", "mv ../other replaced_test")
        .executable("other", "#!/bin/sh\nexit 3\n")
        .selftest("removed_test", "rm removed_test");
    let ran = fixture.run(&["--iterations", "2", "--test-threads", "1"]);
    check_that_nothing_is_lost(&fixture, &ran);
    let all = fixture.record().outcomes;
    for (name, second, reason) in [
        ("replaced_test::default", Status::Failed, "exit code 3"),
        ("removed_test::default", Status::NoRun, "No such file"),
    ] {
        let of_name: Vec<_> = all
            .iter()
            .filter(|outcome| outcome.name.starts_with(name))
            .collect();
        assert_eq!(
            (of_name[0].status, of_name[1].status),
            (Status::Passed, second)
        );
        assert!(
            of_name[1].reason.as_ref().unwrap().contains(reason),
            "{:?}",
            of_name[1].reason
        );
    }
}

#[test]
fn a_selftest_that_is_just_being_written_or_is_no_program_is_no_run() {
    let names = ["busy", "empty", "directory", "dangling", "foreign"];
    let list: String = names
        .iter()
        .map(|name| format!("kvm:{name}_test\n"))
        .collect();
    let fixture = Fixture::new()
        .file("selftests/kselftest-list.txt", &list)
        .executable("selftests/kvm/empty_test", "")
        .executable(
            "selftests/kvm/foreign_test",
            "\x7fELF\x02\x02\x01\0of another architecture",
        )
        .file("selftests/kvm/directory_test/file", "");
    let kvm = fixture.path().join("selftests/kvm");
    symlink("nowhere", kvm.join("dangling_test")).unwrap();
    fs::copy("/bin/true", kvm.join("busy_test")).unwrap();
    let being_written = OpenOptions::new()
        .append(true)
        .open(kvm.join("busy_test"))
        .unwrap();
    let ran = fixture.run(&[]);
    drop(being_written);
    check_that_nothing_is_lost(&fixture, &ran);
    assert_eq!(ran.code, Some(101));
    for (name, reason) in names
        .iter()
        .zip(["Text file busy", "", "", "", "Exec format error"])
    {
        let (status, found) = fixture.verdict(&format!("{name}_test::default"));
        assert!(
            status == Status::NoRun && found.contains(reason),
            "{name}: {status:?} {found}"
        );
    }
}

#[test]
fn one_that_prints_without_end_is_ended_and_its_start_and_end_are_kept() {
    let fixture = Fixture::new().selftest("yes_test", "echo begun; exec yes 'and on and on'");
    let ran = fixture.run(&["--timeout", "1"]);
    check_that_nothing_is_lost(&fixture, &ran);
    assert_eq!(fixture.verdict("yes_test::default").0, Status::TimedOut);
    let kept = fs::read(fixture.results().join("yes_test/default/command.stdout")).unwrap();
    assert!(kept.starts_with(b"begun\nand on and on\n"));
    assert!(kept.len() < (64 << 20) + 100, "{}", kept.len());
}

#[test]
fn the_longest_name_that_a_disk_takes_runs_and_a_longer_one_is_refused() {
    let selftest = format!("{}_test", "x".repeat(250));
    let fixture = Fixture::new().selftest(&selftest, "exit 0");
    let ran = fixture.run(&[]);
    check_that_nothing_is_lost(&fixture, &ran);
    assert_eq!(
        fixture.verdict(&format!("{selftest}::default")).0,
        Status::Passed
    );
    let suite = format!(
        "[[test]]\nname = \"{}\"\ncommand = \"true\"\n",
        "v".repeat(300)
    );
    let ran = fixture
        .file("suite.toml", &suite)
        .run(&["--config", "suite.toml"]);
    assert_eq!(ran.code, Some(2));
    assert!(
        ran.stderr
            .starts_with("error: suite.toml:2:8: a name of 300 bytes"),
        "{}",
        ran.stderr
    );
}
