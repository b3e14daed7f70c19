//! Runners and keepers that are killed.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread;

use harness::model::outcome::Exit;
use harness::supervise::keeper::{Keeper, RunError};
use rustix::process::Signal;

use super::stage::{FIXTURE, Stage, eventually, mark, marked, signal};

#[test]
fn nothing_survives_the_runner() {
    let directory = tempfile::tempdir().unwrap();
    let mark = mark();
    // A process between, to which orphans would fall, as this one kills those of another test.
    let mut adopter = Command::new(FIXTURE)
        .args([
            "adopt",
            "run",
            directory.path().to_str().unwrap(),
            "tree",
            &mark,
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut runner = String::new();
    BufReader::new(adopter.stdout.take().unwrap())
        .read_line(&mut runner)
        .unwrap();
    eventually(|| fs::read(directory.path().join("stdout")).is_ok_and(|told| told == b"ready\n"));
    // The adopter, the runner, and the processes of its task, one of which may have no arguments yet (execve(2) lets
    // its parent go on before it has set them).
    eventually(|| marked(&mark).len() == 6);
    signal(runner.trim().parse().unwrap(), Signal::KILL);
    eventually(|| marked(&mark) == [adopter.id().cast_signed()]);
    drop(adopter.stdin.take());
    assert!(adopter.wait().unwrap().success());
}

#[test]
fn nothing_survives_a_keeper_and_another_one_can_be_started() {
    let mut stage = Stage::new();
    let mut other = Stage::new();
    let keeper = stage.keeper.pid();
    let task = stage.fixture(&["tree"]);
    let (mark, other_mark) = (stage.mark.clone(), other.mark.clone());
    let other_task = other.fixture(&["tree"]);
    let other_handle = other.keeper.handle();
    let (is_ready, other_is_ready) = (stage.is_ready(), other.is_ready());
    thread::scope(|scope| {
        let running = scope.spawn(|| other.run(&other_task));
        eventually(other_is_ready);
        scope.spawn(|| {
            eventually(is_ready);
            signal(keeper.cast_signed(), Signal::KILL);
        });
        match stage.keeper.run(&task, |_| ()) {
            Err(RunError::Broken(error)) => {
                let told = format!("{error:#}");
                assert!(
                    told.starts_with(&format!("keeper {keeper} broke (signal: 9 (SIGKILL))")),
                    "{told}"
                );
            }
            other => panic!("{other:?}"),
        }
        assert!(marked(&mark).is_empty());
        // Another keeper's task is not touched.
        eventually(|| marked(&other_mark).len() == 4);
        other_handle.hurry();
        assert_eq!(running.join().unwrap().exit, Exit::Interrupted);
    });

    assert!(stage.keeper.is_used_up());
    stage.keeper = Keeper::start_with(FIXTURE.as_ref()).unwrap();
    fs::remove_file(&task.stdout).unwrap();
    fs::remove_file(&task.stderr).unwrap();
    assert_eq!(
        stage.run(&stage.fixture(&["exit", "0"])).exit,
        Exit::Code(0)
    );
}

#[test]
fn what_is_no_keeper_is_broken() {
    let mut stage = Stage::with_keeper("/bin/false".as_ref());
    assert!(matches!(
        stage.keeper.run(&stage.fixture(&["exit", "0"]), |_| ()),
        Err(RunError::Broken(_))
    ));
    assert_eq!(fs::read(stage.path("stdout")).unwrap_or_default(), b"");
}

#[test]
fn a_dropped_keeper_is_gone() {
    let stage = Stage::new();
    let keeper = stage.keeper.pid();
    drop(stage);
    assert!(!fs::exists(format!("/proc/{keeper}")).unwrap());
}

/// In a container a session may have begun outside of it, where its ID cannot be seen.
#[test]
fn a_session_from_outside_the_container_is_no_obstacle() {
    let container = |command: &OsStr, args: &[&str]| {
        let mut unshare = Command::new("unshare");
        unshare.args([
            "--user",
            "--map-root-user",
            "--pid",
            "--fork",
            "--mount-proc",
        ]);
        unshare.arg(command).args(args).output().unwrap()
    };
    if !container("true".as_ref(), &[]).status.success() {
        // Where no container can be made, we may be in one, and then the other tests have shown it.
        return;
    }
    let exact = ["--exact", "keeper::broken::what_is_no_keeper_is_broken"];
    let output = container(std::env::current_exe().unwrap().as_os_str(), &exact);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(
        stdout.contains("1 passed"),
        "{stdout}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
