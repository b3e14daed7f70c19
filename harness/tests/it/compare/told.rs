//! What is said of two runs, in each format.

use serde_json::{Value, json};

use super::{iterations, json_of, lasting, passed, printed};
use crate::support::made::{asserting, outcome, run, with};

/// Two runs that differ in all there is.
fn before_and_after() -> (Value, Value) {
    let skipped = |name, reason| outcome(name, "SKIPPED", reason);
    let stays = |line, page: &str| {
        asserting(
            "stays::default",
            "lib/kvm_util.c",
            line,
            "test_bit_le(page, bmap)",
            page,
        )
    };
    let old = [
        passed("ok::default"),
        passed("breaks::default"),
        asserting(
            "differs::default",
            "differs.c",
            12,
            "r == 0",
            "KVM_RUN failed, rc: -1",
        ),
        asserting(
            "heals::default",
            "heals.c",
            3,
            "false",
            "cannot map 12 pages",
        ),
        passed("goes::default"),
        passed("is_skipped::default"),
        skipped("comes_back::default", "no hugepages"),
        stays(561, "Page 66363 is not dirty"),
        lasting("slows::default", 2.0),
        lasting("races::default", 9.0),
    ];
    let new = [
        passed("ok::default"),
        asserting(
            "breaks::default",
            "x86/breaks.c",
            58,
            "exit_reason == (2)",
            "Wanted 2, got: 17",
        ),
        outcome("differs::default", "TIMED_OUT", "did not end in its time"),
        passed("heals::default"),
        skipped(
            "is_skipped::default",
            "Requirement not met: kvm_has_cap(KVM_CAP_X86_SMM)",
        ),
        passed("comes_back::default"),
        stays(570, "Page 17 is not dirty"),
        lasting("slows::default", 7.0),
        lasting("races::default", 2.0),
        passed("is_new::default"),
    ];
    let (mut old, mut new) = (run(&old), run(&new));
    old["parts"][0]["part"]["host"]["modules"]["kvm_pvm"] = json!({});
    let part = &mut new["parts"][0]["part"];
    part["selftests_commit"] = json!("0123abc");
    let host = &mut part["host"];
    host["modules"]["kvm_intel"]["ept"] = json!("N");
    host["kernel"] = json!("6.13.0-rc1-00007-gfedcba987654");
    host["microcode"] = json!("0xa0011d5");
    host["command_line"] = json!("BOOT_IMAGE=/boot/vmlinuz root=/dev/vda1 ro quiet");
    (old, new)
}

const CHANGES: &str = "\
NEW FAILURES
  breaks::default (was PASSED)
    FAILED: x86/breaks.c:58: exit_reason == (2)
      Wanted 2, got: 17

DIFFERENT FAILURES UNDER THE SAME NAME
  differs::default
    old: FAILED: differs.c:12: r == 0
           KVM_RUN failed, rc: -1
    new: TIMED_OUT: did not end in its time

NEWLY SKIPPED
  is_skipped::default (was PASSED)
    Requirement not met: kvm_has_cap(KVM_CAP_X86_SMM)

VANISHED
  goes::default: was PASSED

SLOWER BY A FACTOR OF 3 OR MORE
  slows::default: 7.0 s, was 2.0 s

FIXED
  heals::default: was FAILED: heals.c:3: false

NEWLY RUN
  comes_back::default: was SKIPPED: no hugepages

APPEARED
  is_new::default: PASSED
";

#[test]
fn all_that_changed_is_told_by_name_and_with_its_reason() {
    let (old, new) = before_and_after();
    let text = printed(&old, &new, "text");
    let expected = format!(
        "\
old  before: Linux 6.12.1 on lab (x86_64, GenuineIntel), 2 CPUs, 2023-11-14 22:13:20 UTC, 10 cases
new  after: Linux 6.13.0-rc1-00007-gfedcba987654 on lab (x86_64, GenuineIntel), 2 CPUs, 2023-11-14
     22:13:20 UTC, 10 cases
     microcode none -> 0xa0011d5, kernel 6.12.1 -> 6.13.0-rc1-00007-gfedcba987654, command_line none
     -> BOOT_IMAGE=/boot/vmlinuz root=/dev/vda1 ro quiet, kvm_intel.ept Y -> N, module kvm_pvm
     loaded -> not loaded, selftests_commit none -> 0123abc, same runner

{CHANGES}
THE SAME FAILURES IN BOTH
  stays::default

It got WORSE: new failures, different failures, newly skipped, vanished.
"
    );
    assert_eq!(text, expected);
}

#[test]
fn a_cover_letter_says_where_it_was_tested_and_what_changed() {
    let (old, new) = before_and_after();
    let cover = printed(&old, &new, "cover");
    let head = "\
Tested-on: Linux 6.13.0-rc1-00007-gfedcba987654 (fedcba987654), selftests
    (0123abc), a model with microcode 0xa0011d5, booted with
    BOOT_IMAGE=/boot/vmlinuz root=/dev/vda1 ro quiet
Environments: host
Before: 6 PASSED, 1 SKIPPED, 3 FAILED
After:  6 PASSED, 1 SKIPPED, 2 FAILED, 1 TIMED_OUT

New failures:

    breaks::default (was PASSED)
      FAILED: x86/breaks.c:58: exit_reason == (2)
";
    assert!(cover.starts_with(head), "{cover}");
    assert!(!cover.contains("stays::default"), "{cover}");
}

#[test]
fn a_mail_is_plain_text_of_75_columns_with_nothing_of_a_test_outside_of_blocks() {
    let (old, new) = before_and_after();
    for format in ["markdown", "cover"] {
        let mail = printed(&old, &new, format);
        assert_eq!(mail.lines().find(|line| line.chars().count() > 75), None);
        let lines: Vec<&str> = mail.lines().collect();
        for (before, line) in lines.iter().zip(&lines[1..]).skip(6) {
            let is_in_block = line.starts_with("    ");
            assert!(
                !is_in_block || before.is_empty() || before.starts_with("    "),
                "{line}"
            );
            assert!(
                line.is_empty() || is_in_block || line.ends_with([':', '.']),
                "{line}"
            );
        }
    }
    let markdown = printed(&old, &new, "markdown");
    assert!(
        markdown.contains("The same failures in both:\n\n    stays::default\n"),
        "{markdown}"
    );
}

#[test]
fn b4_gets_a_result_with_the_cover_letter() {
    let (old, new) = before_and_after();
    let status = |old: &Value, new: &Value| {
        let json: Value = serde_json::from_str(&printed(old, new, "b4")).unwrap();
        let details = json[0]["details"].as_str().unwrap();
        assert!(details.starts_with("Tested-on: "), "{details}");
        (json[0]["status"].clone(), json[0]["summary"].clone())
    };
    let worse = "It got WORSE: new failures, different failures, newly skipped, vanished.";
    assert_eq!(status(&old, &new), (json!("fail"), json!(worse)));
    assert_eq!(
        status(&old, &old),
        (json!("warn"), json!("Nothing changed."))
    );
    let good = run(&[passed("a::default")]);
    assert_eq!(status(&good, &good).0, json!("pass"));
}

#[test]
fn iterations_are_one_case_whose_flakiness_shows() {
    let both = |new: &[u32], same: &[u32]| {
        [
            iterations("new::default", new),
            iterations("same::default", same),
        ]
        .concat()
    };
    let (old, new) = (run(&both(&[], &[4])), run(&both(&[2, 3, 7], &[1, 9])));
    let text = printed(&old, &new, "text");
    let expected = "
NEW FAILURES
  new::default (3 of 10 failed, was 0 of 10 failed)
    3 x FAILED: exit code 1; last output: page 2

THE SAME FAILURES IN BOTH
  same::default (2 of 10 failed, was 1 of 10 failed)

It got WORSE: new failures.
";
    assert!(text.ends_with(expected), "{text}");
}

#[test]
fn json_has_every_case_once_and_all_of_each_failure() {
    let (old, new) = before_and_after();
    let json = printed(&old, &new, "json");
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&json["schema_version"], &json["worse"]),
        (&json!(1), &json!(true))
    );
    assert_eq!(json["changes"].as_array().unwrap().len(), 8);
    assert_eq!(
        json["unchanged"],
        json!(["ok::default", "races::default", "slows::default"])
    );
    assert_eq!(
        json["slower"],
        json!([{"name": "slows::default", "old_s": 2.0, "new_s": 7.0}])
    );
    assert_eq!(json["new"]["host"]["microcode"], "0xa0011d5");
    assert_eq!(
        json["old"]["counts"],
        json!({"PASSED": 6, "SKIPPED": 1, "FAILED": 3})
    );
    let kernel = json!({"subject": "kernel", "what": "kernel", "old": "6.12.1", "new": "6.13.0-rc1-00007-gfedcba987654"});
    assert!(json["differences"].as_array().unwrap().contains(&kernel));
    let changes = json["changes"].as_array().unwrap();
    let differs = changes
        .iter()
        .find(|change| change["name"] == "differs::default");
    let assertion =
        json!({"file": "differs.c", "expression": "r == 0", "message": "KVM_RUN failed, rc: #"});
    let expected = json!({
        "name": "differs::default", "kind": "different_failure", "worse": true,
        "old": {
            "counts": {"FAILED": 1}, "duration_s": null, "skip_reason": null,
            "failures": [{
                "count": 1, "reason": "differs.c:12: r == 0\nKVM_RUN failed, rc: -1",
                "reproduce": "cd /selftests && /selftests/differs",
                "signature": {
                    "status": "FAILED", "exit": {"code": 254}, "subtests": [], "reason": null, "assertion": assertion,
                },
            }],
        },
        "new": {
            "counts": {"TIMED_OUT": 1}, "duration_s": null, "skip_reason": null,
            "failures": [{
                "count": 1, "reason": "did not end in its time", "reproduce": "cd /selftests && /selftests/differs",
                "signature": {
                    "status": "TIMED_OUT", "exit": "timeout", "subtests": [], "assertion": null,
                    "reason": "did not end in its time",
                },
            }],
        },
    });
    assert_eq!(differs.unwrap(), &expected);
}

#[test]
fn what_differs_in_an_environment_as_outside_is_told_once() {
    let inside = |ept: &str, nested: &str| {
        let modules = json!({"kvm_intel": {"ept": ept, "nested": nested}});
        let span = json!({
            "environment": "off", "part": "part", "settings": ["tdp=off"], "notes": [], "modules": modules,
            "entering_ms": 1, "entered_ms": 2, "leaving_ms": 3, "left_ms": 4, "problem": null,
        });
        let mut run = with(
            &run(&[passed("a::default")]),
            json!({"environments": [span]}),
        );
        run["parts"][0]["part"]["host"]["modules"]["kvm_intel"]["ept"] = json!(ept);
        run
    };
    let json = json_of(&inside("Y", "Y"), &inside("N", "N"), &[]);
    let differences = json["differences"].as_array().unwrap();
    let told: Vec<_> = differences
        .iter()
        .map(|one| one["what"].as_str().unwrap())
        .collect();
    assert_eq!(told, ["kvm_intel.ept", "kvm_intel.nested in off"]);
}

#[test]
fn nothing_that_a_test_said_reaches_a_terminal_unchecked() {
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[2J\r\0\u{202e}```\n# heading\n</script>]]>";
    let named = with(&outcome("x::y", "FAILED", evil), json!({"name": evil}));
    let cases = [
        asserting("a::default", evil, 1, evil, evil),
        outcome("b::default", "SKIPPED", evil),
        named,
    ];
    let mut hostile = run(&cases);
    let part = &mut hostile["parts"][0]["part"];
    for name in [
        "hostname",
        "kernel",
        "microcode",
        "command_line",
        "cpu_model",
    ] {
        part["host"][name] = json!(evil);
    }
    part["host"]["modules"] = json!({evil: {evil: evil}});
    part["selftests_commit"] = json!(evil);
    part["command_line"] = json!([evil]);
    let plain = run(&[passed("b::default"), passed("c::default")]);
    for (old, new) in [(&plain, &hostile), (&hostile, &plain), (&hostile, &hostile)] {
        for format in ["text", "markdown", "cover", "json", "b4"] {
            let text = printed(old, new, format);
            let forbidden = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
            assert_eq!(text.find(forbidden), None, "{format} {text}");
            let is_mail = ["markdown", "cover"].contains(&format);
            let begins_badly = |line: &str| line.starts_with(['#', '`', '<']);
            assert!(!is_mail || !text.lines().any(begins_badly), "{text}");
        }
        assert_eq!(json_of(old, new, &[])["changes"][0]["name"], evil);
    }
}

#[test]
fn five_thousand_cases_are_all_compared() {
    let of = |offset: u32| {
        let of = |i| {
            asserting(
                &format!("t{i}::default"),
                "a.c",
                i + offset,
                "x",
                &format!("page {}", i * offset),
            )
        };
        run(&(0..5000).map(of).collect::<Vec<_>>())
    };
    let json = json_of(&of(1), &of(7), &[]);
    let changes = json["changes"].as_array().unwrap();
    let same = changes
        .iter()
        .filter(|change| change["kind"] == "same_failure");
    assert_eq!((same.count(), &json["worse"]), (5000, &json!(false)));
}
