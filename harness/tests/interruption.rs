//! The real program stopped early: by a signal, and killed without a word.

#![expect(clippy::unwrap_used, reason = "a run that cannot be started fails its test")]

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use harness::outcome::Status;
use harness::record::Record;
use rustix::process::{Pid, Signal, kill_process};
use support::{Fixture, Ran, processes};

mod support;

/// A run in which one case hangs with `mark` in its command line, another one waits its turn, and the suite has a
/// tear-down.
struct Running {
    fixture: Fixture,
    child: Option<Child>,
    mark: String,
}

impl Running {
    fn start(name: &str) -> Self {
        let mark = format!("{name}{}", std::process::id());
        let suite = format!(
            "teardown = \"echo torn down >> ../log\"\n\
             [[test]]\nname = \"hangs\"\ncommand = \"setsid sh -c 'sleep 1000; : {mark}'\"\n\
             [[test]]\nname = \"waits\"\ncommand = \"true\"\n"
        );
        let fixture = Fixture::new().selftest("a_test", "exit 0").file("suite.toml", &suite);
        let arguments =
            ["--selftests", "selftests", "--output", "run", "--config", "suite.toml", "--test-threads", "1"];
        let mut command = fixture.command(&arguments);
        let child = command.arg("suite::").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let running = Self { fixture, child: Some(child), mark };
        running.wait_until(|| !processes(&running.mark).is_empty());
        running
    }

    fn wait_until(&self, condition: impl Fn() -> bool) {
        let begin = Instant::now();
        while !condition() {
            assert!(begin.elapsed() < Duration::from_secs(60), "waited in vain");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn end_by(&mut self, signal: Signal) -> Ran {
        let child = self.child.take().unwrap();
        kill_process(Pid::from_child(&child), signal).unwrap();
        Ran::of(child.wait_with_output().unwrap())
    }
}

#[test]
fn a_signal_ends_the_run_in_order() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let mut running = Running::start("interrupted");
        let ran = running.end_by(signal);
        assert_eq!(ran.code, Some(code), "{}", ran.stderr);
        assert_eq!(processes(&running.mark), [0; 0]);
        let fixture = &running.fixture;
        assert_eq!(fixture.verdict("suite::hangs"), (Status::NoRun, "interrupted".to_owned()));
        assert_eq!(
            fixture.verdict("suite::waits"),
            (Status::NoRun, "interrupted before it started".to_owned())
        );
        assert_eq!(std::fs::read_to_string(fixture.path().join("log")).unwrap(), "torn down\n");
        assert_eq!(fixture.record().interrupted_by, Some(signal.as_raw()));
        assert!(
            fixture.results().join("junit.xml").is_file() && !ran.stderr.contains("panicked"),
            "{}",
            ran.stderr
        );
    }
}

#[test]
fn the_cases_of_a_killed_runner_die_with_it_and_its_results_can_be_read() {
    let mut running = Running::start("killed");
    running.end_by(Signal::KILL);
    running.wait_until(|| processes(&running.mark).is_empty());
    let (record, directory) = Record::read(&running.fixture.results()).unwrap();
    assert!(!record.finished);
    assert_eq!(running.fixture.verdict("suite::hangs").0, Status::NoRun);
    harness::report::write_all(&directory).unwrap();
    assert!(directory.join("report.html").is_file());
}
