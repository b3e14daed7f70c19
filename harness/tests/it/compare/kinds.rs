//! What happened to a case, when a failure is the same, and what is worse.

use harness::compare::Comparison;
use harness::compare::change::Kind;
use harness::compare::signature::Signature;
use harness::evidence::Evidence;
use harness::exec::verdict;
use harness::model::case::Command;
use harness::model::outcome::Status::{Failed, NoRun, Passed, Skipped, TimedOut};
use harness::model::outcome::{Exit, Outcome, Status, Subtest, SubtestResult};
use serde_json::json;

use super::made::{asserting, iterations, json, lasting, outcome, passed, run};

/// What happened to the only case, and whether that is worse.
fn change(old: Vec<Outcome>, new: Vec<Outcome>) -> (Kind, bool) {
    // The other case keeps either run from being empty, which is refused.
    let with_another = |mut outcomes: Vec<Outcome>| {
        outcomes.push(passed("zzz::default"));
        outcomes
    };
    let (old, new) = (run("old", with_another(old)), run("new", with_another(new)));
    let comparison = Comparison::of(&old, &new, None);
    assert_eq!(comparison.changes.len(), 2);
    assert_eq!(comparison.changes[0].is_worse(), comparison.is_worse());
    (comparison.changes[0].kind, comparison.is_worse())
}

#[test]
fn each_transition_has_its_name_and_is_worse_or_not() {
    let of = |status| vec![outcome("a::default", status, "why")];
    let none = Vec::new;
    for (old, new, kind, is_worse) in [
        (of(Passed), of(Passed), Kind::Unchanged, false),
        (of(Passed), of(Skipped), Kind::NewlySkipped, true),
        (of(Passed), of(Failed), Kind::NewFailure, true),
        (of(Passed), of(TimedOut), Kind::NewFailure, true),
        (of(Passed), of(NoRun), Kind::NewFailure, true),
        (of(Passed), none(), Kind::Vanished, true),
        (of(Skipped), of(Passed), Kind::NewlyRun, false),
        (of(Skipped), of(Skipped), Kind::Unchanged, false),
        (of(Skipped), of(Failed), Kind::NewFailure, true),
        (of(Skipped), of(NoRun), Kind::NewFailure, true),
        (of(Skipped), none(), Kind::Vanished, false),
        (of(Failed), of(Passed), Kind::Fixed, false),
        (of(Failed), of(Skipped), Kind::NewlySkipped, true),
        (of(Failed), of(Failed), Kind::SameFailure, false),
        (of(Failed), of(TimedOut), Kind::DifferentFailure, true),
        (of(Failed), of(NoRun), Kind::DifferentFailure, true),
        (of(Failed), none(), Kind::Vanished, true),
        (of(TimedOut), of(Passed), Kind::Fixed, false),
        (of(TimedOut), of(TimedOut), Kind::SameFailure, false),
        (of(TimedOut), of(Failed), Kind::DifferentFailure, true),
        (of(NoRun), of(Passed), Kind::NewlyRun, false),
        (of(NoRun), of(Skipped), Kind::NewlySkipped, false),
        (of(NoRun), of(Failed), Kind::NewFailure, true),
        (of(NoRun), of(NoRun), Kind::SameFailure, false),
        (of(NoRun), none(), Kind::Vanished, false),
        (none(), of(Passed), Kind::Appeared, false),
        (none(), of(Skipped), Kind::Appeared, false),
        (none(), of(Failed), Kind::NewFailure, true),
    ] {
        let told = format!("{old:?} {new:?}");
        assert_eq!(change(old, new), (kind, is_worse), "{told}");
    }
}

#[test]
fn failing_more_often_than_chance_explains_is_worse() {
    let of = |failing: &[usize]| iterations("a::default", 10, failing);
    let all: Vec<usize> = (1..=10).collect();
    assert_eq!(change(of(&[1]), of(&[1, 2, 3])), (Kind::SameFailure, false));
    assert_eq!(change(of(&[1]), of(&all)), (Kind::FailsMoreOften, true));
    assert_eq!(change(of(&all), of(&[1])), (Kind::SameFailure, false));
    assert_eq!(change(of(&[1]), of(&[])), (Kind::Fixed, false));
    let skipping = |count| {
        (1..=count).map(|i| {
            outcome(
                &format!("a::default::iteration_{i}"),
                Status::Skipped,
                "why",
            )
        })
    };
    let partly = |skipped| {
        skipping(skipped)
            .chain(of(&[]).into_iter().skip(skipped))
            .collect::<Vec<_>>()
    };
    assert_eq!(change(of(&[]), partly(3)), (Kind::NewlySkipped, true));
    assert_eq!(change(partly(3), partly(5)), (Kind::Unchanged, false));
    assert_eq!(change(partly(3), partly(10)), (Kind::NewlySkipped, true));
    // A run without iterations has the same case.
    assert_eq!(
        change(vec![passed("a::default")], of(&[5])),
        (Kind::NewFailure, true)
    );
}

#[test]
fn being_slower_is_told_from_one_second_on_and_worse_where_asked() {
    let outcomes = |slow, quick| {
        vec![
            lasting("slow::default", slow),
            lasting("quick::default", quick),
        ]
    };
    let (old, new) = (
        run("old", outcomes(10.0, 0.1)),
        run("new", outcomes(25.0, 0.9)),
    );
    for (slower, told, is_worse) in [
        (None, 1, false),
        (Some(2.5), 1, true),
        (Some(3.0), 0, false),
    ] {
        let json = json(&old, &new, slower);
        assert_eq!(json["slower"].as_array().unwrap().len(), told);
        assert_eq!(json["worse"], is_worse);
    }
}

#[test]
fn five_thousand_cases_are_all_compared() {
    let outcomes = |offset: u32| -> Vec<Outcome> {
        (0..5000)
            .map(|i| {
                asserting(
                    &format!("t{i}::default"),
                    "a.c",
                    i + offset,
                    "x",
                    &format!("page {}", i * offset),
                )
            })
            .collect()
    };
    let json = json(&run("old", outcomes(1)), &run("new", outcomes(7)), None);
    let same = json["changes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|change| change["kind"] == "same_failure");
    assert_eq!((same.count(), &json["worse"]), (5000, &json!(false)));
}

#[test]
fn a_failure_is_the_same_whatever_its_lines_and_numbers() {
    let a = asserting(
        "a::default",
        "x86_64/cpuid_test.c",
        94,
        "a == b",
        "CPUID 0x1.0 differ: 0xa00f11 vs 17",
    );
    let b = asserting(
        "a::default",
        "x86/cpuid_test.c",
        107,
        "a == b",
        "CPUID 0xd.1 differ: 0x0 vs -3",
    );
    assert_eq!(change(vec![a.clone()], vec![b]), (Kind::SameFailure, false));
    for other in [
        asserting(
            "a::default",
            "x86_64/other.c",
            94,
            "a == b",
            "CPUID 0x1.0 differ: 0xa00f11 vs 17",
        ),
        asserting(
            "a::default",
            "x86_64/cpuid_test.c",
            94,
            "a == c",
            "CPUID 0x1.0 differ: 0xa00f11 vs 17",
        ),
        asserting(
            "a::default",
            "x86_64/cpuid_test.c",
            94,
            "a == b",
            "MSR 0x1.0 differ: 0xa00f11 vs 17",
        ),
        Outcome {
            exit: Some(Exit::Signal {
                signal: 11,
                core_dumped: false,
            }),
            ..a.clone()
        },
    ] {
        assert_eq!(
            change(vec![a.clone()], vec![other]),
            (Kind::DifferentFailure, true)
        );
    }
}

#[test]
fn numbers_in_an_expression_stand_in_the_source_and_count() {
    let a = asserting("a::default", "a.c", 9, "exit_reason == (2)", "");
    let b = asserting("a::default", "a.c", 9, "exit_reason == (8)", "");
    assert_eq!(change(vec![a], vec![b]), (Kind::DifferentFailure, true));
}

#[test]
fn a_crash_is_known_by_its_signal_and_not_by_its_core() {
    let crash = |signal, core_dumped| {
        let exit = Exit::Signal {
            signal,
            core_dumped,
        };
        let reason =
            verdict::derive(exit, &Evidence::default(), &Command::Shell(String::new())).reason;
        // What the kernel did about the core is in the reason, too.
        Outcome {
            exit: Some(exit),
            ..outcome("a::default", Status::Failed, &reason.unwrap())
        }
    };
    assert_eq!(
        change(vec![crash(11, true)], vec![crash(11, false)]).0,
        Kind::SameFailure
    );
    assert_eq!(
        change(vec![crash(11, true)], vec![crash(6, true)]).0,
        Kind::DifferentFailure
    );
}

#[test]
fn failed_sub_tests_are_known_by_their_names_and_what_they_said() {
    let failing = |names: &[&str], diagnostic: &str| {
        let subtest = |name: &&str| Subtest {
            name: (*name).to_owned(),
            result: SubtestResult::NotOk,
            reason: None,
        };
        let mut subtests: Vec<_> = names.iter().map(subtest).collect();
        let reason = format!("not ok: {}\n{diagnostic}", names.join(", "));
        subtests.push(Subtest {
            name: "good".to_owned(),
            result: SubtestResult::Ok,
            reason: None,
        });
        vec![Outcome {
            subtests,
            ..outcome("a::default", Status::Failed, &reason)
        }]
    };
    let old = || failing(&["x.one"], "x.c:12:one:Expected 1 (1) == 2 (2)");
    assert_eq!(
        change(
            old(),
            failing(&["x.one"], "x.c:99:one:Expected 7 (7) == 2 (2)")
        )
        .0,
        Kind::SameFailure
    );
    assert_eq!(
        change(
            old(),
            failing(&["x.two"], "x.c:12:two:Expected 1 (1) == 2 (2)")
        )
        .0,
        Kind::DifferentFailure
    );
    assert_eq!(
        change(
            old(),
            failing(&["x.one"], "one: Test terminated by timeout")
        )
        .0,
        Kind::DifferentFailure
    );
}

#[test]
fn how_far_a_test_got_before_its_time_was_up_does_not_matter() {
    let signature = |words: &str| {
        let evidence = Evidence {
            last_stdout: Some(words.to_owned()),
            ..Evidence::default()
        };
        let verdict = verdict::derive(Exit::Timeout, &evidence, &Command::Shell(String::new()));
        let reason = verdict.reason.unwrap();
        assert!(reason.contains(words));
        Signature::of(&outcome("a::default", verdict.status, &reason))
    };
    assert_eq!(signature("step one"), signature("step two"));
}
