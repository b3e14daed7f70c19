//! One case after another on the same worker: whatever becomes of the first, the second is none the worse.

use std::fs;

use crate::support::{Fixture, Ran, Status, events};

/// Runs `a_test`, then `b_test`, which does `act`, and then `c_test`, which does `next`, all on one worker.
fn run(act: &str, next: &str, arguments: &[&str]) -> (Fixture, Ran) {
    let tests = ["a", "b", "c"].map(|name| {
        // The longest timeout comes first.
        let timeout = format!("timeout_s = {}\n", 1000 - u32::from(name.as_bytes()[0]));
        let timeout = if arguments.is_empty() {
            timeout
        } else {
            String::new()
        };
        format!("[[test]]\nname = \"{name}\"\nselftest = \"{name}_test\"\n{timeout}")
    });
    let fixture = Fixture::new()
        .selftest("a_test", "exit 0")
        .selftest("b_test", act)
        .selftest("c_test", next)
        .file("root/dev/kmsg", "")
        .file("row.toml", &tests.concat());
    let row = ["--config", "row.toml", "row::", "--test-threads", "1"];
    let ran = fixture.run(&[&row, arguments].concat());
    assert_eq!(fixture.verdict("row::a").0, Status::Passed);
    (fixture, ran)
}

fn output(fixture: &Fixture) -> String {
    fs::read_to_string(fixture.results().join("row/c/command.stdout")).expect("read its output")
}

#[test]
fn a_case_that_kills_its_supervisor_fails_alone() {
    let (fixture, ran) = run("kill -KILL $PPID; sleep 1000", "echo here", &[]);
    assert_eq!(ran.code, Some(101));
    let (status, reason) = fixture.verdict("row::b");
    assert_eq!(status, Status::NoRun, "{reason}");
    assert!(reason.contains("SIGKILL"), "{reason}");
    assert_eq!(fixture.verdict("row::c").0, Status::Passed);
    assert_eq!(output(&fixture), "here\n");
}

#[test]
fn a_case_that_times_out_takes_no_time_from_the_next() {
    let (fixture, ran) = run("sleep 1000", "sleep 1; echo here", &["--timeout", "3"]);
    assert_eq!(ran.code, Some(101));
    assert_eq!(fixture.verdict("row::b").0, Status::TimedOut);
    assert_eq!(fixture.verdict("row::c").0, Status::Passed);
    let [before, after] = ["row::b", "row::c"].map(|name| fixture.outcome(name));
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
    let (status, reason) = fixture.verdict("row::c");
    assert_eq!(
        (status, reason.as_str()),
        (Status::NoRun, "interrupted before it started")
    );
    assert_eq!(fixture.record().outcomes.len(), 3);
}

#[test]
fn what_a_case_leaves_behind_is_its_own() {
    let (fixture, _) = run("setsid sleep 1000 &", "echo here", &[]);
    assert_eq!(fixture.outcome("row::b").leaks.len(), 1);
    let next = fixture.outcome("row::c");
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
    for (name, place) in [("row::b", "x.c:7"), ("row::c", "x.c:8")] {
        let outcome = fixture.outcome(name);
        let [splat] = outcome.splats.as_slice() else {
            panic!("{name}: {:?}\n{}", outcome.splats, ran.stdout)
        };
        assert!(splat["title"].as_str().unwrap().contains(place), "{splat}");
        assert_eq!(splat["while_running"], serde_json::json!([]), "{name}");
    }
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
    let running = splat["while_running"].as_array().unwrap();
    assert!(running.contains(&"row::b".into()), "{splat}");
}

#[test]
fn what_one_worker_does_is_told_in_its_order() {
    let tests =
        (0..100).map(|number| format!("[[test]]\nname = \"n{number}\"\nselftest = \"a_test\"\n"));
    let fixture = Fixture::new()
        .selftest("a_test", "exit 0")
        .file("many.toml", &tests.collect::<String>());
    let ran = fixture.run(&["--config", "many.toml", "many::", "--test-threads", "1"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let told = events(&fixture.results()).into_iter();
    let told = told.filter_map(|(event, it)| {
        let name = it.get("case").or(it.get("name"))?.as_str()?.to_owned();
        Some((event, name))
    });
    let told: Vec<_> = told.collect();
    assert_eq!(told.len(), 300);
    for three in told.chunks(3) {
        let [(first, name), (second, other), (third, another)] = three else {
            panic!("{three:?}")
        };
        let events = [first.as_str(), second, third];
        assert_eq!(events, ["step_started", "step_ended", "finished"]);
        assert!(name == other && other == another, "{three:?}");
    }
}
