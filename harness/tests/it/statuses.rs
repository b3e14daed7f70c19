//! What the real program makes of selftests that pass, skip, fail, crash, hang, or are not there.

use std::process::Command;

use crate::support::Status;
use crate::support::{Fixture, Ran, lines_with, processes};

#[test]
fn each_ending_has_its_status_and_reason() {
    let fixture = Fixture::new()
        .selftest("pass_test", "echo fine")
        .selftest("skip_test", "echo '1..0 # SKIP Requirement not met: moon'; exit 4")
        .selftest("old_skip_test", "echo 'no such feature'; exit 4")
        .selftest(
            "assert_test",
            "printf '==== Test Assertion Failure ====\\n  lib/a.c:12: x == y\\n  pid=1 tid=1 errno=2 - No\\n     1\\t0x1: f\\n  x is 3\\n' >&2; exit 254",
        )
        .selftest("crash_test", "kill -SEGV $$")
        .selftest("code_test", "echo 'something is off' >&2; exit 7")
        .selftest("subtest_test", "printf 'TAP version 13\\n1..2\\nok 1 a\\nnot ok 2 suite.b\\n'; exit 1")
        .selftest("hang_test", "echo begun; while :; do sleep 1000; done")
        .executable("selftests/no_interpreter", "#!/nonexistent/interpreter\n");
    let ran = fixture.run(&["--timeout", "1"]);
    let script = fixture.path().canonicalize().unwrap();
    let script = script
        .join("selftests/no_interpreter")
        .display()
        .to_string();
    let no_interpreter =
        format!("{script}: its interpreter /nonexistent/interpreter: No such file");
    let expected = [
        ("pass_test", Status::Passed, ""),
        ("skip_test", Status::Skipped, "Requirement not met: moon"),
        ("old_skip_test", Status::Skipped, "no such feature"),
        ("assert_test", Status::Failed, "lib/a.c:12: x is 3"),
        ("crash_test", Status::Failed, "killed by SIGSEGV"),
        (
            "code_test",
            Status::Failed,
            "exit code 7; last output: something is off",
        ),
        ("subtest_test", Status::Failed, "not ok: suite.b"),
        (
            "hang_test",
            Status::TimedOut,
            "timeout of 1 s: did not end in its time; threads: ",
        ),
        ("no_interpreter", Status::NoRun, no_interpreter.as_str()),
    ];
    for (name, status, reason) in expected {
        let (found, found_reason) = fixture.verdict(&format!("{name}::default"));
        assert_eq!(found, status, "{name}: {found_reason}");
        assert!(found_reason.starts_with(reason), "{name}: {found_reason}");
        assert!(
            reason.is_empty() || ran.stdout.contains(reason),
            "{name}: {}",
            ran.stdout
        );
    }
    assert_eq!(ran.code, Some(101));
    assert_eq!(
        lines_with(
            &ran.stdout,
            "2 PASSED, 2 SKIPPED, 4 FAILED, 1 TIMED_OUT, 1 NO_RUN"
        )
        .len(),
        1,
        "{}",
        ran.stdout
    );
}

#[test]
fn what_looks_like_a_pass_or_a_skip_but_is_none_fails() {
    let fixture = Fixture::new()
        .selftest("usage_test", "echo \"usage: $0 [-h]\"; exit 0")
        .selftest(
            "access_test",
            "printf '==== Test Assertion Failure ====\\n  a.c:1: fd\\n' >&2; exit 4",
        )
        .selftest(
            "short_plan_test",
            "printf 'TAP version 13\\n1..3\\nok 1 a\\n'",
        )
        .selftest(
            "not_ok_test",
            "printf 'TAP version 13\\n1..1\\nnot ok 1 a\\n'",
        )
        .selftest("not_ok_on_stderr_test", "echo not ok >&2")
        .selftest(
            "not_ok_in_what_is_cut_test",
            "head -c 60M /dev/zero; printf '\\nnot ok 1 a\\n'; head -c 20M /dev/zero",
        )
        .selftest(
            "totals_test",
            "echo '# Totals: pass:0 fail:3 xfail:0 xpass:0 skip:0 error:1'",
        )
        .file("selftests/kselftest-list.txt", "");
    std::fs::remove_file(fixture.path().join("selftests/kselftest-list.txt")).unwrap();
    assert_eq!(fixture.run(&[]).code, Some(101));
    for outcome in fixture.record().outcomes {
        assert_eq!(
            outcome.status,
            Status::Failed,
            "{}: {:?}",
            outcome.name,
            outcome.reason
        );
    }
}

#[test]
fn a_listed_selftest_that_is_missing_or_not_executable_is_no_run() {
    let fixture = Fixture::new()
        .file(
            "selftests/kselftest-list.txt",
            "kvm:gone_test\nkvm:plain_test\nkvm:here_test\n",
        )
        .file("selftests/kvm/plain_test", "#!/bin/sh\n")
        .executable("selftests/kvm/here_test", "#!/bin/sh\n");
    assert_eq!(fixture.run(&[]).code, Some(101));
    assert_eq!(fixture.verdict("here_test::default").0, Status::Passed);
    let (status, reason) = fixture.verdict("gone_test::default");
    assert!(
        status == Status::NoRun && reason.contains("No such file"),
        "{reason}"
    );
    let (status, reason) = fixture.verdict("plain_test::default");
    assert!(
        status == Status::NoRun && reason.contains("not executable"),
        "{reason}"
    );
}

#[test]
fn a_run_in_which_everything_was_skipped_says_so_loudly() {
    let fixture = Fixture::new()
        .selftest("a_test", "echo '1..0 # SKIP no moon'; exit 4")
        .selftest("b_test", "echo '1..0 # SKIP no moon'; exit 4");
    let ran = fixture.run(&["--test-threads", "1"]);
    assert_eq!(ran.code, Some(0));
    assert_eq!(
        lines_with(&ran.stdout, "NOTHING WAS TESTED").len(),
        1,
        "{}",
        ran.stdout
    );
    assert_eq!(
        lines_with(&ran.stdout, "2 x no moon: a_test::default, b_test::default").len(),
        1,
        "{}",
        ran.stdout
    );
}

#[test]
fn nothing_of_a_case_is_left_running_and_what_was_killed_is_named() {
    let mark = format!("leaver{}", std::process::id());
    let stay = format!("sh -c 'sleep 1000; : {mark}'");
    let fixture = Fixture::new()
        .selftest("leave_test", &format!("setsid {stay} & {stay} & exit 0"))
        .selftest(
            "daemon_test",
            "(setsid sleep 1000 </dev/null >/dev/null 2>&1 & until grep -q sleep /proc/$!/comm; do :; done); exit 0",
        );
    let ran = fixture.run(&[]);
    assert_eq!(processes(&mark), [0; 0]);
    let leaks = fixture.outcome("daemon_test::default").leaks;
    assert_eq!(
        leaks
            .iter()
            .map(|leak| leak["command"].as_str().unwrap())
            .collect::<Vec<_>>(),
        ["sleep"]
    );
    assert_eq!(
        lines_with(&ran.stdout, "LEFT RUNNING").len(),
        1,
        "{}",
        ran.stdout
    );
}

#[test]
fn bytes_that_are_no_text_reach_the_file_and_not_the_terminal() {
    let fixture = Fixture::new().selftest("bytes_test", r"printf '\033[31mred\000\377\n'; exit 3");
    let ran = fixture.run(&[]);
    let stdout =
        std::fs::read(fixture.results().join("bytes_test/default/command.stdout")).unwrap();
    assert_eq!(stdout, b"\x1b[31mred\0\xff\n");
    assert!(
        !ran.stdout.contains('\x1b') && !ran.stdout.contains('\0'),
        "{}",
        ran.stdout
    );
}

#[test]
fn without_dev_kvm_every_case_is_listed_and_ignored_with_the_remedy() {
    let fixture = Fixture::new().selftest("a_test", "exit 0");
    std::fs::remove_file(fixture.path().join("root/dev/kvm")).unwrap();
    let ran = fixture.run(&[]);
    assert_eq!(ran.code, Some(0));
    let (status, reason) = fixture.verdict("a_test::default");
    assert!(
        status == Status::Skipped && reason.contains("modprobe"),
        "{reason}"
    );
    let listed = Ran::of(
        fixture
            .command(&["--selftests", "selftests", "--list", "--ignored"])
            .output()
            .unwrap(),
    );
    assert_eq!(
        listed.stdout,
        "a_test::default: test\n\n1 test, 0 benchmarks\n"
    );
}

#[test]
fn a_full_disk_fails_the_cases_that_it_hits_and_the_run_goes_on() {
    let fixture = Fixture::new()
        .selftest("a_test", "echo fine")
        .selftest("b_test", "head -c 4000000 /dev/zero")
        .selftest("c_test", "echo never seen")
        .file("mount/point", "");
    let program = fixture.command(&[
        "--selftests",
        "selftests",
        "--output",
        "mount/run",
        "--test-threads",
        "1",
    ]);
    // A small file system of its own, which is gone with the namespace.
    let script = "mount -t tmpfs -o size=1m tmpfs mount && exec \"$0\" \"$@\"";
    let mut command = std::process::Command::new("unshare");
    command
        .args(["--map-root-user", "--mount", "sh", "-c", script])
        .arg(program.get_program());
    command.args(program.get_args()).current_dir(fixture.path());
    command.env("KVM_TESTS_ROOT", fixture.path().join("root"));
    let ran = Ran::of(command.output().unwrap());
    assert_eq!(ran.code, Some(101), "{}", ran.stderr);
    assert_eq!(
        lines_with(&ran.stdout, "test a_test::default").first(),
        Some(&"test a_test::default ... ok")
    );
    for name in ["b_test", "c_test"] {
        assert_eq!(
            lines_with(&ran.stdout, &format!("test {name}::default ... FAILED")).len(),
            1,
            "{}",
            ran.stdout
        );
    }
    assert!(
        ran.stdout.contains("No space left on device"),
        "{}",
        ran.stdout
    );
    assert!(
        ran.stdout.contains("1 PASSED, 2 FAILED of 3 cases"),
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
fn an_assertion_that_tells_the_guests_rip_says_where_that_is_in_the_selftest() {
    let fixture = Fixture::new().file("selftests/list", "").file(
        "rip.c",
        "#include <stdio.h>\n\nvoid guest_code(void) {}\n\nint main(void)\n{\n\tfprintf(stderr, \
         \"==== Test Assertion Failure ====\\n  lib/x86/processor.c:9: false\\n  pid=1 tid=1 errno=0 - Success\\n\"\n\
         \"  Unhandled exception '0xe' at guest RIP '%p'\\n\", (void *)guest_code);\n\treturn 254;\n}\n",
    );
    let mut compiler = Command::new("cc");
    compiler.args(["-g", "-no-pie", "-o", "selftests/rip_test", "rip.c"]);
    assert!(
        compiler
            .current_dir(fixture.path())
            .status()
            .unwrap()
            .success()
    );
    fixture.run(&[]);
    let reason = fixture.outcome("rip_test::default").reason.unwrap();
    let told = lines_with(&reason, "guest RIP 0x");
    assert_eq!(told.len(), 1, "{reason}");
    assert!(told[0].ends_with(": guest_code at rip.c:3"), "{reason}");
}
