//! How tasks are started, and what is told if they cannot be.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use rustix::process::Signal;

use super::stage::{Stage, install_script, signal};
use super::{check_within, in_namespaces};
use crate::model::outcome::Exit;

#[test]
fn one_supervisor_runs_many_tasks_with_arguments_of_any_bytes() {
    let mut stage = Stage::new();
    let supervisor = stage.worker.supervisor();
    for turn in 0..20 {
        let mut task = stage.script(r#"printf '%s|%s|' "$1" "$SIDE"; pwd"#);
        task.args.push(OsString::from_vec(b"\xff \n\"".to_vec()));
        task.env = vec![("SIDE".to_owned(), turn.to_string())];
        assert_eq!(stage.run(&task).exit, Exit::Code(0));
        let directory = stage.directory.path().as_os_str().as_encoded_bytes();
        let stdout = stage.place().join("command.stdout");
        assert_eq!(
            fs::read(&stdout).unwrap(),
            [
                b"\xff \n\"|",
                turn.to_string().as_bytes(),
                b"|",
                directory,
                b"\n"
            ]
            .concat()
        );
        let mode = fs::metadata(&stdout).unwrap().permissions().mode();
        assert_eq!(mode & 0o777 & !0o640, 0, "nobody else may read it");
    }
    assert_eq!(stage.worker.supervisor(), supervisor);
    assert_eq!(stage.worker.number(), 0);
}

#[test]
fn a_message_larger_than_any_socket_buffer_gets_through() {
    let mut stage = Stage::new();
    let mut task = stage.script("echo ${#5}; exit 7");
    task.args
        .extend((0..5).map(|_| OsString::from("x".repeat(100_000))));
    assert_eq!(stage.run(&task).exit, Exit::Code(7));
    assert_eq!(stage.stdout(), "100000\n");
}

/// Bits of /proc/PID/status.
fn signals(status: &str, name: &str) -> u64 {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap();
    // Numbers 32 and 33 are the C library's own, which nobody else may touch.
    u64::from_str_radix(line.trim(), 16).unwrap() & !(0b11 << 31)
}

#[test]
fn whatever_the_runner_inherited_a_task_does_not() {
    // Python is the one that can block signals; a shell only ignores them.
    let script = "import os, signal, sys\n\
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR2])\n\
        for s in (signal.SIGINT, signal.SIGCHLD, signal.SIGUSR1): signal.signal(s, signal.SIG_IGN)\n\
        os.dup2(0, 3); os.dup2(0, 7)\n\
        os.execv(sys.argv[1], sys.argv[1:])";
    let mut python = Command::new("python3");
    python.args(["-c", script]);
    check_within(python, "started::a_task_looks_at_what_it_has");
}

#[test]
#[ignore = "a role that another test has"]
fn a_task_looks_at_what_it_has() {
    crate::supervise::accept_signals().unwrap();
    let mut stage = Stage::new();
    let supervisor = stage.worker.supervisor() as i32;
    // What a terminal or a service manager sends to everybody.
    for number in [
        Signal::INT,
        Signal::TERM,
        Signal::HUP,
        Signal::QUIT,
        Signal::PIPE,
        Signal::TSTP,
    ] {
        signal(supervisor, number);
    }
    let ended = stage.run(&stage.script("cat /proc/self/status; cat /proc/self/oom_score_adj"));
    let told = stage.stdout();
    let masks = ["SigBlk:", "SigIgn:", "SigCgt:"].map(|name| signals(&told, name));
    assert_eq!(masks, [0; 3]);
    assert_eq!(told.lines().last(), Some("500"));
    assert_eq!(ended.exit, Exit::Code(0));
    let score = |pid: &str| fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
    assert_eq!(score(&supervisor.to_string()), score("self"));

    stage.run(&stage.script("ps -o pgid= -p $$; echo $$; exec ls -l /proc/self/fd"));
    let told = stage.stdout();
    let mut lines = told.lines();
    let group = lines.next().unwrap().trim();
    assert_eq!(
        Some(group),
        lines.next(),
        "it has a process group of its own"
    );
    let mut open: Vec<_> = lines
        .filter_map(|line| Some(line.split_once(" -> ")?.1))
        .collect();
    // The last one is the directory that is being listed.
    assert!(open.pop().unwrap().starts_with("/proc/"), "{told}");
    assert_eq!(open[0], "/dev/null");
    assert!(
        open[1..].iter().all(|name| name.starts_with("pipe:")) && open.len() == 3,
        "{open:?}"
    );
    // It can still be waited for, interrupted and ended.
    stage.all.interrupt(2);
    assert!(stage.worker.run(&stage.script("exit 0"), |_| ()).is_err());
}

#[test]
fn what_cannot_be_started_is_told_with_its_reason_and_the_supervisor_goes_on() {
    let mut stage = Stage::new();
    let path = |name: &str| stage.directory.path().join(name);
    install_script(&path("no_interpreter"), "echo\n");
    install_script(&path("lost_interpreter"), "#! /no/where -x\necho\n");
    fs::write(path("not_executable"), "").unwrap();
    symlink("nowhere", path("link")).unwrap();
    fs::create_dir(path("place")).unwrap();
    symlink("place", path("link_to_place")).unwrap();
    for (doing, name, reason) in [
        (
            "execute",
            "absent",
            "No such file or directory (os error 2)",
        ),
        (
            "execute",
            "not_executable",
            "Permission denied (os error 13)",
        ),
        (
            "execute",
            "no_interpreter",
            "Exec format error (os error 8)",
        ),
        (
            "execute",
            "lost_interpreter",
            "its interpreter is not there: /no/where",
        ),
        ("enter", "absent", "No such file or directory (os error 2)"),
        ("enter", "link", "No such file or directory (os error 2)"),
        (
            "create",
            "link_to_place/deep",
            "a symbolic link has been put in its place, and is not followed",
        ),
        ("create", "not_executable", ""),
    ] {
        let mut task = stage.script("exit 0");
        let path = stage.directory.path().join(name);
        match doing {
            "execute" => task.program = path.clone(),
            "enter" => task.directory = path.clone(),
            _ => task.place = name.into(),
        }
        let told = stage
            .worker
            .run(&task, |_| panic!("it started"))
            .unwrap_err();
        let expected = format!("{doing} {}: {reason}", path.display());
        assert!(told.starts_with(&expected), "{told}\n{expected}");
    }
    let mut task = stage.script("exit 0");
    task.args[1] = OsString::from_vec(b"0\0".to_vec());
    let told = stage.worker.run(&task, |_| ()).unwrap_err();
    assert!(told.contains("nul byte"), "{told}");
    assert_eq!(stage.run(&stage.script("exit 5")).exit, Exit::Code(5));
}

#[test]
fn a_missing_dev_null_is_named() {
    if let Some(command) = in_namespaces(&["--mount"]) {
        check_within(command, "started::there_is_no_dev_null");
    }
}

#[test]
#[ignore = "a role that another test has"]
fn there_is_no_dev_null() {
    let mut stage = Stage::new();
    let hide = Command::new("mount")
        .args(["-t", "tmpfs", "none", "/dev"])
        .status();
    assert!(hide.unwrap().success());
    let told = stage
        .worker
        .run(&stage.script("exit 0"), |_| ())
        .unwrap_err();
    assert_eq!(
        told,
        "open /dev/null: No such file or directory (os error 2)"
    );
}
