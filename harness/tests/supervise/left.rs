//! What tasks leave behind, and what only looks like it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::stage::{Stage, TREE, marked, signal};
use super::{check_within, in_namespaces, only};
use crate::model::outcome::Exit;

#[test]
fn what_is_left_behind_is_killed_and_told_however_it_escaped() {
    let mut stage = Stage::new();
    let ended = stage.run(&stage.script(TREE));
    assert_eq!(ended.exit, Exit::Code(0));
    let leaks = ended.leaks.iter();
    let commands: Vec<_> = leaks.map(|leak| leak.command.as_str()).collect();
    assert_eq!(commands, ["sh"; 3]);
    assert!(
        ended
            .leaks
            .iter()
            .all(|leak| leak.pid != ended.pid && !leak.unkillable)
    );
}

#[test]
fn zombies_are_not_left_behind() {
    let mut stage = Stage::new();
    let task = stage.task(
        "/usr/bin/perl",
        &[
            "-e",
            "for (1..50) { exit unless fork } sleep 1",
            &stage.mark,
        ],
    );
    let ended = stage.run(&task);
    assert_eq!((ended.exit, ended.leaks.len()), (Exit::Code(0), 0));
}

#[test]
fn who_ends_because_the_main_process_does_is_not_left_behind() {
    let mut stage = Stage::new();
    for turn in 0..20 {
        // It notices an end of file, or has been killed.
        let script = match turn % 2 {
            0 => "mkfifo end; cat end & exec 9> end; rm end",
            _ => "sleep 1000 & kill -KILL $!",
        };
        let ended = stage.run(&stage.script(script));
        assert_eq!(
            (ended.exit, ended.leaks.len()),
            (Exit::Code(0), 0),
            "{script}"
        );
    }
}

#[test]
fn orphans_that_end_while_the_task_runs_are_reaped() {
    let mut stage = Stage::new();
    // Prints the number of an orphan whose parent is gone already, and ends once that is reaped.
    let script = r#"pid=$(sh -c 'sleep 0.1 > /dev/null & echo $!'); while [ -e /proc/$pid ]; do sleep 0.01; done"#;
    let ended = stage.run(&stage.script(script));
    assert_eq!((ended.exit, ended.leaks.len()), (Exit::Code(0), 0));
}

#[test]
fn a_fork_bomb_is_defused() {
    let mut stage = Stage::new();
    let bomb = r#"f() { sh -c 'sleep 1000; :' "$0" & f; f & }; f & exec sleep 1000"#;
    // All processes count, as those of this user are not known. Root is exempt from this limit.
    let limit = fs::read_dir("/proc").unwrap().count() + 200;
    let limit = format!("--nproc={limit}");
    let user = ["/usr/bin/setpriv", "--reuid=65431", "--clear-groups"];
    let limited = [
        "/usr/bin/prlimit",
        &limit,
        "/bin/sh",
        "-c",
        bomb,
        &stage.mark,
    ];
    let command = match rustix::process::getuid().is_root() {
        true => [&user[..], &limited].concat(),
        false => limited.to_vec(),
    };
    let mut task = stage.task(command[0], &command[1..]);
    task.timeout = Duration::from_millis(500);
    let ended = stage.worker.run(&task, |_| ()).unwrap();
    assert_eq!((ended.exit, ended.leaks.len()), (Exit::Timeout, 0));
    assert_eq!(marked(&stage.mark), [0; 0]);
}

#[test]
fn who_keeps_starting_another_one_and_ending_is_caught() {
    for script in [
        "f() { f & }; f",
        r#"f='setsid sh -c "$f" $0 &'; export f; eval "$f""#,
    ] {
        let mut stage = Stage::new();
        let ended = stage.run(&stage.script(script));
        assert_eq!(ended.exit, Exit::Code(0));
        assert!(ended.leaks.iter().all(|leak| !leak.unkillable), "{ended:?}");
    }
}

#[test]
fn what_cannot_be_killed_is_told_and_uses_up_the_supervisor() {
    if !rustix::process::getuid().is_root() {
        return eprintln!("not tested: it takes root to make a process that may not be killed");
    }
    // A directory and a program that others than us may use.
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let [tests, privileged] = ["tests", "setpriv"].map(|name| directory.path().join(name));
    let install = |mode, from: &str, to| {
        let installed = Command::new("install")
            .args(["-m", mode, from])
            .arg(to)
            .status();
        assert!(installed.unwrap().success());
    };
    let own = std::env::current_exe().unwrap();
    install("755", own.to_str().unwrap(), &tests);
    // Set-user-ID alone would leave the real user, who may kill us: it sets that as well.
    install("4755", "/usr/bin/setpriv", &privileged);
    let output = Command::new("setpriv")
        .args(["--reuid=65431", "--clear-groups"])
        .arg(&tests)
        .args(only("left::a_user_meets_a_process_of_root"))
        .env("PRIVILEGED", privileged)
        .env("TMPDIR", directory.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && told.contains("1 passed"),
        "{told}"
    );
    // It is ours to end.
    let mark = fs::read_to_string(directory.path().join("mark")).unwrap();
    marked(&mark)
        .into_iter()
        .for_each(|pid| signal(pid, Signal::KILL));
}

#[test]
#[ignore = "a role that another test has"]
fn a_user_meets_a_process_of_root() {
    let mut stage = Stage::new();
    let directory = std::env::var("TMPDIR").unwrap();
    fs::write(format!("{directory}/mark"), &stage.mark).unwrap();
    let task =
        stage.script(r#""$PRIVILEGED" --reuid=0 --clear-groups sh -c 'sleep 1000; :' "$0" &"#);
    let begin = Instant::now();
    let ended = stage.worker.run(&task, |_| ()).unwrap();
    assert_eq!(ended.exit, Exit::Code(0), "{}", stage.stderr());
    let [left] = marked(&stage.mark)[..] else {
        panic!("{:?}", marked(&stage.mark));
    };
    let unkillable: Vec<_> = ended.leaks.iter().filter(|leak| leak.unkillable).collect();
    assert!(
        unkillable.iter().any(|leak| leak.pid == left),
        "{:?}",
        ended.leaks
    );
    assert!(ended.leaves_unkillable() && begin.elapsed() < Duration::from_secs(5));

    let begin = Instant::now();
    let used_up = stage.worker.supervisor();
    let next = stage.script("exit 3");
    let ended = stage.worker.run(&next, |_| ()).unwrap();
    assert_eq!((ended.exit, ended.leaks.len()), (Exit::Code(3), 0));
    assert!(used_up == 0 && begin.elapsed() < Duration::from_secs(5));
}

#[test]
fn what_cannot_be_seen_is_told_as_well() {
    // Here /proc is that of another PID namespace.
    if let Some(command) = in_namespaces(&["--pid", "--fork", "--kill-child"]) {
        check_within(command, "left::a_process_is_hidden");
    }
}

#[test]
#[ignore = "a role that another test has"]
fn a_process_is_hidden() {
    let mut stage = Stage::new();
    let ended = stage
        .worker
        .run(&stage.script("sleep 1000 &"), |_| ())
        .unwrap();
    assert_eq!(ended.exit, Exit::Code(0));
    let leaks: Vec<_> = ended
        .leaks
        .iter()
        .map(|leak| (leak.pid, leak.unkillable))
        .collect();
    assert_eq!(leaks, [(0, true)]);
    // The main process is known all the same.
    let mut task = stage.script("sleep 1000");
    task.timeout = Duration::from_millis(100);
    let ended = stage.worker.run(&task, |_| ()).unwrap();
    assert_eq!(ended.exit, Exit::Timeout);
}
