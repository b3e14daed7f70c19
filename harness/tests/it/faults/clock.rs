//! A clock that jumps. Only this program sees it jump: a library that is loaded before C's own answers for it.

use std::fs;
use std::process::Command;

use crate::support::Status;

use super::check_that_nothing_is_lost;
use crate::support::{Fixture, Ran};

/// A year in milliseconds.
const YEAR: u64 = 365 * 86_400 * 1000;

/// `clock_gettime`, a year late where there is a file `back`, and a year early where there is one `forward`; and off by so many
/// seconds as `SHIFT` says.
const JUMPING: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    if (syscall(SYS_clock_gettime, clock, now) != 0)
        return -1;
    if (clock == CLOCK_REALTIME && access(DIRECTORY "/forward", F_OK) == 0)
        now->tv_sec += 365 * 86400;
    if (clock == CLOCK_REALTIME && access(DIRECTORY "/back", F_OK) == 0)
        now->tv_sec -= 365 * 86400;
    if (clock == CLOCK_REALTIME && getenv("SHIFT"))
        now->tv_sec += atoll(getenv("SHIFT"));
    return 0;
}
"#;

/// A run with `arguments` that has the clock above.
fn with_the_clock(fixture: &Fixture, arguments: &[&str]) -> Command {
    fs::write(fixture.path().join("clock.c"), JUMPING).unwrap();
    let directory = fixture.path().to_str().unwrap();
    let define = format!("-DDIRECTORY=\"{directory}\"");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", &define, "-o", "clock.so", "clock.c"])
        .current_dir(directory)
        .status();
    assert!(
        compiled.unwrap().success(),
        "Rust links with the same compiler"
    );
    let given = ["--selftests", "selftests", "--output", "run"];
    let mut command = fixture.command(&given);
    command.args(arguments);
    command.env("LD_PRELOAD", fixture.path().join("clock.so"));
    command
}

#[test]
fn a_clock_before_1970_or_after_9999_breaks_nothing() {
    let fixture = Fixture::new().selftest("a_test", "exit 0");
    for shift in ["-2000000000", "300000000000", "9000000000000000000"] {
        let mut command = with_the_clock(&fixture, &["--overwrite"]);
        let ran = Ran::of(command.env("SHIFT", shift).output().unwrap());
        check_that_nothing_is_lost(&fixture, &ran);
        assert_eq!(ran.code, Some(0), "{shift}: {}", ran.stderr);
        let outcome = fixture.outcome("a_test::default");
        assert_eq!(outcome.status, Status::Passed, "{shift}");
        assert!((0.0..60.0).contains(&outcome.duration_s), "{shift}");
        for report in ["junit.xml", "report.html", "results.ktap"] {
            assert!(fixture.results().join(report).is_file(), "{shift}");
        }
    }
}

#[test]
fn a_wall_clock_that_jumps_changes_no_duration_and_no_timeout() {
    let suite = "[[test]]\nname = \"jumps_forward\"\ncommand = \"rm -f ../back; : > ../forward; sleep 0.1\"\n\
                 [[test]]\nname = \"jumps_back\"\ncommand = \"rm -f ../forward; : > ../back; sleep 0.1\"\n\
                 [[test]]\nname = \"hangs\"\ncommand = \"rm -f ../forward; : > ../back; sleep 1000\"\ntimeout_s = 1\n";
    let fixture = Fixture::new()
        .selftest("a_test", "exit 0")
        .file("suite.toml", suite);
    let one_by_one = ["--config", "suite.toml", "--test-threads", "1", "suite::"];
    let mut command = with_the_clock(&fixture, &one_by_one);
    let ran = Ran::of(command.output().unwrap());
    check_that_nothing_is_lost(&fixture, &ran);
    assert_eq!(ran.code, Some(101), "{}", ran.stderr);
    let record = fixture.record();
    let started: Vec<u64> = record
        .outcomes
        .iter()
        .map(|outcome| outcome.started_ms)
        .collect();
    let (first, last) = (started.iter().min().unwrap(), started.iter().max().unwrap());
    assert!(last - first > YEAR / 2, "it did jump: {started:?}");
    for outcome in &record.outcomes {
        let (least, status) = match outcome.variant.as_str() {
            "hangs" => (1.0, Status::TimedOut),
            _ => (0.1, Status::Passed),
        };
        assert_eq!(
            outcome.status, status,
            "{}: {:?}",
            outcome.name, outcome.reason
        );
        assert!(
            (least..60.0).contains(&outcome.duration_s),
            "{}: {} s",
            outcome.name,
            outcome.duration_s
        );
    }
    assert!(
        (1.2..180.0).contains(&record.end()["duration_s"].as_f64().unwrap()),
        "{:?}",
        record.end()
    );
    let page = fs::read_to_string(fixture.results().join("report.html")).unwrap();
    assert!(page.contains("jumps_back"));
}
