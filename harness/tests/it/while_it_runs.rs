//! What the real program says while it runs: on a terminal, in a pipe, and when it is asked.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::terminal::Terminal;
use crate::support::{Fixture, Ran, Status, copy_program, lines_with, wait_until};
use rustix::process::{Pid, Signal, kill_process};

/// Selftests of which one fails at once, and one goes on until there is a file `go`.
fn one_that_waits() -> Fixture {
    let waits = r"printf 'first\nsecond\nthird\n\377\033[31mfourth\0\n\n'; echo 'to stderr' >&2
        while ! test -e go; do sleep 0.05; done";
    let suite = format!("[[test]]\nname = \"waits\"\ncommand = '''cd ..\n{waits}'''\n");
    Fixture::new()
        .selftest("a_fails_test", "echo 'not ok 1 the moon'; exit 1")
        .selftest("skips_test", "exit 4")
        .file("suite.toml", &suite)
}

const ARGUMENTS: [&str; 8] = [
    "--selftests",
    "selftests",
    "--output",
    "run",
    "--config",
    "suite.toml",
    "--test-threads",
    "2",
];

fn let_go(fixture: &Fixture) {
    fs::write(fixture.path().join("go"), "").unwrap();
}

/// What the run says when it is asked, but for numbers of which nothing is known.
const FAILED_SO_FAR: &str = "FAILED SO FAR\n  FAILED a_fails_test::default: not ok: the moon";

/// The end of what `?` and anything unknown say.
const HELP: &str = "its case is FAILED, ended by the user";

/// The live display's last line, when only one case is left: it is drawn together with that one's.
const READY: &str = "2 of 3 have ended, 1 failed, 1 skipped, ";

fn assert_it_says_what_runs(said: &str) {
    assert_eq!(
        lines_with(said, "cases have ended after").len(),
        1,
        "{said}"
    );
    let running = lines_with(said, "  suite::waits: ")
        .pop()
        .unwrap_or_default();
    assert!(
        running.contains(" s, pid ") && running.contains(", worker "),
        "{said}"
    );
    // Not the first of them, and none that is empty; and no byte that would do something to a terminal.
    let last = "    stdout: second\n    stdout: third\n    stdout: \\xfffourth\\x00\n    stderr: to stderr\n";
    assert!(said.contains(last), "{said}");
    assert!(said.contains(FAILED_SO_FAR), "{said}");
}

#[test]
fn enter_says_what_runs_and_leaves_the_terminal_as_it_was() {
    let fixture = one_that_waits();
    let mut terminal = Terminal::run(&fixture.command(&ARGUMENTS));
    let before = terminal.settings();
    terminal.wait_for(0, "Enter        shows what runs");
    // The live display.
    let ready = terminal.wait_for(0, READY);
    let first_lines_are_there = || fs::read(fixture.results().join("suite/waits/command.stderr"));
    wait_until(|| first_lines_are_there().is_ok_and(|text| !text.is_empty()));
    terminal.write("\n");
    let told = terminal.wait_for(ready, FAILED_SO_FAR);
    assert_it_says_what_runs(&terminal.printed()[ready..told]);
    // A line that is longer than what is read at once, and the end of the input: neither ends anything.
    terminal.write("what runs?\n");
    let again = terminal.wait_for(told, HELP);
    terminal.write("\x04");
    let during = terminal.settings();
    let_go(&fixture);
    terminal.wait_for(again, ". 1 passed; 1 failed; 1 ignored");
    let (code, printed) = terminal.end();
    assert_eq!(code, Some(101), "{printed}");
    assert_eq!(format!("{before:?}"), format!("{during:?}"));
}

#[test]
fn keys_say_more_and_end_one_case_alone() {
    let fixture = one_that_waits();
    let mut terminal = Terminal::run(&fixture.command(&ARGUMENTS));
    let before = terminal.settings();
    let mut seen = terminal.wait_for(0, READY);
    let last_line = || fs::read(fixture.results().join("suite/waits/command.stderr"));
    wait_until(|| last_line().is_ok_and(|text| !text.is_empty()));
    let skipped = "1 x exit code 4 (skip), without a reason: skips_test::default";
    for (key, answer) in [
        ("?", HELP),
        ("f", FAILED_SO_FAR),
        ("s", skipped),
        ("k 1", "no case runs as process 1: "),
        ("r", "stderr: to stderr"),
    ] {
        terminal.write(&format!("{key}\n"));
        seen = terminal.wait_for(seen, answer);
    }
    let printed = terminal.printed();
    let (_, pid) = printed[..seen].rsplit_once(", pid ").unwrap();
    let (pid, _) = pid.split_once(',').unwrap();
    terminal.write(&format!("k {pid}\n"));
    terminal.wait_for(seen, "; 2 failed; 1 ignored");
    let during = terminal.settings();
    let (code, printed) = terminal.end();
    assert_eq!(code, Some(101), "{printed}");
    assert_eq!(format!("{before:?}"), format!("{during:?}"));
    let ended = (Status::Failed, "ended by the user".to_owned());
    assert_eq!(fixture.verdict("suite::waits"), ended);
}

#[test]
fn the_terse_formats_line_of_characters_stays_whole() {
    let mut fixture = Fixture::new();
    for number in 0..20 {
        fixture = fixture.selftest(&format!("a{number}_test"), "exit 0");
    }
    let terminal = Terminal::run(&fixture.command(&[
        "--selftests",
        "selftests",
        "--output",
        "run",
        "-q",
        "--color",
        "never",
    ]));
    let (code, printed) = terminal.end();
    assert!(
        code == Some(0) && printed.contains(&".".repeat(20)),
        "{printed}"
    );
}

/// A shell with job control that has the run in the background, and does `then`.
fn shell(fixture: &Fixture, then: &str) -> Terminal {
    let program = fixture.command(&ARGUMENTS);
    let words = std::iter::once(program.get_program()).chain(program.get_args());
    let words: Vec<_> = words.map(|word| word.to_str().unwrap()).collect();
    let mut shell = Command::new("bash");
    shell
        .args(["-c", &format!("set -m\n{} &\n{then}", words.join(" "))])
        .current_dir(fixture.path());
    shell.envs(
        program
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    Terminal::run(&shell)
}

#[test]
fn in_the_background_the_keyboard_is_the_shells() {
    let fixture = one_that_waits();
    let mut terminal = shell(
        &fixture,
        "read line; echo \"the shell read $line\"; wait $!",
    );
    let ready = terminal.wait_for(0, READY);
    terminal.write("this\n");
    terminal.wait_for(ready, "the shell read this");
    let_go(&fixture);
    // Had it been stopped, `wait` would return at once, with the number of that signal.
    let (code, printed) = terminal.end();
    assert_eq!(code, Some(101), "{printed}");
    assert!(!printed.contains("cases have ended after"), "{printed}");
}

#[test]
fn enter_works_as_soon_as_it_comes_to_the_foreground() {
    let fixture = one_that_waits();
    let mut terminal = shell(&fixture, "read line; echo now; fg");
    let ready = terminal.wait_for(0, READY);
    terminal.write("\n");
    let now = terminal.wait_for(ready, "now");
    terminal.write("\n");
    terminal.wait_for(now, FAILED_SO_FAR);
    let_go(&fixture);
    assert_eq!(terminal.end().0, Some(101));
}

#[test]
fn sigusr1_says_what_runs_in_a_pipe() {
    let fixture = one_that_waits();
    let (mut child, lines) = start(fixture.command(&ARGUMENTS));
    wait_until(|| {
        fs::read(fixture.results().join("suite/waits/command.stderr"))
            .is_ok_and(|text| !text.is_empty())
    });
    wait_for(&lines, "FAILED a_fails_test::default: not ok: the moon");
    // Its output may be there before the run has heard that it was started.
    let said = loop {
        signal(&child);
        let said = wait_for(&lines, "  FAILED a_fails_test::default: not ok: the moon");
        if !said.contains("RUNNING: no case at this moment") {
            break said;
        }
    };
    assert_it_says_what_runs(&said);
    assert!(!said.contains('\x1b'), "{said}");
    let_go(&fixture);
    assert_eq!(child.wait().unwrap().code(), Some(101));
}

#[test]
fn sigusr1_ends_nothing_whenever_it_comes() {
    let mut fixture = Fixture::new().file("sys/one", "1\n").file(
        "suite.toml",
        "setup = \"true\"\nteardown = \"true\"\n[[test]]\nname = \"a\"\ncommand = \"true\"\n",
    );
    for number in 0..20 {
        fixture = fixture.selftest(&format!("a{number}_test"), "exit 0");
    }
    let (mut child, lines) = start(fixture.command(&ARGUMENTS));
    wait_for(&lines, "kvm-tests ");
    while child.try_wait().unwrap().is_none() {
        signal(&child);
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(fixture.record().outcomes.len(), 21);
}

#[test]
fn a_case_that_takes_far_longer_than_last_time_is_told_while_it_runs_and_at_the_end() {
    let waits =
        "cd ..; test -e first || { touch first; exit 0; }; while ! test -e go; do sleep 0.05; done";
    let fixture = Fixture::new()
        .selftest("slow_test", waits)
        .selftest("other_test", "sleep 0.1");
    // Durations are kept beside the default results directory, which is where the program lies.
    let program = fixture.path().join("kvm-tests");
    copy_program(env!("CARGO_BIN_EXE_kvm-tests-runner").as_ref(), &program);
    let command = || {
        let original = fixture.command(&["--selftests", "selftests", "--test-threads", "2"]);
        let mut command = Command::new(&program);
        command
            .args(original.get_args())
            .current_dir(fixture.path())
            .env_clear();
        command.envs(
            original
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        command
    };
    let first = Ran::of(command().output().unwrap());
    assert_eq!(
        (first.code, lines_with(&first.stdout, "SLOWER")),
        (Some(0), vec![]),
        "{}",
        first.stderr
    );

    let mut child = command()
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = lines_of(child.stderr.take().unwrap());
    wait_for(&lines, "  results");
    let begin = Instant::now();
    let is_slow = |line: &str| {
        line.starts_with("  slow_test::default: ") && line.contains(" s, SLOW: last time ")
    };
    'asking: loop {
        signal(&child);
        while let Ok(line) = lines.recv_timeout(Duration::from_millis(100)) {
            if is_slow(&line) {
                break 'asking;
            }
        }
        assert!(
            begin.elapsed() < Duration::from_secs(60),
            "it is never called slow"
        );
    }
    let_go(&fixture);
    let slower = wait_for(&lines, "SLOWER slow_test::default: ");
    assert!(slower.contains(" s, last time "), "{slower}");
    let ran = Ran::of(child.wait_with_output().unwrap());
    // It is no failure.
    assert_eq!(ran.code, Some(0), "{}", ran.stdout);
    let summary = ran.stdout.split_once("\nSLOWER THAN BEFORE\n").unwrap().1;
    assert!(summary.starts_with("  slow_test::default: "), "{summary}");
    assert!(!summary.contains("other_test"), "{summary}");
}

fn start(mut command: Command) -> (Child, Receiver<String>) {
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = lines_of(child.stderr.take().unwrap());
    (child, lines)
}

fn lines_of(stderr: ChildStderr) -> Receiver<String> {
    let (sender, lines) = channel();
    let mut stderr = BufReader::new(stderr).lines().map_while(Result::ok);
    thread::spawn(move || stderr.try_for_each(|line| sender.send(line)));
    lines
}

fn signal(child: &Child) {
    kill_process(Pid::from_child(child), Signal::USR1).unwrap();
}

/// Reads lines up to one that begins with `text`; returns them all.
fn wait_for(lines: &Receiver<String>, text: &str) -> String {
    let mut all = String::new();
    loop {
        let line = lines.recv_timeout(Duration::from_secs(60));
        let line = line.unwrap_or_else(|_| panic!("waited in vain for {text:?} after:\n{all}"));
        all.push_str(&line);
        all.push('\n');
        if line.starts_with(text) {
            return all;
        }
    }
}
