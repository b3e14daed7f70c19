//! How tasks are started, and what is told if they cannot be.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, symlink};

use harness::model::outcome::Exit;
use harness::supervise::keeper::RunError;
use rustix::io::Errno;
use rustix::process::Signal;

use super::stage::{FIXTURE, Stage, eventually, install_script, signal};

#[test]
fn one_keeper_runs_many_tasks_with_arguments_of_any_bytes() {
    let mut stage = Stage::new();
    for turn in 0..20 {
        let mut task = stage.task("/bin/sh", &["-c", r#"printf '%s|' "$1"; pwd"#, "sh"]);
        task.args.push(OsString::from_vec(b"\xff \n\"".to_vec()));
        task.stdout = stage.path(&format!("{turn}.stdout"));
        task.stderr = stage.path(&format!("{turn}.stderr"));
        assert_eq!(stage.run(&task).exit, Exit::Code(0));
        let directory = stage.directory.path().as_os_str().as_encoded_bytes();
        assert_eq!(
            fs::read(&task.stdout).unwrap(),
            [b"\xff \n\"|", directory, b"\n"].concat()
        );
        let mode = fs::metadata(&task.stdout).unwrap().permissions().mode();
        assert_eq!(mode & 0o777 & !0o640, 0, "nobody else may read it");
    }
}

#[test]
fn a_message_larger_than_any_socket_buffer_gets_through() {
    let mut stage = Stage::new();
    let mut task = stage.fixture(&["exit", "3"]);
    task.args
        .extend((0..5).map(|_| OsString::from("x".repeat(100_000))));
    task.args.push(OsString::from(&stage.mark));
    task.program = "/bin/sh".into();
    task.args.splice(
        0..0,
        ["-c".into(), "echo ${#5}; exit 7".into(), "sh".into()],
    );
    assert_eq!(stage.run(&task).exit, Exit::Code(7));
    assert_eq!(stage.stdout(), "100000\n");
}

#[test]
fn whatever_the_runner_inherited_a_task_does_not() {
    let script = tempfile::tempdir().unwrap();
    let script = script.path().join("keeper");
    install_script(
        &script,
        &format!(
            "#!/bin/sh\ntrap '' INT CHLD USR1\nexec 3</dev/null 7</dev/null\nexec {FIXTURE} \"$@\"\n"
        ),
    );
    let mut stage = Stage::with_keeper(&script);
    let keeper = stage.keeper.pid().cast_signed();
    eventually(|| fs::read_to_string(format!("/proc/{keeper}/comm")).unwrap() == "kvm-keeper\n");
    // What a terminal or a service manager sends to everybody.
    for number in [
        Signal::INT,
        Signal::TERM,
        Signal::HUP,
        Signal::QUIT,
        Signal::PIPE,
        Signal::TSTP,
    ] {
        signal(keeper, number);
    }

    let files = [
        "/proc/self/status",
        "/proc/self/stat",
        "/proc/self/oom_score_adj",
    ];
    let ended = stage.run(&stage.task("/bin/cat", &files));
    assert_eq!(ended.exit, Exit::Code(0));
    let told = stage.stdout();
    let signals = |name| {
        let line = told
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap();
        // Numbers 32 and 33 are the C library's own, which nobody else may touch.
        u64::from_str_radix(line.trim(), 16).unwrap() & !(0b11 << 31)
    };
    assert_eq!(["SigBlk:", "SigIgn:", "SigCgt:"].map(signals), [0; 3]);
    let session = told.split(") ").last().unwrap().split(' ').nth(3).unwrap();
    assert_eq!(session, ended.pid.to_string());
    let own: i32 = fs::read_to_string("/proc/self/oom_score_adj")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert_eq!(
        told.lines().last().unwrap(),
        (own + 500).min(1000).to_string()
    );
    let kept = fs::read_to_string(format!("/proc/{keeper}/oom_score_adj")).unwrap();
    assert_eq!(
        kept.trim(),
        own.to_string(),
        "the keeper is no likelier to be killed than the runner"
    );

    let mut task = stage.task("/bin/ls", &["-l", "/proc/self/fd"]);
    (task.stdout, task.stderr) = (stage.path("out"), stage.path("err"));
    stage.run(&task);
    let listed = fs::read_to_string(&task.stdout).unwrap();
    let mut open: Vec<&str> = listed
        .lines()
        .filter_map(|line| Some(line.split_once(" -> ")?.1))
        .collect();
    // The last one is the directory that is being listed.
    assert!(open.pop().unwrap().starts_with("/proc/"), "{listed}");
    assert_eq!(
        open,
        [
            "/dev/null",
            task.stdout.to_str().unwrap(),
            task.stderr.to_str().unwrap()
        ]
    );
}

#[test]
fn what_cannot_be_started_is_told_with_its_reason_and_the_keeper_goes_on() {
    let mut stage = Stage::new();
    install_script(&stage.path("no_interpreter"), "echo\n");
    fs::write(stage.path("not_executable"), "").unwrap();
    symlink("nowhere", stage.path("link")).unwrap();
    for (turn, (doing, name, errno)) in [
        ("execute", "absent", Errno::NOENT),
        ("execute", "not_executable", Errno::ACCESS),
        ("execute", "no_interpreter", Errno::NOEXEC),
        ("enter", "absent", Errno::NOENT),
        ("create", "link", Errno::EXIST),
        ("create", "absent/file", Errno::NOENT),
        ("create", "/sys/kernel/file", Errno::ACCESS),
    ]
    .into_iter()
    .enumerate()
    {
        let mut task = stage.fixture(&["exit", "0"]);
        (task.stdout, task.stderr) = (
            stage.path(&format!("{turn}.stdout")),
            stage.path(&format!("{turn}.stderr")),
        );
        let path = stage.path(name);
        match doing {
            "execute" => task.program = path.clone(),
            "enter" => task.directory = path.clone(),
            _ => task.stderr = path.clone(),
        }
        match stage.keeper.run(&task, |_| panic!("it started")) {
            Err(RunError::NotStarted(reason)) => {
                let expected = (format!("{doing} {}", path.display()), errno.raw_os_error());
                assert_eq!((reason.doing, reason.errno), expected);
            }
            other => panic!("{other:?}"),
        }
    }
    let mut task = stage.fixture(&["exit", "0"]);
    task.args[1] = OsString::from_vec(b"0\0".to_vec());
    assert!(
        matches!(
            stage.keeper.run(&task, |_| ()),
            Err(RunError::NotStarted(_))
        ),
        "an argument with a NUL"
    );

    task.args[1] = "5".into();
    (task.stdout, task.stderr) = (stage.path("out"), stage.path("err"));
    assert_eq!(stage.run(&task).exit, Exit::Code(5));
}

#[test]
fn a_full_disk_is_a_reason_too() {
    let stage = Stage::new();
    // A file system of its own, with one inode left, for a runner in its own mount namespace.
    let script = format!(
        "mount -t tmpfs -o nr_inodes=2 none {0} && cd {0} && {FIXTURE} run {0} exit 0 {1}",
        stage.directory.path().display(),
        stage.mark
    );
    let output = super::output::in_mount_namespace(&script);
    assert!(output.stdout.is_empty());
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains("create") && told.contains("errno: 28"),
        "{told}"
    );
}
