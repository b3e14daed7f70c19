//! The real program stopped early: by a signal, and killed without a word.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::Record;
use crate::support::Status;
use crate::support::{Fixture, Ran, lines_with, processes, report, wait_until};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

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
        let (fixture, child) = started(&suite);
        let running = Self {
            fixture,
            child: Some(child),
            mark,
        };
        wait_until(|| !processes(&running.mark).is_empty());
        running
    }

    fn end_by(&mut self, signal: Signal) -> Ran {
        let child = self.child.take().unwrap();
        kill_process(Pid::from_child(&child), signal).unwrap();
        Ran::of(child.wait_with_output().unwrap())
    }
}

/// How a run of `suite.toml` is started, one case at a time.
const ARGUMENTS: [&str; 8] = [
    "--selftests",
    "selftests",
    "--output",
    "run",
    "--config",
    "suite.toml",
    "--test-threads",
    "1",
];

/// A run of the cases of `suite`, which has just been started.
fn started(suite: &str) -> (Fixture, Child) {
    let fixture = Fixture::new()
        .selftest("a_test", "exit 0")
        .file("suite.toml", suite);
    let mut command = command(&fixture);
    command.arg("suite::");
    let streams = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = streams.spawn().unwrap();
    (fixture, child)
}

/// The program, which heeds SIGHUP even where whoever started the tests ignores it (nohup): that is inherited, and
/// respected then.
fn command(fixture: &Fixture) -> Command {
    let program = fixture.command(&ARGUMENTS);
    let mut command = Command::new("env");
    command
        .arg("--default-signal=HUP")
        .arg(program.get_program())
        .args(program.get_args());
    command.env_clear().envs(
        program
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    command.current_dir(fixture.path());
    command
}

#[test]
fn a_signal_ends_the_run_in_order() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let mut running = Running::start("interrupted");
        let ran = running.end_by(signal);
        assert_eq!(ran.code, Some(code), "{}", ran.stderr);
        assert_eq!(processes(&running.mark), [0; 0]);
        let fixture = &running.fixture;
        assert_eq!(
            fixture.verdict("suite::hangs"),
            (Status::NoRun, "interrupted".to_owned())
        );
        assert_eq!(
            fixture.verdict("suite::waits"),
            (Status::NoRun, "interrupted before it started".to_owned())
        );
        assert_eq!(
            std::fs::read_to_string(fixture.path().join("log")).unwrap(),
            "torn down\n"
        );
        for line in [
            "  suite::hangs: interrupted",
            "  suite::waits: interrupted before it started",
        ] {
            assert_eq!(lines_with(&ran.stdout, line), [line], "{}", ran.stdout);
        }
        assert_eq!(fixture.record().end()["interrupted_by"], signal.as_raw());
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
    wait_until(|| processes(&running.mark).is_empty());
    let record = Record::read(&running.fixture.results()).unwrap();
    assert!(!record.finished);
    assert_eq!(running.fixture.verdict("suite::hangs").0, Status::NoRun);
    report(&running.fixture.results()).unwrap();
    assert!(running.fixture.results().join("report.html").is_file());
}

/// The state of a process, as proc(5) has it; `X` where there is none any more.
fn state(pid: i32) -> char {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next())
        .unwrap_or('X')
}

#[test]
fn a_stopped_run_stands_still_with_its_cases_and_their_time() {
    let mark = format!("stopped{}", std::process::id());
    let suite = format!(
        "[[test]]\nname = \"waits\"\ntimeout_s = 3\n\
         command = \"setsid -w sh -c 'until [ -e ../go ]; do sleep 0.05; done; : {mark}'\"\n"
    );
    let (fixture, child) = started(&suite);
    let runner = Pid::from_child(&child);
    wait_until(|| !processes(&mark).is_empty());

    kill_process(runner, Signal::TSTP).unwrap();
    let (_, status) = waitpid(Some(runner), WaitOptions::UNTRACED)
        .unwrap()
        .unwrap();
    assert!(
        status.stopped(),
        "as the shell that started it sees it: {status:?}"
    );
    let is_stopped = || {
        let cases = processes(&mark);
        // A parent of vfork(2) waits for its child, which is stopped.
        let stands_still = |&pid: &i32| matches!(state(pid), 'T' | 'D');
        !cases.is_empty() && cases.iter().all(stands_still)
    };
    wait_until(is_stopped);
    // The one way to show that nothing happens: longer than the case may take.
    std::thread::sleep(Duration::from_secs(4));
    assert!(is_stopped());
    fs::write(fixture.path().join("go"), "").unwrap();

    kill_process(runner, Signal::CONT).unwrap();
    let ran = Ran::of(child.wait_with_output().unwrap());
    assert_eq!(ran.code, Some(0), "{}", ran.stdout);
    assert_eq!(fixture.outcome("suite::waits").status, Status::Passed);
}

#[test]
fn a_closed_terminal_ends_the_run_in_order_though_nobody_reads_any_more() {
    for format in ["pretty", "json"] {
        let mark = format!("terminal{format}{}", std::process::id());
        let suite = format!(
            "teardown = \"echo torn down > ../log\"\n\
             [[test]]\nname = \"ends\"\ncommand = \"true\"\n\
             [[test]]\nname = \"hangs\"\ncommand = \"sleep 1000; : {mark}\"\n\
             [[test]]\nname = \"waits\"\ncommand = \"true\"\n"
        );
        let fixture = Fixture::new()
            .selftest("a_test", "exit 0")
            .file("suite.toml", &suite);
        let terminal =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname(&terminal, Vec::new())
            .unwrap()
            .into_string()
            .unwrap();
        let open = || {
            let mut options = fs::File::options();
            let options = options.read(true).write(true);
            options.custom_flags(libc::O_NOCTTY).open(&name).unwrap()
        };
        let run = command(&fixture);
        let mut command = Command::new("setsid");
        command
            .arg("--ctty")
            .arg(run.get_program())
            .args(run.get_args());
        command
            .args(["--format", format, "suite::"])
            .current_dir(fixture.path());
        command.env_clear().envs(
            run.get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        command.stdin(open()).stdout(open()).stderr(open());
        let mut child = command.spawn().unwrap();
        drop(command);
        wait_until(|| !processes(&mark).is_empty());

        drop(terminal);
        assert_eq!(child.wait().unwrap().code(), Some(129));
        assert_eq!(processes(&mark), [0; 0]);
        assert_eq!(
            fs::read_to_string(fixture.path().join("log")).unwrap(),
            "torn down\n"
        );
        assert_eq!(fixture.outcome("suite::ends").status, Status::Passed);
        assert_eq!(fixture.verdict("suite::hangs").1, "interrupted");
        assert_eq!(
            fixture.verdict("suite::waits").1,
            "interrupted before it started"
        );
        assert!(fixture.record().finished && fixture.results().join("report.html").is_file());
    }
}

#[test]
fn a_second_sigint_cuts_the_grace_short_and_still_tears_down_and_restores() {
    let setting = "root/sys/kernel/mm/ksm/run";
    let mut took = Vec::new();
    for count in [1, 2] {
        let suite = "teardown = \"cat ../root/sys/kernel/mm/ksm/run > ../log\"\n\
                     [[test]]\nname = \"ignores\"\n\
                     command = \"trap '' TERM; : > ../ready; while :; do sleep 0.1; done\"\n";
        let environment = "description = \"merging\"\nsysfs = { \"/sys/kernel/mm/ksm/run\" = 1 }\n";
        let fixture = Fixture::new()
            .selftest("a_test", "exit 0")
            .file("suite.toml", suite);
        let fixture = fixture
            .file("merging.toml", environment)
            .file(setting, "0\n");
        let mut command = command(&fixture);
        command.args([
            "--config",
            "merging.toml",
            "--environment",
            "merging",
            "merging::suite::",
        ]);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait_until(|| fixture.path().join("ready").exists() || child.try_wait().unwrap().is_some());

        let begin = Instant::now();
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        let mut said = String::new();
        let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
        while !said.contains("again to stop it at once") {
            assert!(
                std::io::BufRead::read_line(&mut stderr, &mut said).unwrap() > 0,
                "{said}"
            );
        }
        if count == 2 {
            kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        }
        std::io::Read::read_to_string(&mut stderr, &mut said).unwrap();
        let ran = Ran::of(child.wait_with_output().unwrap());
        took.push(begin.elapsed());
        assert_eq!(ran.code, Some(130), "{said}");
        assert_eq!(fixture.verdict("merging::suite::ignores").1, "interrupted");
        assert_eq!(
            fs::read_to_string(fixture.path().join("log"))
                .unwrap()
                .trim(),
            "1",
            "torn down inside"
        );
        assert_eq!(
            fs::read_to_string(fixture.path().join(setting))
                .unwrap()
                .trim(),
            "0",
            "{said}"
        );
    }
    assert!(
        took[1] < took[0],
        "no grace is shorter than a whole one: {took:?}"
    );
}
