//! A host that gives too little: files, processes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::support::Status;

use super::check_that_nothing_is_lost;
use crate::support::{Fixture, Ran, copy_program, lines_with};

/// Runs `program` under `prlimit` with `limit`, through `wrapper`; returns whether it could do without.
fn run_under(fixture: &Fixture, limit: &str, wrapper: &[&str], program: &str) -> bool {
    fs::remove_dir_all(fixture.results()).ok();
    let run = fixture.command(&[
        "--selftests",
        "selftests",
        "--output",
        "run",
        "--test-threads",
        "4",
    ]);
    let mut command = Command::new("prlimit");
    command
        .arg(limit)
        .args(wrapper)
        .arg(program)
        .args(run.get_args())
        .current_dir(fixture.path());
    command.env_clear().envs(
        run.get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    let ran = Ran::of(command.output().unwrap());
    // One message may be libtest-mimic's, which cannot start a thread in any other way.
    let stderr = ran
        .stderr
        .replace("panicked at /", "")
        .replace("libtest-mimic panicked;", "");
    check_that_nothing_is_lost(
        fixture,
        &Ran {
            stderr,
            code: ran.code,
            stdout: ran.stdout.clone(),
        },
    );
    assert!(
        [0, 2, 101].contains(&ran.code.unwrap()),
        "{limit}: {:?}",
        ran.code
    );
    if ran.code == Some(2) {
        assert_eq!(
            lines_with(&ran.stderr, "error: ").len(),
            1,
            "{limit}: {}",
            ran.stderr
        );
        assert_eq!(lines_with(&ran.stdout, " ... ok"), [""; 0]);
    } else {
        let record = fixture.record();
        assert!(record.finished && fixture.results().join("junit.xml").is_file());
        assert_eq!(record.outcomes.len(), 4, "{limit}: {}", ran.stderr);
        let passed = record.of_status(Status::Passed).count();
        assert_eq!(
            ran.code == Some(0),
            passed == 4,
            "{limit}: {:?}\n{}{}",
            ran.code,
            ran.stdout,
            ran.stderr
        );
    }
    ran.code == Some(0)
}

/// Cases that need another process each.
fn four() -> Fixture {
    ["a", "b", "c", "d"]
        .iter()
        .fold(Fixture::new(), |fixture, name| {
            fixture.selftest(&format!("{name}_test"), "set -e; (sleep 0.05); (true)")
        })
}

#[test]
fn a_runner_without_files_left_says_so_and_loses_no_outcome() {
    let fixture = four();
    let program = fixture
        .command(&[])
        .get_program()
        .to_owned()
        .into_string()
        .unwrap();
    for limit in (4..=30).step_by(2) {
        run_under(&fixture, &format!("--nofile={limit}"), &[], &program);
    }
    assert!(run_under(&fixture, "--nofile=100", &[], &program));
}

#[test]
fn a_runner_that_may_start_no_process_says_so_and_loses_no_outcome() {
    if !rustix::process::getuid().is_root() {
        return eprintln!("not tested: it takes root to be a user without other processes");
    }
    let fixture = four();
    for path in ["", "root", "root/dev/kvm", "selftests"] {
        fs::set_permissions(fixture.path().join(path), PermissionsExt::from_mode(0o777)).unwrap();
    }
    let program = fixture.path().join("runner");
    copy_program(fixture.command(&[]).get_program().as_ref(), &program);
    let program = program.to_str().unwrap();
    // A user that has no process.
    let user = [
        "setpriv",
        "--reuid=65431",
        "--regid=65431",
        "--clear-groups",
    ];
    for limit in [1, 2, 3, 4, 5, 6, 7, 8, 10, 12] {
        run_under(&fixture, &format!("--nproc={limit}"), &user, program);
    }
    assert!(run_under(&fixture, "--nproc=1000", &user, program));
}

#[test]
fn a_runner_that_may_have_little_memory_says_which_limit_that_is() {
    let fixture = four();
    let run = fixture.command(&["--selftests", "selftests", "--output", "run"]);
    for megabytes in (20..60).step_by(2) {
        fs::remove_dir_all(fixture.results()).ok();
        let mut command = Command::new("prlimit");
        command.arg(format!("--as={megabytes}000000"));
        command.arg(run.get_program()).args(run.get_args());
        command.current_dir(fixture.path());
        command.env("KVM_TESTS_ROOT", fixture.path().join("root"));
        let ran = Ran::of(command.output().unwrap());
        // With less than itself it is not loaded at all.
        if ran.code.is_none() {
            assert!(
                !fixture.results().exists(),
                "{megabytes} MB: {}",
                ran.stderr
            );
        }
        if ran.code == Some(2) {
            assert!(
                ran.stderr.contains("ulimit -v"),
                "{megabytes} MB: {}",
                ran.stderr
            );
        }
    }
}
