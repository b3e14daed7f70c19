//! results.ktap: what it says.

use serde_json::{Value, json};

use crate::reports::report_of;
use crate::support::made::{everything, hostile, outcome, run, with};

#[test]
fn there_is_a_test_for_each_suite_with_its_cases_in_it() {
    let expected = "\
KTAP version 1
# kvm-tests: 0.1.0
# command_line: kvm-tests run 'a b'
# started: 2023-11-14 22:13:20 UTC
# selected: 8
# workers: 2
# selftests: /selftests
# host.name: lab
# host.kernel: 6.12.1
# host.kernel_version: \\x231 SMP
# host.machine: x86_64
# host.cpu: GenuineIntel a model
# host.cpus: 2
# host.memory: 4G
# host.free_hugepages: 0 of 2M
# host.taint: no
# module.kvm_intel: ept=Y
1..4
  KTAP version 1
  # Subtest: crash
  1..1
  # FAILED: killed by SIGSEGV
  # reproduce: cd /selftests && /selftests/crash
  not ok 1 default
not ok 1 crash
  KTAP version 1
  # Subtest: plain
  1..5
  # FAILED: a.c:7: x == y
  #   errno 1: told
  # reproduce: cd /selftests && /selftests/plain
  not ok 1 fails
  # TIMED_OUT: did not end in its time
  # reproduce: cd /selftests && /selftests/plain
  not ok 2 hangs # TIMEOUT did not end in its time
  # NO_RUN: setup failed
  # reproduce: cd /selftests && /selftests/plain
  not ok 3 never # ERROR setup failed
  ok 4 passes
  ok 5 skipped # SKIP no such thing
not ok 2 plain
  KTAP version 1
  # Subtest: skipped
  1..1
  ok 1 default # SKIP
ok 3 skipped # SKIP every case was skipped
  KTAP version 1
  # Subtest: shadow::plain
  1..1
  ok 1 passes
ok 4 shadow::plain
";
    assert_eq!(report_of(&everything(), "results.ktap", &[]), expected);
}

/// A case with these sub-tests: `ok`, `not_ok`, `skip` or `todo`, name, reason.
fn reporting(name: &str, status: &str, subtests: &[(&str, &str, &str)]) -> Value {
    let subtests: Vec<_> = subtests
        .iter()
        .map(|(result, name, reason)| {
            let reason = Some(reason).filter(|reason| !reason.is_empty());
            json!({"name": name, "result": result, "reason": reason})
        })
        .collect();
    let case = outcome(&format!("tap::{name}"), status, "why");
    with(&case, json!({"subtests": subtests}))
}

#[test]
fn the_sub_tests_of_a_case_are_shown_and_what_they_do_not_tell() {
    let run = run(&[
        reporting("ends_badly", "FAILED", &[("ok", "exit", "")]),
        reporting(
            "fails",
            "FAILED",
            &[
                ("ok", "one", ""),
                ("not_ok", "two", "why"),
                ("todo", "one", "known"),
            ],
        ),
        reporting(
            "nested",
            "FAILED",
            &[
                ("not_ok", "outer/inner/leaf", ""),
                ("not_ok", "outer/inner", ""),
                ("ok", "outer/other", ""),
                ("not_ok", "outer", ""),
                ("ok", "last/fine", ""),
                ("not_ok", "last", ""),
            ],
        ),
        reporting(
            "passes",
            "PASSED",
            &[("ok", "one", ""), ("skip", "two", "without it")],
        ),
        reporting(
            "skips_half_way",
            "SKIPPED",
            &[("ok", "one", ""), ("skip", "2", "no more")],
        ),
        reporting(
            "strange",
            "PASSED",
            &[
                ("ok", "strange", ""),
                ("ok", "- dash", ""),
                ("ok", "issue#7", ""),
            ],
        ),
    ]);
    let ktap = report_of(&run, "results.ktap", &[]);
    let after_plan = ktap.split_once("  # Subtest: tap\n").unwrap().1;
    let kept = after_plan
        .lines()
        .filter(|line| !line.contains("# reproduce: "));
    let expected = "  1..6
    KTAP version 1
    # Subtest: ends_badly
    1..2
    ok 1 exit
    not ok 2 exit_2
  # FAILED: why
  not ok 1 ends_badly
    KTAP version 1
    # Subtest: fails
    1..3
    ok 1 one
    # two: why
    not ok 2 two
    ok 3 one_2 # XFAIL known
  # FAILED: why
  not ok 2 fails
    KTAP version 1
    # Subtest: nested
    1..2
      KTAP version 1
      # Subtest: outer
      1..2
        KTAP version 1
        # Subtest: inner
        1..1
        not ok 1 leaf
      not ok 1 inner
      ok 2 other
    not ok 1 outer
      KTAP version 1
      # Subtest: last
      1..2
      ok 1 fine
      not ok 2 exit
    not ok 2 last
  # FAILED: why
  not ok 3 nested
    KTAP version 1
    # Subtest: passes
    1..2
    ok 1 one
    ok 2 two # SKIP without it
  ok 4 passes
    KTAP version 1
    # Subtest: skips_half_way
    1..3
    ok 1 one
    ok 2 2 # SKIP no more
    ok 3 exit # SKIP why
  ok 5 skips_half_way # SKIP why
    KTAP version 1
    1..3
    ok 1 strange
    ok 2 dash
    ok 3 issue\\x237
  ok 6 strange
not ok 1 tap";
    assert_eq!(kept.collect::<Vec<_>>().join("\n"), expected);
}

#[test]
fn no_text_of_a_test_becomes_a_line_of_its_own() {
    let ktap = report_of(&hostile(), "results.ktap", &[]);
    assert_eq!(ktap.find(|c: char| c.is_control() && c != '\n'), None);
    let is_ours = |line: &str| {
        let line = format!("{} ", line.trim_start());
        ["KTAP version 1", "# ", "1..", "ok ", "not ok "]
            .iter()
            .any(|start| line.starts_with(start))
    };
    assert_eq!(ktap.lines().find(|line| !is_ours(line)), None);
    assert!(!ktap.contains("reboot: System halted"), "{ktap}");
}

#[test]
fn thousands_of_sub_tests_of_one_name_keep_names_of_their_own() {
    let same = [("ok", "same", ""); 10_000];
    let ktap = report_of(
        &run(&[reporting("many", "PASSED", &same)]),
        "results.ktap",
        &[],
    );
    assert!(ktap.contains("    ok 1 same\n    ok 2 same_2\n"));
    assert!(ktap.contains("    ok 10000 same_10000\n  ok 1 many\n"));
}
