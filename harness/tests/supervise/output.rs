//! What is kept of an output.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::output::{CHUNK, Output};
use super::stage::Stage;
use super::{check_within, in_namespaces};
use crate::evidence::OutputReader;
use crate::model::outcome::{Exit, Printed};

const CAP: usize = 64 << 20;
const START: usize = 56 << 20;

/// Checks what is kept of `all`, where that is too much.
fn check_cut(kept: &[u8], all: &[u8], printed: Printed) {
    assert_eq!((kept.len(), printed.bytes), (CAP, all.len() as u64));
    let (start, rest) = kept.split_at(START);
    assert!(start == &all[..START]);
    let note = format!("\n[{} bytes of output left out here]\n", printed.cut);
    // It may have a blank line before it, to be as long as any.
    let length = note.len() + usize::from(rest.starts_with(b"\n\n"));
    let (found, end) = rest.split_at(length);
    assert!(found.ends_with(note.as_bytes()), "{}", found.escape_ascii());
    assert!(end == &all[START + printed.cut as usize..]);
}

#[test]
fn of_long_output_the_start_and_the_end_are_kept() {
    let mut stage = Stage::new();
    let lines = stage.directory.path().join("lines");
    // One long line: what is searched of each line would take longest here.
    let numbers = Command::new("seq").args(["-s", " ", "12000000"]).output();
    let all = numbers.unwrap().stdout;
    fs::write(&lines, &all).unwrap();
    let print = |length| format!("head -c {length} {}", lines.display());
    let ended = stage.run(&stage.script(&print(CAP)));
    assert_eq!(
        ended.printed[0],
        Printed {
            bytes: CAP as u64,
            cut: 0
        }
    );
    assert!(fs::read(stage.place().join("command.stdout")).unwrap() == all[..CAP]);
    // Just too much; a little more than that; all of the end, and it is where it began; twice round and some.
    for more in [1, 80_000, 8 << 20, 22_000_000] {
        let ended = stage.run(&stage.script(&print(CAP + more)));
        assert_eq!((ended.exit, &ended.not_kept), (Exit::Code(0), &None));
        let kept = fs::read(stage.place().join("command.stdout")).unwrap();
        check_cut(&kept, &all[..CAP + more], ended.printed[0]);
    }
    let ended = stage.run(&stage.script(&format!("{} >&2", print(CAP + 9))));
    assert_eq!(ended.printed[0], Printed::default());
    let kept = fs::read(stage.place().join("command.stderr")).unwrap();
    check_cut(&kept, &all[..CAP + 9], ended.printed[1]);
}

/// Pieces of an output: results, signs of failure, what a terminal does not show, and floods.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    const KNOWN: &[&str] = &[
        "KTAP version 1\n1..4\n",
        "ok 1 a\n",
        "not ok 2 b\n",
        "\x1b[31mnot ok\0 3\x1b[0m\r\n",
        "ok 4 # SKIP no\n",
        "# Totals: pass:1 fail:1\n",
        "==== Test Assertion Failure ====\n  a.c:1: x\n  pid=1 tid=1 errno=0 - S\n",
        "x: invalid option -- 'Z'\n",
        "  words",
        "\n",
    ];
    let flood = (any::<u8>(), 0_usize..5000).prop_map(|(byte, length)| vec![byte; length]);
    let known = prop::sample::select(KNOWN).prop_map(|piece| piece.as_bytes().to_vec());
    prop_oneof![8 => known, 1 => flood]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_found_in_an_output_depends_neither_on_what_is_kept_of_it_nor_on_its_writes(
        pieces in vec(piece(), 0..40),
        start in 0_u64..400,
        end in 64_u64..400,
        sizes in vec(1_usize..3000, 1..8),
    ) {
        let all = pieces.concat();
        let mut at_once = OutputReader::new("x".as_ref());
        at_once.stdout(&all);

        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().join("command");
        let (mut output, pipe) = Output::create(&base, "stdout").unwrap();
        output.kept = [start, end];
        let (mut pipe, mut chunk, mut left) = (File::from(pipe), [0; CHUNK], &all[..]);
        let mut reader = OutputReader::new("x".as_ref());
        let mut sizes = sizes.into_iter().cycle();
        while !left.is_empty() {
            let (now, later) = left.split_at(sizes.next().unwrap_or(1).min(left.len()));
            pipe.write_all(now).unwrap();
            reader.stdout(output.read(&mut chunk));
            left = later;
        }
        let (printed, error) = output.end();

        prop_assert_eq!(reader.finish(), at_once.finish());
        prop_assert_eq!((printed.bytes, error), (all.len() as u64, None));
        let kept = fs::read(base.with_extension("stdout")).unwrap();
        if printed.cut == 0 {
            prop_assert_eq!(kept, all);
        } else {
            prop_assert_eq!(kept.len() as u64, start + end);
            let after = (start + printed.cut) as usize;
            prop_assert!(kept.starts_with(&all[..start as usize]));
            prop_assert!(kept.ends_with(&all[after..]));
        }
    }
}

#[test]
fn a_task_that_opens_its_output_anew_truncates_nothing() {
    let mut stage = Stage::new();
    let script =
        "echo 1; echo 2 > /dev/stdout; echo 3; echo a >&2; echo b > /dev/stderr; echo c >&2";
    stage.run(&stage.script(script));
    assert_eq!(
        (stage.stdout(), stage.stderr()),
        ("1\n2\n3\n".into(), "a\nb\nc\n".into())
    );
}

#[test]
fn a_task_that_reads_its_own_output_hangs_nobody() {
    let mut stage = Stage::new();
    let mut task = stage.script("(cat /proc/$$/fd/1 > /dev/null) & while :; do echo x; done");
    task.timeout = Duration::from_millis(300);
    assert_eq!(stage.run(&task).exit, Exit::Timeout);
}

#[test]
fn all_that_was_printed_before_the_end_is_there_whoever_has_the_pipe() {
    let mut stage = Stage::new();
    // One that is left behind, and one that is not of the task and goes on writing.
    let (sender, receiver) = std::sync::mpsc::channel();
    let writer = std::thread::spawn(move || {
        let pid: i32 = receiver.recv().unwrap();
        let mut outsider = Command::new("sh");
        outsider.arg("-c").arg(format!(
            "exec > /proc/{pid}/fd/1 || exit; echo outside; exec yes"
        ));
        outsider.spawn().unwrap()
    });
    let script =
        r#"while ! read line < /proc/$$/fd/1; do :; done; sleep 1000 & head -c 30000 /dev/zero"#;
    let ended = stage
        .worker
        .run(&stage.script(script), |pid| sender.send(pid).unwrap())
        .unwrap();
    let mut outsider = writer.join().unwrap();
    assert_eq!((ended.exit, ended.leaks.len()), (Exit::Code(0), 1));
    let kept = fs::read(stage.place().join("command.stdout")).unwrap();
    assert_eq!(kept.iter().filter(|&&byte| byte == 0).count(), 30_000);
    outsider.kill().ok();
    outsider.wait().unwrap();
}

#[test]
fn what_is_there_of_an_earlier_run_is_put_aside() {
    let mut stage = Stage::new();
    for turn in ["1", "2", "3"] {
        stage.run(&stage.script(&format!("echo {turn}; echo {turn} >&2")));
    }
    for stream in ["stdout", "stderr"] {
        let kept = ["", ".1", ".2"].map(|suffix| {
            let name = format!("command.{stream}{suffix}");
            fs::read_to_string(stage.place().join(name)).unwrap()
        });
        assert_eq!(kept, ["3\n", "1\n", "2\n"]);
    }
}

/// Has one of the roles below with a small disk, which nobody else sees.
fn check_on_disk(size: &str, role: &str) {
    let Some(mut command) = in_namespaces(&["--mount"]) else {
        return;
    };
    let mount = format!("mount -t tmpfs -o {size} none /mnt; exec \"$0\" \"$@\"");
    command
        .args(["/bin/sh", "-c", &mount])
        .env("TMPDIR", "/mnt");
    check_within(command, &format!("output::{role}"));
}

#[test]
fn a_full_disk_is_told_and_stops_nobody() {
    check_on_disk("size=1m", "a_task_fills_the_disk");
    check_on_disk("nr_inodes=5", "a_disk_has_no_room_for_a_file");
}

#[test]
#[ignore = "a role that another test has"]
fn a_task_fills_the_disk() {
    let mut stage = Stage::new();
    let ended = stage.run(&stage.script("head -c 16M /dev/zero; echo end >&2"));
    assert_eq!(ended.exit, Exit::Code(0));
    let bytes = 16 << 20;
    assert_eq!(ended.printed[0], Printed { bytes, cut: 0 });
    check_not_kept(ended.not_kept, &stage.place(), "No space left on device");
    assert!(
        fs::metadata(stage.place().join("command.stdout"))
            .unwrap()
            .len()
            > 500_000
    );
}

#[test]
#[ignore = "a role that another test has"]
fn a_disk_has_no_room_for_a_file() {
    let mut stage = Stage::new();
    let reason = stage
        .worker
        .run(&stage.script("exit 0"), |_| panic!("it started"))
        .unwrap_err();
    assert!(
        reason.starts_with("create ") && reason.contains("No space left on device"),
        "{reason}"
    );
}

#[test]
fn a_limit_of_file_sizes_is_told_and_kills_nobody() {
    let mut limit = Command::new("prlimit");
    limit.arg("--fsize=1000000");
    check_within(limit, "output::a_file_may_not_grow");
}

#[test]
#[ignore = "a role that another test has"]
fn a_file_may_not_grow() {
    crate::supervise::accept_signals().unwrap();
    let mut stage = Stage::new();
    let ended = stage.run(&stage.script("head -c 16M /dev/zero"));
    assert_eq!(ended.exit, Exit::Code(0));
    check_not_kept(ended.not_kept, &stage.place(), "File too large");
    // A task that writes to a file itself meets the limit as ever.
    let ended = stage.run(&stage.script("exec head -c 2000000 /dev/zero > big"));
    assert!(
        matches!(ended.exit, Exit::Signal { signal: 25, .. }),
        "{ended:?}"
    );
}

fn check_not_kept(not_kept: Option<String>, place: &Path, error: &str) {
    let not_kept = not_kept.unwrap();
    let start = format!("write {}/command.stdout: {error}", place.display());
    assert!(not_kept.starts_with(&start), "{not_kept}");
}
