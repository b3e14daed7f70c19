//! What tasks leave behind, and what only looks like it.

use std::fs;
use std::time::Duration;

use harness::model::outcome::Exit;
use harness::supervise::keeper::{RunError, Task};
use rustix::process::Signal;

use super::stage::{Stage, install_fixture, is_root, marked, public_directory, signal};

/// The fixture's command name, as much as the kernel keeps of it.
const COMMAND: &str = "kvm-tests-fixtu";

#[test]
fn what_is_left_behind_is_killed_and_told_however_it_escaped() {
    let mut stage = Stage::new();
    let ended = stage.run(&stage.fixture(&["tree_and_exit"]));
    assert_eq!(ended.exit, Exit::Code(0));
    let commands: Vec<_> = ended
        .leaks
        .iter()
        .map(|leak| (leak.command.as_str(), leak.unkillable))
        .collect();
    assert_eq!(commands, [(COMMAND, false); 3]);
    assert!(ended.leaks.iter().all(|leak| leak.pid != ended.pid));
}

#[test]
fn zombies_are_not_left_behind() {
    let mut stage = Stage::new();
    let ended = stage.run(&stage.fixture(&["zombies", "50"]));
    assert_eq!((ended.exit, ended.leaks.len()), (Exit::Code(0), 0));
}

#[test]
fn who_ends_because_the_main_process_does_is_not_left_behind() {
    let mut stage = Stage::new();
    for turn in 0..20 {
        let args = if turn % 2 == 0 {
            "child_until_end_of_file"
        } else {
            "child_killed"
        };
        let mut task = stage.fixture(&[args]);
        (task.stdout, task.stderr) = (
            stage.path(&format!("{turn}.stdout")),
            stage.path(&format!("{turn}.stderr")),
        );
        let ended = stage.run(&task);
        assert_eq!(
            (ended.exit, ended.leaks.len()),
            (Exit::Code(0), 0),
            "{args}"
        );
    }
}

#[test]
fn orphans_that_end_while_the_task_runs_are_reaped() {
    let mut stage = Stage::new();
    let handle = stage.keeper.handle();
    // Prints the number of an orphan whose parent is gone already.
    let task = stage.task(
        "/bin/sh",
        &["-c", "(/bin/true & echo $!); exec sleep 1000", &stage.mark],
    );
    let stdout = stage.path("stdout");
    let reaped = || {
        let told = fs::read_to_string(&stdout).unwrap_or_default();
        told.strip_suffix('\n')
            .is_some_and(|pid| !fs::exists(format!("/proc/{pid}")).unwrap())
    };
    let ended = stage.run_until(&task, reaped, || handle.interrupt());
    assert_eq!((ended.exit, ended.leaks.len()), (Exit::Interrupted, 0));
}

#[test]
fn a_fork_bomb_is_defused() {
    let mut stage = Stage::new();
    let mark = stage.mark.clone();
    let handle = stage.keeper.handle();
    let directory = public_directory();
    let mut task = stage.fixture(&["bomb"]);
    task.program = directory.path().join("bomb");
    task.grace = Duration::ZERO;
    install_fixture(&task.program, "755");
    let ended = stage.run_until(&task, || marked(&mark).len() > 30, || handle.interrupt());
    assert_eq!((ended.exit, ended.leaks.len()), (Exit::Interrupted, 0));
}

#[test]
fn who_keeps_starting_another_one_and_ending_is_caught() {
    for script in ["f() { f & }; f", r#"setsid /bin/sh -c "$1" sh "$1" "$2" &"#] {
        let mut stage = Stage::new();
        let task = stage.task("/bin/sh", &["-c", script, "sh", script, &stage.mark]);
        let ended = stage.run(&task);
        assert_eq!(ended.exit, Exit::Code(0));
        assert!(ended.leaks.iter().all(|leak| !leak.unkillable), "{ended:?}");
    }
}

#[test]
fn what_we_may_not_kill_is_told_and_uses_up_the_keeper() {
    if !is_root() {
        return eprintln!("not tested: it takes root to make a process that may not be killed");
    }
    // A keeper that is nobody, with a task that is root by its set-user-ID bit.
    let directory = public_directory();
    let [keeper, program] = ["unprivileged", "privileged"].map(|name| directory.path().join(name));
    install_fixture(&keeper, "755");
    install_fixture(&program, "4755");
    let mut stage = Stage::with_keeper(&keeper);
    stage.directory = public_directory();
    let mut task = stage.fixture(&["child_of_root"]);
    task.program = program;
    task.directory = "/".into();

    let (stdout, stderr) = (stage.path("next.stdout"), stage.path("next.stderr"));
    let next = Task {
        stdout,
        stderr,
        ..task.clone()
    };
    let handle = stage.keeper.handle();
    let ended = stage
        .keeper
        .run(&task, |_| handle.ask(&next).unwrap())
        .unwrap();
    let left = marked(&stage.mark);
    assert_eq!(left.len(), 1, "{ended:?}");
    signal(left[0], Signal::KILL);
    assert_eq!(
        ended.exit,
        Exit::Code(0),
        "{}",
        fs::read_to_string(stage.path("stderr")).unwrap()
    );
    assert_eq!(
        (
            ended.leaks.len(),
            ended.leaks[0].pid,
            ended.leaks[0].unkillable
        ),
        (1, left[0], true)
    );
    assert!(stage.keeper.is_used_up());
    assert!(matches!(
        stage.keeper.follow(|_| ()),
        Err(RunError::Returned)
    ));
    assert!(!next.stdout.exists());
    assert!(stage.keeper.run(&task, |_| ()).is_err());
}
