//! This runner beside others, on identical lists of programs, in one run: what anybody can repeat.
//!
//! `cargo bench -p harness --bench runners -- --help` tells of the workloads. All that is installed takes part, and the
//! rest is named. `KSELFTEST_INSTALL=DIR`, an installed tree of kselftests, lets upstream's `runner.sh` take part.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot be set up is of no use"
)]

mod comparison;
mod contenders;
mod list;
mod measure;
mod output;
mod programs;
mod real;
mod roles;
mod skewed;
mod stand_in;
mod table;
mod workload;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// Measures this runner beside others, and prints tables in Markdown.
#[derive(Parser)]
struct Options {
    /// What to measure; by default all but the real selftests, which need `--selftests`
    #[arg(value_enum)]
    workloads: Vec<Kind>,
    /// How many programs that exit at once there are
    #[arg(long, default_value_t = 1000)]
    programs: usize,
    /// How often everybody runs each workload; the best time counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How many seconds one of them may take
    #[arg(long, default_value = "20", value_parser = seconds)]
    limit: Duration,
    /// Where the real selftests are installed
    #[arg(long)]
    selftests: Option<PathBuf>,
    /// Of the real selftests, only those that end in this many seconds
    #[arg(long, default_value = "1", value_parser = seconds)]
    under: Duration,
    /// Given by cargo bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// A workload.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Programs that exit at once
    Programs,
    /// Programs that sleep, the longest one last in the list
    Skewed,
    /// Real selftests
    Real,
    /// 10,000 variants, listed
    List,
    /// A program that prints 1 GiB
    Output,
}

fn main() {
    if roles::play(std::env::args()) {
        return;
    }
    let mut options = Options::parse();
    if !options.bench {
        // As `cargo test --benches` has it: just to see that it runs.
        (options.programs, options.rounds) = (10, 1);
    }
    if options.workloads.is_empty() {
        options.workloads = vec![Kind::Programs, Kind::Skewed, Kind::List, Kind::Output];
    }
    // Deleted when all is measured: a file system may be slow where many files have just been deleted (ext4 without a
    // journal is).
    let scratch = tempfile::tempdir().unwrap();
    for kind in &options.workloads {
        match kind {
            Kind::Programs => programs::measure(&options, scratch.path()),
            Kind::Skewed => skewed::measure(&options, scratch.path()),
            Kind::Real => real::measure(&options, scratch.path()),
            Kind::List => list::measure(&options, scratch.path()),
            Kind::Output => output::measure(&options),
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text
        .parse()
        .map_err(|_| format!("{text} is no number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}
