//! Suites run by the real program: set-up and tear-down, prechecks, matrices, requirements, and the foreign formats.

use std::fs;

use crate::support::Status;
use crate::support::{Fixture, Ran};

/// A selftest that appends its arguments to the file `log` of the fixture.
fn logging() -> Fixture {
    Fixture::new().selftest(
        "log_test",
        "echo \"log_test $*\" >> ../log; [ \"$1\" != fail ]",
    )
}

fn log(fixture: &Fixture) -> Vec<String> {
    let log =
        fs::read_to_string(fixture.path().join("log")).expect("read what the selftests logged");
    log.lines().map(str::to_owned).collect()
}

#[test]
fn a_suite_is_set_up_once_before_and_torn_down_once_after_its_cases() {
    let suite = r#"
        setup = "echo set-up >> ../log"
        teardown = "echo tear-down >> ../log"
        [[test]]
        name = "sweep"
        selftest = "log_test"
        args = ["{x}"]
        matrix = { x = ["a", "b", "fail"] }
        setup = "echo before >> ../log"
        teardown = "echo after >> ../log"
    "#;
    let fixture = logging().file("suite.toml", suite);
    let ran = fixture.run(&["--config", "suite.toml", "suite::", "--test-threads", "1"]);
    assert_eq!(ran.code, Some(101), "{}", ran.stderr);
    let cases = ["a", "b", "fail"]
        .map(|x| {
            [
                "before".to_owned(),
                format!("log_test {x}"),
                "after".to_owned(),
            ]
        })
        .concat();
    let expected: Vec<_> = [
        vec!["set-up".to_owned()],
        cases,
        vec!["tear-down".to_owned()],
    ]
    .concat();
    assert_eq!(log(&fixture), expected);
    assert_eq!(fixture.verdict("suite::sweep::x_a").0, Status::Passed);
    assert_eq!(fixture.verdict("suite::sweep::x_fail").0, Status::Failed);
    assert!(
        fixture
            .results()
            .join("suite/sweep/x_a/setup.stdout")
            .is_file()
    );
    assert!(
        fixture
            .results()
            .join("suite/suite_teardown.stderr")
            .is_file()
    );
}

#[test]
fn a_suite_whose_set_up_fails_is_no_run_and_torn_down_all_the_same() {
    let suite = r#"
        setup = "echo cannot mount the moon >&2; exit 3"
        teardown = "echo tear-down >> ../log"
        [[test]]
        name = "one"
        selftest = "log_test"
        [[test]]
        name = "two"
        selftest = "log_test"
    "#;
    let fixture = logging().file("suite.toml", suite);
    assert_eq!(
        fixture.run(&["--config", "suite.toml", "suite::"]).code,
        Some(101)
    );
    for name in ["suite::one", "suite::two"] {
        let (status, reason) = fixture.verdict(name);
        assert_eq!(status, Status::NoRun);
        assert_eq!(
            reason,
            "the set-up of suite suite failed: exit code 3: cannot mount the moon"
        );
    }
    assert_eq!(log(&fixture), ["tear-down"]);
}

#[test]
fn a_tear_down_that_fails_is_not_lost() {
    let suite = "teardown = \"exit 5\"\n[[test]]\nname = \"one\"\nselftest = \"log_test\"\n";
    let fixture = logging().file("suite.toml", suite);
    assert_eq!(
        fixture.run(&["--config", "suite.toml", "suite::"]).code,
        Some(101)
    );
    assert_eq!(
        fixture.verdict("suite::one"),
        (
            Status::Failed,
            "the tear-down of suite suite failed: exit code 5".to_owned()
        )
    );
}

#[test]
fn a_precheck_that_fails_skips_its_case_with_what_it_printed() {
    let suite = "[[test]]\nname = \"one\"\nselftest = \"log_test\"\nprecheck = \"echo no moon; exit 1\"\n\
                 [[test]]\nname = \"two\"\nselftest = \"log_test\"\nprecheck = \"true\"\n";
    let fixture = logging().file("suite.toml", suite);
    assert_eq!(
        fixture.run(&["--config", "suite.toml", "suite::"]).code,
        Some(0)
    );
    assert_eq!(
        fixture.verdict("suite::one"),
        (Status::Skipped, "no moon".to_owned())
    );
    assert_eq!(fixture.verdict("suite::two").0, Status::Passed);
}

#[test]
fn a_precheck_that_cannot_run_is_no_answer() {
    let suite = "[[test]]\nname = \"typo\"\nselftest = \"log_test\"\nprecheck = \"tesst -e /\"\n\
                 [[test]]\nname = \"syntax\"\nselftest = \"log_test\"\nprecheck = \"if\"\n";
    let fixture = logging().file("suite.toml", suite);
    let ran = fixture.run(&["--config", "suite.toml", "suite::"]);
    assert_eq!(ran.code, Some(101));
    for (case, code) in [("suite::typo", "127"), ("suite::syntax", "2")] {
        let (status, reason) = fixture.verdict(case);
        let begins = reason.starts_with(&format!("its precheck: exit code {code}: /bin/sh: "));
        assert!(status == Status::NoRun && begins, "{reason}");
    }
}

#[test]
fn environment_variables_reach_every_step() {
    let say = |step: &str| format!("echo {step} $A $B >> ../log");
    let suite = format!(
        "env = {{ A = \"a\", B = \"{{ncpus}}{{{{x}}}}\" }}\nsetup = \"{}\"\nteardown = \"{}\"\n\
         [[test]]\nname = \"one\"\ncommand = \"{}\"\nsetup = \"{}\"\nteardown = \"{}\"\n\
         precheck = \"{}\"\nenv = {{ B = \"b\" }}\n",
        say("up"),
        say("down"),
        say("command"),
        say("before"),
        say("after"),
        say("precheck"),
    );
    let fixture = logging().file("suite.toml", &suite);
    assert_eq!(
        fixture.run(&["--config", "suite.toml", "suite::"]).code,
        Some(0)
    );
    let log = log(&fixture);
    let [up, own @ .., down] = log.as_slice() else {
        panic!("{log:?}")
    };
    let of_suite = up.strip_prefix("up a ").unwrap();
    assert!(
        of_suite.ends_with("{x}") && !of_suite.contains("ncpus"),
        "{up}"
    );
    assert_eq!(down, &format!("down a {of_suite}"));
    assert_eq!(
        own,
        ["precheck a b", "before a b", "command a b", "after a b"]
    );
}

#[test]
fn what_the_host_lacks_is_known_when_listing() {
    let suite = "[[test]]\nname = \"big\"\nselftest = \"log_test\"\nrequires = { cpus = 100000 }\n\
                 [[test]]\nname = \"foreign\"\nselftest = \"log_test\"\narch = \"riscv64\"\n\
                 [[test]]\nname = \"fine\"\nselftest = \"log_test\"\nrequires = { cpus = 1 }\n";
    let fixture = logging().file("suite.toml", suite);
    let arguments = [
        "--selftests",
        "selftests",
        "--config",
        "suite.toml",
        "--list",
        "--ignored",
    ];
    let listed = Ran::of(fixture.command(&arguments).output().unwrap());
    assert_eq!(
        listed.stdout,
        "suite::big: test\nsuite::foreign: test\n\n2 tests, 0 benchmarks\n"
    );
    assert_eq!(
        fixture.run(&["--config", "suite.toml", "suite::"]).code,
        Some(0)
    );
    assert!(
        fixture
            .verdict("suite::big")
            .1
            .starts_with("requires 100000 CPUs")
    );
    assert!(
        fixture
            .verdict("suite::foreign")
            .1
            .starts_with("for riscv64 only")
    );
    assert_eq!(fixture.verdict("suite::fine").0, Status::Passed);
}

#[test]
fn a_command_runs_beside_the_file_that_has_it_where_no_selftest_is_a_file() {
    let suite = "[[test]]\nname = \"here\"\ncommand = \"[ -f suite.toml ]\"\n";
    let fixture = Fixture::new().file("suite.toml", suite);
    let ran = Ran::of(
        fixture
            .command(&["--config", "suite.toml", "suite::here", "--output", "run"])
            .output()
            .expect("run the program"),
    );
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[test]
fn nothing_runs_beside_an_exclusive_case() {
    let run = "echo begin >> ../log; sleep 0.1; echo end >> ../log";
    let mut suite = String::new();
    for number in 0..4 {
        suite += &format!(
            "[[test]]\nname = \"e{number}\"\nselftest = \"slow_test\"\nexclusive = true\n"
        );
    }
    let fixture = Fixture::new()
        .selftest("slow_test", run)
        .file("suite.toml", &suite);
    assert_eq!(
        fixture
            .run(&["--config", "suite.toml", "suite::", "--test-threads", "4"])
            .code,
        Some(0)
    );
    assert_eq!(log(&fixture), ["begin", "end"].repeat(4));
}

#[test]
fn the_longest_case_of_the_last_run_starts_first() {
    let suite = r#"
        [[test]]
        name = "quick"
        timeout_s = 200
        selftest = "log_test"
        args = ["quick"]
        [[test]]
        name = "slow"
        timeout_s = 100
        command = "echo log_test slow >> ../log; sleep 0.1"
    "#;
    let fixture = logging().file("suite.toml", suite);
    for expected in [["quick", "slow"], ["slow", "quick"]] {
        fixture.run(&["--config", "suite.toml", "suite::", "--test-threads", "1"]);
        assert_eq!(
            log(&fixture),
            expected.map(|name| format!("log_test {name}"))
        );
        fs::remove_file(fixture.path().join("log")).unwrap();
    }
}

#[test]
fn the_proposals_json_and_upstreams_testcases_run_as_they_are() {
    let json = r#"[{"suite": "proposal", "timeout_s": 30, "setup": "echo up >> ../log", "teardown": "echo down >> ../log",
        "tests": [{"name": "2-slots", "command": "./log_test -v $(echo 2)", "timeout_s": 9},
                  {"name": "gone", "command": "./gone_test"}]}]"#;
    let fixture = logging()
        .file("tests.json", json)
        .file("cases/log_test/3slot.test", "log_test -x $(echo 3)\n")
        .file("cases/log_test/default.test", "log_test\n");
    let ran = fixture.run(&[
        "--config",
        "tests.json",
        "--config",
        "cases",
        "--test-threads",
        "1",
    ]);
    assert_eq!(ran.code, Some(101), "{}", ran.stderr);
    let names: Vec<_> = fixture
        .record()
        .outcomes
        .into_iter()
        .map(|outcome| (outcome.name, outcome.status))
        .collect();
    for (name, status) in [
        ("log_test::_3slot", Status::Passed),
        ("log_test::default", Status::Passed),
        ("proposal::_2_slots", Status::Passed),
        ("proposal::gone", Status::NoRun),
    ] {
        assert!(names.contains(&(name.to_owned(), status)), "{names:?}");
    }
    assert_eq!(names.len(), 4);
    assert_eq!(
        log(&fixture),
        ["log_test -x 3", "log_test ", "up", "log_test -v 2", "down"]
    );
}

#[test]
fn every_error_of_the_configuration_is_said_at_once_and_nothing_runs() {
    let fixture = logging()
        .file(
            "config/a.toml",
            "timeot_s = 3\n[[test]]\nname = \"x y\"\nselftest = \"log_test\"\n",
        )
        .file(
            "config/b.toml",
            "[[test]]\nname = \"b\"\nselftest = \"log_test\"\nargs = [\"{moon}\"]\n",
        );
    let ran = fixture.run(&["--config", "config"]);
    assert_eq!(ran.code, Some(2));
    let errors: Vec<_> = ran.stderr.lines().collect();
    assert_eq!(errors.len(), 3, "{}", ran.stderr);
    assert!(
        errors[0].starts_with("error: config/a.toml:1:1: ") && errors[0].contains("timeout_s"),
        "{}",
        errors[0]
    );
    assert!(
        errors[1].starts_with("error: config/a.toml:3:8: ") && errors[1].contains("x_y"),
        "{}",
        errors[1]
    );
    assert!(
        errors[2].starts_with("error: config/b.toml:4:9: ") && errors[2].contains("moon"),
        "{}",
        errors[2]
    );
    assert!(!fixture.results().exists() && !fixture.path().join("log").exists());
}

#[test]
fn a_users_suite_takes_the_place_of_a_shipped_one_of_the_same_name() {
    let fixture = logging().file(
        "shipped.toml",
        "[[test]]\nname = \"mine\"\nselftest = \"log_test\"\n",
    );
    let ran = fixture.run(&["--config", "shipped.toml"]);
    assert_eq!(fixture.verdict("shipped::mine").0, Status::Passed);
    assert!(
        ran.stderr
            .contains("the shipped suite shipped: yours of this name is used"),
        "{}",
        ran.stderr
    );
}

const DOCS: &str = include_str!("../../../docs/suites.md");

/// The code of the documentation in a language.
fn examples(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    let blocks = DOCS.split(&fence).skip(1);
    blocks
        .map(|block| block.split_once("```").unwrap().0)
        .collect()
}

#[test]
fn every_example_of_the_documentation_runs() {
    let selftests = [
        "dirty_log_perf_test",
        "dirty_log_test",
        "rseq_test",
        "arch_timer",
    ];
    for (language, extension) in [("toml", "toml"), ("json", "json")] {
        let examples = examples(language);
        assert!(!examples.is_empty());
        for example in examples {
            let file = format!("my_suite.{extension}");
            let fixture = selftests.iter().fold(Fixture::new(), |fixture, name| {
                fixture.selftest(name, "exit 0")
            });
            let fixture = fixture.file(&file, example);
            let ran = fixture.run(&["--config", &file]);
            assert_eq!(ran.code, Some(0), "{example}{}{}", ran.stdout, ran.stderr);
            let comments = example.lines().filter_map(|line| line.strip_prefix("# "));
            let names = comments.filter_map(|comment| comment.split(' ').next());
            for name in names.filter(|name| name.contains("::")) {
                assert_eq!(fixture.verdict(name).0, Status::Passed, "{example}");
            }
        }
    }
}

#[test]
fn every_key_is_documented() {
    let fixture = Fixture::new().file("a.toml", "zzzzzzzzzzzzzzz = 1\n");
    let command = ["--list", "--config", "a.toml"];
    let refused = Ran::of(fixture.command(&command).output().unwrap());
    let known = refused.stderr.split_once("; known here: ").unwrap().1;
    let keys: Vec<_> = known.lines().next().unwrap().split(", ").collect();
    assert!(keys.len() > 15, "{keys:?}");
    for key in keys {
        let (_, section) = DOCS.split_once(&format!("\n### {key}\n")).expect(key);
        let section = section.split("\n### ").next().unwrap();
        assert!(
            section.contains("equired") || section.contains("Default: "),
            "{key}"
        );
        assert!(section.contains("```toml\n"), "{key}");
    }
}
