//! How tasks end, by themselves and by us.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use super::stage::{Stage, eventually, marked, state, tree_and_wait};
use crate::model::facts::EarlyEnd;
use crate::model::outcome::{Exit, Step};
use crate::model::time::now_ms;
use crate::supervise::protocol::{GRACE, INTERRUPTED};
use crate::supervise::{Task, Urgency};

/// Says that it is ready, and takes no notice of SIGTERM.
const STUBBORN: &str = "trap '' TERM; echo ready; while :; do sleep 0.1; done";

fn tear_down(task: Task) -> Task {
    Task {
        step: Step::Teardown,
        urgency: Urgency::MustEnd,
        ..task
    }
}

#[test]
fn every_way_to_end_is_told() {
    let signal = |signal| Exit::Signal {
        signal,
        core_dumped: false,
    };
    for (script, expected) in [
        ("exit 0", Exit::Code(0)),
        ("exit 254", Exit::Code(254)),
        ("kill -SEGV $$", signal(11)),
        ("kill -ABRT $$", signal(6)),
        ("kill -KILL $$", signal(9)),
    ] {
        let mut stage = Stage::new();
        let (before, begin) = (now_ms(), Instant::now());
        let mut pid = 0;
        let task = stage.script(script);
        let mut ended = stage.worker.run(&task, |started| pid = started).unwrap();
        if let Exit::Signal { core_dumped, .. } = &mut ended.exit {
            *core_dumped = false; // as the machine has it
        }
        assert_eq!((ended.exit, ended.pid), (expected, pid));
        assert_eq!((ended.leaks.len(), ended.not_kept), (0, None));
        assert!((before..=now_ms()).contains(&ended.started_ms));
        assert!(!ended.duration.is_zero() && ended.duration < begin.elapsed());
        assert!(ended.max_rss > 100 << 10, "{} bytes", ended.max_rss);
    }
}

#[test]
fn cpu_time_is_that_of_all_processes_of_this_task_alone() {
    let mut stage = Stage::new();
    let spin = "i=0; while [ $i -lt 300000 ]; do i=$((i + 1)); done";
    let ended = stage.run(&stage.script(&format!("sh -c '{spin}' & ({spin}); wait")));
    let alone = stage.run(&stage.script("exit 0"));
    assert!(ended.user_time > Duration::from_millis(20), "{ended:?}");
    assert!(
        alone.user_time < ended.user_time / 2,
        "{alone:?} after {ended:?}"
    );
}

#[test]
fn when_time_is_up_the_whole_tree_is_asked_to_end_and_that_is_a_timeout() {
    let mut stage = Stage::new();
    for script in [
        "trap exit TERM; while :; do sleep 0.1; done",
        &tree_and_wait(),
    ] {
        let mut task = stage.script(script);
        task.timeout = Duration::from_millis(300);
        let ended = stage.run(&task);
        assert_eq!((ended.exit, ended.leaks.len()), (Exit::Timeout, 0));
        assert_eq!(ended.timeout, task.timeout);
        assert!(ended.duration >= task.timeout);
    }
}

#[test]
fn who_does_not_end_in_the_grace_is_killed() {
    let mut stage = Stage::new();
    let mut task = stage.script(STUBBORN);
    task.timeout = Duration::from_millis(300);
    let ended = stage.run(&task);
    assert_eq!(ended.exit, Exit::Timeout);
    assert!(ended.duration >= task.timeout + GRACE);
}

#[test]
fn an_interruption_ends_the_whole_tree_and_starts_nothing_more_but_tear_downs() {
    let mut stage = Stage::alone();
    let task = stage.script(&tree_and_wait());
    let ended = stage.run_until(&task, stage.is_ready(), |all| {
        assert!(all.interrupt(2));
        assert!(!all.interrupt(15));
    });
    assert_eq!((ended.exit, ended.leaks.len()), (Exit::Interrupted, 0));
    assert_eq!(stage.all.ended_early(), Some(EarlyEnd::Signal(2)));

    // Whether the supervisor has been told so, or begins later.
    for mut worker in [stage.all.take().unwrap(), stage.all.take().unwrap()] {
        assert_eq!(worker.run(&task, |_| ()), Err(INTERRUPTED.to_owned()));
        let ended = worker.run(&tear_down(stage.script("exit 3")), |_| ());
        assert_eq!(ended.unwrap().exit, Exit::Code(3));
    }
}

#[test]
fn one_task_is_ended_alone_and_no_later_one() {
    let mut stage = Stage::alone();
    let task = stage.script("exit 3");
    let (all, mut tree) = (stage.all.clone(), stage.script(&tree_and_wait()));
    // A tear-down, too: nobody else would end it.
    for urgency in [Urgency::Interruptible, Urgency::MustEnd] {
        tree.urgency = urgency;
        let mut pid = 0;
        let ended = stage.worker.run(&tree, |started| {
            pid = started;
            assert!(!all.end_task(started + 1) && all.end_task(started));
        });
        let ended = ended.unwrap();
        assert_eq!((ended.exit, ended.pid), (Exit::ByUser, pid));
        assert!(!all.end_task(pid), "it has ended");
        let next = stage.worker.run(&task, |_| ()).unwrap();
        assert_eq!(next.exit, Exit::Code(3));
    }
    assert_eq!(all.ended_early(), None);
}

#[test]
fn a_tear_down_is_not_interrupted_but_hurried() {
    let mut stage = Stage::alone();
    let task = tear_down(stage.script("echo ready; sleep 1000"));
    let is_ready = {
        let stdout = stage.place().join("teardown.stdout");
        move || fs::read(&stdout).is_ok_and(|told| told == b"ready\n")
    };
    let begin = Instant::now();
    let ended = stage.run_until(&task, is_ready, |all| {
        all.interrupt(2);
        all.hurry();
    });
    assert_eq!(ended.exit, Exit::Interrupted);
    assert!((GRACE..GRACE * 3).contains(&ended.duration), "{ended:?}");
    // The next one, of this supervisor or of another, has no more time; one that needs less ends by itself.
    let mut other = stage.all.take().unwrap();
    let [long, short] = [STUBBORN, "sleep 0.1"].map(|script| tear_down(stage.script(script)));
    for worker in [&mut stage.worker, &mut other] {
        assert_eq!(worker.run(&long, |_| ()).unwrap().exit, Exit::Interrupted);
        assert_eq!(worker.run(&short, |_| ()).unwrap().exit, Exit::Code(0));
    }
    assert!(begin.elapsed() < GRACE * 6, "{:?}", begin.elapsed());
}

#[test]
fn hurrying_cuts_the_grace() {
    let mut stage = Stage::alone();
    let task = stage.script(STUBBORN);
    let begin = Instant::now();
    let ended = stage.run_until(&task, stage.is_ready(), |all| {
        all.interrupt(2);
        all.hurry();
    });
    assert_eq!(ended.exit, Exit::Interrupted);
    assert!(begin.elapsed() < GRACE, "{:?}", begin.elapsed());
}

#[test]
fn a_stopped_tree_stands_still_and_its_time_as_well() {
    let mut stage = Stage::alone();
    let mark = stage.mark.clone();
    let mut task = stage.script(&tree_and_wait());
    task.timeout = Duration::from_secs(2);
    // A parent of vfork(2) waits for its child, which is stopped.
    let are_stopped = || {
        marked(&mark)
            .iter()
            .all(|&pid| matches!(state(pid), 'T' | 'D'))
    };
    let stopped_for = Duration::from_millis(2100);
    let start = Instant::now();
    let ended = stage.run_until(&task, stage.is_ready(), |all| {
        all.stop();
        eventually(are_stopped);
        // The one way to show that nothing happens.
        thread::sleep(stopped_for);
        assert!(marked(&mark).len() >= 4 && are_stopped());
        all.cont();
        eventually(|| marked(&mark).iter().all(|&pid| state(pid) != 'T'));
        all.interrupt(2);
    });
    assert_eq!(ended.exit, Exit::Interrupted, "not a timeout: {ended:?}");
    assert!(ended.duration + stopped_for <= start.elapsed());
}

#[test]
fn a_stopped_tree_can_be_interrupted() {
    let mut stage = Stage::alone();
    let task = stage.script(&tree_and_wait());
    let ended = stage.run_until(&task, stage.is_ready(), |all| {
        all.stop();
        all.interrupt(2);
    });
    assert_eq!(ended.exit, Exit::Interrupted);
}

#[test]
fn nothing_is_started_while_the_run_is_stopped() {
    let mut stage = Stage::alone();
    stage.all.stop();
    let mut other = stage.all.take().unwrap();
    let task = stage.script("exit 5");
    let output = stage.place();
    let all = &stage.all;
    thread::scope(|scope| {
        let workers = [&mut stage.worker, &mut other];
        let runs = workers.map(|worker| scope.spawn(|| worker.run(&task, |_| ())));
        // The one way to show that nothing happens.
        thread::sleep(Duration::from_millis(300));
        assert!(!output.exists());
        all.cont();
        for run in runs {
            assert_eq!(run.join().unwrap().unwrap().exit, Exit::Code(5));
        }
    });
}
