//! Known failures: what is known does not fail the run, and anything else does.

use std::fs;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::fake_host::FakeHost;
use crate::support::{Fixture, Ran, Status, lines_with, wait_for};

/// A selftest that fails with this assertion.
fn asserts(expression: &str, message: &str) -> String {
    format!(
        "printf '==== Test Assertion Failure ====\\n  x86_64/a_test.c:12: {expression}\\n  pid=1 tid=1 errno=2 - No\\n     \
         1\\t0x1: main at a_test.c:12\\n  {message}\\n' >&2; exit 254"
    )
}

/// What fails in many ways.
fn all_kinds() -> Fixture {
    Fixture::new()
        .selftest(
            "assert_test",
            &asserts("a == b", "nent mismatch: 59 vs. 56"),
        )
        .selftest(
            "subtest_test",
            "printf 'TAP version 13\\n1..3\\nok 1 a\\nnot ok 2 b c\\nnot ok 3 d\\n'; exit 1",
        )
        .selftest("crash_test", "echo before; kill -SEGV $$")
        .selftest("code_test", "echo 'rc is -22' >&2; exit 7")
        .selftest(
            "bail_test",
            "printf 'TAP version 13\\n1..2\\nok 1 a\\nBail out! no more\\n'; exit 1",
        )
        .selftest("usage_test", "echo \"usage: $0 [-h]\"; exit 1")
        .selftest("hang_test", "echo begun; while :; do sleep 1000; done")
        .selftest("fine_test", "exit 0")
        .selftest("skip_test", "exit 4")
}

/// Runs `kvm-tests known --from` the last run, and keeps what it prints.
fn known_from_last(fixture: &Fixture) -> String {
    let ran = Ran::of(
        fixture
            .program(&["known", "--from", "run"])
            .output()
            .unwrap(),
    );
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    fs::write(fixture.path().join("k.toml"), &ran.stdout).unwrap();
    ran.stdout
}

#[test]
fn what_failed_in_a_run_is_green_in_the_next_one_and_listed_as_known() {
    let fixture = all_kinds();
    let arguments = ["--timeout", "1"];
    assert_eq!(fixture.run(&arguments).code, Some(101));
    let entries = known_from_last(&fixture);
    assert_eq!(lines_with(&entries, "[[known]]").len(), 7, "{entries}");
    assert!(
        entries.contains("reason = \"TODO: x86_64/a_test.c:12: nent mismatch: 59 vs. 56\""),
        "{entries}"
    );

    let ran = fixture.run(&["--timeout", "1", "--known", "k.toml"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stdout);
    let ignored = lines_with(&ran.stdout, "... ignored (known failure: TODO: ");
    assert_eq!(ignored.len(), 7, "{}", ran.stdout);
    let counted = lines_with(&ran.stdout, "1 PASSED, 1 SKIPPED, 7 KNOWN of 9 cases");
    assert_eq!(counted.len(), 1, "{}", ran.stdout);
    let (_, told) = ran.stdout.split_once("\nKNOWN failures").unwrap();
    for outcome in fixture.record().outcomes {
        let is_known = matches!(outcome.status, Status::Failed | Status::TimedOut);
        assert_eq!(outcome.rest.contains_key("known"), is_known, "{outcome:?}");
        assert_eq!(
            told.contains(&format!("  {}: known failure: ", outcome.name)),
            is_known,
            "{told}"
        );
    }
    // Nothing new failed in it.
    assert_eq!(lines_with(&known_from_last(&fixture), "[[known]]"), [""; 0]);
}

#[test]
fn another_failure_of_the_same_case_fails_as_ever() {
    let fixture = all_kinds();
    fixture.run(&["--timeout", "1"]);
    known_from_last(&fixture);
    let fixture = fixture
        .selftest(
            "assert_test",
            &asserts("a != b", "nent mismatch: 59 vs. 56"),
        )
        .selftest(
            "subtest_test",
            "printf 'TAP version 13\\n1..3\\nok 1 a\\nnot ok 2 b\\nnot ok 3 d\\n'; exit 1",
        )
        .selftest("crash_test", "kill -BUS $$")
        .selftest("code_test", "echo 'rc is -22' >&2; exit 77")
        .selftest(
            "bail_test",
            "printf 'TAP version 13\\n1..2\\nok 1 a\\nnot ok 2 b\\nBail out! no more\\n'; exit 1",
        )
        .selftest("usage_test", &asserts("a == b", "x"))
        .selftest("hang_test", "exit 3")
        .selftest("fine_test", "exit 1");
    let ran = fixture.run(&["--known", "k.toml"]);
    assert_eq!(ran.code, Some(101));
    let counted = lines_with(&ran.stdout, "1 SKIPPED, 8 FAILED of 9 cases");
    assert_eq!(counted.len(), 1, "{}", ran.stdout);

    // What is wrong beside the known failure is not hidden by it.
    let fixture = fixture
        .selftest("assert_test", &asserts("a == b", "nent mismatch: 1 vs. 2"))
        .file(
            "torn.toml",
            "[[test]]\nname = \"down\"\nselftest = \"assert_test\"\nteardown = \"exit 1\"\n",
        )
        .file(
            "k.toml",
            "[[known]]\ncase = \"*::*\"\nfailure = \"nent mismatch\"\nreason = \"r\"\n",
        );
    let ran = fixture.run(&[
        "--known",
        "k.toml",
        "--config",
        "torn.toml",
        "assert_test",
        "torn",
    ]);
    assert_eq!(ran.code, Some(101));
    let counted = lines_with(&ran.stdout, "1 KNOWN, 1 FAILED of 2 cases");
    assert_eq!(counted.len(), 1, "{}", ran.stdout);
}

#[test]
fn an_unexpected_pass_is_told_and_fails_where_that_is_strict() {
    let fixture = Fixture::new()
        .selftest("a_test", "exit 0")
        .selftest("b_test", "exit 0")
        .selftest("c_test", "exit 0")
        .file("k.toml", "[[known]]\ncase = \"a_test::*\"\nreason = \"old\"\n[[known]]\ncase = \"c_test::*\"\nreason = \"x\"\nexpect = \"flaky\"\n")
        .file("strict.toml", "[[known]]\ncase = \"b_test::*\"\nreason = \"old\"\nstrict = true\n");
    let ran = fixture.run(&["--known", "k.toml"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stdout);
    for line in [
        "2 PASSED, 1 XPASS of 3 cases",
        "XPASS a_test::default: known failure: old",
        "XPASS: known to fail",
    ] {
        assert_eq!(
            lines_with(&(ran.stdout.clone() + &ran.stderr), line).len(),
            1,
            "{line}: {}{}",
            ran.stdout,
            ran.stderr
        );
    }
    let ran = fixture.run(&["--known", "k.toml", "--known", "strict.toml"]);
    assert_eq!(ran.code, Some(101));
    let reason = "XPASS: it passed, but is a known failure: old (strict.toml:2:8)";
    assert_eq!(
        fixture.verdict("b_test::default"),
        (Status::Failed, reason.to_owned())
    );
    // An entry that any failure fits would be the last thing to suggest.
    let entries = known_from_last(&fixture);
    assert_eq!(lines_with(&entries, "[[known]]").len(), 0, "{entries}");
}

/// A known flaky case that has passed needs no other repetition: those are left out, and nobody waits for them for ever.
#[test]
fn a_flaky_failure_that_passed_again_is_over_for_its_suite_and_for_other_environments() {
    for (tear_down, code) in [("true", 0), ("[ $(wc -l < ../suite) -lt 6 ]", 101)] {
        let suite = format!(
            "setup = \"echo up >> ../suite\"\nteardown = \"echo down >> ../suite; {tear_down}\"\n\
            [[test]]\nname = \"flips\"\nselftest = \"flips_test\"\n"
        );
        // It fails once in each environment.
        let fixture = Fixture::new()
            .selftest(
                "flips_test",
                "echo run >> ../runs; [ $(wc -l < ../runs) -gt 2 ] || exit 7",
            )
            .file("suite.toml", &suite)
            .file(
                "known.toml",
                "[[known]]\ncase = \"*\"\nexpect = \"flaky\"\nfailure = \"exit code 7\"\nreason = \"races\"\n",
            );
        let host = FakeHost::amd();
        let before = host.state();
        let mut command = fixture.command(&["--selftests", "selftests", "--output", "run"]);
        command.args(["--config", "suite.toml", "--known", "known.toml", "suite::"]);
        command.args(["--environment", "host", "--set", "tdp=off"]);
        command.env("KVM_TESTS_ROOT", host.path(""));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut run = command.env("PATH", host.search()).spawn().unwrap();
        wait_for("the run has ended", || run.try_wait().unwrap().is_some());
        assert_eq!(run.wait().unwrap().code(), Some(code));
        assert_eq!((host.state(), host.is_left_alone()), (before, true));
        let trace = fs::read_to_string(fixture.path().join("suite")).unwrap();
        assert_eq!(trace, "up\ndown\n".repeat(4));
        let runs = fs::read_to_string(fixture.path().join("runs")).unwrap();
        assert_eq!(runs, "run\n".repeat(4));
    }
}

#[test]
fn a_flaky_failure_is_run_again_until_it_passes_and_another_one_then_fails() {
    let fails_at = |runs: &str, otherwise: &str| {
        let count = "n=$(cat \"$0.n\" 2>/dev/null || echo 0); n=$((n + 1)); echo $n > \"$0.n\"";
        format!("{count}; case $n in {runs}) echo flip; exit 1;; *) {otherwise};; esac")
    };
    let fixture = Fixture::new()
        .selftest("a_test", &fails_at("1|2", "exit 0"))
        .selftest("b_test", &fails_at("*", "exit 0"))
        .selftest("c_test", &fails_at("1", "exit 3"))
        .file(
            "k.toml",
            "[[known]]\ncase = \"*\"\nexpect = \"flaky\"\nfailure = \"flip\"\nreason = \"races\"\n",
        );
    let ran = fixture.run(&["--known", "k.toml"]);
    assert_eq!(ran.code, Some(101));
    for line in [
        "  a_test::default: known failure: races, failed 2 of 3",
        "  b_test::default: known failure: races, failed 4 of 4",
        "  c_test::default: failed 4 of 4: exit code 3",
        "2 KNOWN, 1 FAILED of 3 cases",
        "test result: FAILED. 0 passed; 1 failed; 2 ignored;",
    ] {
        assert_eq!(
            lines_with(&ran.stdout, line).len(),
            1,
            "{line}: {}",
            ran.stdout
        );
    }
}

/// Who reads lines as they come must not take for known what becomes a failure in its repetitions.
#[test]
fn a_flaky_failure_is_told_when_its_repetitions_have_shown_what_it_is() {
    for (format, told) in [
        ("ktap", "not ok 2 selftests: kvm: c_test # exit=1"),
        ("json", "\"event\":\"failed\",\"exec_time\""),
        ("pretty", "test c_test::default ... FAILED"),
    ] {
        let fixture = Fixture::new()
            .selftest("a_test", "exit 0")
            .selftest("c_test", "[ -e ../again ] && exit 3; touch ../again; echo flip; exit 1")
            .file(
                "k.toml",
                "[[known]]\ncase = \"*\"\nexpect = \"flaky\"\nfailure = \"flip\"\nreason = \"races\"\n",
            );
        let ran = fixture.run(&[
            "--known",
            "k.toml",
            "--format",
            format,
            "--test-threads",
            "1",
        ]);
        assert_eq!(ran.code, Some(101));
        let of_case = lines_with(&ran.stdout, "c_test");
        let ended: Vec<_> = of_case.iter().filter(|line| line.contains(told)).collect();
        assert_eq!(ended.len(), 1, "{}", ran.stdout);
        let known = of_case
            .iter()
            .any(|line| line.contains("XFAIL") || line.contains("ignored"));
        assert!(!known, "{}", ran.stdout);
    }
}

#[test]
fn what_crashes_the_host_is_never_run() {
    let fixture = Fixture::new()
        .selftest("crash_test", "echo ran > \"$0.ran\"")
        .selftest("fine_test", "exit 0")
        .file(
            "k.toml",
            "[[known]]\ncase = \"crash_test::default\"\nreason = \"panics\"\nexpect = \"crash\"\n",
        );
    for more in [
        &[][..],
        &["--include-ignored"],
        &["--exact", "crash_test::default", "--ignored"],
    ] {
        let ran = fixture.run(&[&["--known", "k.toml", "--report", "skip=status"], more].concat());
        assert_eq!(ran.code, Some(0), "{}", ran.stdout);
        let reason = "known failure: panics".to_owned();
        assert_eq!(
            fixture.verdict("crash_test::default"),
            (Status::Skipped, reason)
        );
        assert_eq!(
            lines_with(&ran.stdout, "ignored (known failure: panics)").len(),
            1,
            "{}",
            ran.stdout
        );
    }
    assert!(!fixture.path().join("selftests/crash_test.ran").exists());
}

#[test]
fn an_entry_holds_for_its_cases_environments_hosts_and_days() {
    let fixture = Fixture::new()
        .selftest("a_test", "exit 1")
        .selftest("b_test", "exit 1");
    let entry = |keys: &str| format!("[[known]]\n{keys}\nreason = \"r\"\n");
    for (keys, holds) in [
        ("case = \"a_test::default\"", true),
        (
            &format!("case = \"*\"\narch = \"{}\"", std::env::consts::ARCH),
            true,
        ),
        (
            "case = \"a*\"\nkernel = \">=2.6, <999\"\nenvironment = \"host\"",
            true,
        ),
        ("case = \"a_test\"", false),
        (
            "case = \"a*\"\narch = \"loongarch64\"",
            cfg!(target_arch = "loongarch64"),
        ),
        ("case = \"a*\"\nvendor = \"nobody\"", false),
        ("case = \"a*\"\nkernel = \">=999\"", false),
        ("case = \"a*\"\nenvironment = \"nested_off\"", false),
        ("case = \"a*\"\nuntil = 2001-01-31", false),
        ("case = \"a*\"\nuntil = \"9999-12-31\"", true),
    ] {
        fs::write(fixture.path().join("k.toml"), entry(keys)).unwrap();
        let ran = fixture.run(&["--known", "k.toml", "a_test"]);
        assert_eq!(
            ran.code,
            Some(if holds { 0 } else { 101 }),
            "{keys}: {}",
            ran.stdout
        );
    }
}

#[test]
fn entries_that_hold_no_more_or_match_nothing_are_told() {
    let text = "[[known]]\ncase = \"a*\"\nuntil = 2001-01-31\nreason = \"r\"\n[[known]]\ncase = \"gone::*\"\nreason = \"r\"\n";
    let fixture = Fixture::new()
        .selftest("a_test", "exit 0")
        .file("k.toml", text);
    let notes = [
        "k.toml:2:8: a*: held until 2001-01-31, and does no more",
        "k.toml:6:8: gone::*: no case is called so",
    ];
    let listed = Ran::of(
        fixture
            .command(&["--list", "--selftests", "selftests", "--known", "k.toml"])
            .output()
            .unwrap(),
    );
    assert_eq!(listed.stderr.lines().collect::<Vec<_>>(), notes);
    let ran = fixture.run(&["--known", "k.toml", "a_test"]);
    assert_eq!(ran.code, Some(0));
    for note in notes {
        assert_eq!(lines_with(&ran.stdout, note).len(), 1, "{}", ran.stdout);
    }
}

#[test]
fn every_report_tells_a_known_failure_apart() {
    let known = "[[known]]\ncase = \"a_test::default\"\nreason = \"bug <7>\"\nlink = \"https://example.org/7\"\n";
    let fixture = Fixture::new()
        .selftest(
            "a_test",
            "printf 'TAP version 13\\n1..1\\nnot ok 1 b\\n'; exit 1",
        )
        .file("k.toml", known);
    let ran = fixture.run(&["--known", "k.toml", "--format", "ktap"]);
    assert_eq!(ran.code, Some(0));
    let line = "ok 1 selftests: kvm: a_test # XFAIL known failure: bug <7>";
    assert_eq!(lines_with(&ran.stdout, line), [line]);
    assert!(
        ran.stdout.contains("fail:0 xfail:1 xpass:0"),
        "{}",
        ran.stdout
    );
    let read = |name: &str| fs::read_to_string(fixture.results().join(name)).unwrap();
    let junit = read("junit.xml");
    assert!(
        junit.contains("<skipped message=\"known failure: bug &lt;7&gt;\"/>"),
        "{junit}"
    );
    assert!(
        junit.contains("tests=\"1\" failures=\"0\" errors=\"0\" skipped=\"1\""),
        "{junit}"
    );
    let ktap = read("results.ktap");
    assert!(
        ktap.contains("ok 1 default # XFAIL known failure: bug <7>\n") && !ktap.contains("not ok "),
        "{ktap}"
    );
    let html = read("report.html");
    assert!(html.contains("badge known") && html.contains("https://example.org/7"));
    let run: Value = serde_json::from_str(&read("run.json")).unwrap();
    assert_eq!(run["counts"], json!({"KNOWN": 1}));
    let json = fixture
        .run(&["--known", "k.toml", "--format", "json"])
        .stdout;
    let event = r#"{"event":"ignored","message":"known failure: bug <7>","name":"a_test::default","type":"test"}"#;
    assert_eq!(lines_with(&json, event), [event]);
    for (form, told) in [
        (
            &["kcidb", "--origin", "o", "--build-id", "b"][..],
            "\"reason\": \"bug <7>\"",
        ),
        (&["tmt"], "\"result\": \"info\""),
    ] {
        let printed = fixture
            .program(&[&["report", "run", "--format"], form].concat())
            .output()
            .unwrap();
        let printed = Ran::of(printed).stdout;
        assert!(printed.contains(told), "{printed}");
    }
}

#[test]
fn to_compare_a_known_failure_is_a_failure() {
    let fixture = Fixture::new()
        .selftest("a_test", "exit 0")
        .file("k.toml", "[[known]]\ncase = \"*\"\nreason = \"r\"\n");
    fixture.run(&[]);
    fs::rename(fixture.results(), fixture.path().join("before")).unwrap();
    let fixture = fixture.selftest("a_test", "exit 1");
    assert_eq!(fixture.run(&["--known", "k.toml"]).code, Some(0));
    let compared = Ran::of(
        fixture
            .program(&["compare", "before", "run"])
            .output()
            .unwrap(),
    );
    assert_eq!(compared.code, Some(1), "{}", compared.stdout);
}

#[test]
fn every_mistake_in_known_failures_is_told_with_its_place() {
    let text = r#"[[known]]
case = "a[*"
reason = "r"
[[known]]
case = "a"
[[known]]
case = "a"
reasn = "r"
[[known]]
case = "a"
reason = "r"
kernel = "6.12"
[[known]]
case = "a"
reason = "r"
until = "soon"
[[known]]
case = "a"
reason = "r"
expect = "flakey"
[[known]]
case = "a"
reason = "r"
failure = ["x", " *"]
[[known]]
case = "a"
reason = "r"
arch = "x86-64"
[[known]]
case = "a"
reason = "r"
expect = "flaky"
strict = true
[other]
"#;
    let fixture = Fixture::new()
        .selftest("a_test", "exit 0")
        .file("k.toml", text);
    let ran = fixture.run(&["--known", "k.toml", "--known", "none.toml"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""));
    let expected = "\
error: k.toml:2:8: \"a[*\" is no glob: Pattern syntax error near position 1: invalid range pattern
error: k.toml:4:1: missing key `reason`
error: k.toml:8:1: unknown key `reasn`; did you mean `reason`?
error: k.toml:12:10: \"6.12\" is no range of kernels, as \">=6.12, <6.16\" is
error: k.toml:16:9: \"soon\" is no date, as 2027-03-31 is
error: k.toml:20:10: unknown word `flakey`; did you mean `flaky`?
error: k.toml:24:11: invalid value: string \" *\", expected a part of a line that says something
error: k.toml:28:8: unknown word `x86-64`; did you mean `x86_64`?
error: k.toml:34:2: unknown key `other`; known here: `known`
error: k.toml:33:10: `strict` is for `expect = \"fail\"` alone: what is flaky may pass, and what crashes never runs
error: none.toml: No such file or directory (os error 2)
";
    assert_eq!(ran.stderr, expected);
}
