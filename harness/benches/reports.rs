//! How long the reports of a big run take, and how much memory: `cargo bench -p harness --bench reports`.

#![expect(clippy::unwrap_used, reason = "this is only run by and for developers")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use harness::model::outcome::{Exit, Status};
use harness::report;

use crate::stage::Run;

#[expect(dead_code, reason = "the tests need more of it")]
#[path = "../tests/it/reports/stage.rs"]
mod stage;

/// How many cases there are; without `--bench` (as in `cargo test --benches`), just to see that it runs.
const MEASURED: usize = 5000;
const TRIED: usize = 50;

/// What each of them printed, in bytes.
const OUTPUT: usize = 20 * 1024;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let [_, role, directory] = args.as_slice()
        && role == "write"
    {
        return write(Path::new(directory));
    }
    let cases = if args.iter().any(|arg| arg == "--bench") {
        MEASURED
    } else {
        TRIED
    };
    for suites in [1, cases] {
        let run = make(cases, suites);
        println!(
            "{cases} cases in {suites} suites, {} KiB of output each:",
            OUTPUT / 1024
        );
        // In a process of its own, whose memory is measured from its start.
        let mut writer = Command::new(&args[0]);
        assert!(
            writer
                .arg("write")
                .arg(run.directory())
                .status()
                .unwrap()
                .success()
        );
    }
}

fn make(cases: usize, suites: usize) -> Run {
    let line = "Iteration 31 clear dirty log time: 0.000021953s & <vCPU 3> halted 13110 times\n";
    let output = line.repeat(OUTPUT / 2 / line.len() + 1);
    let mut run = Run::new();
    let parameters = (0..50)
        .map(|number| (format!("parameter_{number}"), "N".to_owned()))
        .collect();
    run.record
        .run
        .host
        .modules
        .insert("kvm".to_owned(), parameters);
    for number in 0..cases {
        let name = format!("suite_{}::case_{number}", number % suites);
        let exit = Exit::Code(i32::from(number % 10 == 0) * 3);
        let outcome = run.printed(&name, exit, output.as_bytes(), output.as_bytes());
        if number % 3 == 0 {
            outcome.status = Status::Skipped;
        }
    }
    run.end();
    run
}

fn write(directory: &Path) {
    let before = Instant::now();
    let reports = report::write_all(directory).unwrap();
    let seconds = before.elapsed().as_secs_f64();
    for report in &reports {
        println!(
            "  {:>16}: {:7} KiB",
            report.file_name().unwrap().display(),
            fs::metadata(report).unwrap().len() / 1024
        );
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    println!("  {seconds:.2} s, at most {} of memory", peak.trim());
}
