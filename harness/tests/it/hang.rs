//! What a case leaves that hangs: what each of its threads did when its time was up.

use std::fs;
use std::process::Command;

use crate::support::{Fixture, Ran, Status, processes};

/// Two threads that wait for ever, one of them under a name of its own.
const HANGS: &str = "
#define _GNU_SOURCE
#include <pthread.h>
#include <unistd.h>
static int ends[2];
static void *vcpu(void *unused)
{
	char byte;
	pthread_setname_np(pthread_self(), \"vcpu0\");
	return read(ends[0], &byte, 1) ? unused : 0;
}
int main(void)
{
	pthread_t thread;
	if (pipe(ends) || pthread_create(&thread, 0, vcpu, 0))
		return 1;
	return pthread_join(thread, 0);
}
";

fn with_hang_test() -> Fixture {
    let fixture = Fixture::new().file("hang.c", HANGS).file("selftests/x", "");
    let mut compiler = Command::new("cc");
    compiler.args(["-g", "-pthread", "-o", "selftests/hang_test", "hang.c"]);
    let compiled = compiler.current_dir(fixture.path()).status();
    assert!(compiled.unwrap().success());
    fixture
}

/// What the first line of the reason tells of threads.
fn threads(fixture: &Fixture, case: &str) -> String {
    let outcome = fixture.outcome(case);
    assert_eq!(outcome.status, Status::TimedOut);
    let reason = outcome.reason.unwrap();
    let line = reason.lines().next().unwrap();
    let told = line.strip_prefix("timeout of 1 s: did not end in its time; threads: ");
    told.unwrap_or_else(|| panic!("{reason}")).to_owned()
}

#[test]
fn a_case_that_times_out_says_what_each_of_its_threads_did() {
    let fixture = with_hang_test();
    let ran = fixture.run(&["--timeout", "1"]);
    let line = threads(&fixture, "hang_test::default");
    assert!(ran.stdout.contains(&line), "{}", ran.stdout);
    let kept = fixture.results().join("hang_test/default/command.threads");
    let kept = fs::read_to_string(kept).unwrap();
    for part in [
        "(hang_test), state S",
        "(vcpu0), state S",
        "\nwchan: ",
        "\nsyscall: ",
        "\nstack:",
    ] {
        assert!(kept.contains(part), "{part}: {kept}");
    }
    // gdb knows more, where it is there and may do it.
    let expected = match kept.contains("pthread_clockjoin") || kept.contains("pthread_join") {
        true => "main in pthread_join at hang.c:17, vcpu0 in read at hang.c:10",
        false => "main in futex, vcpu0 in read",
    };
    assert_eq!(line, expected, "{kept}");
    let page = fs::read_to_string(fixture.results().join("report.html")).unwrap();
    assert!(page.contains("threads of the selftest") && page.contains("(vcpu0), state S"));
}

#[test]
fn one_that_has_stopped_itself_or_makes_gdb_wait_for_ever_holds_up_nobody() {
    let mark = format!("gdb{}", std::process::id());
    let fixture = with_hang_test()
        .selftest("stop_test", "kill -STOP $$")
        .executable(
            "bin/gdb",
            &format!("#!/bin/sh\ntrap '' TERM INT; echo said; sleep 1000; : {mark}\n"),
        );
    let mut command = fixture.command(&[
        "--selftests",
        "selftests",
        "--output",
        "run",
        "--timeout",
        "1",
    ]);
    let path = std::env::var("PATH").unwrap();
    command.env(
        "PATH",
        format!("{}:{path}", fixture.path().join("bin").display()),
    );
    let ran = Ran::of(command.output().unwrap());
    assert_eq!(ran.code, Some(101), "{}", ran.stderr);
    assert_eq!(threads(&fixture, "stop_test::default"), "main stopped");
    assert_eq!(
        threads(&fixture, "hang_test::default"),
        "main in futex, vcpu0 in read"
    );
    let kept = fixture.results().join("hang_test/default/command.threads");
    assert!(fs::read_to_string(kept).unwrap().contains("\nsaid\n"));
    assert_eq!(processes(&mark), [0; 0]);
}
