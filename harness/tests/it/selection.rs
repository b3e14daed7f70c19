//! What is listed and selected: names as the kernel has them, tags, and environments that cannot be.

use crate::support::Status;
use crate::support::fake_host::FakeHost;
use crate::support::{Fixture, Ran};

fn fixture() -> Fixture {
    let suite = "tags = \"mine\"\n[[test]]\nname = \"quick\"\nselftest = \"a_test\"\n\
                 [[test]]\nname = \"slow\"\nselftest = \"a_test\"\ntags = [\"slow\", \"disk\"]\n\
                 [default.feature_msrs_test]\ntags = \"perf\"\n";
    Fixture::new()
        .selftest("a_test", "exit 0")
        .selftest("get-reg-list", "exit 0")
        .selftest("feature_msrs_test", "exit 0")
        .file("suite.toml", suite)
}

/// The program with `arguments`, on the selftests and the suite of `fixture`.
fn ran(fixture: &Fixture, arguments: &[&str]) -> Ran {
    let given = ["--selftests", "selftests", "--config", "suite.toml"];
    let mut command = fixture.command(&given);
    Ran::of(command.args(arguments).output().unwrap())
}

/// The names that are listed.
fn listed(fixture: &Fixture, arguments: &[&str]) -> Vec<String> {
    let ran = ran(
        fixture,
        &[&["--list", "--format", "terse"], arguments].concat(),
    );
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let lines = ran.stdout.lines();
    lines
        .map(|line| line.strip_suffix(": test").unwrap().to_owned())
        .collect()
}

#[test]
fn a_selftest_is_selected_by_any_name_that_a_kernel_has_for_it() {
    let fixture = fixture();
    for filter in [
        "get-reg-list",
        "get_reg_list.sh",
        "x86/get-reg-list",
        "arm64/get-reg",
    ] {
        assert_eq!(
            listed(&fixture, &[filter]),
            ["get_reg_list::default"],
            "{filter}"
        );
    }
    let renamed = ["feature_msrs_test::default"];
    assert_eq!(listed(&fixture, &["get_msr_index_features"]), renamed);
    assert_eq!(
        listed(&fixture, &["--exact", "get_msr_index_features/default"]),
        renamed
    );
    let skip = ["--skip", "get_msr_index_features", "test::"];
    assert_eq!(listed(&fixture, &skip), ["a_test::default"]);
}

#[test]
fn cases_are_selected_by_tags() {
    let fixture = fixture();
    for (arguments, names) in [
        (
            ["--tag", "mine"].as_slice(),
            ["feature_msrs_test::default", "suite::quick", "suite::slow"].as_slice(),
        ),
        (
            &["--tag", "disk", "--tag", "perf"],
            &["feature_msrs_test::default", "suite::slow"],
        ),
        (
            &["--tag", "mine", "--skip-tag", "disk"],
            &["feature_msrs_test::default", "suite::quick"],
        ),
        (
            &["--quick"],
            &["a_test::default", "get_reg_list::default", "suite::quick"],
        ),
        (&["--quick", "suite"], &["suite::quick"]),
    ] {
        assert_eq!(listed(&fixture, arguments), names, "{arguments:?}");
    }
    let unknown = ran(&fixture, &["--list", "--skip-tag", "pref"]);
    assert_eq!(unknown.code, Some(2));
    assert_eq!(
        unknown.stderr,
        "error: no test has the tag `pref`; did you mean `perf`?\n"
    );
    assert_eq!(
        fixture
            .run(&["--config", "suite.toml", "--quick", "--tag", "slow"])
            .code,
        Some(2)
    );
}

#[test]
fn a_list_of_nothing_says_why() {
    let nothing = ran(&fixture(), &["--list", "moon", "--skip-tag", "slow"]);
    assert_eq!(
        (nothing.code, nothing.stdout.as_str()),
        (Some(0), "0 tests, 0 benchmarks\n")
    );
    assert_eq!(
        nothing.stderr,
        "none of 5 cases matches `moon`, --skip-tag `slow`: `--list` shows their names\n"
    );
    assert_eq!(
        ran(&fixture(), &["--list", "--ignored"]).stderr,
        "none of 5 cases matches --ignored: `--list` shows their names\n"
    );
}

#[test]
fn a_wrong_selftest_of_ones_own_suite_is_an_error_before_anything_runs() {
    let fixture = Fixture::new().selftest("cpuid_test", "exit 0").file(
        "suite.toml",
        "[[test]]\nname = \"a\"\nselftest = \"cpuid_tset\"\n\
         [[test]]\nname = \"b\"\nselftest = \"moon\"\n\
         [[test]]\nname = \"elsewhere\"\nselftest = \"memop\"\narch = \"s390\"\n\
         [default.cpuid_tets]\nweight = 2\n",
    );
    let expected = "error: suite.toml:3:12: there is no selftest `cpuid_tset`; did you mean `cpuid_test`?\n\
                    error: suite.toml:6:12: there is no selftest `moon`\n\
                    error: suite.toml:11:10: there is no selftest `cpuid_tets`; did you mean `cpuid_test`?\n";
    for arguments in [
        ["--config", "suite.toml", "--list"].as_slice(),
        &["--config", "suite.toml"],
    ] {
        let ran = fixture.run(arguments);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(2), expected));
    }
    assert!(!fixture.results().exists());
}

#[test]
fn what_a_directory_of_selftests_has_and_cannot_run_is_no_run() {
    let fixture = Fixture::new()
        .selftest("a-b", "exit 0")
        .selftest("a_b", "exit 0")
        .executable("selftests/empty_test", "");
    std::os::unix::fs::symlink("nowhere", fixture.path().join("selftests/link_test")).unwrap();
    assert_eq!(fixture.run(&[]).code, Some(101));
    for (name, reason) in [
        (
            "a_b",
            "`a-b` and `a_b` have the same name here: rename one of them",
        ),
        ("empty_test", "it is empty"),
        ("link_test", "No such file or directory"),
    ] {
        let (status, why) = fixture.verdict(&format!("{name}::default"));
        assert_eq!(status, Status::NoRun);
        assert!(why.contains(reason), "{why}");
    }
}

#[test]
fn what_a_file_says_of_a_selftest_holds_for_its_own_case() {
    let suite = "[default.a_test]\nprecheck = \"echo no moon; exit 1\"\n";
    let fixture = Fixture::new()
        .selftest("a_test", "exit 0")
        .file("suite.toml", suite);
    assert_eq!(fixture.run(&["--config", "suite.toml"]).code, Some(0));
    let skipped = (Status::Skipped, "no moon".to_owned());
    assert_eq!(fixture.verdict("a_test::default"), skipped);
}

/// The program with `arguments`, on one selftest, on a host whose two-dimensional paging is always on.
fn on_arm(fixture: &Fixture, arguments: &[&str]) -> Ran {
    let host = FakeHost::arm();
    host.put("dev/kvm", "");
    let given = ["--selftests", "selftests", "--config", "environments"];
    let mut command = fixture.command(&given);
    command
        .args(arguments)
        .args(["--output", "run", "--overwrite"]);
    command
        .env("KVM_TESTS_ROOT", host.path(""))
        .env("PATH", host.search());
    Ran::of(command.output().unwrap())
}

#[test]
fn an_environment_that_cannot_be_ends_the_run_where_it_is_named_and_is_skipped_where_a_glob_finds_it()
 {
    let fixture = Fixture::new()
        .selftest("a_test", "exit 0")
        .selftest("b_test", "exit 0")
        .file("environments/tdp_off.toml", "features = { tdp = false }\n")
        .file("environments/tdp_on.toml", "features = { tdp = true }\n");
    let reason = "`tdp` is always on with Arm";
    for arguments in [
        ["--environment", "tdp_off", "--environment", "host"].as_slice(),
        &["--set", "tdp=off"],
    ] {
        let ran = on_arm(&fixture, arguments);
        let expected = format!("error: environment tdp_off: {reason}\n");
        assert_eq!((ran.code, ran.stderr), (Some(2), expected));
    }
    assert!(!fixture.results().exists());

    let all = on_arm(&fixture, &["--environment", "*"]);
    assert_eq!(all.code, Some(0), "{}{}", all.stderr, all.stdout);
    let header = format!("  environment  tdp_off: skipped: {reason}\n");
    assert!(all.stderr.contains(&header), "{}", all.stderr);
    for name in ["a_test", "b_test"] {
        let verdict = |prefix: &str| fixture.verdict(&format!("{prefix}{name}::default"));
        assert_eq!(verdict(""), (Status::Passed, String::new()));
        assert_eq!(verdict("tdp_off::"), (Status::Skipped, reason.to_owned()));
        assert_eq!(
            verdict("tdp_on::"),
            (Status::Skipped, "the same as host".to_owned())
        );
    }

    let alone = on_arm(&fixture, &["--environment", "tdp_on"]);
    assert_eq!(alone.code, Some(0), "{}", alone.stderr);
    let header = "  environment  tdp_on: tdp=on, as the host is already\n";
    assert!(alone.stderr.contains(header), "{}", alone.stderr);
    assert_eq!(fixture.verdict("tdp_on::a_test::default").0, Status::Passed);
}

#[test]
fn other_environments_are_listed_where_ignored_cases_are_asked_for() {
    let fixture = fixture().file(
        "suite.toml",
        "features = { tdp = false }\nenvironment = \"e\"\n",
    );
    let here = [
        "a_test::default",
        "feature_msrs_test::default",
        "get_reg_list::default",
    ];
    let there = here.map(|name| format!("e::{name}"));
    assert_eq!(listed(&fixture, &[]), here);
    assert_eq!(listed(&fixture, &["--ignored"]), there);
    assert_eq!(
        listed(&fixture, &["--include-ignored", "a_test"]),
        ["a_test::default", &there[0]]
    );
    assert_eq!(
        listed(&fixture, &["--exact", &there[0]]),
        [there[0].clone()]
    );
}
