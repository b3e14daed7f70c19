//! What a task costs: the whole round trip through a keeper, beside a bare `posix_spawn` and `waitpid`.

#![expect(clippy::unwrap_used, reason = "this is only run by and for tests")]

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use harness::supervise::keeper::{self, Keeper, Task};

const TURNS: usize = 1_000;
const PROGRAM: &str = "/bin/true";

fn main() -> ExitCode {
    if keeper::is_keeper(std::env::args_os()) {
        return keeper::main();
    }
    let directory = tempfile::tempdir().unwrap();
    let mut keeper = Keeper::start().unwrap();
    let mut bare = Vec::new();
    let mut kept = Vec::new();
    // In turns, so that what else happens on the machine happens to both.
    for _ in 0..TURNS {
        bare.push(time(spawn));
        kept.push(time(|| run(&mut keeper, directory.path())));
        for name in ["stdout", "stderr"] {
            fs::remove_file(directory.path().join(name)).unwrap();
        }
    }
    println!("{TURNS} x {PROGRAM}, in microseconds:");
    println!("                 best   median     mean");
    let bare = show("posix_spawn", bare);
    let kept = show("keeper", kept);
    let ratio = |n: usize| kept[n] / bare[n];
    println!(
        "{:<12} {:>8.2} {:>8.2} {:>8.2}",
        "ratio",
        ratio(0),
        ratio(1),
        ratio(2)
    );
    ExitCode::SUCCESS
}

/// The standard library uses `posix_spawn` for a command as plain as this.
fn spawn() {
    let status = Command::new(PROGRAM)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
}

fn run(keeper: &mut Keeper, directory: &Path) {
    let task = Task {
        program: PROGRAM.into(),
        args: Vec::new(),
        directory: directory.to_owned(),
        stdout: directory.join("stdout"),
        stderr: directory.join("stderr"),
        timeout: Some(Duration::from_secs(120)),
        grace: Duration::from_secs(5),
        output_cap: 64 << 20,
        removes_shared_memory: false,
    };
    keeper.run(&task, |_| ()).unwrap();
}

fn time(run: impl FnOnce()) -> Duration {
    let start = Instant::now();
    run();
    start.elapsed()
}

/// Prints and returns the best, the median and the mean time, in microseconds.
fn show(name: &str, mut times: Vec<Duration>) -> [f64; 3] {
    times.sort_unstable();
    let mean = times.iter().sum::<Duration>() / TURNS as u32;
    let shown = [times[0], times[TURNS / 2], mean].map(|time| time.as_secs_f64() * 1e6);
    println!(
        "{name:<12} {:>8.0} {:>8.0} {:>8.0}",
        shown[0], shown[1], shown[2]
    );
    shown
}
