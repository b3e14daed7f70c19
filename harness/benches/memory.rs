//! By how much the runner grows with each case of a long run: 10,000 programs that only exit, twice, as what the first run
//! leaves is known to the second one. Fails where that is more than is promised: `cargo bench -p harness --bench memory`.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot be set up is of no use"
)]

#[path = "runners/stand_in.rs"]
mod stand_in;

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// How many cases there are; without `--bench` (as in `cargo test --benches`), just to see that it runs.
const MEASURED: u64 = 10_000;
const TRIED: u64 = 50;

/// By how much the runner may grow from its first case on, its reports included, in bytes for each case.
const A_CASE: u64 = 1024;

/// How often its memory is looked at.
const LOOK: Duration = Duration::from_millis(1);

fn main() {
    let is_measured = std::env::args().any(|arg| arg == "--bench");
    let cases = if is_measured { MEASURED } else { TRIED };
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("selftests")).unwrap();
    fs::copy("/bin/true", directory.path().join("selftests/true_test")).unwrap();
    let suite = (0..cases).fold(String::new(), |mut suite, number| {
        writeln!(
            suite,
            "[[test]]\nname = \"n{number}\"\nselftest = \"true_test\""
        )
        .unwrap();
        suite
    });
    fs::write(directory.path().join("many.toml"), suite).unwrap();
    println!("{cases} programs that exit at once:");
    let mut is_missed = false;
    for output in ["first", "second"] {
        let [begin, most] = run(directory.path(), output);
        let a_case = most.saturating_sub(begin) / cases;
        println!(
            "  {output:6} run  {:.1} MB with the first case, at most {:.1} MB: {a_case} bytes a case",
            begin as f64 / 1e6,
            most as f64 / 1e6
        );
        is_missed |= a_case >= A_CASE;
    }
    println!("promised: less than {A_CASE} bytes a case");
    assert!(!is_missed || !is_measured, "more than is promised");
}

/// Runs all cases; returns the runner's memory when the first one had ended, and the most that it had, in bytes.
fn run(directory: &Path, output: &str) -> [u64; 2] {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvm-tests-runner"));
    command.args([
        "run",
        "--selftests",
        "selftests",
        "--config",
        "many.toml",
        "--output",
        output,
        "many::",
    ]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut runner = stand_in::use_host_in(directory, &mut command)
        .spawn()
        .unwrap();
    let journal = directory.join(output).join("journal.jsonl");
    while !fs::read_to_string(&journal)
        .is_ok_and(|journal| journal.contains("\"event\":\"finished\""))
    {
        assert!(is_running(&mut runner), "it ended without a case");
        thread::sleep(LOOK);
    }
    let begin = memory(&runner, "VmRSS:").unwrap();
    let mut most = begin;
    while is_running(&mut runner) {
        // It has none left when it ends.
        most = most.max(memory(&runner, "VmHWM:").unwrap_or(0));
        thread::sleep(LOOK);
    }
    assert!(runner.wait().unwrap().success());
    [begin, most]
}

fn is_running(runner: &mut Child) -> bool {
    runner.try_wait().unwrap().is_none()
}

/// What proc_pid_status(5) says of its memory, in bytes.
fn memory(runner: &Child, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", runner.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim()
        .strip_suffix(" kB")
        .map(|kilobytes| kilobytes.parse::<u64>().unwrap() * 1024)
}
