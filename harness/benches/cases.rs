//! What a case costs: a thousand programs that only exit, run one after another by the real program and, side by side,
//! by a bare loop of spawn and wait.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot be set up is of no use"
)]

#[path = "runners/stand_in.rs"]
mod stand_in;

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const CASES: u32 = 1000;

fn main() {
    let directory = tempfile::tempdir().unwrap();
    let selftests = directory.path().join("selftests");
    fs::create_dir(&selftests).unwrap();
    let program = selftests.join("true_test");
    fs::copy("/bin/true", &program).unwrap();
    let mut suite = String::new();
    for number in 0..CASES {
        suite += &format!("[[test]]\nname = \"n{number}\"\nselftest = \"true_test\"\n");
    }
    fs::write(directory.path().join("thousand.toml"), suite).unwrap();

    let spawn_loop = || {
        for _ in 0..CASES {
            assert!(
                Command::new(&program)
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .status()
                    .unwrap()
                    .success()
            );
        }
    };
    // A new directory each time, and none deleted before the end: some file systems are slow where many files have just
    // been deleted (ext4 without a journal is).
    let runner = |round: u32| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kvm-tests-runner"));
        command.args([
            "run",
            "--test-threads",
            "1",
            "--output",
            &format!("run-{round}"),
            "thousand::",
        ]);
        command
            .arg("--selftests")
            .arg(&selftests)
            .args(["--config", "thousand.toml"]);
        stand_in::use_host_in(directory.path(), &mut command);
        assert!(
            command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .unwrap()
                .success()
        );
    };
    // In turns, and the best of each: what else this machine does must not favour one of them.
    let mut best = [Duration::MAX; 2];
    for round in 0..5 {
        best[0] = best[0].min(time(spawn_loop));
        best[1] = best[1].min(time(|| runner(round)));
    }
    let per_case = |duration: Duration| duration.as_secs_f64() * 1e6 / f64::from(CASES);
    let [bare, ours] = best.map(per_case);
    println!("{CASES} programs that exit at once, one after another, the best of 5 runs:");
    println!("  bare spawn and wait  {bare:8.0} us a case");
    println!(
        "  kvm-tests run        {ours:8.0} us a case, {:+.0} us, {:.2} times",
        ours - bare,
        ours / bare
    );
}

fn time(work: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    work();
    begin.elapsed()
}
