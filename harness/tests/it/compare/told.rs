//! What is said, in each format, and of which runs.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;

use harness::compare::{Comparison, Format, Run};
use harness::log::record::Record;
use harness::log::results::Results;
use harness::model::entry::{Entry, SCHEMA_VERSION};
use harness::model::outcome::{Exit, Outcome, Status};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::made::{asserting, info, iterations, json, kept, lasting, outcome, passed, record, run};

fn text(old: &Run, new: &Run) -> String {
    Comparison::of(old, new, None).render(Format::Text)
}

/// Two runs that differ in all there is.
fn before_and_after() -> (Run, Run) {
    let mut old = record(vec![
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
        outcome("comes_back::default", Status::Skipped, "no hugepages"),
        asserting(
            "stays::default",
            "lib/kvm_util.c",
            561,
            "test_bit_le(page, bmap)",
            "Page 66363 is not dirty",
        ),
        lasting("slows::default", 2.0),
        lasting("races::default", 9.0),
    ]);
    let mut new = record(vec![
        passed("ok::default"),
        asserting(
            "breaks::default",
            "x86/breaks.c",
            58,
            "exit_reason == (2)",
            "Wanted 2 (IO), got: 17 (INTERNAL_ERROR)",
        ),
        Outcome {
            exit: Some(Exit::Timeout),
            ..outcome(
                "differs::default",
                Status::TimedOut,
                "did not end in its time",
            )
        },
        passed("heals::default"),
        outcome(
            "is_skipped::default",
            Status::Skipped,
            "Requirement not met: kvm_has_cap(KVM_CAP_X86_SMM)",
        ),
        passed("comes_back::default"),
        asserting(
            "stays::default",
            "lib/kvm_util.c",
            570,
            "test_bit_le(page, bmap)",
            "Page 17 is not dirty",
        ),
        lasting("slows::default", 5.0),
        lasting("races::default", 3.0),
        passed("is_new::default"),
    ]);
    old.run
        .host
        .modules
        .insert("kvm_pvm".to_owned(), BTreeMap::new());
    new.run.host.kernel = "6.12.2".to_owned();
    new.run
        .host
        .modules
        .get_mut("kvm_amd")
        .unwrap()
        .insert("npt".to_owned(), "N".to_owned());
    new.run.command_line.push("--skip=goes".to_owned());
    (kept("before", &old), kept("after", &new))
}

#[test]
fn where_nothing_changed_little_is_said() {
    let outcomes = || {
        vec![
            passed("a::default"),
            outcome("b::default", Status::Failed, "exit code 1"),
        ]
    };
    let (old, new) = (run("one", outcomes()), run("two", outcomes()));
    let expected = "\
old  one: Linux 6.12.1 on box (x86_64, AuthenticAMD), 8 CPUs, 2023-11-14 22:13 UTC, 2 cases
new  two: Linux 6.12.1 on box (x86_64, AuthenticAMD), 8 CPUs, 2023-11-14 22:13 UTC, 2 cases
     same host, same kernel, same module parameters, selftests from the same place

THE SAME FAILURES IN BOTH
  b::default

Nothing changed.
";
    assert_eq!(text(&old, &new), expected);
}

#[test]
fn all_that_changed_is_told_by_name_and_with_its_reason() {
    let (old, new) = before_and_after();
    let expected = "\
old  before: Linux 6.12.1 on box (x86_64, AuthenticAMD), 8 CPUs, 2023-11-14 22:13 UTC, 10 cases
new  after: Linux 6.12.2 on box (x86_64, AuthenticAMD), 8 CPUs, 2023-11-14 22:13 UTC, 10 cases
     same host, kernel 6.12.1 -> 6.12.2, kvm_amd.npt Y -> N, module kvm_pvm loaded -> not loaded,
     selftests from the same place
     arguments of the old run: run
     arguments of the new run: run --skip=goes

NEW FAILURES
  breaks::default (was PASSED)
    FAILED: x86/breaks.c:58: exit_reason == (2)
      Wanted 2 (IO), got: 17 (INTERNAL_ERROR)
      errno 4: Interrupted system call

DIFFERENT FAILURES UNDER THE SAME NAME
  differs::default
    old: FAILED: differs.c:12: r == 0
           KVM_RUN failed, rc: -1
           errno 4: Interrupted system call
    new: TIMED_OUT: did not end in its time

NEWLY SKIPPED
  is_skipped::default (was PASSED)
    Requirement not met: kvm_has_cap(KVM_CAP_X86_SMM)

VANISHED
  goes::default: was PASSED

SLOWER BY A FACTOR OF 2 OR MORE
  slows::default: 5.0 s, was 2.0 s

FIXED
  heals::default: was FAILED: heals.c:3: cannot map 12 pages

NEWLY RUN
  comes_back::default (PASSED): was SKIPPED: no hugepages

APPEARED
  is_new::default: PASSED

THE SAME FAILURES IN BOTH
  stays::default

It got WORSE: new failures, different failures, newly skipped, vanished.
";
    assert_eq!(text(&old, &new), expected);
}

#[test]
fn iterations_are_one_case_whose_flakiness_shows() {
    let old = [
        iterations("new::default", 10, &[]),
        iterations("same::default", 10, &[4]),
    ]
    .concat();
    let new = [
        iterations("new::default", 10, &[2, 3, 7]),
        iterations("same::default", 10, &[1, 9]),
    ]
    .concat();
    let text = text(&run("old", old), &run("new", new));
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
fn markdown_is_plain_text_of_75_columns_that_states_what_was_compared() {
    let (old, new) = before_and_after();
    let markdown = Comparison::of(&old, &new, None).render(Format::Markdown);
    assert_eq!(
        markdown.lines().find(|line| line.chars().count() > 75),
        None
    );
    // What is not ours is indented as code, and code begins after an empty line.
    let lines: Vec<&str> = markdown.lines().collect();
    for (before, line) in lines.iter().zip(&lines[1..]) {
        assert!(
            !line.starts_with("    ") || before.is_empty() || before.starts_with("    "),
            "{line}"
        );
        assert!(
            line.is_empty() || line.starts_with("    ") || line.ends_with([':', '.']),
            "{line}"
        );
    }
    for part in [
        "    old  Linux 6.12.1 on box (x86_64, AuthenticAMD)",
        "         same host, kernel 6.12.1 -> 6.12.2, kvm_amd.npt Y -> N, module\n",
        "The same failures in both:\n\n    stays::default\n      FAILED: lib/kvm_util.c:570: test_bit_le(page, bmap)\n",
        "Module parameters:\n\n    kvm: nx_huge_pages=N tdp_mmu=Y\n    kvm_amd: npt=Y->N\n    kvm_pvm:\n",
    ] {
        assert!(markdown.contains(part), "{part}\nis not in\n{markdown}");
    }
}

#[test]
fn json_has_every_case_once_and_all_of_each_failure() {
    let (old, new) = before_and_after();
    let json = json(&old, &new, None);
    assert_eq!(
        (&json["schema_version"], &json["worse"]),
        (&json!(1), &json!(true))
    );
    let mut named: Vec<&str> = json["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    named.extend(
        json["unchanged"]
            .as_array()
            .unwrap()
            .iter()
            .map(|name| name.as_str().unwrap()),
    );
    let unique: HashSet<_> = named.iter().collect();
    assert_eq!((named.len(), unique.len()), (11, 11));
    assert_eq!(
        json["unchanged"],
        json!(["ok::default", "races::default", "slows::default"])
    );
    assert_eq!(
        json["slower"],
        json!([{"name": "slows::default", "old_s": 2.0, "new_s": 5.0}])
    );
    assert_eq!(
        json["faster"],
        json!([{"name": "races::default", "old_s": 9.0, "new_s": 3.0}])
    );
    assert_eq!(
        json["differences"][0],
        json!({"subject": "kernel", "what": "kernel", "old": "6.12.1", "new": "6.12.2"})
    );
    let differs = json["changes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|change| change["name"] == "differs::default");
    assert_eq!(
        differs.unwrap(),
        &json!({
            "name": "differs::default", "kind": "different_failure", "worse": true,
            "old": {
                "counts": {"FAILED": 1}, "duration_s": null, "skip_reason": null,
                "failures": [{
                    "count": 1,
                    "reason": "differs.c:12: r == 0\nKVM_RUN failed, rc: -1\nerrno 4: Interrupted system call",
                    "signature": {
                        "status": "FAILED", "exit": {"code": 254}, "subtests": [], "reason": null,
                        "assertion": {"file": "differs.c", "expression": "r == 0", "message": "KVM_RUN failed, rc: #"},
                    },
                    "reproduce": "run differs::default",
                }],
            },
            "new": {
                "counts": {"TIMED_OUT": 1}, "duration_s": null, "skip_reason": null,
                "failures": [{
                    "count": 1, "reason": "did not end in its time", "reproduce": "run differs::default",
                    "signature": {
                        "status": "TIMED_OUT", "exit": "timeout", "subtests": [], "assertion": null,
                        "reason": "did not end in its time",
                    },
                }],
            },
        })
    );
}

#[test]
fn a_run_whose_runner_was_killed_is_read_as_far_as_it_got() {
    let directory = TempDir::new().unwrap();
    let results = Results::create_at(&directory.path().join("run"), false).unwrap();
    results
        .record(&Entry::RunStarted {
            run: Box::new(info(3)),
            cases: Vec::new(),
        })
        .unwrap();
    Record::begun(info(3)).write(results.root()).unwrap();
    results
        .record(&Entry::Finished {
            outcome: Box::new(passed("a::default")),
        })
        .unwrap();
    results
        .record(&Entry::Started {
            outcome: Box::new(outcome("b::default", Status::NoRun, "")),
        })
        .unwrap();
    let journal = results.root().join("journal.jsonl");
    let cut_off = [fs::read(&journal).unwrap(), b"{\"event\":\"fini".to_vec()].concat();
    fs::write(&journal, cut_off).unwrap();
    let new = Run {
        place: "killed".into(),
        ..Run::read(results.root()).unwrap()
    };
    let old = run(
        "old",
        ["a::default", "b::default", "c::default"]
            .map(passed)
            .to_vec(),
    );
    let text = text(&old, &new);
    for part in [
        " 2 of 3 cases,\n     ended before its time\n",
        "NEW FAILURES\n  b::default (was PASSED)\n    NO_RUN: the run ended while this was running\n",
        "VANISHED\n  c::default: was PASSED\n",
    ] {
        assert!(text.contains(part), "{part}\nis not in\n{text}");
    }
}

#[test]
fn what_cannot_be_compared_is_refused_with_a_sentence() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("run.json");
    let refusal = |text: &str| {
        fs::write(&path, text).unwrap();
        format!("{:#}", Run::read(&path).unwrap_err())
    };
    let mut newer = serde_json::to_value(record(vec![passed("a::default")])).unwrap();
    newer["schema_version"] = json!(SCHEMA_VERSION + 1);
    assert!(refusal(&newer.to_string()).contains("this program knows versions up to"));
    assert!(
        refusal(&serde_json::to_string(&record(Vec::new())).unwrap())
            .contains("has no outcome of any case")
    );
    for broken in ["", "{}", "[1", "\0", "null"] {
        assert!(refusal(broken).contains("run.json"));
    }
    assert!(Run::read(Path::new("/nonexistent")).is_err());
}

#[test]
fn nothing_that_a_test_said_reaches_a_terminal_unchecked() {
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[2J\r\0\u{202e}```\n# heading\n</script>]]>";
    let mut hostile = record(vec![
        asserting("a::default", evil, 1, evil, evil),
        outcome("b::default", Status::Skipped, evil),
        outcome(evil, Status::Failed, evil),
    ]);
    hostile.run.host.hostname = evil.to_owned();
    hostile.run.host.modules.insert(
        evil.to_owned(),
        BTreeMap::from([(evil.to_owned(), evil.to_owned())]),
    );
    hostile.run.command_line.push(evil.to_owned());
    hostile.run.selftests.push(evil.into());
    let (old, new) = (
        run("old", vec![passed("b::default"), passed("c::default")]),
        kept(evil, &hostile),
    );
    for (old, new) in [(&old, &new), (&new, &old), (&new, &new)] {
        let comparison = Comparison::of(old, new, None);
        for format in [Format::Text, Format::Markdown, Format::Json] {
            let text = comparison.render(format);
            let forbidden = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
            assert_eq!(text.find(forbidden), None, "{format:?} {text}");
        }
        let json: Value = serde_json::from_str(&comparison.render(Format::Json)).unwrap();
        assert_eq!(json["changes"][0]["name"], evil);
        assert!(
            !comparison
                .render(Format::Markdown)
                .lines()
                .any(|line| line.starts_with(['#', '`', '<']))
        );
    }
}
