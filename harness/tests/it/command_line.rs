//! The command line of the real program: libtest's options as libtest has them, and what is refused.

use std::fmt::Write;
use std::io::{BufRead, BufReader};

use crate::support::Status;
use crate::support::{Fixture, Ran, lines_with};

fn three() -> Fixture {
    Fixture::new()
        .selftest("dirty_log_test", "exit 0")
        .selftest("dirty_ring_test", "exit 0")
        .selftest("other_test", "echo broken; exit 1")
}

fn names_run(fixture: &Fixture) -> Vec<String> {
    let mut names: Vec<_> = fixture
        .record()
        .outcomes
        .into_iter()
        .map(|outcome| outcome.name)
        .collect();
    names.sort();
    names
}

#[test]
fn several_filters_exact_and_skip_choose_as_in_libtest() {
    let fixture = three();
    for (arguments, expected) in [
        (
            &["dirty"][..],
            &["dirty_log_test::default", "dirty_ring_test::default"][..],
        ),
        (
            &["log", "ring"],
            &["dirty_log_test::default", "dirty_ring_test::default"],
        ),
        (&["dirty", "--skip", "ring"], &["dirty_log_test::default"]),
        (
            &["--exact", "dirty_log_test/default"],
            &["dirty_log_test::default"],
        ),
        (
            &["--skip", "other"],
            &["dirty_log_test::default", "dirty_ring_test::default"],
        ),
    ] {
        let ran = fixture.run(arguments);
        assert_eq!(
            (ran.code, names_run(&fixture)),
            (Some(0), expected.iter().map(ToString::to_string).collect())
        );
        let filtered_out = format!("{} filtered out", 3 - expected.len());
        assert_eq!(
            lines_with(&ran.stdout, &filtered_out).len(),
            1,
            "{}",
            ran.stdout
        );
    }
}

#[test]
fn there_are_no_benchmarks_and_no_test_runs_for_one() {
    let fixture = three();
    let ran = fixture.run(&["--bench"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.contains("running 0 tests\n"), "{}", ran.stdout);
    assert!(names_run(&fixture).is_empty());
    assert_eq!(fixture.run(&["--bench", "--test"]).code, Some(101));
}

#[test]
fn a_schema_is_that_of_run_json_where_no_other_is_asked_for() {
    let fixture = Fixture::new();
    let schema = |more: &[&str]| {
        let mut program = fixture.program(&[&["schema"], more].concat());
        Ran::of(program.output().unwrap())
    };
    let given = schema(&[]);
    assert_eq!(given.code, Some(0), "{}", given.stderr);
    assert_eq!(given.stdout, schema(&["run"]).stdout);
}

#[test]
fn a_filter_that_matches_nothing_is_no_success() {
    let fixture = three();
    let ran = fixture.run(&["dirty_lgo"]);
    assert_eq!(ran.code, Some(2));
    assert_eq!(
        ran.stderr,
        "error: none of 3 cases matches `dirty_lgo`: `--list` shows their names\n"
    );
    assert!(!fixture.results().exists());
}

#[test]
fn each_whole_name_must_be_that_of_a_case() {
    let fixture = three().file("quiet.toml", "features = { nested = false }\n");
    let run = |words: &str| {
        let known = "--config quiet.toml --exact dirty_log_test::default shipped::gone";
        let words = format!("{known} dirty_ring_test::default {words}");
        fixture.run(&Vec::from_iter(words.split_whitespace()))
    };
    let said = "\
error: --exact: no case has the name `dirty_lgo_test::default`; did you mean `dirty_log_test::default`?
error: --exact: no case has the name `moon`; `--list` shows their names
error: --exact: no case has the name `other_test::default::iteration_3`; did you mean `other_test::default`?
";
    let other = "other_test::default::iteration";
    let ran = run(&format!(
        "dirty_lgo_test::default moon {other}_3 {other}_2 --iterations 2"
    ));
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(2), said));
    assert_eq!(run("moon --shard 1/2").code, Some(2));
    assert!(!fixture.results().exists());
    // Cases that another option leaves out are there, and so are those of environments.
    for more in [
        "",
        "--skip dirty_ring_test::default",
        "quiet::dirty_log_test::default",
        "dirty_log_test::default::iteration_2 --iterations 2",
    ] {
        let ran = run(more);
        assert_eq!(ran.code, Some(101), "{more}: {}", ran.stderr);
    }
    let listed = run("moon --list");
    let note = "--exact: no case has the name `moon`; `--list` shows their names\n";
    assert_eq!((listed.code, listed.stderr.as_str()), (Some(0), note));
}

#[test]
fn a_variant_that_was_left_out_is_no_run_when_it_is_named() {
    let fixture = three();
    let ran = fixture.run(&["--exact", "shipped::gone"]);
    assert_eq!(ran.code, Some(101));
    let (status, reason) = fixture.verdict("shipped::gone");
    assert!(
        status == Status::NoRun && reason.contains("of_another_kernel_test"),
        "{reason}"
    );
}

#[test]
fn lists_have_libtests_forms_and_touch_nothing() {
    let fixture = three();
    let list = |arguments: &[&str]| {
        Ran::of(
            fixture
                .command(&["--selftests", "selftests", "--list"])
                .args(arguments)
                .output()
                .unwrap(),
        )
    };
    let pretty = list(&["dirty"]);
    let expected =
        "dirty_log_test::default: test\ndirty_ring_test::default: test\n\n2 tests, 0 benchmarks\n";
    assert_eq!(
        (pretty.stdout.as_str(), pretty.stderr.as_str()),
        (expected, "")
    );
    assert_eq!(
        list(&["--format", "terse", "log"]).stdout,
        "dirty_log_test::default: test\n"
    );
    assert_eq!(list(&["--format", "terse", "--ignored"]).stdout, "");
    let json = list(&["--format", "json", "-Z", "unstable-options", "log"]).stdout;
    let lines: Vec<serde_json::Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[1]["name"], "dirty_log_test::default");
    assert_eq!((lines.len(), &lines[2]["total"]), (3, &1.into()));
    assert!(!fixture.path().join("target").exists());
}

#[test]
fn json_has_an_event_for_each_start_and_end_and_the_real_output() {
    let fixture = three().selftest("skip_test", "echo '1..0 # SKIP no moon'; exit 4");
    let ran = fixture.run(&["--format", "json"]);
    let lines: Vec<serde_json::Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        lines[0],
        serde_json::json!({"type": "suite", "event": "started", "test_count": 4})
    );
    let of = |name: &str, event: &str| {
        lines
            .iter()
            .find(|line| line["name"] == name && line["event"] == event)
            .cloned()
            .unwrap_or_default()
    };
    assert_eq!(of("other_test::default", "started")["type"], "test");
    let failed = of("other_test::default", "failed");
    assert!(
        failed["stdout"]
            .as_str()
            .unwrap()
            .contains("--- command.stdout\nbroken\n"),
        "{failed}"
    );
    assert!(failed["exec_time"].as_f64().is_some());
    assert_eq!(of("skip_test::default", "ignored")["message"], "no moon");
    let end = lines.last().unwrap();
    assert_eq!(
        (
            &end["event"],
            &end["passed"],
            &end["failed"],
            &end["ignored"]
        ),
        (&"failed".into(), &2.into(), &1.into(), &1.into())
    );
    assert!(
        ran.stderr
            .contains("2 PASSED, 1 SKIPPED, 1 FAILED of 4 cases"),
        "{}",
        ran.stderr
    );
}

#[test]
fn no_event_is_longer_than_60_kib_whatever_a_case_prints_and_however_long_its_arguments_are() {
    // Each of these characters takes more room in JSON than in a file.
    let flood = "head -c 300000 /dev/zero | tr '\\0' \"$1\"; echo; echo the end";
    let assertion = "printf '==== Test Assertion Failure ====\\n  a.c:7: '; head -c 9000 /dev/zero | tr '\\0' '\"'; echo";
    let mut fixture = Fixture::new()
        .selftest(
            "flood_test",
            &format!("{assertion} >&2; {flood}; {{ {flood}; }} >&2; exit 254"),
        )
        .selftest("verbose_test", flood);
    let mut tests = String::new();
    for (name, character) in [
        ("quotes", "\""),
        ("backslashes", "\\\\"),
        ("controls", "\\1"),
        ("lines", "\\n"),
    ] {
        for selftest in ["flood_test", "verbose_test"] {
            let arguments = serde_json::json!([character, "\"".repeat(20_000)]);
            let name = format!("{selftest}_{name}");
            writeln!(
                tests,
                "[[test]]\nname = '{name}'\nselftest = '{selftest}'\nargs = {arguments}"
            )
            .unwrap();
        }
    }
    fixture = fixture.file("long.toml", &tests);
    let ran = fixture.run(&[
        "--config",
        "long.toml",
        "--format",
        "json",
        "--show-output",
        "long::",
    ]);
    let shown: Vec<_> = ran
        .stdout
        .lines()
        .filter(|line| line.contains("the end"))
        .collect();
    assert_eq!(shown.len(), 8, "{}", ran.stderr);
    for line in &shown {
        assert!(
            line.len() <= 60 * 1024,
            "{} bytes: {}",
            line.len(),
            &line[..1000]
        );
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        let stdout = event["stdout"].as_str().unwrap();
        assert_eq!(
            stdout.matches("\nthe end\n").count(),
            if event["event"] == "failed" { 2 } else { 1 }
        );
        assert!(
            event["event"] == "ok" || stdout.contains("\nreproduce: cd "),
            "{}",
            &stdout[..1000]
        );
    }
    // Nor is more left out than must be.
    assert!(shown.iter().all(|line| line.len() > 25 * 1024));
}

#[test]
fn an_output_directory_that_exists_is_refused_unless_it_is_a_runs_and_may_be_overwritten() {
    let fixture = three().file("mine/thesis", "years");
    let at = |directory: &str, more: &[&str]| {
        let arguments = [
            "--selftests",
            "selftests",
            "--output",
            directory,
            "dirty_log",
        ];
        Ran::of(fixture.command(&arguments).args(more).output().unwrap())
    };
    assert_eq!(at("mine", &[]).code, Some(2));
    assert_eq!(at("mine", &["--overwrite"]).code, Some(2));
    assert_eq!(
        std::fs::read_to_string(fixture.path().join("mine/thesis")).unwrap(),
        "years"
    );
    assert_eq!(at("new", &[]).code, Some(0));
    assert_eq!(at("new", &[]).code, Some(2));
    assert_eq!(at("new", &["--overwrite"]).code, Some(0));
}

#[test]
fn wrong_usage_has_exit_status_2() {
    let fixture = three();
    for arguments in [
        &["--test-threads", "0"][..],
        &["--bogus"],
        &["--timeout", "0"],
        &["--selftests", "nowhere"],
        &["--config", "nowhere.toml"],
        &["--format", "xml"],
    ] {
        assert_eq!(fixture.run(arguments).code, Some(2), "{arguments:?}");
    }
    let mut command = fixture.command(&["--selftests", "selftests"]);
    assert_eq!(
        Ran::of(command.env("RUST_TEST_THREADS", "0").output().unwrap()).code,
        Some(2)
    );
}

#[test]
fn a_reader_that_goes_away_ends_the_run_cleanly() {
    let mut fixture = Fixture::new();
    for number in 0..20 {
        fixture = fixture.selftest(&format!("a{number}_test"), "sleep 0.2");
    }
    let mut child = fixture.start(&["--test-threads", "2"]);
    let mut first_line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut first_line)
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(141));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!stderr.contains("panicked"), "{stderr}");
    let record = fixture.record();
    assert!(record.finished && record.outcomes.len() == 20, "{record:?}");
    assert!(record.of_status(Status::NoRun).count() > 0);
}

#[test]
fn iterations_are_cases_of_one_queue() {
    let fixture = three();
    assert_eq!(
        fixture.run(&["dirty_log", "--iterations", "3"]).code,
        Some(0)
    );
    let expected: Vec<_> = (1..=3)
        .map(|number| format!("dirty_log_test::default::iteration_{number}"))
        .collect();
    assert_eq!(names_run(&fixture), expected);
    assert_eq!(
        fixture
            .run(&["--exact", "dirty_log_test::default", "--iterations", "2"])
            .code,
        Some(0)
    );
    assert_eq!(names_run(&fixture), expected[..2]);
}

#[test]
fn a_shuffled_order_can_be_repeated() {
    let mut fixture = Fixture::new();
    for number in 0..12 {
        fixture = fixture.selftest(&format!("a{number}_test"), "exit 0");
    }
    let order = |seed: &str| {
        assert_eq!(
            fixture
                .run(&["--test-threads", "1", "--shuffle", "--shuffle-seed", seed])
                .code,
            Some(0)
        );
        fixture
            .record()
            .outcomes
            .into_iter()
            .map(|outcome| outcome.name)
            .collect::<Vec<_>>()
    };
    let first = order("7");
    assert_eq!(first, order("7"));
    assert_ne!(first, order("8"));
}

#[test]
fn without_selftests_the_embedded_ones_run() {
    let fixture = Fixture::new();
    let ran = Ran::of(fixture.command(&["--output", "run"]).output().unwrap());
    assert_eq!(ran.code, Some(0));
    assert_eq!(fixture.verdict("embedded_test::default").0, Status::Passed);
    assert_eq!(
        fixture.verdict("embedded_skip_test::default"),
        (Status::Skipped, "not in this fixture".to_owned())
    );
}

#[test]
fn nothing_is_coloured_where_it_is_no_terminal() {
    let ran = three().run(&[]);
    assert!(!ran.stdout.contains('\x1b') && !ran.stderr.contains('\x1b'));
    assert!(three().run(&["--color", "always"]).stdout.contains('\x1b'));
}

#[test]
fn output_is_shown_where_it_is_asked_for() {
    let fixture = Fixture::new()
        .selftest("good_test", "echo all is well")
        .selftest("bad_test", "echo alas; exit 1");
    let shown = |arguments: &[&str]| {
        let stdout = fixture.run(arguments).stdout;
        [
            "---- good_test::default stdout ----\nall is well\n",
            "---- bad_test::default stdout ----\nalas\n",
        ]
        .map(|part| stdout.contains(part))
    };
    assert_eq!(shown(&[]), [false, false]);
    assert_eq!(shown(&["--nocapture"]), [true, true]);
    assert_eq!(shown(&["--no-capture"]), [true, true]);
    assert_eq!(shown(&["--show-output"]), [true, false]);
}

#[test]
fn what_is_shown_of_a_case_depends_on_its_status() {
    let fixture = Fixture::new()
        .selftest("good_test", "echo good out; echo good err >&2")
        .selftest("bad_test", "echo bad out; echo bad err >&2; exit 1")
        .selftest("skip_test", "exit 4");
    for threads in ["1", "2"] {
        let run = |report: &[&str]| {
            let report = report.iter().flat_map(|report| ["--report", report]);
            fixture.run(
                &["--test-threads", threads]
                    .into_iter()
                    .chain(report)
                    .collect::<Vec<_>>(),
            )
        };
        let ran = run(&["all=off,fail=stderr"]);
        assert_eq!(ran.code, Some(101));
        let begin = ran.stdout.split_once("failures:").unwrap().0;
        let shown: Vec<_> = begin.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(
            shown,
            [
                "running 3 tests",
                "---- bad_test::default stderr ----",
                "bad err",
                "test bad_test::default  ... FAILED"
            ]
        );
        assert!(
            ran.stdout
                .contains("test result: FAILED. 1 passed; 1 failed; 1 ignored;"),
            "{}",
            ran.stdout
        );

        let ran = run(&["fail=off", "pass=stdout"]);
        assert_eq!(ran.code, Some(101));
        assert_eq!(lines_with(&ran.stdout, "test bad_test"), [""; 0]);
        assert_eq!(lines_with(&ran.stderr, "bad_test"), [""; 0]);
        assert!(
            ran.stdout
                .contains("---- good_test::default stdout ----\ngood out\n"),
            "{}",
            ran.stdout
        );
        assert!(!ran.stdout.contains("good err"), "{}", ran.stdout);
        // The end names it all the same: libtest's, and ours.
        assert!(
            ran.stdout.contains("failures:\n    bad_test::default\n"),
            "{}",
            ran.stdout
        );
        assert!(
            ran.stdout
                .contains("\nFAILED\n  bad_test::default: exit code 1"),
            "{}",
            ran.stdout
        );
    }
    let wrong = fixture.run(&["--report", "fail=loud"]);
    assert!(
        wrong.code == Some(2)
            && wrong
                .stderr
                .contains("one of off, status, stdout, stderr, full")
    );
}

#[test]
fn json_is_complete_whatever_is_shown() {
    let fixture = Fixture::new()
        .selftest("good_test", "echo all is well")
        .selftest("bad_test", "echo alas; exit 1");
    let events = |report: &str| {
        let ran = fixture.run(&["--format", "json", "--report", report]);
        let lines = ran
            .stdout
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let ends = lines.filter(|line| line["type"] == "test" && line["event"] != "started");
        let shows = |line: serde_json::Value| {
            (
                line["name"].to_string(),
                line["stdout"].to_string().contains("--- command.stdout"),
            )
        };
        let mut ends: Vec<_> = ends.map(shows).collect();
        ends.sort();
        ends
    };
    let of = |bad: bool, good: bool| {
        [
            ("\"bad_test::default\"".to_owned(), bad),
            ("\"good_test::default\"".to_owned(), good),
        ]
    };
    assert_eq!(events("all=off"), of(true, false));
    assert_eq!(events("pass=full"), of(true, true));
}

#[test]
fn completions_and_manual_pages_name_every_command_and_option() {
    let fixture = Fixture::new();
    let printed = |arguments: &[&str]| {
        let ran = Ran::of(fixture.program(arguments).output().unwrap());
        assert_eq!(ran.code, Some(0), "{arguments:?}: {}", ran.stderr);
        ran.stdout
    };
    for shell in ["bash", "zsh", "fish"] {
        let script = printed(&["completions", shell]);
        assert!(
            script.contains("kernel-src") && script.contains("environments"),
            "{shell}"
        );
    }
    let page = printed(&["man"]);
    assert!(
        page.contains(".TH kvm-tests 1") && page.contains("kvm\\-tests\\-run(1)"),
        "{page}"
    );
    let page = printed(&["man", "run"]);
    assert!(
        page.contains(".TH kvm-tests-run 1") && page.contains("\\-\\-kernel\\-src"),
        "{page}"
    );
    let ran = Ran::of(fixture.program(&["man", "walk"]).output().unwrap());
    assert_eq!(
        (ran.code, &*ran.stderr),
        (Some(2), "error: there is no command `walk`\n")
    );
}
