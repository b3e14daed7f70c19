//! The environments that a run was in, as its record and its reports tell of them: the real program on a directory that
//! stands for a host.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::fake_host::FakeHost;
use crate::support::{Fixture, Ran, Record, Status};

/// The program with `arguments`, on the selftests of `fixture` and on `host`.
fn command(fixture: &Fixture, host: &FakeHost, output: &str, arguments: &[&str]) -> Command {
    let mut command = fixture.command(&["--selftests", "selftests", "--output", output]);
    command.args(arguments).env("KVM_TESTS_ROOT", host.path(""));
    command.env("PATH", host.search());
    command
}

fn run(fixture: &Fixture, host: &FakeHost, output: &str, arguments: &[&str]) -> Record {
    let ran = Ran::of(command(fixture, host, output, arguments).output().unwrap());
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    Record::read(&fixture.path().join(output)).unwrap()
}

/// The one time in an environment that a run tells of.
fn span(record: &Record) -> &Value {
    let [span] = record.environments.as_slice() else {
        panic!("{:?}", record.environments)
    };
    span
}

#[test]
fn a_time_in_an_environment_is_told_with_its_settings_and_the_parameters_in_force() {
    let fixture = Fixture::new()
        .selftest("a_test", "exit 0")
        .selftest("b_test", "exit 0");
    let host = FakeHost::amd();
    let before = host.state();
    let asked = [
        "--environment",
        "host",
        "--set",
        "tdp=off",
        "_test::default",
    ];
    let record = run(&fixture, &host, "run", &asked);
    assert_eq!((host.state(), host.is_left_alone()), (before, true));

    let span = span(&record);
    let told = [&span["environment"], &span["settings"], &span["notes"]];
    let expected = [
        json!("tdp_off"),
        json!(["tdp=off"]),
        json!(["kvm.tdp_mmu reads N with it"]),
    ];
    assert_eq!(told.map(Value::clone), expected);
    assert_eq!(record.first()["host"]["modules"]["kvm_amd"]["npt"], "Y");
    assert_eq!(span["modules"]["kvm_amd"]["npt"], "N");
    assert_eq!(span["modules"]["kvm"]["tdp_mmu"], "N");
    assert_eq!(span["problem"], Value::Null);
    let inside = record.outcomes.iter();
    let inside = inside.filter(|outcome| outcome.name.starts_with("tdp_off::"));
    let inside: Vec<u64> = inside.map(|outcome| outcome.started_ms).collect();
    assert_eq!(inside.len(), 2);
    let at = |name: &str| span[name].as_u64().unwrap();
    let mut times = vec![at("entering_ms"), at("entered_ms")];
    times.extend([inside.iter().min().unwrap(), inside.iter().max().unwrap()]);
    times.extend([at("leaving_ms"), at("left_ms")]);
    assert!(times.is_sorted(), "{times:?}");

    let junit = fs::read_to_string(fixture.results().join("junit.xml")).unwrap();
    let (outside, inside) = junit.split_once("<testsuite name=\"kvm.tdp_off\"").unwrap();
    assert!(outside.contains("npt=Y"), "{outside}");
    assert!(
        inside.contains("npt=N") && !inside.contains("npt=Y"),
        "{inside}"
    );
    let page = fs::read_to_string(fixture.results().join("report.html")).unwrap();
    assert!(page.contains("kvm.tdp_mmu reads N with it"), "{page}");
}

#[test]
fn the_kernel_may_warn_anew_in_a_run_and_in_each_environment_or_that_is_said() {
    let fixture = Fixture::new().selftest("a_test", "cat $CLEAR; : > $CLEAR");
    let host = FakeHost::amd();
    host.put("sys/kernel/debug/clear_warn_once", "");
    let asked = ["--environment", "host", "--set", "tdp=off", "a_test"];
    let mut both = command(&fixture, &host, "run", &asked);
    let clear = host.path("sys/kernel/debug/clear_warn_once");
    let ran = Ran::of(both.env("CLEAR", &clear).output().unwrap());
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    for place in ["run/a_test", "run/tdp_off/a_test"] {
        let path = fixture.path().join(place).join("default/command.stdout");
        assert_eq!(fs::read_to_string(path).unwrap(), "1", "{place}");
    }
    fs::remove_dir_all(host.path("sys/kernel/debug")).unwrap();
    let mut without = command(&fixture, &host, "again", &["a_test"]);
    let ran = Ran::of(without.env("CLEAR", "/dev/null").output().unwrap());
    let why = "what warned once in this boot may not warn again: /sys/kernel/debug/clear_warn_once: No such file";
    assert!(ran.stderr.contains(why), "{}", ran.stderr);
}

#[test]
fn a_run_without_environments_tells_of_none() {
    let fixture = Fixture::new().selftest("a_test", "exit 0");
    let record = run(&fixture, &FakeHost::amd(), "run", &["a_test"]);
    assert_eq!(record.environments, [Value::Null; 0]);
}

/// A run of a selftest that makes the file `inside`, when it has.
fn start_and_wait(fixture: &Fixture, host: &FakeHost, arguments: &[&str]) -> Child {
    let mut runner = command(fixture, host, "run", arguments);
    let runner = runner.stdout(Stdio::null()).stderr(Stdio::null());
    let mut runner = runner.spawn().unwrap();
    let begin = Instant::now();
    while !fixture.path().join("inside").exists() {
        let waits = begin.elapsed() < Duration::from_secs(60);
        assert!(waits && runner.try_wait().unwrap().is_none());
        thread::sleep(Duration::from_millis(5));
    }
    runner
}

#[test]
fn of_a_killed_run_it_is_told_what_it_was_in_and_the_next_one_tells_that_it_put_the_host_back() {
    let fixture = Fixture::new().selftest("a_test", "touch ../inside; exec sleep 1000");
    let host = FakeHost::amd();
    let before = host.state();
    let mut runner = start_and_wait(&fixture, &host, &["--set", "tdp=off", "tdp_off::a_test"]);
    runner.kill().unwrap();
    runner.wait().unwrap();
    let record = Record::read(&fixture.results()).unwrap();
    let span = span(&record);
    let told = [&span["environment"], &span["left_ms"]];
    assert_eq!(told.map(Value::clone), [json!("tdp_off"), Value::Null]);

    let fixture = fixture.selftest("a_test", "exit 0");
    let record = run(&fixture, &host, "next", &["a_test"]);
    assert_eq!((host.state(), host.is_left_alone()), (before, true));
    let span = self::span(&record);
    assert_eq!(span["environment"], "host");
    let note = span["notes"][0].as_str().unwrap();
    assert!(
        note.starts_with("restored the host, which a killed run"),
        "{note}"
    );
}

#[test]
fn a_comparison_tells_in_what_an_environment_was_another_one() {
    let fixture = Fixture::new().selftest("a_test", "exit 0");
    let host = FakeHost::amd();
    for (output, more) in [
        ("old", ""),
        ("new", "params = { \"kvm.halt_poll_ns\" = 7 }\n"),
    ] {
        let text = format!("description = \"shadow\"\nfeatures = {{ tdp = false }}\n{more}");
        fs::write(fixture.path().join("shadow.toml"), text).unwrap();
        let asked = ["--config", "shadow.toml", "--environment", "shadow"];
        run(&fixture, &host, output, &asked);
    }
    let mut compare = fixture.program(&["compare", "old", "new", "--format", "json"]);
    let compared = compare.output().unwrap().stdout;
    let comparison: Value = serde_json::from_slice(&compared).unwrap();
    let differences = comparison["differences"].as_array().unwrap().iter();
    let in_words =
        |one: &Value| format!("{} {} -> {}", one["what"], one["old"], one["new"]).replace('"', "");
    let differences: Vec<String> = differences.map(in_words).collect();
    for expected in [
        "environment shadow tdp=off -> tdp=off, kvm.halt_poll_ns=7",
        "kvm.halt_poll_ns in shadow 200000 -> 7",
    ] {
        assert!(
            differences.iter().any(|one| one == expected),
            "{differences:?}"
        );
    }
}

#[test]
fn the_cases_of_an_environment_that_cannot_be_are_skipped_or_no_run_with_the_reason() {
    let fixture = Fixture::new().selftest("a_test", "exit 0");
    let host = FakeHost::amd();
    for (text, code, status, says) in [
        ("pml = false", 0, Status::Skipped, "AMD has no `pml`"),
        (
            "nested = false",
            101,
            Status::NoRun,
            "; everything is as it was",
        ),
    ] {
        host.behave("case $* in *nested=0*) exit 1 ;; esac");
        let file = format!("features = {{ {text} }}\n");
        fs::write(fixture.path().join("own.toml"), file).unwrap();
        let asked = [
            "--overwrite",
            "--config",
            "own.toml",
            "--environment",
            "[o]wn",
        ];
        let ran = Ran::of(command(&fixture, &host, "run", &asked).output().unwrap());
        assert_eq!(ran.code, Some(code), "{}{}", ran.stdout, ran.stderr);
        let (found, reason) = fixture.verdict("own::a_test::default");
        assert!(
            found == status && reason.contains(says),
            "{found:?} {reason}"
        );
    }
}

#[test]
fn what_is_said_to_repeat_a_case_makes_its_environment_up_again() {
    let fixture = Fixture::new().selftest("a_test", "cat $MODULES/kvm_amd/parameters/npt");
    let host = FakeHost::amd();
    let text = "features = { tdp = false }\nhugepages = { 2M = 4 }\n";
    host.put("own.toml", text);
    let modules = host.path("sys/module");
    let config = host.path("own.toml").display().to_string();
    let asked = ["--config", &config, "--environment", "own", "a_test"];
    let mut command = command(&fixture, &host, "run", &asked);
    let ran = Ran::of(command.env("MODULES", &modules).output().unwrap());
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    let reproduce = fixture.outcome("own::a_test::default").reproduce;
    fs::remove_file(host.path("own.toml")).unwrap();
    std::os::unix::fs::symlink(command.get_program(), host.path("bin/kvm-tests")).unwrap();
    let mut by_hand = Command::new("sh");
    by_hand.args(["-c", &reproduce]).env("PATH", host.search());
    by_hand.env("KVM_TESTS_ROOT", host.path(""));
    let ran = Ran::of(by_hand.env("MODULES", &modules).output().unwrap());
    assert_eq!(ran.stdout, "N\n", "{reproduce}: {}", ran.stderr);
}
