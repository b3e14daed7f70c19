//! What exits and outputs add up to, trap by trap.

use harness::evidence;
use harness::exec::verdict::derive;
use harness::model::case::Command;
use harness::model::outcome::{Exit, Status};

const ASSERT: &str = "\
==== Test Assertion Failure ====
  x86_64/a_test.c:12: r == 0
  pid=1 tid=1 errno=22 - Invalid argument
     1\t0x1: main at a_test.c:12
  told
more
";
const DENIED: &str = "\
==== Test Assertion Failure ====
  lib/kvm_util.c:34: fd >= 0
  pid=1 tid=1 errno=13 - Permission denied
  Failed to open '/dev/kvm'
";
const TEST_FAIL: &str = "\
==== Test Assertion Failure ====
  a_test.c:5: false
  pid=1 tid=1 errno=0 - Success
  Unknown ucall
";
const USAGE: &str = "Random seed: 0x6b8b4567\n\nusage: ./x [-h]\n -h: help\n";
const GETOPT: &str = "./x: invalid option -- 'Z'\n";
const SEED: &str = "Random seed: 0x6b8b4567\n";

fn program() -> Command {
    Command::Program {
        path: std::path::Path::new("/x").into(),
        args: Vec::new(),
    }
}

fn judge(exit: Exit, stdout: &str, stderr: &str, command: &Command) -> (Status, String) {
    let evidence = evidence::read(stdout.as_bytes(), stderr.as_bytes()).expect("read from memory");
    let verdict = derive(exit, &evidence, command);
    assert_eq!(verdict.reason.is_none(), verdict.status == Status::Passed);
    (verdict.status, verdict.reason.unwrap_or_default())
}

/// Judges a program, and expects the status and the reason's first line.
fn expect(status: Status, rows: &[(Exit, &str, &str, &str)]) {
    for &(exit, stdout, stderr, first) in rows {
        let (found, reason) = judge(exit, stdout, stderr, &program());
        assert_eq!(
            (found, reason.lines().next().unwrap_or_default()),
            (status, first),
            "{stdout}{stderr}"
        );
    }
}

#[test]
fn exit_code_0_is_a_pass_where_nothing_speaks_against_it() {
    let pass = Exit::Code(0);
    expect(
        Status::Passed,
        &[
            (pass, "", "", ""),
            (pass, SEED, "a warning\n", ""),
            (
                pass,
                "TAP version 13\n1..2\nok 1 a\nok 2 b # SKIP why\n",
                "",
                "",
            ),
            (pass, "1..2\nok 1 a\nnot ok 2 b # TODO later\n", "", ""),
            (pass, "1..1\nok 1 a # XFAIL known\n", "", ""),
            (pass, "1..1\nok 1 a\nok 2 b\n", "", ""),
            (
                pass,
                "1..1\nok 1 a\n1..0 # SKIP of the second program\n",
                "",
                "",
            ),
            (
                pass,
                "  not ok 1 indented prose\n  1..4\nMemory usage: 4\n",
                "",
                "",
            ),
        ],
    );
}

#[test]
fn exit_code_0_that_the_output_contradicts_is_a_failure() {
    let pass = Exit::Code(0);
    expect(
        Status::Failed,
        &[
            (
                pass,
                USAGE,
                GETOPT,
                "printed its usage and exited with 0: ./x: invalid option -- 'Z'",
            ),
            (
                pass,
                USAGE,
                "",
                "printed its usage and exited with 0: usage: ./x [-h]",
            ),
            (pass, "1..2\nok 1 a\nnot ok 2 b\n", "", "not ok: b"),
            (pass, "1..1\nok 1 a # XPASS x\n", "", "not ok: a"),
            (
                pass,
                "KTAP version 1\n1..1\n  not ok 1 b\nok 1 a\n",
                "",
                "not ok: a/b",
            ),
            (
                pass,
                "1..5\nok 1\nok 2\nok 3\n",
                "",
                "planned 5 sub-tests, reported 3",
            ),
            (pass, "", ASSERT, "x86_64/a_test.c:12: r == 0"),
            (pass, ASSERT, "", "x86_64/a_test.c:12: r == 0"),
            (
                pass,
                "1..1\nok 1 s.a # SKIP unknown\n",
                DENIED,
                "lib/kvm_util.c:34: fd >= 0",
            ),
            (pass, "Bail out! no memory\n", "", "Bail out! no memory"),
        ],
    );
}

#[test]
fn skips_give_the_best_reason_there_is() {
    let (pass, skip) = (Exit::Code(0), Exit::Code(4));
    expect(
        Status::Skipped,
        &[
            (
                skip,
                "Random seed: 0x1\n1..0 # SKIP - Requirement not met: x\nhint\n",
                "",
                "Requirement not met: x",
            ),
            (
                skip,
                "1..3\nok 1 a\nok 2 # SKIP no more\n# Totals: pass:1\n",
                "",
                "no more",
            ),
            (
                skip,
                "MCG_CMCI_P is not supported, skipping test\n\n",
                "x\n",
                "MCG_CMCI_P is not supported, skipping test",
            ),
            (skip, SEED, "no such device\n", "no such device"),
            (skip, SEED, "", "exit code 4 (skip), without a reason"),
            (pass, "1..0 # SKIP why\n", "", "why"),
            (
                pass,
                "TAP version 13\n1..0\n# Starting 0 tests from 0 test cases.\n",
                "",
                "planned no sub-tests (1..0)",
            ),
            (
                pass,
                "1..3\nok 1 a # SKIP x\nok 2 b # SKIP y\nok 3 c # SKIP y\n",
                "",
                "y",
            ),
            (
                pass,
                "1..1\nok 1 a # SKIP\n",
                "",
                "all 1 sub-tests were skipped",
            ),
        ],
    );
}

#[test]
fn exit_code_4_is_no_skip_where_something_failed() {
    let skip = Exit::Code(4);
    expect(
        Status::Failed,
        &[
            (
                skip,
                "Access denied - Exiting, skipping test\n",
                DENIED,
                "lib/kvm_util.c:34: fd >= 0",
            ),
            (skip, "1..2\nnot ok 1 a\nok 2 # SKIP b\n", "", "not ok: a"),
            (
                skip,
                USAGE,
                GETOPT,
                "printed its usage and exited with 4: ./x: invalid option -- 'Z'",
            ),
        ],
    );
    assert_eq!(
        judge(
            skip,
            "Access denied - Exiting, skipping test\n",
            DENIED,
            &program()
        )
        .1,
        "lib/kvm_util.c:34: fd >= 0\nFailed to open '/dev/kvm'\nerrno 13: Permission denied\n\
         exit code 4 (skip) is what TEST_ASSERT makes of errno EACCES, but it is a failed assertion"
    );
}

#[test]
fn failures_begin_with_what_a_developer_looks_for() {
    let segv = Exit::Signal {
        signal: 11,
        core_dumped: true,
    };
    expect(
        Status::Failed,
        &[
            (Exit::Code(254), SEED, ASSERT, "x86_64/a_test.c:12: r == 0"),
            (
                Exit::Code(254),
                SEED,
                TEST_FAIL,
                "a_test.c:5: Unknown ucall",
            ),
            (
                Exit::Code(254),
                "TAP version 13\n1..5\n",
                ASSERT,
                "x86_64/a_test.c:12: r == 0",
            ),
            (
                Exit::Code(254),
                SEED,
                "",
                "exit code 254 (failed assertion)",
            ),
            (
                Exit::Code(1),
                "out\n",
                "tee: Permission denied\n",
                "exit code 1; last output: tee: Permission denied",
            ),
            (Exit::Code(1), "1..0 # SKIP x\n", "", "exit code 1"),
            (
                Exit::Code(127),
                "",
                "x: not found\n",
                "exit code 127; last output: x: not found",
            ),
            (
                Exit::Code(139),
                "",
                "",
                "exit code 139 (a shell's word for SIGSEGV)",
            ),
            (
                segv,
                "last\n",
                "",
                "killed by SIGSEGV (core dumped); last output: last",
            ),
            (
                Exit::Signal {
                    signal: 9,
                    core_dumped: false,
                },
                "",
                "",
                "killed by SIGKILL",
            ),
            (
                Exit::Signal {
                    signal: 77,
                    core_dumped: false,
                },
                "",
                "",
                "killed by signal 77",
            ),
            (segv, "", ASSERT, "x86_64/a_test.c:12: r == 0"),
        ],
    );
}

#[test]
fn a_failure_inside_a_sub_test_tells_of_both() {
    let stdout = "1..2\nnot ok 1 s.a\nok 2 s.b\n";
    assert_eq!(
        judge(Exit::Code(1), stdout, ASSERT, &program()).1,
        "x86_64/a_test.c:12: r == 0\ntold\nmore\nerrno 22: Invalid argument\nnot ok: s.a"
    );
    assert_eq!(
        judge(
            Exit::Code(1),
            stdout,
            "# a.c:7:a:Expected 1 (1) == 2 (2)\n# a: Test failed\n",
            &program()
        )
        .1,
        "not ok: s.a\na.c:7:a:Expected 1 (1) == 2 (2)"
    );
}

#[test]
fn many_failed_sub_tests_are_named_in_part_and_counted_in_full() {
    let stdout: String = (1..=25_000)
        .map(|number| format!("not ok {number} t{number}\n"))
        .collect();
    assert_eq!(
        judge(Exit::Code(1), &stdout, "", &program()).1,
        "not ok: t1, t2, t3, t4, t5, t6, t7, t8, t9, t10, and 24990 more"
    );
}

#[test]
fn a_time_out_tells_where_it_hung() {
    expect(
        Status::TimedOut,
        &[
            (
                Exit::Timeout,
                "1..2\n#  RUN           s.a ...\n",
                "",
                "did not end in its time, in sub-test s.a",
            ),
            (
                Exit::Timeout,
                "one\ntwo\n",
                "",
                "did not end in its time; last output: two",
            ),
        ],
    );
    let (status, reason) = judge(Exit::Timeout, "", ASSERT, &program());
    assert_eq!(status, Status::TimedOut);
    assert!(
        reason.starts_with("did not end in its time\nx86_64/a_test.c:12: r == 0\n"),
        "{reason}"
    );
}

#[test]
fn what_never_ran_is_no_run() {
    let shell = Command::Shell("./x".into());
    assert_eq!(
        judge(Exit::Interrupted, "not ok 1 a\n", "", &program()),
        (Status::NoRun, "interrupted".into())
    );
    assert_eq!(
        judge(Exit::Code(127), "", "/bin/sh: 1: ./x: not found\n", &shell),
        (Status::NoRun, "/bin/sh: 1: ./x: not found".into())
    );
    assert_eq!(
        judge(Exit::Code(126), "", "", &shell),
        (Status::NoRun, "exit code 126".into())
    );
    assert_eq!(
        judge(Exit::Code(127), "not ok 1 a\n", "", &shell).0,
        Status::Failed
    );
}
