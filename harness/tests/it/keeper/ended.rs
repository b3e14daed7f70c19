//! How tasks end, by themselves and by us.

use std::fs;
use std::thread;
use std::time::{Duration, SystemTime};

use harness::model::outcome::Exit;
use harness::supervise::keeper::Output;

use super::stage::{Stage, eventually, marked, state};

#[test]
fn every_way_to_end_is_told() {
    for (args, expected) in [
        (&["exit", "0"][..], Exit::Code(0)),
        (&["exit", "254"], Exit::Code(254)),
        (
            &["segv"],
            Exit::Signal {
                signal: 11,
                core_dumped: false,
            },
        ),
        (
            &["abort"],
            Exit::Signal {
                signal: 6,
                core_dumped: false,
            },
        ),
    ] {
        let mut stage = Stage::new();
        let task = stage.fixture(args);
        let before = SystemTime::now();
        let mut pid = 0;
        let mut ended = stage.keeper.run(&task, |started| pid = started).unwrap();
        if let Exit::Signal { core_dumped, .. } = &mut ended.exit {
            *core_dumped = false; // as the machine has it
        }
        assert_eq!((ended.exit, ended.pid), (expected, pid));
        assert_eq!((ended.leaks.len(), ended.output), (0, Output::Whole));
        assert!((before..SystemTime::now()).contains(&ended.started));
        assert!(!ended.duration.is_zero() && ended.duration < before.elapsed().unwrap());
        assert!(ended.max_rss > 100 << 10, "{} bytes", ended.max_rss);
    }
}

#[test]
fn cpu_time_is_that_of_all_processes() {
    let mut stage = Stage::new();
    let mark = stage.mark.clone();
    let handle = stage.keeper.handle();
    let ticks = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.split_whitespace()
            .nth(13)
            .unwrap_or_default()
            .parse()
            .unwrap_or(0)
    };
    // Hundredths of a second.
    let condition = || marked(&mark).iter().map(ticks).max() >= Some(10);
    let task = stage.fixture(&["tree"]);
    let ended = stage.run_until(&task, condition, || handle.hurry());
    assert!(ended.user_time >= Duration::from_millis(90), "{ended:?}");
}

#[test]
fn when_time_is_up_the_whole_tree_is_asked_to_end_and_that_is_a_timeout() {
    let mut stage = Stage::new();
    for (turn, args) in [&["exit_on_term"][..], &["tree"]].into_iter().enumerate() {
        let mut task = stage.fixture(args);
        task.timeout = Some(Duration::from_millis(300));
        (task.stdout, task.stderr) = (
            stage.path(&format!("{turn}.stdout")),
            stage.path(&format!("{turn}.stderr")),
        );
        let ended = stage.run(&task);
        assert_eq!((ended.exit, ended.leaks.len()), (Exit::Timeout, 0));
        assert!(ended.duration >= Duration::from_millis(300));
    }
}

#[test]
fn who_does_not_end_in_the_grace_is_killed() {
    let mut stage = Stage::new();
    let mut task = stage.fixture(&["ignore_term"]);
    task.timeout = Some(Duration::from_millis(300));
    task.grace = Duration::from_millis(100);
    let ended = stage.run(&task);
    assert_eq!(ended.exit, Exit::Timeout);
    assert!(ended.duration >= Duration::from_millis(400));
}

#[test]
fn an_interrupt_ends_the_whole_tree() {
    let mut stage = Stage::new();
    let handle = stage.keeper.handle();
    handle.interrupt(); // means nothing to a later task
    let task = stage.fixture(&["tree"]);
    let ended = stage.run_until(&task, stage.is_ready(), || handle.interrupt());
    assert_eq!((ended.exit, ended.leaks.len()), (Exit::Interrupted, 0));
}

#[test]
fn hurrying_cuts_the_grace() {
    let mut stage = Stage::new();
    let handle = stage.keeper.handle();
    let task = stage.fixture(&["ignore_term"]);
    let ended = stage.run_until(&task, stage.is_ready(), || {
        handle.interrupt();
        handle.hurry();
    });
    assert_eq!(ended.exit, Exit::Interrupted);
}

#[test]
fn a_stopped_tree_stands_still_and_its_time_as_well() {
    let mut stage = Stage::new();
    let (mark, handle) = (stage.mark.clone(), stage.keeper.handle());
    let mut task = stage.fixture(&["tree"]);
    task.timeout = Some(Duration::from_secs(2));
    let is_stopped = || marked(&mark).iter().all(|&pid| state(pid) == 'T');
    let stopped_for = Duration::from_millis(2100);
    let start = SystemTime::now();
    let ended = stage.run_until(&task, stage.is_ready(), || {
        handle.stop();
        eventually(is_stopped);
        // The one way to show that nothing happens.
        thread::sleep(stopped_for);
        assert_eq!(marked(&mark).len(), 4);
        assert!(is_stopped());
        handle.cont();
        eventually(|| marked(&mark).iter().all(|&pid| state(pid) != 'T'));
        handle.interrupt();
    });
    assert_eq!(ended.exit, Exit::Interrupted, "not a timeout: {ended:?}");
    assert!(ended.duration + stopped_for <= start.elapsed().unwrap());
}

#[test]
fn a_stopped_tree_can_be_interrupted() {
    let mut stage = Stage::new();
    let handle = stage.keeper.handle();
    let task = stage.fixture(&["tree"]);
    let ended = stage.run_until(&task, stage.is_ready(), || {
        handle.stop();
        handle.interrupt();
    });
    assert_eq!(ended.exit, Exit::Interrupted);
}
