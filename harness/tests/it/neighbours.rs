//! Two runs at once on one host: real processes of the real program.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread;

use crate::support::Record;
use crate::support::Status;
use crate::support::{Fixture, wait_for};
use rustix::process::{Pid, Signal, kill_process};

/// Cases that leave a witness where one runs beside an exclusive one.
const SUITES: &str = r#"
[[test]]
name = "beside"
command = "touch here.$$; [ ! -e alone ] || touch overlap; sleep 0.02; [ ! -e alone ] || touch overlap; rm here.$$"
[[test]]
name = "alone"
exclusive = true
command = "touch alone; ! ls here.* || touch overlap; sleep 0.2; ! ls here.* || touch overlap; rm alone"
[[test]]
name = "waits"
command = "touch started; while [ ! -e go ]; do sleep 0.01; done"
[[test]]
name = "waits_alone"
exclusive = true
command = "touch started; while [ ! -e go ]; do sleep 0.01; done"
"#;

fn fixture() -> Fixture {
    Fixture::new()
        .selftest("a_test", "exit 0")
        .file("suite.toml", SUITES)
}

fn start(fixture: &Fixture, output: &str, case: &str, more: &[&str]) -> Child {
    let mut command = fixture.command(&[
        "--selftests",
        "selftests",
        "--config",
        "suite.toml",
        "--output",
        output,
    ]);
    command
        .args(["--exact", case])
        .args(more)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// A file that a case makes or waits for: where it runs, beside the selftests.
fn there(fixture: &Fixture, name: &str) -> PathBuf {
    fixture.path().join("selftests").join(name)
}

/// Nothing of the lock is left on the host.
fn is_free(fixture: &Fixture) -> bool {
    !fixture.path().join("root/run/kvm-tests").exists()
}

/// The first line that says `part` on the standard error of `child`, which is read on to its end.
fn hears(child: &mut Child, part: &str) -> String {
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while lines.read_line(&mut line).unwrap() > 0 {
        if line.contains(part) {
            thread::spawn(move || drop(lines.read_to_string(&mut String::new())));
            return line;
        }
        line.clear();
    }
    panic!("it never said `{part}`")
}

#[test]
fn an_exclusive_case_has_the_host_alone_and_does_not_starve_under_a_stream_of_others() {
    let fixture = fixture();
    let mut stream = start(
        &fixture,
        "stream",
        "suite::beside",
        &["--iterations", "150", "--test-threads", "2"],
    );
    wait_for("the first case", || {
        fixture.path().join("stream/suite").exists()
    });
    let mut alone = start(
        &fixture,
        "alone_run",
        "suite::alone",
        &["--iterations", "3"],
    );
    assert!(alone.wait().unwrap().success() && stream.wait().unwrap().success());
    assert!(!there(&fixture, "overlap").exists() && is_free(&fixture));
    let [alone, stream] =
        ["alone_run", "stream"].map(|run| Record::read(&fixture.path().join(run)).unwrap());
    assert_eq!((alone.outcomes.len(), stream.outcomes.len()), (3, 150));
    let last = |record: &Record| {
        record
            .outcomes
            .iter()
            .map(|outcome| outcome.started_ms)
            .max()
            .unwrap()
    };
    assert!(
        last(&alone) < last(&stream),
        "it had to wait for the end of the stream"
    );
}

#[test]
fn the_cases_of_two_runs_run_side_by_side() {
    let fixture = fixture();
    let mut one = start(&fixture, "one", "suite::waits", &[]);
    wait_for("one", || there(&fixture, "started").exists());
    let mut other = start(&fixture, "other", "suite::beside", &[]);
    assert!(other.wait().unwrap().success());
    fs::write(there(&fixture, "go"), "").unwrap();
    assert!(one.wait().unwrap().success());
}

#[test]
fn who_waits_says_for_whom_and_a_killed_holder_is_waited_for_no_more() {
    let fixture = fixture();
    for (holder, waiter, says) in [
        (
            "suite::waits_alone",
            "suite::beside",
            "it needs this host alone",
        ),
        (
            "suite::waits",
            "suite::alone",
            "waiting to have this host alone: tests of ",
        ),
    ] {
        let mut holder = start(&fixture, "holder", holder, &["--overwrite"]);
        wait_for("the holder", || there(&fixture, "started").exists());
        let mut waiter = start(&fixture, "waiter", waiter, &["--overwrite"]);
        let line = hears(&mut waiter, says);
        assert!(line.contains(&format!("pid {} (", holder.id())), "{line}");
        assert!(
            line.contains(" run --selftests selftests ") && line.contains(", started at 20"),
            "{line}"
        );
        assert!(waiter.try_wait().unwrap().is_none());
        kill_process(Pid::from_child(&holder), Signal::KILL).unwrap();
        assert!(waiter.wait().unwrap().success());
        holder.wait().unwrap();
        assert!(is_free(&fixture));
        fs::remove_file(there(&fixture, "started")).unwrap();
    }
}

#[test]
fn a_wait_for_another_run_can_be_interrupted() {
    let fixture = fixture();
    let mut holder = start(&fixture, "holder", "suite::waits_alone", &[]);
    wait_for("the holder", || there(&fixture, "started").exists());
    let mut waiter = start(&fixture, "run", "suite::beside", &[]);
    hears(&mut waiter, "it needs this host alone");
    kill_process(Pid::from_child(&waiter), Signal::INT).unwrap();
    assert_eq!(waiter.wait().unwrap().code(), Some(130));
    let verdict = (Status::NoRun, "interrupted before it started".to_owned());
    assert_eq!(fixture.verdict("suite::beside"), verdict);
    fs::write(there(&fixture, "go"), "").unwrap();
    assert!(holder.wait().unwrap().success());
}

#[test]
fn a_run_inside_an_exclusive_case_does_not_wait_for_it() {
    let inner = format!(
        "{} run --selftests ../selftests --output inner --exact a_test::default",
        env!("CARGO_BIN_EXE_kvm-tests-runner")
    );
    let suite = format!(
        "[[test]]\nname = \"outer\"\nexclusive = true\ncommand = \"cd ../selftests; {inner}\"\n"
    );
    let fixture = Fixture::new()
        .selftest("a_test", "exit 0")
        .file("suite.toml", &suite);
    let ran = fixture.run(&[
        "--config",
        "suite.toml",
        "--exact",
        "suite::outer",
        "--timeout",
        "30",
    ]);
    assert_eq!(ran.code, Some(0), "{}", ran.stdout);
}

#[test]
fn an_exclusive_case_of_a_run_inside_an_environment_has_the_host_alone_all_the_same() {
    let fixture = fixture();
    let mut stream = start(
        &fixture,
        "stream",
        "suite::beside",
        &["--iterations", "100", "--test-threads", "2"],
    );
    wait_for("the first case", || {
        fixture.path().join("stream/suite").exists()
    });
    let program = env!("CARGO_BIN_EXE_kvm-tests-runner");
    let mut with = fixture.program(&["with", "host", "--", program, "run", "--selftests"]);
    with.args(["selftests", "--config", "suite.toml", "--output", "inner"]);
    with.args(["--exact", "suite::alone"]);
    assert!(with.status().unwrap().success());
    assert!(stream.wait().unwrap().success());
    assert!(!there(&fixture, "overlap").exists() && is_free(&fixture));
}

#[test]
fn a_run_never_waits_for_itself() {
    let cases = (0..80).map(|number| {
        let exclusive = number >= 40;
        format!("[[test]]\nname = \"t{number}\"\ncommand = \"true\"\nexclusive = {exclusive}\n")
    });
    let fixture = Fixture::new()
        .selftest("a_test", "exit 0")
        .file("own.toml", &cases.collect::<String>());
    let ran = fixture.run(&["--config", "own.toml", "--test-threads", "2", "own::"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(!ran.stderr.contains("waiting"), "{}", ran.stderr);
}
