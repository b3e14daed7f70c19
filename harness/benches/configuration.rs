//! What it costs to list 10,000 tests from files with the real program, which nextest starts anew for each case. Fails
//! where that takes longer than is promised: `cargo bench -p harness --bench configuration`.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot be set up is of no use"
)]

#[expect(dead_code, reason = "nothing here has a time limit")]
#[path = "runners/measure.rs"]
mod measure;
#[path = "runners/stand_in.rs"]
mod stand_in;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use measure::Figures;

const TESTS: usize = 10_000;

/// How often everything is done, the best of which counts; without `--bench` (as in `cargo test --benches`) once, just to
/// see that it runs.
const ROUNDS: usize = 20;

/// What is promised, from the program's start to its end, of 10,000 tests with a selftest and arguments each.
const PROMISED: Duration = Duration::from_millis(50);

fn main() {
    let is_measured = std::env::args().any(|arg| arg == "--bench");
    let rounds = if is_measured { ROUNDS } else { 1 };
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    fs::create_dir(directory.join("selftests")).unwrap();
    fs::copy("/bin/true", directory.join("selftests/true_test")).unwrap();

    let plain = |index| {
        format!(
            "[[test]]\nname = \"t{index}\"\nselftest = \"true_test\"\nargs = [\"-v\", \"{{ncpus}}\"]\n\n"
        )
    };
    let six_keys = |index| {
        plain(index).trim_end().to_owned()
            + "\ntimeout_s = 60\nrequires = { cpus = 1, memory = \"1M\" }\n\n"
    };
    let numbers: Vec<usize> = (0..100).collect();
    let json = |index| {
        let comma = if index + 1 < TESTS { "," } else { "]}]" };
        format!("{{\"name\": \"t{index}\", \"command\": \"./true_test -v $(nproc)\"}}{comma}")
    };
    let files = [
        ("plain.toml", (0..TESTS).map(plain).collect()),
        ("six_keys.toml", (0..TESTS).map(six_keys).collect()),
        (
            "matrix.toml",
            format!(
                "[[test]]\nname = \"sweep\"\nselftest = \"true_test\"\nargs = [\"{{a}}\", \"{{b}}\"]\n\
                 matrix = {{ a = {numbers:?}, b = {numbers:?} }}\n"
            ),
        ),
        (
            "one_line.json",
            "[{\"suite\": \"a\", \"tests\": [".to_owned()
                + &(0..TESTS).map(json).collect::<String>(),
        ),
    ];
    for (file, text) in &files {
        fs::write(directory.join(file), text).unwrap();
        list(directory, file, &["--list", "--format", "json"], rounds);
    }
    let promised = list(directory, "plain.toml", &["--list"], rounds);
    list(
        directory,
        "plain.toml",
        &["--dry-run", "--exact", "plain::t5000"],
        rounds,
    );
    println!(
        "promised of `--list plain.toml`: {} ms",
        PROMISED.as_millis()
    );
    assert!(
        promised <= PROMISED || !is_measured,
        "it takes longer than is promised"
    );
}

/// Lists the tests of `file`, or does to them what `args` say; returns the best time.
fn list(directory: &Path, file: &str, args: &[&str], rounds: usize) -> Duration {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvm-tests-runner"));
    command.arg("run").args(args);
    command.args(["--selftests", "selftests", "--config", file]);
    stand_in::use_host_in(directory, &mut command);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let figures = (0..rounds).map(|_| Some(measure::run(&mut command)));
    let best = figures.reduce(Figures::better).flatten().unwrap();
    assert_eq!(best.code, 0, "{command:?}");
    println!(
        "{:44} {:.1?}, {:.1?} of CPU, {:.1} MB",
        format!("{} {file}", args.join(" ")),
        best.wall,
        best.cpu,
        best.peak as f64 / 1e6
    );
    best.wall
}
