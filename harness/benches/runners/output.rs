//! A program that prints 1 GiB, into a file by itself and as a case.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::log::record::Record;
use tempfile::TempDir;

use crate::Options;
use crate::measure;
use crate::roles;
use crate::stand_in;
use crate::table;

const SIZE: u64 = 1 << 30;

/// Measures and prints it: where temporary files are, and in memory, where no disk can disturb.
pub(crate) fn measure(options: &Options) {
    on(&std::env::temp_dir(), options);
    on(Path::new("/dev/shm"), options);
}

fn on(place: &Path, options: &Options) {
    let Ok(directory) = TempDir::new_in(place) else {
        println!(
            "\nNot measured on {}: it cannot be written to.",
            place.display()
        );
        return;
    };
    prepare(directory.path());
    let mut bare = Duration::MAX;
    let (mut loud, mut quiet) = (Case::WORST, Case::WORST);
    for round in 0..options.rounds {
        bare = bare.min(into_file(directory.path()));
        loud = loud.better(case(directory.path(), "loud", round));
        quiet = quiet.better(case(directory.path(), "quiet", round));
    }
    let row = |what: &str, case: Case, peak: String| {
        let ratio = table::ratio(case.duration, bare);
        [
            what.to_owned(),
            table::seconds(case.duration),
            ratio,
            table::seconds(case.told),
            table::seconds(case.wall),
            peak,
        ]
    };
    let alone = Case {
        duration: bare,
        told: bare,
        wall: bare,
        peak: 0,
    };
    let rows = [
        row("`prog > file`", alone, String::new()),
        row(
            "a case that prints as much",
            loud,
            table::megabytes(loud.peak),
        ),
        row(
            "a case that prints nothing",
            quiet,
            table::megabytes(quiet.peak),
        ),
    ];
    let title = format!(
        "**A program that prints 1 GiB**, results in {}, the best of {}:",
        place.display(),
        options.rounds
    );
    let columns = [
        "",
        "by itself",
        "ratio",
        "until its end is told",
        "the whole run",
        "peak memory",
    ];
    table::print(&title, columns, &rows);
}

fn prepare(directory: &Path) {
    fs::create_dir_all(directory.join("selftests")).unwrap();
    fs::copy(
        std::env::current_exe().unwrap(),
        directory.join("selftests/print_test"),
    )
    .unwrap();
    let variant = |name: &str, size: u64| {
        format!(
            "[[test]]\nname = \"{name}\"\nselftest = \"print_test\"\nargs = [\"{}\", \"{size}\"]\n",
            roles::PRINT
        )
    };
    fs::write(
        directory.join("output.toml"),
        variant("loud", SIZE) + &variant("quiet", 0),
    )
    .unwrap();
}

/// Runs the program by itself.
fn into_file(directory: &Path) -> Duration {
    let path = directory.join("file");
    let mut command = Command::new(directory.join("selftests/print_test"));
    command
        .args([roles::PRINT, &SIZE.to_string()])
        .stdout(File::create(&path).unwrap());
    let figures = measure::run(&mut command);
    assert_eq!(
        (figures.code, fs::metadata(&path).unwrap().len()),
        (0, SIZE)
    );
    fs::remove_file(path).unwrap();
    figures.wall
}

/// What a case took.
#[derive(Clone, Copy)]
struct Case {
    /// The program, as run.json has it.
    duration: Duration,
    /// From the runner's start until it tells how the case ended.
    told: Duration,
    /// Until the runner's end.
    wall: Duration,
    /// The most memory of the runner, in bytes.
    peak: u64,
}

impl Case {
    const WORST: Self = Self {
        duration: Duration::MAX,
        told: Duration::MAX,
        wall: Duration::MAX,
        peak: 0,
    };

    /// The best of each, and the most memory.
    fn better(self, other: Self) -> Self {
        Self {
            duration: self.duration.min(other.duration),
            told: self.told.min(other.told),
            wall: self.wall.min(other.wall),
            peak: self.peak.max(other.peak),
        }
    }
}

/// Runs the program as the only case of a run.
fn case(directory: &Path, name: &str, round: usize) -> Case {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvm-tests-runner"));
    let output = format!("{name}-{round}");
    command.args([
        "run",
        "--selftests",
        "selftests",
        "--config",
        "output.toml",
        "--output",
        &output,
    ]);
    command.args([&format!("output::{name}"), "--exact"]);
    stand_in::use_host_in(directory, &mut command);
    let (reader, writer) = std::io::pipe().unwrap();
    command
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(Stdio::null());
    let begin = Instant::now();
    let told = std::thread::spawn(move || {
        let is_result = |line: &String| line.starts_with("test output::") && line.ends_with(" ok");
        let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
        lines.find(is_result).expect("a result");
        let told = begin.elapsed();
        lines.for_each(drop);
        told
    });
    let figures = measure::run(&mut command);
    // It holds the pipe open.
    drop(command);
    assert_eq!(figures.code, 0);
    let results = directory.join(output);
    let [outcome] = &Record::read(&results).unwrap().0.outcomes[..] else {
        panic!("one case")
    };
    let duration = Duration::from_secs_f64(outcome.duration_s);
    fs::remove_dir_all(results).unwrap();
    Case {
        duration,
        told: told.join().unwrap(),
        wall: figures.wall,
        peak: figures.peak,
    }
}
