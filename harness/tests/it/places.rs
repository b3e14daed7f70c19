//! Places: a run whose cases are executed elsewhere, by the real program through real commands.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::fake_host::FakeHost;
use crate::support::{Fixture, Ran, Status, events, journals, lines_with, processes, wait_until};

mod guests;
mod ssh;

/// A selftest that kills the program which runs it at this place, as a host that dies would, and not again once there is a
/// file `spared`.
const KILLS: &str = "[ ! -e ../spared ] || exit 0
    [ -z \"$ONCE\" ] || touch ../spared
    echo died; kill -9 $(cut -d' ' -f4 /proc/$PPID/stat); sleep 1000";

/// What became of each case.
fn statuses(fixture: &Fixture) -> BTreeMap<String, Status> {
    let outcomes = fixture.record().outcomes.into_iter();
    outcomes.map(|one| (one.name, one.status)).collect()
}

/// Some cases of every kind, and their statuses.
fn of_every_kind() -> (Fixture, BTreeMap<String, Status>) {
    let fixture = Fixture::new()
        .selftest("fail_test", "echo out; echo why >&2; exit 1")
        .selftest("good_test", "printf 'a\\0\\377~\\\\b'")
        .selftest("skip_test", "exit 4")
        .file(
            "suite.toml",
            "setup = \"echo set up\"\nteardown = \"echo torn down\"\n[[test]]\nname = \"one\"\ncommand = \"true\"\n",
        );
    let expected = [
        ("fail_test::default", Status::Failed),
        ("good_test::default", Status::Passed),
        ("skip_test::default", Status::Skipped),
        ("suite::one", Status::Passed),
    ];
    (
        fixture,
        expected
            .map(|(name, status)| (name.to_owned(), status))
            .into(),
    )
}

fn output(fixture: &Fixture, place: &str) -> Vec<u8> {
    fs::read(fixture.results().join(place)).unwrap()
}

#[test]
fn a_run_at_a_place_is_like_one_here() {
    let (fixture, expected) = of_every_kind();
    let at_place = ["--config", "suite.toml", "--place", "sh -c {}"];
    let again = ["--retry-failed", "2"];
    let ran = fixture.run(&[&at_place[..], &again].concat());
    assert_eq!(ran.code, Some(101), "{}", ran.stderr);
    assert_eq!(statuses(&fixture), expected);
    for repetition in ["retry_1", "retry_2"] {
        let place = format!("fail_test/default/{repetition}/command.stderr");
        assert_eq!(output(&fixture, &place), b"why\n");
    }
    assert_eq!(
        output(&fixture, "fail_test/default/command.stdout"),
        b"out\n"
    );
    assert_eq!(
        output(&fixture, "fail_test/default/command.stderr"),
        b"why\n"
    );
    assert_eq!(
        output(&fixture, "good_test/default/command.stdout"),
        b"a\0\xff~\\b"
    );
    assert_eq!(output(&fixture, "suite/suite_setup.stdout"), b"set up\n");
    assert_eq!(
        output(&fixture, "suite/suite_teardown.stdout"),
        b"torn down\n"
    );
    assert!(
        ran.stdout.contains("fail_test::default") && ran.stdout.contains("FAILED"),
        "{}",
        ran.stdout
    );
    let record = fixture.record();
    assert!(record.finished && fixture.results().join("report.html").is_file());
    assert_eq!(record.first()["place"], "place");
    // The plan, and the part.
    assert_eq!(journals(&fixture.results()).len(), 2);
    // Read back, it is the same, and the directory may be replaced.
    fs::remove_file(fixture.results().join("run.json")).unwrap();
    assert_eq!(statuses(&fixture), expected);
    assert_eq!(fixture.run(&at_place).code, Some(101));
    // What is said of the cases before they run is said here, too.
    let known = "[[known]]\ncase = \"fail_test::*\"\nreason = \"old\"\n";
    let fixture = fixture.file("k.toml", known);
    let more = ["--known", "k.toml", "--rerun", "run"];
    let ran = fixture.run(&[&at_place[..], &more].concat());
    for row in ["  left out     ", "  run again    ", "  known        "] {
        assert!(
            !lines_with(&ran.stderr, row).is_empty(),
            "{row}: {}",
            ran.stderr
        );
    }
}

#[test]
fn what_a_transport_prints_is_passed_over_and_kept() {
    let (fixture, expected) = of_every_kind();
    // Carriage returns, torn text before the first frame, and lines between frames.
    let noisy = "printf 'Welcome\\r\\n$ torn '; sh -c {} | sed -u 's/$/\\r/; i[ 1.5] a message of the console\\r'; echo bye";
    let ran = fixture.run(&[
        "--config",
        "suite.toml",
        "--place",
        &format!("noisy={noisy}"),
    ]);
    assert_eq!(ran.code, Some(101), "{}", ran.stderr);
    assert_eq!(statuses(&fixture), expected);
    assert_eq!(
        output(&fixture, "good_test/default/command.stdout"),
        b"a\0\xff~\\b"
    );
    let console = String::from_utf8(output(&fixture, "places/noisy.console.log")).unwrap();
    for line in ["Welcome", "a message of the console", "bye"] {
        assert!(console.contains(line), "{console}");
    }
}

#[test]
fn what_was_damaged_on_the_way_is_told_and_taken_for_no_result() {
    let (fixture, mut expected) = of_every_kind();
    let damages = "sh -c {} | sed -u '/\"finished\".*fail_test/s/FAILED/PASSED/'";
    let ran = fixture.run(&["--config", "suite.toml", "--place", damages]);
    assert_eq!(ran.code, Some(101), "{}", ran.stderr);
    expected.insert("fail_test::default".to_owned(), Status::NoRun);
    assert_eq!(statuses(&fixture), expected);
    assert!(
        ran.stderr.contains("DAMAGED on the way from place"),
        "{}",
        ran.stderr
    );
}

/// Four cases of which the second kills its host.
fn with_a_killer() -> Fixture {
    Fixture::new()
        .selftest("a_test", "exit 0")
        .selftest("b_test", KILLS)
        .selftest("c_test", "exit 0")
        .selftest("d_test", "exit 0")
}

#[test]
fn a_case_whose_host_dies_is_a_suspect_and_runs_again_last_and_alone() {
    let fixture = with_a_killer();
    let ran = fixture.run(&[
        "--test-threads",
        "1",
        "--place",
        "env ONCE=1 sh -c {}",
        "--place",
        "export ONCE=1; sh -c {}",
    ]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    assert!(
        statuses(&fixture)
            .values()
            .all(|status| *status == Status::Passed)
    );
    let record = fixture.record();
    let suspects: Vec<_> = record.outcomes.iter().filter(|one| one.suspect).collect();
    assert_eq!(suspects.len(), 1);
    assert_eq!(suspects[0].name, "b_test::default");
    assert!(ran.stderr.contains("PLACE DIED: place"), "{}", ran.stderr);
    assert!(ran.stdout.contains("PLACES THAT DIED"), "{}", ran.stdout);
    let begins = events(&fixture.results()).into_iter();
    let parts: Vec<_> = begins.filter(|(name, _)| name == "part_started").collect();
    let last = parts.last().unwrap().1["cases"].as_array().unwrap();
    assert_eq!((last.len(), &last[0]["suite"]), (1, &"b_test".into()));
    assert!(record.finished);
    let ends = record
        .parts
        .iter()
        .map(|share| share["end"]["died"].is_string());
    assert_eq!(ends.filter(|died| *died).count(), 1);
}

#[test]
fn a_case_that_costs_two_hosts_has_failed_and_all_others_have_their_outcomes() {
    let fixture = with_a_killer();
    let ran = fixture.run(&["--test-threads", "1", "--place", "p*2=sh -c {}"]);
    assert_eq!(ran.code, Some(101), "{}", ran.stderr);
    let mut others = statuses(&fixture);
    assert_eq!(others.remove("b_test::default"), Some(Status::Failed));
    assert!(others.len() == 3 && others.values().all(|status| *status == Status::Passed));
    let (_, reason) = fixture.verdict("b_test::default");
    assert!(reason.starts_with("its host died twice: "), "{reason}");
}

#[test]
fn a_panic_on_the_console_is_told_and_fails_the_run_although_another_place_goes_on() {
    let fixture = with_a_killer();
    let panics = "export ONCE=1; sh -c {} || printf '[   1.5] BUG: bad thing\\r\\n[   1.6] RIP: 0010:vmrun+0x1/0x2 [kvm]\\r\\n[   1.7] Kernel panic - not syncing: x\\r\\n'";
    let ran = fixture.run(&["--test-threads", "1", "--place", panics]);
    assert_eq!(ran.code, Some(101), "{}", ran.stderr);
    assert!(
        statuses(&fixture)
            .values()
            .all(|status| *status == Status::Passed)
    );
    let told = lines_with(&ran.stderr, "PLACE DIED");
    assert!(told[0].contains("while this ran: b_test::default: BUG: bad thing, RIP vmrun+0x1/0x2 [kvm] (places/place.console.log:"), "{told:?}");
    assert_eq!(fixture.record().splats.len(), 1);
}

#[test]
fn a_place_that_cannot_start_says_why_and_the_others_go_on() {
    let fixture = Fixture::new()
        .selftest("a_test", "until [ -e ../tried ]; do sleep 0.05; done")
        .selftest("b_test", "until [ -e ../tried ]; do sleep 0.05; done");
    let bad = "bad=touch tried; echo no route to host >&2; exit 255; : {}";
    let ran = fixture.run(&["--place", bad, "--place", "good=sh -c {}"]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    let names: Vec<_> = statuses(&fixture).into_keys().collect();
    // Places of several kinds: a case is named after its host.
    assert_eq!(names, ["good::a_test::default", "good::b_test::default"]);
    assert!(
        ran.stderr
            .contains("PLACE LOST: bad: cannot start: exit code 255"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("no route to host"), "{}", ran.stderr);

    let ran = fixture.run(&["--place", bad]);
    assert_eq!(ran.code, Some(101), "{}", ran.stderr);
    let (status, reason) = fixture.verdict("a_test::default");
    assert_eq!(status, Status::NoRun);
    assert!(
        reason.starts_with("no place is left to run it: bad: cannot start"),
        "{reason}"
    );
    assert!(fixture.results().join("report.html").is_file());
}

#[test]
fn places_end_in_order_when_the_run_is_interrupted() {
    let mark = format!("places{}", std::process::id());
    let suite = format!(
        "teardown = \"echo torn down >> ../log\"\n[[test]]\nname = \"hangs\"\ncommand = \"setsid sh -c 'sleep 1000; : {mark}'\"\n\
         [[test]]\nname = \"waits\"\ncommand = \"true\"\n"
    );
    let fixture = Fixture::new()
        .selftest("a_test", "exit 0")
        .file("suite.toml", &suite);
    let how = ["--test-threads", "1", "--place", "sh -c {}"];
    let child = fixture.start(&[&["--config", "suite.toml", "suite::"], &how[..]].concat());
    wait_until(|| !processes(&mark).is_empty());
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let ran = Ran::of(child.wait_with_output().unwrap());
    assert_eq!(ran.code, Some(130), "{}", ran.stderr);
    assert_eq!(processes(&mark), [0; 0]);
    assert_eq!(
        fixture.verdict("suite::hangs"),
        (Status::NoRun, "interrupted".to_owned())
    );
    assert_eq!(fixture.verdict("suite::waits").0, Status::NoRun);
    assert_eq!(
        fs::read_to_string(fixture.path().join("log")).unwrap(),
        "torn down\n"
    );
}

#[test]
fn this_program_is_copied_to_a_place_and_nothing_of_it_is_left() {
    let says_program = "readlink /proc/$PPID/exe";
    let fixture = Fixture::new()
        .selftest("a_test", says_program)
        .file("tmp/made", "");
    // Neither where it is here, nor in the PATH.
    let place = "there=cd / && env -i PATH=/usr/bin:/bin TMPDIR=$OLDPWD/tmp sh -c {}";
    let ran = fixture.run(&["--copy", "--place", place]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    let program = output(&fixture, "a_test/default/command.stdout");
    let (program, tmp) = (
        String::from_utf8(program).unwrap(),
        fixture.path().join("tmp"),
    );
    assert!(
        program.starts_with(&format!("{}/tmp.", tmp.display())),
        "{program}"
    );
    assert_eq!(fs::read_dir(tmp).unwrap().count(), 1);
    assert!(
        ran.stderr
            .contains("it is not static, so the libraries there must be like those here")
    );

    for (given, expected) in [
        (
            ["--copy", "a_test"],
            "there is no --place to copy this program to",
        ),
        (
            ["--copy", "--kernel=linux"],
            "'--copy' cannot be used with '--kernel <TREE>'",
        ),
        (
            [
                "--copy",
                "--place=guest=kvm-tests/guest/run --stdin-line -- sh -c {}",
            ],
            "the place `guest` passes on one line",
        ),
    ] {
        let ran = fixture.run(&given);
        assert_eq!(ran.code, Some(2), "{}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    }
}

#[test]
fn what_a_program_that_was_killed_has_left_at_a_place_is_removed_by_the_next_one() {
    let fixture = with_a_killer().file("tmp/made", "");
    let tmp = fixture.path().join("tmp");
    let left = || {
        let entries = fs::read_dir(&tmp)
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        entries
            .filter(|name| name.to_string_lossy().starts_with("kvm-tests-stream-"))
            .count()
    };
    let place = "export ONCE=1 TMPDIR=$PWD/tmp; sh -c {}";
    let ran = fixture.run(&["--test-threads", "1", "--place", place]);
    assert!(ran.stderr.contains("PLACE DIED"), "{}", ran.stderr);
    assert_eq!(left(), 0);
    // Neither what is in use, nor what only looks like it.
    symlink(fixture.path(), tmp.join("kvm-tests-stream-link")).unwrap();
    fs::create_dir(tmp.join("kvm-tests-stream-new")).unwrap();
    let ran = fixture.run(&["--place", &format!("p*2={place}")]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    assert_eq!(left(), 2);
}

#[test]
fn a_place_that_does_not_begin_is_named_while_it_hangs() {
    let fixture = Fixture::new().selftest("a_test", "exit 0");
    let hangs = "slow=echo booting; until [ -e named ]; do sleep 0.1; done; sh -c {}";
    let mut child = fixture.start(&["--place", hangs]);
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut waiting = lines
        .map_while(Result::ok)
        .filter(|line| line.contains("waiting for"));
    let told = waiting.next().unwrap_or_default();
    fs::write(fixture.path().join("named"), "").unwrap();
    waiting.for_each(drop);
    let is_named = told.starts_with("waiting for slow: it has not begun for 1");
    assert!(
        is_named && told.ends_with(" s: booting (places/slow.console.log)"),
        "{told}"
    );
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn max_fail_counts_over_all_places() {
    // The first case at each place fails, and no other would end.
    let script = "mkdir \"../first_at_$AT\" 2>/dev/null && exit 1\nexec sleep 1000";
    let tests = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let fixture = tests.iter().fold(Fixture::new(), |fixture, name| {
        fixture.selftest(&format!("{name}_test"), script)
    });
    let places = [
        "--place",
        "export AT=one; sh -c {}",
        "--place",
        "export AT=two; sh -c {}",
    ];
    let how = ["--test-threads", "1", "--max-fail", "2"];
    let ran = fixture.run(&[&how[..], &places].concat());
    assert_eq!(ran.code, Some(101), "{}{}", ran.stdout, ran.stderr);
    let of = |wanted| {
        statuses(&fixture)
            .into_values()
            .filter(move |is| *is == wanted)
    };
    assert_eq!(
        (of(Status::Failed).count(), of(Status::NoRun).count()),
        (2, 6)
    );
    assert!(
        ran.stderr
            .contains("2 cases failed (--max-fail): ending all places"),
        "{}",
        ran.stderr
    );
}

#[test]
fn each_environment_is_a_part_and_a_host_is_put_back() {
    let fixture = Fixture::new()
        .selftest("a_test", "exit 0")
        .selftest("b_test", "exit 0");
    let host = FakeHost::amd();
    let before = host.state();
    let mut command = fixture.command(&["--selftests", "selftests", "--output", "run"]);
    command
        .env("KVM_TESTS_ROOT", host.path(""))
        .env("PATH", host.search());
    command.args([
        "--environment",
        "host",
        "--set",
        "tdp=off",
        "_test::default",
    ]);
    // Both are this one host: one waits for the other.
    let ran = Ran::of(command.args(["--place", "p*2=sh -c {}"]).output().unwrap());
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    assert_eq!((host.state(), host.is_left_alone()), (before, true));
    let record = fixture.record();
    assert_eq!(
        (
            record.parts.len(),
            record.outcomes.len(),
            record.environments.len()
        ),
        (2, 4, 1)
    );
    let ran = record
        .of_status(Status::Passed)
        .map(|one| one.name.as_str());
    assert_eq!(ran.filter(|name| name.starts_with("tdp_off::")).count(), 2);
}

#[test]
fn what_is_wrong_with_places_is_said_before_anything_runs() {
    let (fixture, _) = of_every_kind();
    let fixture = fixture
        .file("wrong.toml", "[[place]]\nname = \"a b\"\ncommand = \"{}\"\n[[place]]\nname = \"c\"\ncommand = \"ssh c\"\n")
        .file("unknown.toml", "places = 1\n[[place]]\nname = \"d\"\ncomand = \"{}\"\n[[place]]\nname = 1\n")
        .executable("other/fail_test", "#!/bin/sh\nexit 0\n")
        .file("right.toml", "[[place]]\nname = \"there\"\ncommand = \"sh -c {}\"\nselftests = \"other\"\n");
    let ran = fixture.run(&["--place", "ssh box"]);
    assert_eq!(
        (ran.code, ran.stderr.contains("it has no {}")),
        (Some(2), true),
        "{}",
        ran.stderr
    );
    let ran = fixture.run(&["--place", "a*0=sh -c {}"]);
    assert_eq!(
        (ran.code, ran.stderr.contains("should be NAME*N=COMMAND")),
        (Some(2), true),
        "{}",
        ran.stderr
    );
    for (file, places) in [
        (
            "wrong.toml",
            ["wrong.toml:1:1: ", "wrong.toml:4:1: "].as_slice(),
        ),
        (
            "unknown.toml",
            &[
                "unknown.toml:1:1: unknown key `places`; did you mean `place`?",
                "unknown.toml:4:1: unknown key `comand`; did you mean `command`?",
                "unknown.toml:6:8: ",
            ],
        ),
    ] {
        let ran = fixture.run(&["--places", file]);
        assert_eq!(ran.code, Some(2));
        for place in places {
            assert!(ran.stderr.contains(place), "{}", ran.stderr);
        }
    }
    // What differs there is said by the place, and nothing has run.
    let ran = fixture.run(&["--places", "right.toml", "--place", "there"]);
    assert_eq!(ran.code, Some(101), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("PLACE LOST: there: cannot start"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("it is for other selftests"),
        "{}",
        ran.stderr
    );
    assert!(
        statuses(&fixture)
            .values()
            .all(|status| *status == Status::NoRun)
    );
}
