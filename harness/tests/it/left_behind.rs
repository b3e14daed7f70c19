//! What cases leave on the host besides processes.

use std::process::Command;

use crate::support::{Fixture, Ran, lines_with};
use harness::model::outcome::LeftBehind;

/// Runs the program where mounts, shared memory and /dev/shm are its own, after `before`, and prints what is there in the end.
fn run_apart(fixture: &Fixture, before: &str, arguments: &[&str]) -> Ran {
    let program = fixture.command(&["--selftests", "selftests", "--output", "run"]);
    let script = format!(
        "mount -t tmpfs none /dev/shm && {before}\n\"$@\"\ncode=$?; echo segments: $(($(wc -l < /proc/sysvipc/shm) - 1)); exit $code"
    );
    let mut command = Command::new("unshare");
    command.args([
        "--map-root-user",
        "--mount",
        "--ipc",
        "sh",
        "-c",
        &script,
        "sh",
    ]);
    command
        .arg(program.get_program())
        .args(program.get_args())
        .args(arguments)
        .current_dir(fixture.path());
    command.env("KVM_TESTS_ROOT", fixture.path().join("root"));
    Ran::of(command.output().unwrap())
}

fn of_run(fixture: &Fixture) -> Vec<LeftBehind> {
    fixture.record().left_behind
}

#[test]
fn shared_memory_of_a_cases_own_process_is_removed_and_told_with_it() {
    let fixture = Fixture::new()
        .selftest("a_test", "exec ipcmk -M 8192")
        .selftest("b_test", "exit 0")
        .selftest("c_test", "exec ipcmk -M 8192");
    let ran = run_apart(&fixture, "ipcmk -M 4096", &[]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    for name in ["a_test::default", "c_test::default"] {
        let left = fixture.outcome(name).left_behind;
        let [
            LeftBehind {
                what,
                cases,
                removed: true,
                ..
            },
        ] = &left[..]
        else {
            panic!("{left:?}")
        };
        assert!(what.starts_with("8K of shared memory (shmid "), "{what}");
        assert_eq!(*cases, [name]);
        let line = format!("  {what}, removed: left by {name}");
        assert_eq!(lines_with(&ran.stdout, &line).len(), 1, "{}", ran.stdout);
    }
    assert_eq!(fixture.outcome("b_test::default").left_behind, []);
    assert_eq!(of_run(&fixture), []);
    assert_eq!(
        lines_with(&ran.stdout, "segments: 1").len(),
        1,
        "what was there before stays: {}",
        ran.stdout
    );
}

#[test]
fn what_nobody_can_be_held_to_is_told_with_those_that_ran_and_left_alone() {
    let fixture = Fixture::new()
        // It goes on until a time has come that files are not made at by then: their clock may be a tick late.
        .selftest(
            "a_test",
            "echo 12345678 >/dev/shm/mine; mount -t tmpfs none /mnt
            until touch later && [ $(($(stat -c %.3Y later | tr -d .) - $(stat -c %.3Y /dev/shm/mine | tr -d .))) -gt 50 ]
            do sleep 0.01; done",
        )
        .selftest(
            "b_test",
            "until [ \"$(($(date +%s) - $(stat -c %Y /dev/shm/mine)))\" -gt 2 ]; do sleep 0.1; done",
        )
        .selftest("c_test", "ipcmk -M 8192; ipcmk -S 2; ipcmk -Q; exit 0");
    let ran = run_apart(&fixture, "echo > /dev/shm/before", &["--test-threads", "1"]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    let left = of_run(&fixture);
    let of = |what: &str| {
        let mut found = left.iter().filter(|left| left.what.contains(what));
        let found = found.next().filter(|_| found.next().is_none());
        found
            .unwrap_or_else(|| panic!("{what} in {left:?}"))
            .cases
            .clone()
    };
    assert_eq!(of("/dev/shm/mine (9)"), ["a_test::default"]);
    assert_eq!(of("a mount of tmpfs at /mnt"), [""; 0]);
    for what in [
        "8K of shared memory",
        "semaphores (semid",
        "a message queue (msqid",
    ] {
        // The kernel tells the second: the case before may have ended in it.
        let cases = of(what);
        assert!(
            cases.ends_with(&["c_test::default".to_owned()]),
            "{what}: {cases:?}"
        );
        assert!(
            !cases.contains(&"a_test::default".to_owned()),
            "{what}: {cases:?}"
        );
    }
    assert_eq!(left.len(), 5, "{left:?}");
    assert_eq!(
        lines_with(&ran.stdout, "LEFT BEHIND").len(),
        1,
        "{}",
        ran.stdout
    );
    let line = "/dev/shm/mine (9): made at ";
    assert!(
        lines_with(&ran.stdout, line)[0].ends_with(", when a_test::default ran"),
        "{}",
        ran.stdout
    );
    assert_eq!(
        lines_with(&ran.stdout, "segments: 1").len(),
        1,
        "{}",
        ran.stdout
    );
}

#[test]
fn a_run_that_leaves_nothing_says_nothing() {
    let fixture = Fixture::new().selftest(
        "a_test",
        "echo x > /dev/shm/mine; ipcrm -m $(ipcmk -M 1 | tr -dc 0-9); rm /dev/shm/mine",
    );
    let ran = run_apart(&fixture, "true", &[]);
    assert_eq!(
        (ran.code, of_run(&fixture).len()),
        (Some(0), 0),
        "{}{}",
        ran.stdout,
        ran.stderr
    );
    assert!(!ran.stdout.contains("LEFT BEHIND"), "{}", ran.stdout);
}

#[test]
fn shared_memory_of_a_case_is_gone_before_the_next_begins() {
    // As long as this, the kernel's clock begins a new second meanwhile.
    let make = "! grep -q ' 8192 ' /proc/sysvipc/shm || exit 1; exec ipcmk -M 8192";
    let names = (0..300).map(|number| format!("t{number:03}_test"));
    let fixture = names.fold(Fixture::new(), |fixture, name| {
        fixture.selftest(&name, make)
    });
    let ran = run_apart(&fixture, ":", &["--test-threads", "1"]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
}
