//! Runners and keepers that are killed.

use std::fs;
use std::process::Command;

use harness::keeper::{Keeper, RunError};
use harness::outcome::Exit;
use rustix::process::Signal;

use super::stage::{FIXTURE, Stage, eventually, mark, marked, signal};

#[test]
fn nothing_survives_the_runner() {
    let directory = tempfile::tempdir().unwrap();
    let mark = mark();
    let mut runner = Command::new(FIXTURE)
        .args(["run", directory.path().to_str().unwrap(), "tree", &mark])
        .spawn()
        .unwrap();
    // Itself, and the four processes of its task.
    eventually(|| marked(&mark).len() == 5);
    runner.kill().unwrap();
    runner.wait().unwrap();
    eventually(|| marked(&mark).is_empty());
}

#[test]
fn nothing_survives_a_keeper_and_another_one_can_be_started() {
    let mut stage = Stage::new();
    let mut other = Stage::new();
    let keeper = stage.keeper.pid();
    let task = stage.fixture(&["tree"]);
    let (mark, others_mark) = (stage.mark.clone(), other.mark.clone());
    let others_task = other.fixture(&["tree"]);
    let others_handle = other.keeper.handle();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| other.run(&others_task));
        eventually(|| marked(&others_mark).len() == 4);
        scope.spawn(|| {
            eventually(|| marked(&mark).len() == 4);
            signal(keeper.cast_signed(), Signal::KILL);
        });
        match stage.keeper.run(&task, |_| ()) {
            Err(RunError::Broken(error)) => {
                let told = format!("{error:#}");
                assert!(told.starts_with(&format!("keeper {keeper} broke (signal: 9 (SIGKILL))")), "{told}");
            }
            other => panic!("{other:?}"),
        }
        assert!(marked(&mark).is_empty());
        assert_eq!(marked(&others_mark).len(), 4, "another keeper's task is not touched");
        others_handle.hurry();
        assert_eq!(other.join().unwrap().exit, Exit::Interrupted);
    });

    assert!(stage.keeper.is_used_up());
    stage.keeper = Keeper::start_with(FIXTURE.as_ref()).unwrap();
    fs::remove_file(&task.stdout).unwrap();
    fs::remove_file(&task.stderr).unwrap();
    assert_eq!(stage.run(&stage.fixture(&["exit", "0"])).exit, Exit::Code(0));
}

#[test]
fn what_is_no_keeper_is_broken() {
    let mut stage = Stage::with_keeper("/bin/false".as_ref());
    assert!(matches!(stage.keeper.run(&stage.fixture(&["exit", "0"]), |_| ()), Err(RunError::Broken(_))));
    assert!(!fs::exists(stage.path("stdout")).unwrap());
}

#[test]
fn a_dropped_keeper_is_gone() {
    let stage = Stage::new();
    let keeper = stage.keeper.pid();
    drop(stage);
    assert!(!fs::exists(format!("/proc/{keeper}")).unwrap());
}
