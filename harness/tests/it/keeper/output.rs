//! Output that is too long.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Output as ProcessOutput};

use harness::model::outcome::Exit;
use harness::supervise::keeper::{Ended, Output};

use super::stage::{FIXTURE, Stage, marked};

/// What the fixture's flood consists of.
fn lines(from: usize, to: usize) -> String {
    (from..to)
        .map(|line| format!("line {line:010}\n"))
        .collect()
}

#[test]
fn of_long_output_the_start_and_the_end_are_kept() {
    let mut stage = Stage::new();
    let mut task = stage.fixture(&["flood", "1600"]);
    task.output_cap = 640;
    let ended = stage.run(&task);
    assert_eq!((ended.exit, ended.output), (Exit::Code(0), Output::Cut));
    let expected = [
        lines(0, 35),
        "\n[960 bytes of output left out here]\n".into(),
        lines(95, 100),
    ]
    .concat();
    assert_eq!(stage.stdout(), expected);
    assert_eq!(ended.sizes, [Some(expected.len() as u64), Some(0)]);
}

#[test]
fn output_as_long_as_the_cap_is_whole() {
    let mut stage = Stage::new();
    let mut task = stage.fixture(&["flood", "1600"]);
    task.output_cap = 1600;
    let ended = stage.run(&task);
    assert_eq!(
        (ended.output, ended.sizes),
        (Output::Whole, [Some(1600), Some(0)])
    );
    assert_eq!(stage.stdout(), lines(0, 100));
}

#[test]
fn a_flood_does_not_fill_the_disk_while_it_goes_on() {
    const CAP: u64 = 64 << 10;
    const FLOOD: u64 = 16 << 20;
    let mut stage = Stage::new();
    let mut task = stage.fixture(&["flood_and_hang", &FLOOD.to_string()]);
    task.output_cap = CAP;
    let (stdout, handle) = (stage.path("stdout"), stage.keeper.handle());
    let is_freed = || {
        // In units of 512 bytes, whatever the file system's block size is.
        fs::metadata(&stdout)
            .is_ok_and(|file| file.len() == FLOOD && file.blocks() * 512 < FLOOD / 4)
    };
    let ended = stage.run_until(&task, is_freed, || handle.interrupt());
    assert_eq!(ended.output, Output::Cut);
    let [start, end, all] =
        [CAP - CAP / 8, CAP / 8, FLOOD].map(|bytes| usize::try_from(bytes / 16).unwrap());
    let line = format!("\n[{} bytes of output left out here]\n", FLOOD - CAP);
    let expected = [lines(0, start), line, lines(all - end, all)].concat();
    assert!(stage.stdout() == expected, "it is something else");
}

#[test]
fn where_the_middle_of_a_file_cannot_be_freed_a_flood_is_killed() {
    let stage = Stage::new();
    let script = format!(
        "mount -t ramfs none {0} && cd {0} && {FIXTURE} run {0} flood_and_hang 3200000 {1} && cat stdout >&2",
        stage.directory.path().display(),
        stage.mark
    );
    let output = in_mount_namespace(&script);
    let told = String::from_utf8(output.stderr).unwrap();
    let ended: Ended = serde_json::from_slice(&output.stdout).expect(&told);
    assert_eq!(
        (ended.exit, ended.output),
        (
            Exit::Signal {
                signal: 9,
                core_dumped: false
            },
            Output::Flooded
        )
    );
    assert!(told.contains(" bytes of output left out here]\nline "));
    assert!(marked(&stage.mark).is_empty());
}

/// Runs a shell script that may mount file systems, without anybody else seeing them.
pub(crate) fn in_mount_namespace(script: &str) -> ProcessOutput {
    Command::new("unshare")
        .args(["--map-root-user", "--mount", "/bin/sh", "-c", script])
        .output()
        .unwrap()
}
