//! A case whose worker has the next case already: whatever becomes of the first, the second is none the worse.

use std::fs;

use crate::support::{Fixture, Ran};
use harness::model::outcome::Status;
use serde_json::json;

/// Runs `a_test`, then `b_test`, which was fast in the last run and does `act` once its worker has the next case, and then
/// `c_test`, which does `next`.
fn run(act: &str, next: &str, arguments: &[&str]) -> (Fixture, Ran) {
    let b =
        format!("until [ -e ../run/c_test/default/command.stderr ]; do sleep 0.01; done\n{act}");
    let fixture = Fixture::new()
        .selftest("a_test", "exit 0")
        .selftest("b_test", &b)
        .selftest("c_test", next)
        .file("root/dev/kmsg", "");
    // The longest comes first.
    let last_run = [("a", 0.03), ("b", 0.002), ("c", 0.001)].map(|(name, duration_s)| {
        let host = rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned();
        let name = format!("{name}_test::default");
        json!({ "host": host, "name": name, "status": "PASSED", "duration_s": duration_s })
            .to_string()
            + "\n"
    });
    let fixture = fixture.file("root/kvm-tests/durations.jsonl", &last_run.concat());
    let ran = fixture.run(&[arguments, &["--test-threads", "1"]].concat());
    assert_eq!(fixture.verdict("a_test::default").0, Status::Passed);
    (fixture, ran)
}

fn output(fixture: &Fixture) -> String {
    fs::read_to_string(fixture.results().join("c_test/default/command.stdout"))
        .expect("read its output")
}

#[test]
fn a_case_that_kills_its_keeper_fails_alone() {
    let (fixture, ran) = run("kill -KILL $PPID; sleep 1000", "echo here", &[]);
    assert_eq!(ran.code, Some(101));
    let (status, reason) = fixture.verdict("b_test::default");
    assert_eq!(status, Status::NoRun, "{reason}");
    assert!(reason.contains("broke (signal: 9 (SIGKILL))"), "{reason}");
    assert_eq!(fixture.verdict("c_test::default").0, Status::Passed);
    assert_eq!(output(&fixture), "here\n");
}

#[test]
fn a_case_that_times_out_takes_no_time_from_the_next() {
    let (fixture, ran) = run("sleep 1000", "sleep 1; echo here", &["--timeout", "3"]);
    assert_eq!(ran.code, Some(101));
    assert_eq!(fixture.verdict("b_test::default").0, Status::TimedOut);
    assert_eq!(fixture.verdict("c_test::default").0, Status::Passed);
    let [before, after] = ["b_test::default", "c_test::default"].map(|name| fixture.outcome(name));
    let end = before.started_ms + (before.duration_s * 1000.0) as u64;
    assert!(
        after.started_ms >= end.saturating_sub(1),
        "{} {end}",
        after.started_ms
    );
    assert!(
        after.duration_s >= 1.0 && after.duration_s < before.duration_s,
        "{}",
        after.duration_s
    );
    assert_eq!(output(&fixture), "here\n");
}

#[test]
fn an_interruption_leaves_the_next_one_unrun() {
    let (fixture, ran) = run(
        "read -r _ _ _ runner _ </proc/$PPID/stat; kill -INT $runner; sleep 1000",
        "echo here",
        &[],
    );
    assert_eq!(ran.code, Some(130));
    let (status, reason) = fixture.verdict("c_test::default");
    assert_eq!(
        (status, reason.as_str()),
        (Status::NoRun, "interrupted before it started")
    );
    assert_eq!(fixture.record().outcomes.len(), 3);
}

#[test]
fn what_a_case_leaves_behind_is_its_own() {
    let (fixture, _) = run("setsid sleep 1000 &", "echo here", &[]);
    assert_eq!(fixture.outcome("b_test::default").leaks.len(), 1);
    let next = fixture.outcome("c_test::default");
    assert_eq!((next.status, next.leaks.len()), (Status::Passed, 0));
}

#[test]
fn splats_are_told_of_the_case_that_they_are_of() {
    let warn = |number: u32| {
        let say =
            |text: &str| format!("echo \"4,{number},{number},-;{text}\" >>../root/dev/kmsg\n");
        let warning = format!("WARNING: CPU: 0 PID: $$ at x.c:{number} f+0x1/0x2");
        say("------------[ cut here ]------------") + &say(&warning) + &say("---[ end trace 0 ]---")
    };
    // While it lives, it is certain whose it is.
    let next = warn(8) + "sleep 2";
    let (fixture, ran) = run(&warn(7), &next, &[]);
    assert_eq!(ran.code, Some(101), "{}", ran.stderr);
    for (name, place) in [("b_test::default", "x.c:7"), ("c_test::default", "x.c:8")] {
        let outcome = fixture.outcome(name);
        let [splat] = outcome.splats.as_slice() else {
            panic!("{name}: {:?}\n{}", outcome.splats, ran.stdout)
        };
        assert!(splat.title.contains(place), "{name}: {}", splat.title);
        assert_eq!(
            splat.while_running.len(),
            0,
            "{name}: {:?}",
            splat.while_running
        );
    }
}

#[test]
fn a_splat_of_the_next_one_from_before_its_keeper_was_lost_still_counts() {
    let warn = "for line in '------------[ cut here ]------------' \
        'CPU: 0 UID: 0 PID: 99999999 Comm: c_test Not tainted 6.12.0 #1' '---[ end trace 0 ]---'; do\n\
        echo \"4,1,10,-;$line\" >>../root/dev/kmsg; done\n";
    let (fixture, _) = run(
        &format!("{warn}kill -KILL $PPID; sleep 1000"),
        "echo here",
        &[],
    );
    let next = fixture.outcome("c_test::default");
    assert!(
        next.splats.is_empty() || next.status == Status::Failed,
        "{next:?}"
    );
}

#[test]
fn a_splat_that_nobody_owns_names_the_case_that_has_just_ended() {
    let warn = "for line in '------------[ cut here ]------------' \
        'CPU: 0 UID: 0 PID: 99999999 Comm: kworker Not tainted 6.12.0 #1' '---[ end trace 0 ]---'; do\n\
        echo \"4,1,10,-;$line\" >>../root/dev/kmsg; done\n";
    let (fixture, ran) = run(warn, "sleep 0.5", &[]);
    let record = fixture.record();
    let [splat] = record.splats.as_slice() else {
        panic!("{:?}\n{}", record.splats, ran.stdout)
    };
    assert!(
        splat.while_running.contains(&"b_test::default".to_owned()),
        "{:?}",
        splat.while_running
    );
}

#[test]
fn what_one_worker_does_is_told_in_its_order() {
    let tests =
        (0..100).map(|number| format!("[[test]]\nname = \"n{number}\"\nselftest = \"a_test\"\n"));
    let fixture = Fixture::new()
        .selftest("a_test", "exit 0")
        .file("many.toml", &tests.collect::<String>());
    // The second time they are known to be fast.
    for _ in 0..2 {
        let ran = fixture.run(&["--config", "many.toml", "many::", "--test-threads", "1"]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    }
    let journal =
        fs::read_to_string(fixture.results().join("journal.jsonl")).expect("read the journal");
    let told: Vec<(String, String)> = journal
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("read an entry"))
        .filter_map(|entry| {
            let name = entry["outcome"]["name"].as_str()?.to_owned();
            Some((entry["event"].as_str()?.to_owned(), name))
        })
        .collect();
    assert_eq!(told.len(), 200);
    for pair in told.chunks(2) {
        let [(first, name), (second, other)] = pair else {
            panic!("{pair:?}")
        };
        assert_eq!(
            (first.as_str(), second.as_str(), name),
            ("started", "finished", other)
        );
    }
}
