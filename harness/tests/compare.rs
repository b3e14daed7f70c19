//! `kvm-tests compare`: what it makes of two runs, read from their directories.

#![expect(clippy::unwrap_used, reason = "these are tests")]

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;

use harness::case::Command;
use harness::compare::change::Kind;
use harness::compare::signature::Signature;
use harness::compare::{Comparison, Format, Run};
use harness::evidence::Evidence;
use harness::host::Host;
use harness::outcome::{Assertion, Exit, Outcome, Status, Subtest, SubtestResult};
use harness::record::Record;
use harness::results::{Entry, Results, RunInfo, SCHEMA_VERSION};
use harness::verdict;
use serde_json::{Value, json};
use tempfile::TempDir;

fn outcome(name: &str, status: Status, reason: &str) -> Outcome {
    let exit = match status {
        Status::Passed => Some(Exit::Code(0)),
        Status::Skipped => Some(Exit::Code(4)),
        Status::Failed => Some(Exit::Code(1)),
        Status::TimedOut => Some(Exit::Timeout),
        Status::NoRun => None,
    };
    Outcome {
        name: name.to_owned(),
        environment: None,
        suite: name.split("::").next().unwrap().to_owned(),
        variant: "default".to_owned(),
        status,
        reason: (status != Status::Passed).then(|| reason.to_owned()),
        exit,
        pid: Some(77),
        started_ms: 1_700_000_000_000,
        duration_s: 0.5,
        user_s: 0.0,
        system_s: 0.0,
        max_rss: 0,
        worker: 0,
        output: None,
        reproduce: format!("run {name}"),
        assertion: None,
        subtests: Vec::new(),
        leaks: Vec::new(),
    }
}

fn passed(name: &str) -> Outcome {
    outcome(name, Status::Passed, "")
}

fn lasting(name: &str, seconds: f64) -> Outcome {
    Outcome { duration_s: seconds, ..passed(name) }
}

/// A failed assertion, with the reason that the runner makes of it.
fn asserting(name: &str, file: &str, line: u32, expression: &str, message: &str) -> Outcome {
    let (file, expression, message) = (file.to_owned(), expression.to_owned(), message.to_owned());
    let assertion = Assertion { file, line, expression, message, errno: Some(4) };
    let evidence = Evidence { assertion: Some(assertion.clone()), ..Evidence::default() };
    let exit = Exit::Code(254);
    let verdict = verdict::derive(exit, &evidence, &Command::Shell(String::new()));
    let reason = verdict.reason.unwrap();
    Outcome { exit: Some(exit), assertion: Some(assertion), ..outcome(name, verdict.status, &reason) }
}

fn host() -> Host {
    let parameters = |list: &[(&str, &str)]| {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>()
    };
    Host {
        hostname: "box".to_owned(),
        kernel: "6.12.1".to_owned(),
        kernel_version: "#1 SMP".to_owned(),
        machine: "x86_64".to_owned(),
        cpu_vendor: "AuthenticAMD".to_owned(),
        cpu_model: "AMD EPYC".to_owned(),
        cpus: 8,
        memory: 16 << 30,
        free_hugepages: BTreeMap::from([(2 << 20, 0)]),
        kvm_problem: None,
        modules: BTreeMap::from([
            ("kvm".to_owned(), parameters(&[("tdp_mmu", "Y"), ("nx_huge_pages", "N")])),
            ("kvm_amd".to_owned(), parameters(&[("npt", "Y")])),
        ]),
        taint: 0,
    }
}

fn info(selected: usize) -> RunInfo {
    RunInfo {
        schema_version: SCHEMA_VERSION,
        version: "0.1.0".to_owned(),
        command_line: vec!["kvm-tests".to_owned(), "run".to_owned()],
        started_ms: 1_700_000_000_000,
        host: host(),
        selftests: vec!["/opt/selftests".into()],
        workers: 8,
        shuffle_seed: None,
        selected,
    }
}

fn record(outcomes: Vec<Outcome>) -> Record {
    let run = info(outcomes.len());
    Record {
        schema_version: SCHEMA_VERSION,
        run,
        outcomes,
        finished: true,
        duration_s: Some(9.0),
        interrupted_by: None,
    }
}

/// The record as a run keeps it and as it is read back, called `name`.
fn kept(name: &str, record: &Record) -> Run {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("run.json"), serde_json::to_vec(record).unwrap()).unwrap();
    let run = Run::read(directory.path()).unwrap();
    assert_eq!(&run.record, record);
    Run { place: name.into(), ..run }
}

fn run(name: &str, outcomes: Vec<Outcome>) -> Run {
    kept(name, &record(outcomes))
}

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

fn text(old: &Run, new: &Run) -> String {
    Comparison::of(old, new, None).render(Format::Text)
}

fn json(old: &Run, new: &Run, slower: Option<f64>) -> Value {
    serde_json::from_str(&Comparison::of(old, new, slower).render(Format::Json)).unwrap()
}

#[test]
fn each_transition_has_its_name_and_is_worse_or_not() {
    let of = |status| vec![outcome("a::default", status, "why")];
    let none = Vec::new;
    use Status::{Failed, NoRun, Passed, Skipped, TimedOut};
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
fn a_failure_is_the_same_whatever_its_lines_and_numbers() {
    let a =
        asserting("a::default", "x86_64/cpuid_test.c", 94, "a == b", "CPUID 0x1.0 differ: 0xa00f11 vs 17");
    let b = asserting("a::default", "x86/cpuid_test.c", 107, "a == b", "CPUID 0xd.1 differ: 0x0 vs -3");
    assert_eq!(change(vec![a.clone()], vec![b]), (Kind::SameFailure, false));
    for other in [
        asserting("a::default", "x86_64/other.c", 94, "a == b", "CPUID 0x1.0 differ: 0xa00f11 vs 17"),
        asserting("a::default", "x86_64/cpuid_test.c", 94, "a == c", "CPUID 0x1.0 differ: 0xa00f11 vs 17"),
        asserting("a::default", "x86_64/cpuid_test.c", 94, "a == b", "MSR 0x1.0 differ: 0xa00f11 vs 17"),
        Outcome { exit: Some(Exit::Signal { signal: 11, core_dumped: false }), ..a.clone() },
    ] {
        assert_eq!(change(vec![a.clone()], vec![other]), (Kind::DifferentFailure, true));
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
        let exit = Exit::Signal { signal, core_dumped };
        let reason = verdict::derive(exit, &Evidence::default(), &Command::Shell(String::new())).reason;
        // What the kernel did about the core is in the reason, too.
        Outcome { exit: Some(exit), ..outcome("a::default", Status::Failed, &reason.unwrap()) }
    };
    assert_eq!(change(vec![crash(11, true)], vec![crash(11, false)]).0, Kind::SameFailure);
    assert_eq!(change(vec![crash(11, true)], vec![crash(6, true)]).0, Kind::DifferentFailure);
}

#[test]
fn failed_sub_tests_are_known_by_their_names_and_what_they_said() {
    let failing = |names: &[&str], diagnostic: &str| {
        let subtest =
            |name: &&str| Subtest { name: (*name).to_owned(), result: SubtestResult::NotOk, reason: None };
        let mut subtests: Vec<_> = names.iter().map(subtest).collect();
        let reason = format!("not ok: {}\n{diagnostic}", names.join(", "));
        subtests.push(Subtest { name: "good".to_owned(), result: SubtestResult::Ok, reason: None });
        vec![Outcome { subtests, ..outcome("a::default", Status::Failed, &reason) }]
    };
    let old = || failing(&["x.one"], "x.c:12:one:Expected 1 (1) == 2 (2)");
    assert_eq!(change(old(), failing(&["x.one"], "x.c:99:one:Expected 7 (7) == 2 (2)")).0, Kind::SameFailure);
    assert_eq!(
        change(old(), failing(&["x.two"], "x.c:12:two:Expected 1 (1) == 2 (2)")).0,
        Kind::DifferentFailure
    );
    assert_eq!(
        change(old(), failing(&["x.one"], "one: Test terminated by timeout")).0,
        Kind::DifferentFailure
    );
}

#[test]
fn how_far_a_test_got_before_its_time_was_up_does_not_matter() {
    let signature = |words: &str| {
        let evidence = Evidence { last_stdout: Some(words.to_owned()), ..Evidence::default() };
        let verdict = verdict::derive(Exit::Timeout, &evidence, &Command::Shell(String::new()));
        let reason = verdict.reason.unwrap();
        assert!(reason.contains(words));
        Signature::of(&outcome("a::default", verdict.status, &reason))
    };
    assert_eq!(signature("step one"), signature("step two"));
}

#[test]
fn where_nothing_changed_little_is_said() {
    let outcomes = || vec![passed("a::default"), outcome("b::default", Status::Failed, "exit code 1")];
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

/// Two runs that differ in all there is.
fn before_and_after() -> (Run, Run) {
    let mut old = record(vec![
        passed("ok::default"),
        passed("breaks::default"),
        asserting("differs::default", "differs.c", 12, "r == 0", "KVM_RUN failed, rc: -1"),
        asserting("heals::default", "heals.c", 3, "false", "cannot map 12 pages"),
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
            ..outcome("differs::default", Status::TimedOut, "did not end in its time")
        },
        passed("heals::default"),
        outcome("is_skipped::default", Status::Skipped, "Requirement not met: kvm_has_cap(KVM_CAP_X86_SMM)"),
        passed("comes_back::default"),
        asserting("stays::default", "lib/kvm_util.c", 570, "test_bit_le(page, bmap)", "Page 17 is not dirty"),
        lasting("slows::default", 5.0),
        lasting("races::default", 3.0),
        passed("is_new::default"),
    ]);
    old.run.host.modules.insert("kvm_pvm".to_owned(), BTreeMap::new());
    new.run.host.kernel = "6.12.2".to_owned();
    new.run.host.modules.get_mut("kvm_amd").unwrap().insert("npt".to_owned(), "N".to_owned());
    new.run.command_line.push("--skip=goes".to_owned());
    (kept("before", &old), kept("after", &new))
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
fn markdown_is_plain_text_of_75_columns_that_states_what_was_compared() {
    let (old, new) = before_and_after();
    let markdown = Comparison::of(&old, &new, None).render(Format::Markdown);
    assert_eq!(markdown.lines().find(|line| line.chars().count() > 75), None);
    // What is not ours is indented as code, and code begins after an empty line.
    let lines: Vec<&str> = markdown.lines().collect();
    for (before, line) in lines.iter().zip(&lines[1..]) {
        assert!(!line.starts_with("    ") || before.is_empty() || before.starts_with("    "), "{line}");
        assert!(line.is_empty() || line.starts_with("    ") || line.ends_with([':', '.']), "{line}");
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
    assert_eq!((&json["schema_version"], &json["worse"]), (&json!(1), &json!(true)));
    let mut named: Vec<&str> =
        json["changes"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    named.extend(json["unchanged"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()));
    let unique: HashSet<_> = named.iter().collect();
    assert_eq!((named.len(), unique.len()), (11, 11));
    assert_eq!(json["unchanged"], json!(["ok::default", "races::default", "slows::default"]));
    assert_eq!(json["slower"], json!([{"name": "slows::default", "old_s": 2.0, "new_s": 5.0}]));
    assert_eq!(json["faster"], json!([{"name": "races::default", "old_s": 9.0, "new_s": 3.0}]));
    assert_eq!(
        json["differences"][0],
        json!({"subject": "kernel", "what": "kernel", "old": "6.12.1", "new": "6.12.2"})
    );
    let differs =
        json["changes"].as_array().unwrap().iter().find(|change| change["name"] == "differs::default");
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

fn iterations(name: &str, total: usize, failing: &[usize]) -> Vec<Outcome> {
    let of = |number| {
        let status = if failing.contains(&number) { Status::Failed } else { Status::Passed };
        outcome(
            &format!("{name}::iteration_{number}"),
            status,
            &format!("exit code 1; last output: page {number}"),
        )
    };
    (1..=total).map(of).collect()
}

#[test]
fn iterations_are_one_case_whose_flakiness_shows() {
    let old = [iterations("new::default", 10, &[]), iterations("same::default", 10, &[4])].concat();
    let new = [iterations("new::default", 10, &[2, 3, 7]), iterations("same::default", 10, &[1, 9])].concat();
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
fn failing_more_often_than_chance_explains_is_worse() {
    let of = |failing: &[usize]| iterations("a::default", 10, failing);
    let all: Vec<usize> = (1..=10).collect();
    assert_eq!(change(of(&[1]), of(&[1, 2, 3])), (Kind::SameFailure, false));
    assert_eq!(change(of(&[1]), of(&all)), (Kind::FailsMoreOften, true));
    assert_eq!(change(of(&all), of(&[1])), (Kind::SameFailure, false));
    assert_eq!(change(of(&[1]), of(&[])), (Kind::Fixed, false));
    let skipping =
        |count| (1..=count).map(|i| outcome(&format!("a::default::iteration_{i}"), Status::Skipped, "why"));
    let partly = |skipped| skipping(skipped).chain(of(&[]).into_iter().skip(skipped)).collect::<Vec<_>>();
    assert_eq!(change(of(&[]), partly(3)), (Kind::NewlySkipped, true));
    assert_eq!(change(partly(3), partly(5)), (Kind::Unchanged, false));
    assert_eq!(change(partly(3), partly(10)), (Kind::NewlySkipped, true));
    // A run without iterations has the same case.
    assert_eq!(change(vec![passed("a::default")], of(&[5])), (Kind::NewFailure, true));
}

#[test]
fn being_slower_is_told_from_one_second_on_and_worse_where_asked() {
    let outcomes = |slow, quick| vec![lasting("slow::default", slow), lasting("quick::default", quick)];
    let (old, new) = (run("old", outcomes(10.0, 0.1)), run("new", outcomes(25.0, 0.9)));
    for (slower, told, is_worse) in [(None, 1, false), (Some(2.5), 1, true), (Some(3.0), 0, false)] {
        let json = json(&old, &new, slower);
        assert_eq!(json["slower"].as_array().unwrap().len(), told);
        assert_eq!(json["worse"], is_worse);
    }
}

#[test]
fn a_run_whose_runner_was_killed_is_read_as_far_as_it_got() {
    let directory = TempDir::new().unwrap();
    let results = Results::create_at(&directory.path().join("run"), false).unwrap();
    results.record(&Entry::RunStarted { run: Box::new(info(3)) }).unwrap();
    results.write_run_json().unwrap();
    results.record(&Entry::Finished { outcome: Box::new(passed("a::default")) }).unwrap();
    results.record(&Entry::Started { outcome: Box::new(outcome("b::default", Status::NoRun, "")) }).unwrap();
    let journal = results.root().join("journal.jsonl");
    let cut_off = [fs::read(&journal).unwrap(), b"{\"event\":\"fini".to_vec()].concat();
    fs::write(&journal, cut_off).unwrap();
    let new = Run { place: "killed".into(), ..Run::read(results.root()).unwrap() };
    let old = run("old", ["a::default", "b::default", "c::default"].map(passed).to_vec());
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
        refusal(&serde_json::to_string(&record(Vec::new())).unwrap()).contains("has no outcome of any case")
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
    hostile.run.host.modules.insert(evil.to_owned(), BTreeMap::from([(evil.to_owned(), evil.to_owned())]));
    hostile.run.command_line.push(evil.to_owned());
    hostile.run.selftests.push(evil.into());
    let (old, new) = (run("old", vec![passed("b::default"), passed("c::default")]), kept(evil, &hostile));
    for (old, new) in [(&old, &new), (&new, &old), (&new, &new)] {
        let comparison = Comparison::of(old, new, None);
        for format in [Format::Text, Format::Markdown, Format::Json] {
            let text = comparison.render(format);
            let forbidden = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
            assert_eq!(text.find(forbidden), None, "{format:?} {text}");
        }
        let json: Value = serde_json::from_str(&comparison.render(Format::Json)).unwrap();
        assert_eq!(json["changes"][0]["name"], evil);
        assert!(!comparison.render(Format::Markdown).lines().any(|line| line.starts_with(['#', '`', '<'])));
    }
}

#[test]
fn five_thousand_cases_are_all_compared() {
    let outcomes = |offset: u32| -> Vec<Outcome> {
        (0..5000)
            .map(|i| {
                asserting(&format!("t{i}::default"), "a.c", i + offset, "x", &format!("page {}", i * offset))
            })
            .collect()
    };
    let json = json(&run("old", outcomes(1)), &run("new", outcomes(7)), None);
    let same = json["changes"].as_array().unwrap().iter().filter(|change| change["kind"] == "same_failure");
    assert_eq!((same.count(), &json["worse"]), (5000, &json!(false)));
}
