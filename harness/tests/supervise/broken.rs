//! Runners and supervisors that are killed, stopped or worse.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, getpid, set_child_subreaper};

use super::stage::{Stage, eventually, marked, signal, state, together, tree_and_wait};
use super::{in_namespaces, only};
use crate::model::outcome::Exit;
use crate::supervise::parent_of;

#[test]
fn nothing_survives_the_runner() {
    // A process between, to which orphans would fall, as this one kills those of another test.
    let mut adopter = Command::new(std::env::current_exe().unwrap())
        .args(only("broken::an_adopter"))
        .arg("--nocapture")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(adopter.stdout.take().unwrap()).lines();
    let told = lines.find_map(|line| Some(line.unwrap().strip_prefix("mark: ")?.to_owned()));
    let mark = told.unwrap();
    eventually(|| marked(&mark).len() == 4);
    let child = marked(&mark)[0];
    // From a process of the task up to the runner.
    let supervisor = [child, parent_of(child).unwrap()].map(|pid| parent_of(pid).unwrap());
    let runner = supervisor
        .into_iter()
        .find(|&pid| parent_of(pid) == Some(adopter.id() as i32));
    let runner = runner.or_else(|| parent_of(supervisor[0])).unwrap();
    assert_eq!(parent_of(runner), Some(adopter.id() as i32));
    signal(runner, Signal::KILL);
    eventually(|| marked(&mark).is_empty());
    drop(adopter.stdin.take());
    assert!(adopter.wait().unwrap().success());
}

#[test]
#[ignore = "a role that another test has"]
fn an_adopter() {
    set_child_subreaper(Some(getpid())).unwrap();
    let mut runner = Command::new(std::env::current_exe().unwrap())
        .args(only("broken::a_runner"))
        .arg("--nocapture")
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    runner.wait().unwrap();
}

#[test]
#[ignore = "a role that another test has"]
fn a_runner() {
    let mut stage = Stage::new();
    println!("\nmark: {}", stage.mark);
    std::io::stdout().flush().unwrap();
    stage
        .worker
        .run(&stage.script(&tree_and_wait()), |_| ())
        .unwrap();
}

#[test]
fn nothing_survives_a_supervisor_and_another_one_is_started() {
    let mut stage = Stage::new();
    let mut other = Stage::unlocked();
    let supervisor = stage.worker.supervisor() as i32;
    let (task, other_task) = (
        stage.script(&tree_and_wait()),
        other.script(&tree_and_wait()),
    );
    let (mark, other_mark) = (stage.mark.clone(), other.mark.clone());
    let (is_ready, other_is_ready) = (stage.is_ready(), other.is_ready());
    let other = &mut other.worker;
    thread::scope(|scope| {
        let running = scope.spawn(|| other.run(&other_task, |_| ()).unwrap());
        eventually(other_is_ready);
        scope.spawn(|| {
            eventually(is_ready);
            signal(supervisor, Signal::KILL);
        });
        let told = stage.worker.run(&task, |_| ()).unwrap_err();
        let expected =
            format!("its supervisor, process {supervisor}, failed (signal: 9 (SIGKILL)): ");
        assert!(told.starts_with(&expected), "{told}");
        assert_eq!(marked(&mark), [0; 0]);
        // Another supervisor's task is not touched.
        let left = marked(&other_mark);
        assert_eq!(left.len(), 4);
        left.into_iter().for_each(|pid| signal(pid, Signal::KILL));
        assert_eq!(
            running.join().unwrap().exit,
            Exit::Signal {
                signal: 9,
                core_dumped: false
            }
        );
    });
    // What must follow on this worker can, and where it died between two tasks nobody is told.
    for code in [3, 4] {
        let ended = stage.run(&stage.script(&format!("exit {code}")));
        assert_eq!(ended.exit, Exit::Code(code));
        let supervisor = stage.worker.supervisor() as i32;
        signal(supervisor, Signal::KILL);
        eventually(|| matches!(state(supervisor), 'Z' | ' '));
    }
}

#[test]
fn a_supervisor_that_is_stopped_is_made_to_go_on() {
    let mut stage = Stage::new();
    let ended = stage.run(&stage.script("kill -STOP $PPID; exit 3"));
    assert_eq!(ended.exit, Exit::Code(3));
}

/// Runs a task that takes too long, with a supervisor that `halt` keeps from doing anything; checks what is told.
fn run_while_halted<T>(halt: impl FnOnce(i32) -> T, why: &str) -> T {
    let mut lock = Some(together());
    let mut stage = Stage::unlocked();
    let supervisor = stage.worker.supervisor() as i32;
    let mut task = stage.script(&tree_and_wait());
    task.timeout = Duration::from_secs(2);
    let (is_ready, mut halted) = (stage.is_ready(), None);
    let told = stage.worker.run(&task, |_| {
        eventually(is_ready);
        halted = Some(halt(supervisor));
        // From now on it hears nothing, and others need not wait.
        drop(lock.take());
    });
    let _lock = together();
    let told = told.unwrap_err();
    let expected = format!("its supervisor, process {supervisor}, failed (");
    assert!(told.starts_with(&expected) && told.ends_with(why), "{told}");
    assert_eq!(marked(&stage.mark), [0; 0]);
    assert_eq!(stage.run(&stage.script("exit 3")).exit, Exit::Code(3));
    halted.unwrap()
}

#[test]
#[ignore = "waits for 40 s"]
fn a_supervisor_that_is_traced_or_frozen_is_given_up() {
    // Both at once: each takes more than half a minute of waiting.
    thread::scope(|scope| {
        scope.spawn(trace_a_supervisor);
        scope.spawn(freeze_a_supervisor);
    });
}

fn trace_a_supervisor() {
    if !rustix::process::getuid().is_root() {
        return eprintln!("not tested: it takes root to trace any process");
    }
    // What a tracer has stopped SIGCONT does not help (PTRACE_ATTACH, ptrace(2)).
    let trace = "import ctypes, sys\n\
        assert ctypes.CDLL(None).ptrace(16, int(sys.argv[1]), None, None) == 0\n\
        print(flush=True)\n\
        sys.stdin.read()";
    let halt = |supervisor: i32| {
        let mut tracer = Command::new("python3");
        tracer.args(["-c", trace, &supervisor.to_string()]);
        let mut tracer = tracer
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        tracer
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut [0])
            .unwrap();
        tracer
    };
    let mut tracer = run_while_halted(halt, "it did not answer in time: it is stopped");
    drop(tracer.stdin.take());
    assert!(tracer.wait().unwrap().success());
}

fn freeze_a_supervisor() {
    let (version_1, version_2) = ("/sys/fs/cgroup/freezer", "/sys/fs/cgroup");
    let name = format!("kvm-tests-{}", std::process::id());
    let (group, file, frozen, thawed) = match fs::exists(version_1).unwrap() {
        true => (
            format!("{version_1}/{name}"),
            "freezer.state",
            "FROZEN",
            "THAWED",
        ),
        false => (format!("{version_2}/{name}"), "cgroup.freeze", "1", "0"),
    };
    if fs::create_dir(&group).is_err() || !fs::exists(format!("{group}/{file}")).unwrap() {
        return eprintln!("not tested: it takes a control group that can freeze processes");
    }
    let freeze = |supervisor: i32| {
        fs::write(format!("{group}/cgroup.procs"), supervisor.to_string()).unwrap();
        fs::write(format!("{group}/{file}"), frozen).unwrap();
    };
    run_while_halted(freeze, "it may be frozen (cgroup), or hang in the kernel");
    fs::write(format!("{group}/{file}"), thawed).unwrap();
    eventually(|| fs::remove_dir(&group).is_ok());
}

#[test]
fn a_panic_ends_the_task_and_the_worker_goes_on() {
    let mut stage = Stage::new();
    let task = stage.script(&tree_and_wait());
    let run = AssertUnwindSafe(|| stage.worker.run(&task, |_| panic!("on purpose")));
    assert!(catch_unwind(run).is_err());
    assert_eq!(stage.run(&stage.script("exit 3")).exit, Exit::Code(3));
}

#[test]
fn workers_are_lent_again_and_dropped_ones_are_gone() {
    let stage = Stage::new();
    let first = stage.worker.supervisor();
    let second = stage.all.take().unwrap();
    assert_eq!((stage.worker.number(), second.number()), (0, 1));
    let pids = [first, second.supervisor()];
    drop(second);
    assert_eq!(stage.all.take().unwrap().supervisor(), pids[1]);
    drop(stage);
    assert!(
        pids.iter()
            .all(|pid| !fs::exists(format!("/proc/{pid}")).unwrap())
    );
}

/// In a container a session may have begun outside of it, where its ID cannot be seen.
#[test]
fn a_session_from_outside_the_container_is_no_obstacle() {
    let name = "broken::nothing_survives_a_supervisor_and_another_one_is_started";
    if let Some(mut command) = in_namespaces(&["--pid", "--fork", "--mount-proc"]) {
        command.arg(std::env::current_exe().unwrap());
        let output = command.args(&only(name)[..2]).output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && told.contains("1 passed"),
            "{told}"
        );
    }
}
