//! What cases leave on the host besides processes.

use std::process::Command;

use crate::support::{Fixture, Ran, lines_with};
use serde_json::Value;

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

fn of_run(fixture: &Fixture) -> Vec<Value> {
    let record = fixture.record();
    let left = &record.end()["left_behind"];
    left.as_array().unwrap().clone()
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
        let is_it = |left: &&Value| left["what"].as_str().unwrap().contains(what);
        let found: Vec<_> = left.iter().filter(is_it).collect();
        let [found] = found.as_slice() else {
            panic!("{what} in {left:?}")
        };
        let cases = found["cases"].as_array().unwrap().iter();
        cases
            .map(|name| name.as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
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
