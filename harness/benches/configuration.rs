//! What 10,000 tests in files cost: to read them, and to list them with the real program, which nextest starts anew for
//! each case. Fails where that needs more memory than is promised; what it takes is counted in instructions elsewhere:
//! `cargo bench -p harness --bench configuration`.

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

use harness::plan::config;
use measure::Figures;

const TESTS: usize = 10_000;

/// How often everything is done, the best of which counts; without `--bench` (as in `cargo test --benches`) once, just to
/// see that it runs.
const ROUNDS: usize = 20;

/// What is promised of a list of them: from the program's start to its end, and its memory.
const LISTED_IN: Duration = Duration::from_millis(50);
const MEMORY: u64 = 30_000_000;

fn main() {
    let is_measured = std::env::args().any(|arg| arg == "--bench");
    let rounds = if is_measured { ROUNDS } else { 1 };
    let toml = repeated("", |index| {
        format!(
            "[[test]]\nname = \"t{index}\"\nselftest = \"true_test\"\nargs = [\"-v\", \"{{ncpus}}\", \"-g\"]\n\
             timeout_s = 60\nrequires = {{ cpus = 1, memory = \"1M\" }}\n\n"
        )
    });
    // First, while this process is small itself: see `Figures::peak`.
    println!("listed by the program:");
    let directory = tempfile::tempdir().unwrap();
    let is_kept = list(directory.path(), &toml, rounds);
    println!(
        "promised: {} ms, {:.1} MB",
        LISTED_IN.as_millis(),
        megabytes(MEMORY)
    );
    println!("read, in CPU time:");
    read(&toml, rounds);
    assert!(is_kept || !is_measured, "more memory than is promised");
}

fn read(toml: &str, rounds: usize) {
    let numbers: Vec<usize> = (0..100).collect();
    let matrix = format!(
        "[[test]]\nname = \"sweep\"\nselftest = \"true_test\"\nargs = [\"-v\", \"{{a}}\", \"-x\", \"{{b}}\"]\n\
         matrix = {{ a = {numbers:?}, b = {numbers:?} }}\n"
    );
    let json = repeated("[{\"suite\": \"a\", \"tests\": [\n", |index| {
        let comma = if index + 1 < TESTS { "," } else { "]}]" };
        format!("{{\"name\": \"t{index}\", \"command\": \"./true_test -v $(nproc) -g\"}}{comma}")
    });
    let wrong = toml.replace("timeout_s", "timeot_s");
    for (what, path, text, problems) in [
        ("10,000 [[test]]", "a.toml", toml, 0),
        ("a matrix of 10,000", "a.toml", &matrix, 0),
        ("10,000 tests in one line of JSON", "a.json", &json, 0),
        ("10,000 unknown keys", "a.toml", &wrong, TESTS),
    ] {
        let (mut best, mut total) = (Duration::MAX, Duration::ZERO);
        for _ in 0..rounds {
            let start = cpu_time();
            let configuration = config::read_embedded(&[(path, text)]);
            let took = cpu_time() - start;
            assert_eq!(configuration.problems.len(), problems, "{what}");
            assert_eq!(configuration.suites[0].tests.len(), TESTS, "{what}");
            (best, total) = (best.min(took), total + took);
        }
        println!(
            "  {what:34} {best:.1?} at best, {:.1?} on average",
            total / u32::try_from(rounds).unwrap()
        );
    }
}

/// Lists the tests in every form, and finds one of them; returns whether that took no more memory than is promised.
fn list(directory: &Path, toml: &str, rounds: usize) -> bool {
    fs::create_dir(directory.join("selftests")).unwrap();
    fs::copy("/bin/true", directory.join("selftests/true_test")).unwrap();
    fs::write(directory.join("many.toml"), toml).unwrap();
    let mut is_kept = true;
    for args in [
        ["--list", "--format", "pretty"].as_slice(),
        &["--list", "--format", "terse"],
        &["--list", "--format", "json"],
        &["--dry-run", "--exact", "many::t5000"],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kvm-tests-runner"));
        command
            .arg("run")
            .args(args)
            .args(["--selftests", "selftests", "--config", "many.toml"]);
        stand_in::use_host_in(directory, &mut command);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let figures = (0..rounds).map(|_| Some(measure::run(&mut command)));
        let Figures {
            wall,
            cpu,
            peak,
            code,
        } = figures.reduce(Figures::better).flatten().unwrap();
        assert_eq!(code, 0, "{command:?}");
        println!(
            "  {:34} {wall:.1?}, {cpu:.1?} of CPU, {:.1} MB",
            args.join(" "),
            megabytes(peak)
        );
        is_kept &= peak <= MEMORY;
    }
    is_kept
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// What this thread has used of a CPU: what else the machine does matters less to it than to the time of the clock.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn repeated(start: &str, test: impl Fn(usize) -> String) -> String {
    start.to_owned() + &(0..TESTS).map(test).collect::<String>()
}
