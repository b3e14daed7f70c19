//! Tasks that are asked for while another one runs.

use std::fs;
use std::thread;

use harness::model::outcome::Exit;
use harness::supervise::keeper::{Ended, RunError, Task};
use rustix::process::Signal;

use super::stage::{FIXTURE, Stage, eventually, marked, signal, state};

/// A task that prints `text`.
fn second(stage: &Stage, text: &str) -> Task {
    let mut task = stage.task("/bin/echo", &[text]);
    (task.stdout, task.stderr) = (stage.path("second.stdout"), stage.path("second.stderr"));
    task
}

/// Runs `first`, asks for `second` once it runs, then does `act` once the first one has printed that it is ready;
/// returns what became of both.
fn run_both(
    stage: &mut Stage,
    first: &Task,
    second: &Task,
    act: impl FnOnce() + Send,
) -> [Result<Ended, RunError>; 2] {
    let handle = stage.keeper.handle();
    let is_ready = stage.is_ready();
    let first = thread::scope(|scope| {
        let asked = |_| {
            handle.ask(second).unwrap();
            scope.spawn(|| {
                eventually(is_ready);
                // It is created as soon as the keeper has heard of it.
                eventually(|| second.stderr.exists());
                act();
            });
        };
        stage.keeper.run(first, asked)
    });
    [first, stage.keeper.follow(|_| ())]
}

#[test]
fn it_is_started_when_nothing_is_left_of_the_one_before() {
    let mut stage = Stage::new();
    let second = second(&stage, "second");
    let script =
        r#"echo ready; until [ -e "$1" ]; do sleep 0.01; done; exec "$2" tree_and_exit "$3""#;
    let args = [
        "-c",
        script,
        "sh",
        second.stderr.to_str().unwrap(),
        FIXTURE,
        &stage.mark,
    ];
    let first = stage.task("/bin/sh", &args);
    let handle = stage.keeper.handle();
    let first = stage
        .keeper
        .run(&first, |_| handle.ask(&second).unwrap())
        .unwrap();
    assert_eq!((first.exit, first.leaks.len()), (Exit::Code(0), 3));
    let mark = stage.mark.clone();
    let ended = stage
        .keeper
        .follow(|_| assert!(marked(&mark).is_empty()))
        .unwrap();
    assert_eq!((ended.exit, ended.leaks.len()), (Exit::Code(0), 0));
    assert_eq!(fs::read(&second.stdout).unwrap(), b"second\n");
}

#[test]
fn an_interruption_ends_the_first_and_gives_the_second_back() {
    let mut stage = Stage::new();
    let (first, second) = (stage.fixture(&["exit_on_term"]), second(&stage, "never"));
    let handle = stage.keeper.handle();
    let [first, returned] = run_both(&mut stage, &first, &second, || handle.interrupt());
    assert_eq!(first.unwrap().exit, Exit::Interrupted);
    assert!(matches!(returned, Err(RunError::Returned)), "{returned:?}");
    // Nothing of it is in the way of its next start.
    assert_eq!(stage.run(&second).exit, Exit::Code(0));
}

#[test]
fn what_ends_while_it_is_stopped_gives_the_second_back() {
    let mut stage = Stage::new();
    let (first, second) = (stage.fixture(&["ignore_term"]), second(&stage, "never"));
    let handle = stage.keeper.handle();
    let mark = stage.mark.clone();
    let act = || {
        handle.stop();
        let pid = marked(&mark)[0];
        eventually(|| state(pid) == 'T');
        signal(pid, Signal::KILL);
    };
    let [first, returned] = run_both(&mut stage, &first, &second, act);
    assert!(matches!(
        first.unwrap().exit,
        Exit::Signal { signal: 9, .. }
    ));
    assert!(matches!(returned, Err(RunError::Returned)), "{returned:?}");
    stage.keeper.handle().cont();
    assert_eq!(stage.run(&second).exit, Exit::Code(0));
}

#[test]
fn why_it_cannot_be_started_is_told_in_its_turn() {
    let mut stage = Stage::new();
    let mut second = second(&stage, "");
    second.program = "/nowhere".into();
    let (first, handle) = (stage.fixture(&["exit", "3"]), stage.keeper.handle());
    let first = stage
        .keeper
        .run(&first, |_| handle.ask(&second).unwrap())
        .unwrap();
    assert_eq!(first.exit, Exit::Code(3));
    let second = stage.keeper.follow(|_| ());
    assert!(matches!(second, Err(RunError::NotStarted(_))), "{second:?}");
}
