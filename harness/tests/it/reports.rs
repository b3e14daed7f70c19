//! What reports say, and that they can be read whatever a test printed and however a run ended.

use std::fs;
use std::path::Path;
use std::process::Command;

use harness::log::results::{JOURNAL, RUN_JSON};
use harness::model::outcome::{Exit, Status};
use harness::report;
use quick_junit::{NonSuccessKind, Report, TestCaseStatus};

use crate::support::{Fixture, Ran};
use stage::Run;

mod stage;

/// What no test should print.
const HOSTILE: &[(&str, &[u8])] = &[
    ("nul", b"a\0b\n"),
    ("escape", b"\x1b[31mred\x1b[0m \x1b]0;title\x07 \x1b"),
    ("invalid_utf8", b"\xff\xfe\xc3( \xed\xa0\x80\n"),
    ("no_character", "\u{fffe}\u{ffff}\u{202e}\u{85}".as_bytes()),
    (
        "end_of_cdata",
        b"<![CDATA[ ]]> <!-- & \" ' </system-out></testcase>\n",
    ),
    ("script", b"</script><script>alert(1)</script>\n"),
    (
        "kernel_log",
        b"reboot: System halted\nKTAP version 1\n# Subtest: x\n",
    ),
];

fn a_run_of_everything() -> Run {
    let mut run = Run::new();
    run.case("plain::passes", Status::Passed, "");
    run.case("plain::skipped", Status::Skipped, "no such thing\nat all");
    run.case(
        "plain::fails",
        Status::Failed,
        "a.c:7: x == y\nerrno 1: told",
    );
    run.case("plain::hangs", Status::TimedOut, "did not end in its time");
    run.case("plain::never", Status::NoRun, "setup failed");
    run.case("skipped::default", Status::Skipped, "");
    let crash = run.case("crash::default", Status::Failed, "killed by SIGSEGV");
    crash.exit = Some(Exit::Signal {
        signal: 11,
        core_dumped: false,
    });
    let elsewhere = run.case("plain::passes", Status::Passed, "");
    elsewhere.environment = Some("shadow".to_owned());
    elsewhere.name = "shadow::plain::passes".to_owned();
    run
}

fn tap_runs() -> Run {
    let mut run = Run::new();
    let mut case = |name: &str, code: i32, stdout: &str| {
        run.printed(name, Exit::Code(code), stdout.as_bytes(), b"");
    };
    case(
        "tap::passes",
        0,
        "TAP version 13\n1..2\nok 1 one\nok 2 - two # SKIP without it\n",
    );
    case(
        "tap::fails",
        1,
        "TAP version 13\n1..3\nok 1 one\nnot ok 2 two # why\nok 3 one # XFAIL known\n",
    );
    case("tap::ends_badly", 9, "TAP version 13\n1..1\nok 1 exit\n");
    case(
        "tap::skips_half_way",
        4,
        "TAP version 13\n1..2\nok 1 one\nok 2 # SKIP no more of it\n",
    );
    case("tap::plans_more", 0, "TAP version 13\n1..5\nok 1 one\n");
    case(
        "tap::nested",
        1,
        "KTAP version 1\n1..2\n  KTAP version 1\n  1..2\n    1..1\n    not ok 1 leaf\n  not ok 1 inner\n  ok 2 other\n\
         not ok 1 outer\n  ok 1 fine\nnot ok 2 last\n",
    );
    case(
        "tap::strange_names",
        0,
        "1..4\nok 1 tap::strange_names\nok 2 - - dash\nok 3 strange_names\nok 4 issue#7\n",
    );
    run
}

#[test]
fn junit_has_every_status_with_its_reason_and_the_hosts_properties() {
    let run = a_run_of_everything();
    run.end();
    let (junit, _) = run.reports();
    let report = Report::deserialize_from_str(&junit).unwrap();
    assert_eq!(
        (report.tests, report.failures, report.errors, report.skipped),
        (8, 4, 0, 2)
    );
    let names: Vec<_> = report
        .test_suites
        .iter()
        .map(|suite| suite.name.as_str())
        .collect();
    assert_eq!(names, ["crash", "plain", "skipped", "shadow::plain"]);
    let told: Vec<_> = report
        .test_suites
        .iter()
        .flat_map(|suite| &suite.test_cases)
        .map(told)
        .collect();
    assert_eq!(
        told,
        [
            "crash::default failed: SIGSEGV: killed by SIGSEGV",
            "plain::fails failed: FAILED: a.c:7: x == y",
            "plain::hangs failed: TIMED_OUT: did not end in its time",
            "plain::never failed: NO_RUN: setup failed",
            "plain::passes passed",
            "plain::skipped skipped: no such thing",
            "skipped::default skipped: ",
            "shadow::plain::passes passed",
        ]
    );
    for suite in &report.test_suites {
        let property = |name: &str| {
            suite
                .properties
                .iter()
                .find(|property| property.name.as_str() == name)
                .map(|p| p.value.as_str())
        };
        assert_eq!(property("host.kernel"), Some("6.12.1"));
        assert_eq!(property("module.kvm_intel"), Some("ept=Y"));
        assert_eq!(property("command_line"), Some("kvm-tests run 'a b'"));
        assert_eq!(property("finished"), None);
    }
    assert_eq!(
        report.test_suites[0].test_cases[0]
            .time
            .unwrap()
            .as_millis(),
        250
    );
}

/// A case in a line.
fn told(case: &quick_junit::TestCase) -> String {
    let name = format!(
        "{}::{}",
        case.classname.as_deref().unwrap(),
        case.name.as_str()
    );
    match &case.status {
        TestCaseStatus::Success { .. } => format!("{name} passed"),
        TestCaseStatus::Skipped { message, .. } => {
            format!("{name} skipped: {}", message.as_deref().unwrap_or_default())
        }
        TestCaseStatus::NonSuccess {
            kind, message, ty, ..
        } => {
            assert_eq!(*kind, NonSuccessKind::Failure);
            format!(
                "{name} failed: {}: {}",
                ty.as_deref().unwrap(),
                message.as_deref().unwrap()
            )
        }
    }
}

#[test]
fn ktap_has_a_test_for_each_suite_with_its_cases_in_it() {
    let run = a_run_of_everything();
    run.end();
    let (_, ktap) = run.reports();
    let reproduce = "reproduce: cd /selftests && /selftests/a_test";
    let expected = format!(
        "\
KTAP version 1
# kvm-tests: 0.1.0
# command_line: kvm-tests run 'a b'
# selected: 8
# workers: 2
# host.name: lab
# host.kernel: 6.12.1
# host.kernel_version: \\x231 SMP
# host.machine: x86_64
# host.cpu: GenuineIntel a model
# host.cpus: 2
# host.memory: 4G
# host.taint: 0
# module.kvm_intel: ept=Y
1..4
  KTAP version 1
  # Subtest: crash
  1..1
  # FAILED: killed by SIGSEGV
  # {reproduce}
  not ok 1 default
not ok 1 crash
  KTAP version 1
  # Subtest: plain
  1..5
  # FAILED: a.c:7: x == y
  #   errno 1: told
  # {reproduce}
  not ok 1 fails
  # TIMED_OUT: did not end in its time
  # {reproduce}
  not ok 2 hangs # TIMEOUT did not end in its time
  # NO_RUN: setup failed
  # {reproduce}
  not ok 3 never # ERROR setup failed
  ok 4 passes
  ok 5 skipped # SKIP no such thing
not ok 2 plain
  KTAP version 1
  # Subtest: skipped
  1..1
  ok 1 default # SKIP
ok 3 skipped # SKIP every case was skipped
  KTAP version 1
  # Subtest: shadow::plain
  1..1
  ok 1 passes
ok 4 shadow::plain
"
    );
    assert_eq!(ktap, expected);
}

#[test]
fn ktap_shows_the_sub_tests_of_a_case_and_what_they_do_not_tell() {
    let run = tap_runs();
    run.end();
    let (_, ktap) = run.reports();
    let after_plan = ktap.split_once("  # Subtest: tap\n").unwrap().1;
    let kept: Vec<_> = after_plan
        .lines()
        .filter(|line| !line.contains("# reproduce: "))
        .collect();
    let expected = "  1..7
    KTAP version 1
    # Subtest: ends_badly
    1..2
    ok 1 exit
    not ok 2 exit_2
  # FAILED: exit code 9
  not ok 1 ends_badly
    KTAP version 1
    # Subtest: fails
    1..3
    ok 1 one
    # two: why
    not ok 2 two
    ok 3 one_2 # XFAIL known
  # FAILED: not ok: two
  #   two: why
  not ok 2 fails
    KTAP version 1
    # Subtest: nested
    1..2
      KTAP version 1
      # Subtest: outer
      1..2
        KTAP version 1
        # Subtest: inner
        1..1
        not ok 1 leaf
      not ok 1 inner
      ok 2 other
    not ok 1 outer
      KTAP version 1
      # Subtest: last
      1..2
      ok 1 fine
      not ok 2 exit
    not ok 2 last
  # FAILED: not ok: outer/inner/leaf, last
  not ok 3 nested
    KTAP version 1
    # Subtest: passes
    1..2
    ok 1 one
    ok 2 two # SKIP without it
  ok 4 passes
    KTAP version 1
    # Subtest: plans_more
    1..2
    ok 1 one
    not ok 2 exit
  # FAILED: planned 5 sub-tests, reported 1
  #   exit code 0 all the same
  not ok 5 plans_more
    KTAP version 1
    # Subtest: skips_half_way
    1..3
    ok 1 one
    ok 2 2 # SKIP no more of it
    ok 3 exit # SKIP no more of it
  ok 6 skips_half_way # SKIP no more of it
    KTAP version 1
    1..4
    ok 1 tap::strange_names
    ok 2 dash
    ok 3 strange_names
    ok 4 issue\\x237
  ok 7 strange_names
not ok 1 tap";
    assert_eq!(kept, expected.lines().collect::<Vec<_>>());
}

#[test]
fn reports_are_well_formed_whatever_a_test_printed() {
    let run = a_hostile_run();
    run.end();
    let (junit, ktap) = run.reports();
    // XML 1.0 has no other characters (2.2 Characters).
    let is_xml = |c: char| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{fffd}' | '\u{10000}'..);
    assert_eq!(junit.chars().find(|&c| !is_xml(c)), None);
    assert_eq!(ktap.chars().find(|&c| c.is_control() && c != '\n'), None);
    let report = Report::deserialize_from_str(&junit).unwrap();
    assert_eq!(report.tests, HOSTILE.len() + 1);
    // quick-junit trims what it reads.
    let output = |name: &str| {
        let mut cases = report.test_suites[0].test_cases.iter();
        let case = cases.find(|case| case.name.as_str() == name).unwrap();
        let text = |stream: &Option<quick_junit::XmlString>| {
            stream.as_deref().unwrap_or_default().to_owned()
        };
        (text(&case.system_out), text(&case.system_err))
    };
    assert_eq!(output("nul").0, "a\\x00b");
    assert_eq!(output("escape").1, "red");
    assert_eq!(
        output("no_character").0,
        "\\u{fffe}\\u{ffff}\\u{202e}\\u{85}"
    );
    assert_eq!(
        output("end_of_cdata").0,
        "<![CDATA[ ]]> <!-- & \" ' </system-out></testcase>"
    );
    assert_eq!(output("a_long_line").0.len(), 16 * 1024 + "…".len());
}

fn a_hostile_run() -> Run {
    let mut run = Run::new();
    for (name, bytes) in HOSTILE {
        let printed = run.printed(&format!("hostile::{name}"), Exit::Code(1), bytes, bytes);
        printed.reason = Some(String::from_utf8_lossy(bytes).into_owned());
    }
    run.printed(
        "hostile::a_long_line",
        Exit::Code(0),
        &b"x".repeat(3 << 20),
        b"",
    );
    run
}

#[test]
fn thousands_of_sub_tests_of_one_name_keep_names_of_their_own() {
    let mut run = Run::new();
    let stdout = format!("1..10000\n{}", "ok - same\n".repeat(10_000));
    run.printed("many::default", Exit::Code(0), stdout.as_bytes(), b"");
    run.end();
    let (_, ktap) = run.reports();
    assert!(ktap.contains("    ok 1 same\n    ok 2 same_2\n"));
    assert!(ktap.contains("    ok 10000 same_10000\n  ok 1 default\n"));
}

#[test]
fn the_reports_of_a_killed_run_say_what_was_running() {
    let mut run = Run::new();
    run.case("a::ended", Status::Passed, "");
    run.case("a::running", Status::Passed, "");
    run.record.run.selected = 5;
    run.be_killed();
    for without_run_json in [false, true] {
        if without_run_json {
            fs::remove_file(run.directory().join(RUN_JSON)).unwrap();
        }
        let (junit, ktap) = run.reports();
        let report = Report::deserialize_from_str(&junit).unwrap();
        let cases: Vec<_> = report.test_suites[0].test_cases.iter().map(told).collect();
        assert_eq!(
            cases,
            [
                "a::ended passed",
                "a::running failed: NO_RUN: the run ended while this was running"
            ]
        );
        let line = "# finished: no: the runner was gone before its end; 1 cases ran then, or may have, and 3 had not run\n";
        assert!(ktap.contains(line), "{ktap}");
        assert!(
            ktap.contains("  not ok 2 running # ERROR the run ended while this was running\n"),
            "{ktap}"
        );
    }
}

#[test]
fn a_run_of_a_newer_schema_version_is_refused_with_a_sentence() {
    let run = a_run_of_everything();
    run.be_killed();
    for file in [RUN_JSON, JOURNAL] {
        let path = run.directory().join(file);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(
            &path,
            text.replace("\"schema_version\":1", "\"schema_version\":99,\"new\":[]"),
        )
        .unwrap();
    }
    for file in [RUN_JSON, JOURNAL] {
        let error = format!("{:#}", report::write_all(run.directory()).unwrap_err());
        let expected = format!(
            "read {}: it has schema version 99, and this program knows versions up to 1: use the kvm-tests that wrote it, \
             or a newer one",
            run.directory().join(file).display()
        );
        assert_eq!(error, expected);
        assert!(!run.directory().join("junit.xml").exists());
        drop(fs::remove_file(run.directory().join(RUN_JSON)));
    }
}

#[test]
fn output_that_is_gone_or_no_file_does_not_stop_the_reports() {
    let mut run = Run::new();
    run.printed("a::gone", Exit::Code(0), b"x", b"x");
    run.printed("a::odd", Exit::Code(0), b"x", b"x");
    run.end();
    fs::remove_dir_all(run.directory().join("a/gone")).unwrap();
    fs::remove_file(run.directory().join("a/odd/command.stdout")).unwrap();
    fs::create_dir(run.directory().join("a/odd/command.stdout")).unwrap();
    let (junit, _) = run.reports();
    let report = Report::deserialize_from_str(&junit).unwrap();
    let [gone, odd] = &report.test_suites[0].test_cases[..] else {
        panic!("{junit}")
    };
    assert_eq!((&gone.system_out, &gone.system_err), (&None, &None));
    let said = odd.system_out.as_deref().unwrap();
    assert_eq!(said, "(cannot read command.stdout: it is no regular file)");
    assert_eq!(odd.system_err.as_deref(), Some("x"));
}

#[test]
fn one_report_that_cannot_be_written_does_not_stop_the_others() {
    let run = a_run_of_everything();
    run.end();
    let junit = run.directory().join("junit.xml");
    fs::create_dir(&junit).unwrap();
    let error = format!("{:#}", report::write_all(run.directory()).unwrap_err());
    assert!(
        error.starts_with(&format!("write {}: ", junit.display())),
        "{error}"
    );
    assert!(run.directory().join("results.ktap").is_file());
    assert!(!run.directory().join(".junit.xml.unfinished").exists());
}

#[test]
fn a_run_ends_with_its_reports_and_they_can_be_written_again() {
    let fixture = Fixture::new()
        .selftest("pass_test", "echo told")
        .selftest("fail_test", "exit 1");
    assert_eq!(fixture.run(&[]).code, Some(101));
    let paths = ["junit.xml", "results.ktap"].map(|name| fixture.results().join(name));
    let written = paths
        .each_ref()
        .map(|path| fs::read_to_string(path).unwrap());
    assert!(written[0].contains("<system-out>told"), "{}", written[0]);
    paths.iter().for_each(|path| fs::remove_file(path).unwrap());
    let again = program(&["report", "run"], fixture.path());
    assert_eq!(
        (again.code, again.stdout.as_str()),
        (
            Some(0),
            "run/junit.xml\nrun/results.ktap\nrun/report.html\n"
        )
    );
    assert_eq!(
        paths
            .each_ref()
            .map(|path| fs::read_to_string(path).unwrap()),
        written
    );
    let nothing = program(&["report", "nothing"], fixture.path());
    assert_eq!(nothing.code, Some(2));
    assert_eq!(
        nothing.stderr,
        "error: read nothing: No such file or directory (os error 2)\n"
    );
}

#[test]
fn a_run_whose_report_cannot_be_written_says_so_and_fails() {
    let in_the_way =
        "exec 3>&1; mkdir \"$(dirname \"$(readlink /proc/self/fd/3)\")/../../junit.xml\"";
    let fixture = Fixture::new().selftest("pass_test", in_the_way);
    let ran = fixture.run(&[]);
    assert_eq!(ran.code, Some(101), "{}", ran.stderr);
    let said = format!(
        "cannot write the reports: write {}/junit.xml: ",
        fixture.results().display()
    );
    assert!(ran.stderr.contains(&said), "{}", ran.stderr);
    assert_eq!(fixture.record().of_status(Status::Passed).count(), 1);
    assert!(fixture.results().join("results.ktap").is_file());
}

fn program(args: &[&str], directory: &Path) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvm-tests-runner"));
    Ran::of(command.args(args).current_dir(directory).output().unwrap())
}

#[test]
#[ignore = "needs python3 with junitparser, xmlschema and jsonschema, and the kernel's sources in KERNEL_SRC"]
fn other_readers_count_the_same() {
    let mut killed = a_run_of_everything();
    killed.record.run.selected += 1;
    killed.be_killed();
    let finished = [a_run_of_everything(), tap_runs(), a_hostile_run()];
    finished.iter().for_each(Run::end);
    let mut directories: Vec<&Path> = finished
        .iter()
        .chain([&killed])
        .map(Run::directory)
        .collect();
    // A run of real selftests, where there is one.
    let real = std::env::var_os("KVM_TESTS_RUN");
    directories.extend(real.as_ref().map(Path::new));
    for directory in directories {
        report::write_all(directory).unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/reports/readers.py");
        let status = Command::new("python3")
            .arg(script)
            .arg(directory)
            .status()
            .unwrap();
        assert!(status.success(), "{}", directory.display());
    }
}
