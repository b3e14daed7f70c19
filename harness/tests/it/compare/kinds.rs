//! What happened to a case, when a failure is the same, and what is worse.

use serde_json::{Value, json};

use super::{iterations, json_of, lasting, passed, printed};
use crate::support::made::{asserting, inside, outcome, run, with};

/// What happened to the only case, and whether that is worse.
fn change(old: &[Value], new: &[Value]) -> (String, bool) {
    // The other case keeps either run from being empty, which is refused.
    let with_another = |outcomes: &[Value]| run(&[outcomes, &[passed("zzz::default")]].concat());
    let json = json_of(&with_another(old), &with_another(new), &[]);
    let kind = json["changes"].get(0).map_or("unchanged", |change| {
        assert_eq!(change["worse"], json["worse"]);
        change["kind"].as_str().unwrap()
    });
    (kind.to_owned(), json["worse"] == true)
}

#[test]
fn each_transition_has_its_name_and_is_worse_or_not() {
    let of = |status: &str| match status {
        "" => Vec::new(),
        status => vec![outcome("a::default", status, "why")],
    };
    for (old, new, kind, is_worse) in [
        ("PASSED", "PASSED", "unchanged", false),
        ("PASSED", "SKIPPED", "newly_skipped", true),
        ("PASSED", "FAILED", "new_failure", true),
        ("PASSED", "TIMED_OUT", "new_failure", true),
        ("PASSED", "NO_RUN", "new_failure", true),
        ("PASSED", "", "vanished", true),
        ("SKIPPED", "PASSED", "newly_run", false),
        ("SKIPPED", "SKIPPED", "unchanged", false),
        ("SKIPPED", "FAILED", "new_failure", true),
        ("SKIPPED", "NO_RUN", "new_failure", true),
        ("SKIPPED", "", "vanished", false),
        ("FAILED", "PASSED", "fixed", false),
        ("FAILED", "SKIPPED", "newly_skipped", true),
        ("FAILED", "FAILED", "same_failure", false),
        ("FAILED", "TIMED_OUT", "different_failure", true),
        ("FAILED", "NO_RUN", "different_failure", true),
        ("FAILED", "", "vanished", true),
        ("TIMED_OUT", "PASSED", "fixed", false),
        ("TIMED_OUT", "TIMED_OUT", "same_failure", false),
        ("TIMED_OUT", "FAILED", "different_failure", true),
        ("NO_RUN", "PASSED", "newly_run", false),
        ("NO_RUN", "SKIPPED", "newly_skipped", false),
        ("NO_RUN", "FAILED", "new_failure", true),
        ("NO_RUN", "NO_RUN", "same_failure", false),
        ("NO_RUN", "", "vanished", false),
        ("", "PASSED", "appeared", false),
        ("", "SKIPPED", "appeared", false),
        ("", "FAILED", "new_failure", true),
    ] {
        let expected = (kind.to_owned(), is_worse);
        assert_eq!(change(&of(old), &of(new)), expected, "{old} {new}");
    }
}

#[test]
fn failing_more_often_than_chance_explains_is_worse() {
    let of = |failing: &[u32]| iterations("a::default", failing);
    let all: Vec<u32> = (1..=10).collect();
    let skipped = |count: usize| {
        let mut outcomes = of(&[]);
        for outcome in &mut outcomes[..count] {
            *outcome = with(outcome, json!({"status": "SKIPPED"}));
        }
        outcomes
    };
    for (old, new, kind, is_worse) in [
        (of(&[1]), of(&[1, 2, 3]), "same_failure", false),
        (of(&[1]), of(&all), "fails_more_often", true),
        (of(&all), of(&[1]), "same_failure", false),
        (of(&[1]), of(&[]), "fixed", false),
        (of(&[]), skipped(3), "newly_skipped", true),
        (skipped(3), skipped(5), "unchanged", false),
        (skipped(3), skipped(10), "newly_skipped", true),
        // A run without iterations has the same case.
        (vec![passed("a::default")], of(&[5]), "new_failure", true),
    ] {
        assert_eq!(change(&old, &new), (kind.to_owned(), is_worse));
    }
}

#[test]
fn a_failure_is_the_same_whatever_its_lines_and_numbers() {
    let failing = |file: &str, line, expression: &str, message: &str| {
        asserting("a::default", file, line, expression, message)
    };
    let old = failing(
        "x86_64/cpuid_test.c",
        94,
        "a == (2)",
        "CPUID 0x1.0 differ: 0xa00f11",
    );
    let kind = |new: Value| change(std::slice::from_ref(&old), &[new]).0;
    let same = failing(
        "x86/cpuid_test.c",
        107,
        "a == (2)",
        "CPUID 0xd.1 differ: -3",
    );
    assert_eq!(kind(same), "same_failure");
    for other in [
        failing(
            "x86_64/other.c",
            94,
            "a == (2)",
            "CPUID 0x1.0 differ: 0xa00f11",
        ),
        // Numbers in an expression stand in the source.
        failing(
            "x86_64/cpuid_test.c",
            94,
            "a == (8)",
            "CPUID 0x1.0 differ: 0xa00f11",
        ),
        failing(
            "x86_64/cpuid_test.c",
            94,
            "a == (2)",
            "MSR 0x1.0 differ: 0xa00f11",
        ),
        with(
            &old,
            json!({"exit": {"signal": {"signal": 11, "core_dumped": false}}}),
        ),
        with(
            &old,
            json!({"beside": ["its tear-down failed: exit code 1"]}),
        ),
        with(
            &old,
            json!({"subtests": [{"name": "one", "result": "not_ok", "reason": null}]}),
        ),
    ] {
        assert_eq!(kind(other), "different_failure");
    }
    // What only repeats how it ended is part of no other failure.
    let hung = with(&old, json!({"exit": "timeout", "status": "TIMED_OUT"}));
    let beside = |line: &str| with(&hung, json!({"beside": [line]}));
    let both = [
        beside("timeout of 5 s: did not end in its time; threads: main running"),
        beside("timeout of 9 s: did not end in its time"),
    ];
    assert_eq!(change(&both[..1], &both[1..]).0, "same_failure");
}

#[test]
fn new_trouble_beside_the_cases_is_worse_and_named() {
    let good = run(&[passed("a::default")]);
    let with_splat = |title: &str| {
        let splat = json!({"name": "WARNING", "title": title, "at_us": 1, "lines": [], "while_running": []});
        with(&good, json!({"splats": [splat]}))
    };
    let ended = |members: Value| {
        let mut run = good.clone();
        let end = &run["parts"][0]["end"];
        run["parts"][0]["end"] = with(end, members);
        run
    };
    let bad = with_splat("WARNING: CPU: 1 PID: 7 at kvm.c:12 kvm_reset+0x1");
    let text = printed(&good, &bad, "text");
    let told = "

NEW TROUBLE BESIDE THE CASES
  WARNING: CPU: 1 PID: 7 at kvm.c:12 kvm_reset+0x1

It got WORSE: new trouble beside the cases.
";
    assert!(text.ends_with(told), "{text}");
    assert!(printed(&good, &bad, "b4").contains(r#""status": "fail""#));
    let is_worse = |old: &Value, new: &Value| json_of(old, new, &[])["worse"] == true;
    let again = with_splat("WARNING: CPU: 0 PID: 99 at kvm.c:13 kvm_reset+0x2");
    let other = with_splat("WARNING: CPU: 0 PID: 99 at kvm.c:13 kvm_free+0x2");
    assert!(!is_worse(&bad, &again) && is_worse(&bad, &other) && !is_worse(&bad, &good));
    // A case had it before.
    let owned = with(&passed("a::default"), json!({"splats": bad["splats"]}));
    assert!(!is_worse(&run(&[owned]), &again));
    let moved = ended(json!({"not_restored": ["kvm_intel.ept: Y, was N"]}));
    assert!(is_worse(&good, &moved) && !is_worse(&moved, &moved));
    let kernel = json!({
        "owned": 0, "stray": 0, "of_others": 0, "ignored": 0, "lost": 0, "problem": null, "taint": 512,
    });
    assert!(is_worse(&good, &ended(json!({"kernel": kernel}))));
}

#[test]
fn neither_a_core_nor_how_far_a_test_got_makes_another_failure() {
    let crash = |core_dumped, reason| {
        let exit = json!({"signal": {"signal": 11, "core_dumped": core_dumped}});
        with(
            &outcome("a::default", "FAILED", reason),
            json!({"exit": exit}),
        )
    };
    let with_core = "killed by SIGSEGV (core dumped)\ncore dump: coredumpctl info 7";
    let both = [crash(true, with_core), crash(false, "killed by SIGSEGV")];
    assert_eq!(change(&both[..1], &both[1..]).0, "same_failure");
    let hung = |where_it_was| {
        let reason = format!("too long{where_it_was}\ntold");
        outcome("a::default", "TIMED_OUT", &reason)
    };
    for other in [
        "; threads: main in read; last output: step two",
        // As earlier versions said it.
        "; last output: step two\nthreads: main in read",
        "",
    ] {
        let both = [hung("; threads: main running"), hung(other)];
        assert_eq!(change(&both[..1], &both[1..]).0, "same_failure");
    }
}

#[test]
fn being_slower_is_told_and_worse_where_asked() {
    let of = |slow, quick| {
        run(&[
            lasting("slow::default", slow),
            lasting("quick::default", quick),
        ])
    };
    for (arguments, told, is_worse) in [
        (&[][..], 1, false),
        (&["--slower", "2.5"], 1, true),
        (&["--slower", "4"], 0, false),
    ] {
        let json = json_of(&of(10.0, 0.1), &of(35.0, 0.9), arguments);
        assert_eq!(json["slower"].as_array().unwrap().len(), told);
        assert_eq!(json["worse"], is_worse);
    }
    let json = json_of(&of(10.0, 0.1), &of(3.0, 0.1), &[]);
    assert_eq!(
        json["faster"],
        json!([{"name": "slow::default", "old_s": 10.0, "new_s": 3.0}])
    );
}

#[test]
fn what_was_not_selected_in_one_of_the_runs_is_counted() {
    let selecting = |options: &[&str], outcomes: &[Value]| {
        let mut run = run(outcomes);
        run["parts"][0]["part"]["options"] = json!(options);
        run
    };
    let [a, b] = ["a::default", "b::default"].map(passed);
    let inside = inside("shadow", &a);
    let all = selecting(&["--output", "old", "--timeout=7"], &[a.clone(), b.clone()]);
    let some = selecting(
        &["--overwrite", "--output=new", "a"],
        std::slice::from_ref(&a),
    );
    let less = selecting(&[], std::slice::from_ref(&a));
    let how = "--retry-failed 2 --time-limit 5m --max-fail 3 --known k.toml --iterations=2";
    let how = Vec::from_iter(how.split(' '));
    let otherwise = selecting(&how, std::slice::from_ref(&a));
    let more = selecting(&["--environment=shadow"], &[a, inside]);
    let text = |old: &Value, new: &Value| printed(old, new, "text");
    let left_out =
        |count: &str| format!("\n\nNOT COMPARED\n  {count} run only\n\nNothing changed.\n");
    assert!(text(&all, &some).ends_with(&left_out("1 selected in the old")));
    for less in [&less, &otherwise] {
        assert!(
            text(&all, less)
                .ends_with("\n\nVANISHED\n  b::default: was PASSED\n\nIt got WORSE: vanished.\n")
        );
    }
    assert!(
        text(&less, &all).ends_with("\n\nAPPEARED\n  b::default: PASSED\n\nNothing got worse.\n")
    );
    assert!(text(&less, &more).ends_with(&left_out("1 selected in the new")));
}
