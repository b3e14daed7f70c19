//! This runner beside others, on identical lists of programs, in one run: what anybody can repeat.
//!
//! `cargo bench -p harness --bench runners -- [CASES]`: everything that is installed takes part, and the rest is named.
//! `KSELFTEST_INSTALL=DIR`, an installed tree of kselftests, lets upstream's `runner.sh` take part.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot be set up is of no use")]

mod contenders;
mod measure;
mod workload;

use std::fs;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use measure::Figures;
use workload::Workload;

/// How often each workload is run by each contender; the best time counts.
const ROUNDS: usize = 3;

/// Who takes longer than this is not asked again.
const PATIENCE: Duration = Duration::from_secs(5);

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    if let [role, list, workers] = args.as_slice()
        && role == contenders::SPAWN_ALL
    {
        return spawn_all(list, workers.parse().unwrap());
    }
    let cases = args.first().map_or(1000, |cases| cases.parse().unwrap());
    let at_once = Workload::new("programs that exit at once", &vec![Duration::ZERO; cases]);
    // The longest comes last in the list, where it costs most; history lets it start first.
    let mut skewed = vec![Duration::from_millis(50); 38];
    skewed.extend([Duration::from_millis(400), Duration::from_millis(1000)]);
    let skewed = Workload::new("programs that sleep, the longest last", &skewed);
    for workload in [at_once, skewed] {
        for workers in [1, 2] {
            compare(&workload, workers);
        }
    }
}

/// Runs `workload` by everyone, in turns, and prints what came of it.
fn compare(workload: &Workload, workers: usize) {
    println!("\n{} {}, {workers} at a time, the best of {ROUNDS}:", workload.programs.len(), workload.what);
    let bound = workload.lower_bound(workers);
    if !bound.is_zero() {
        println!("  they cannot take less than {:.3} s", bound.as_secs_f64());
    }
    let (contenders, absent) = contenders::all(workload, workers);
    let mut best: Vec<Option<Figures>> = vec![None; contenders.len()];
    for round in 0..ROUNDS {
        for (contender, best) in contenders.iter().zip(&mut best) {
            if round == 0 || best.is_some_and(|best| best.wall < PATIENCE) {
                *best = Figures::better(*best, contender.run(workload, workers));
            }
        }
    }
    println!("  {:24} {:>9} {:>7} {:>11} {:>13}", "", "wall", "ratio", "own CPU", "peak memory");
    let floor = best[0].unwrap();
    for (contender, figures) in contenders.iter().zip(&best) {
        let Some(figures) = figures else {
            println!("  {:24} over {} s", contender.name, measure::LIMIT.as_secs());
            continue;
        };
        println!(
            "  {:24} {:>7.3} s {:>7.2} {:>9.3} s {:>9} KiB",
            contender.name,
            figures.wall.as_secs_f64(),
            figures.wall.as_secs_f64() / floor.wall.as_secs_f64(),
            figures.cpu.saturating_sub(floor.cpu).as_secs_f64(),
            figures.peak_kib,
        );
    }
    if !absent.is_empty() {
        println!("  not installed: {}", absent.join(", "));
    }
}

/// The floor: the standard library uses `posix_spawn` for a command as plain as this.
fn spawn_all(list: &str, workers: usize) {
    let list = fs::read_to_string(list).unwrap();
    let programs: Vec<&str> = list.lines().collect();
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(program) = programs.get(next.fetch_add(1, Ordering::Relaxed)) {
            assert!(Command::new(program).stdin(Stdio::null()).status().unwrap().success());
        }
    };
    thread::scope(|scope| {
        for _ in 1..workers {
            scope.spawn(work);
        }
        work();
    });
}
