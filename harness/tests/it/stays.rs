//! The environments that a run was in, as its record and its reports tell of them: the real program on a directory that
//! stands for a host.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::fake_host::FakeHost;
use crate::support::{Fixture, Ran};
use harness::log::record::Record;

/// The program with `arguments`, on the selftests of `fixture` and on `host`.
fn command(fixture: &Fixture, host: &FakeHost, output: &str, arguments: &[&str]) -> Command {
    let mut command = fixture.command(&["--selftests", "selftests", "--output", output]);
    command
        .args(arguments)
        .env("KVM_TESTS_ROOT", host.path(""))
        .env("PATH", host.search());
    command
}

fn run(fixture: &Fixture, host: &FakeHost, output: &str, arguments: &[&str]) -> Record {
    let ran = Ran::of(command(fixture, host, output, arguments).output().unwrap());
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    Record::read(&fixture.path().join(output)).unwrap().0
}

#[test]
fn a_stay_is_told_with_its_times_its_settings_and_the_parameters_in_force() {
    let fixture = Fixture::new()
        .selftest("a_test", "exit 0")
        .selftest("b_test", "exit 0");
    let host = FakeHost::amd();
    let before = host.state();
    let record = run(
        &fixture,
        &host,
        "run",
        &[
            "--environment",
            "host",
            "--set",
            "tdp=off",
            "_test::default",
        ],
    );
    assert_eq!(host.state(), before);

    let [stay] = record.stays.as_slice() else {
        panic!("{:?}", record.stays)
    };
    assert_eq!(
        (stay.environment.as_str(), stay.settings.as_slice()),
        ("tdp_off", &["tdp=off".to_owned()][..])
    );
    assert_eq!(
        (
            record.run.host.modules["kvm_amd"]["npt"].as_str(),
            stay.modules["kvm_amd"]["npt"].as_str()
        ),
        ("Y", "N")
    );
    assert_eq!(stay.modules["kvm"]["tdp_mmu"], "N");
    assert_eq!(
        (stay.notes.as_slice(), &stay.problem),
        (&["kvm.tdp_mmu reads N with it".to_owned()][..], &None)
    );
    let inside: Vec<u64> = record
        .outcomes
        .iter()
        .filter(|one| one.environment.is_some())
        .map(|one| one.started_ms)
        .collect();
    assert_eq!(inside.len(), 2);
    let mut times = vec![record.run.started_ms, stay.entering_ms, stay.entered_ms];
    times.extend([inside.iter().min().unwrap(), inside.iter().max().unwrap()]);
    times.extend([stay.leaving_ms.unwrap(), stay.left_ms.unwrap()]);
    assert!(times.is_sorted(), "{times:?}");

    let junit = fs::read_to_string(fixture.results().join("junit.xml")).unwrap();
    let (outside, inside) = junit.split_once("<testsuite name=\"tdp_off::").unwrap();
    assert!(
        outside.contains("npt=Y") && !outside.contains("environment.settings"),
        "{outside}"
    );
    assert!(
        inside.contains("name=\"environment.settings\" value=\"tdp=off\"")
            && inside.contains("npt=N"),
        "{inside}"
    );
    assert!(!inside.contains("npt=Y"), "{inside}");
    let page = fs::read_to_string(fixture.results().join("report.html")).unwrap();
    assert_eq!(page.matches("class=\"changing\"").count(), 2);
    for part in [
        "title=\"tdp_off: tdp=off\"",
        "kvm_amd.npt=N (Y before)",
        "kvm.tdp_mmu reads N with it",
    ] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn a_run_without_environments_tells_of_no_stay() {
    let fixture = Fixture::new().selftest("a_test", "exit 0");
    let record = run(&fixture, &FakeHost::amd(), "run", &["a_test"]);
    assert_eq!(record.stays, []);
    assert!(
        !fs::read_to_string(fixture.results().join("report.html"))
            .unwrap()
            .contains("lane of the host")
    );
}

#[test]
fn of_a_killed_run_it_is_told_what_it_was_in_and_the_next_one_tells_that_it_put_the_host_back() {
    let fixture = Fixture::new().selftest("a_test", "touch ../inside; exec sleep 1000");
    let host = FakeHost::amd();
    let mut runner = command(
        &fixture,
        &host,
        "killed",
        &["--set", "tdp=off", "tdp_off::a_test"],
    );
    let mut runner = runner
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begin = Instant::now();
    while !fixture.path().join("inside").exists() {
        assert!(begin.elapsed() < Duration::from_secs(60) && runner.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(5));
    }
    runner.kill().unwrap();
    runner.wait().unwrap();
    let record = Record::read(&fixture.path().join("killed")).unwrap().0;
    let [stay] = record.stays.as_slice() else {
        panic!("{:?}", record.stays)
    };
    assert_eq!(
        (stay.environment.as_str(), stay.pid, stay.left_ms),
        ("tdp_off", runner.id(), None)
    );
    let mut report = Command::new(env!("CARGO_BIN_EXE_kvm-tests-runner"));
    assert!(
        report
            .arg("report")
            .arg(fixture.path().join("killed"))
            .output()
            .unwrap()
            .status
            .success()
    );
    let page = fs::read_to_string(fixture.path().join("killed/report.html")).unwrap();
    assert!(page.contains("not known to be left"));

    let fixture = fixture.selftest("a_test", "exit 0");
    let record = run(&fixture, &host, "next", &["a_test"]);
    assert_eq!(host.parameter("kvm_amd.npt"), "Y");
    let [stay] = record.stays.as_slice() else {
        panic!("{:?}", record.stays)
    };
    assert_eq!(
        (
            stay.environment.as_str(),
            stay.modules["kvm_amd"]["npt"].as_str()
        ),
        ("host", "Y")
    );
    assert!(
        stay.notes[0].starts_with("restored the host, which a killed run"),
        "{:?}",
        stay.notes
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
        fs::write(
            fixture.path().join("shadow.toml"),
            format!("description = \"shadow\"\nfeatures = {{ tdp = false }}\n{more}"),
        )
        .unwrap();
        run(
            &fixture,
            &host,
            output,
            &["--config", "shadow.toml", "--environment", "shadow"],
        );
    }
    let mut compare = Command::new(env!("CARGO_BIN_EXE_kvm-tests-runner"));
    compare
        .current_dir(fixture.path())
        .args(["compare", "old", "new", "--format", "json"]);
    let comparison: serde_json::Value =
        serde_json::from_slice(&compare.output().unwrap().stdout).unwrap();
    let differences: Vec<String> = comparison["differences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| format!("{} {} -> {}", one["what"], one["old"], one["new"]).replace('"', ""))
        .filter(|one| !one.starts_with("free hugepages"))
        .collect();
    let expected = [
        "environment shadow tdp=off -> tdp=off, kvm.halt_poll_ns=7",
        "kvm.halt_poll_ns in shadow 200000 -> 7",
    ];
    assert_eq!(differences, expected);
}
