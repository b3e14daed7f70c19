//! What this program costs, held against what is promised: the whole program beside the bare loop that does the same,
//! in turns, the best of each, with all results in memory.
//!
//! `cargo bench -p harness --bench cases -- [PART]...`; `KVM_SELFTESTS=DIR` adds the real selftests. Fails where a
//! promise is broken.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot be set up is of no use"
)]

use std::cell::Cell;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// How often everything is measured.
const ROUNDS: usize = 5;

/// How many programs exit at once, and how many variants there are where their number is what costs.
const PROGRAMS: usize = 1_000;
const MANY: usize = 10_000;
const FEW: usize = 100;

/// How much the loudest case prints, in bytes, and how many cases print how much for the reports.
const OUTPUT: usize = 1 << 30;
const TALKING: usize = 5_000;
const TALK: usize = 20 << 10;

/// The role in which this program prints as many bytes as the number that follows.
const PRINT: &str = "print";

/// How much a C program prints at once that calls printf(3): `st_blksize` of its standard output.
const STDIO_BUFFER: usize = 4096;

/// Of the real selftests, those that take no longer than this.
const QUICK: Duration = Duration::from_secs(1);

/// Measures and prints something; returns whether what is promised of it is kept.
type Measure = fn(&Stage) -> bool;

fn main() -> ExitCode {
    let args = std::env::args().skip(1);
    let args: Vec<String> = args.filter(|arg| arg != "--bench").collect();
    let parts: Vec<&str> = args.iter().map(String::as_str).collect();
    if let [PRINT, bytes] = parts[..] {
        print(bytes.parse().unwrap());
        return ExitCode::SUCCESS;
    }
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let stage = Stage::new(directory.path());
    let measures: [(&str, Measure); 8] = [
        ("one_worker", one_worker),
        ("two_workers", two_workers),
        ("skewed", skewed),
        ("list", list),
        ("memory", memory),
        ("output", output),
        ("reports", reports),
        ("real", real),
    ];
    let mut is_kept = true;
    println!("| what | measured | promised |\n|---|--:|--:|");
    for (name, measure) in measures {
        if parts.is_empty() || parts.contains(&name) {
            is_kept &= measure(&stage);
        }
    }
    if !is_kept {
        println!("\nA promise is broken, of a time three times over.");
    }
    ExitCode::from(u8::from(!is_kept))
}

fn one_worker(stage: &Stage) -> bool {
    let program = stage.directory.join("selftests/true_test");
    let bare = || {
        // The standard library uses posix_spawn for a command as plain as this.
        let mut command = Command::new(&program);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        (0..PROGRAMS).for_each(|_| assert!(command.status().unwrap().success()));
    };
    first_and_second(
        stage,
        "1 worker, ratio to a bare posix_spawn loop",
        1,
        &bare,
        1.7,
    )
}

fn two_workers(stage: &Stage) -> bool {
    let names: String = (0..PROGRAMS).map(|number| format!("{number}\n")).collect();
    let list = stage.directory.join("names");
    fs::write(&list, names).unwrap();
    let bare = || {
        let mut xargs = Command::new("xargs");
        xargs.arg("-a").arg(&list).args(["-n1", "-P2"]);
        xargs.arg(stage.directory.join("selftests/true_test"));
        assert!(xargs.status().unwrap().success());
    };
    first_and_second(stage, "2 workers, ratio to `xargs -P2`", 2, &bare, 1.2)
}

/// 1,000 programs that exit at once: a first run, and one that knows from it how long everything takes.
fn first_and_second(
    stage: &Stage,
    what: &str,
    workers: usize,
    bare: &dyn Fn(),
    promised: f64,
) -> bool {
    let known = format!("known-{workers}");
    stage.run(&known, "programs", workers);
    let [bare, first, second] = least([
        &|| time(bare),
        &|| stage.run(&stage.new_name(), "programs", workers),
        &|| stage.run(&known, "programs", workers),
    ])
    .map(|time| time.as_secs_f64());
    println!("| second run, {what} | {:.2} | |", second / bare);
    held_in_time(&format!("first run, {what}"), first / bare, promised, "")
}

fn skewed(stage: &Stage) -> bool {
    // The longest last in the list, where it costs most.
    let milliseconds = [vec![100; 18], vec![400, 1600]].concat();
    let durations: Vec<_> = milliseconds
        .into_iter()
        .map(Duration::from_millis)
        .collect();
    let tests = durations.iter().enumerate().map(|(number, duration)| {
        let seconds = duration.as_secs_f64();
        variant(number, "sleep_test", &format!("[\"{seconds}\"]"))
    });
    stage.write("skewed", tests);
    let run = || stage.run("skewed", "skewed", 2);
    run();
    let [time] = least([&run]);
    let ratio = time.as_secs_f64() / lower_bound(&durations, 2).as_secs_f64();
    held_in_time(
        "skewed mix, second run, 2 workers, ratio to the least",
        ratio,
        1.05,
        "",
    )
}

fn list(stage: &Stage) -> bool {
    let run = || {
        let mut command = stage.suite("list", "many");
        command
            .args(["--list", "--format", "terse"])
            .stdout(Stdio::piped());
        time(|| {
            let listed = command.output().unwrap().stdout;
            assert_eq!(listed.iter().filter(|&&byte| byte == b'\n').count(), MANY);
        })
    };
    let [took] = least([&run]);
    held_in_time(
        "10,000 variants listed",
        took.as_secs_f64() * 1e3,
        50.0,
        " ms",
    )
}

fn memory(stage: &Stage) -> bool {
    let [_, few] = memory_of(stage.suite("memory", "few"), &stage.said("memory"));
    let [begin, most] = memory_of(stage.suite("memory", "many"), &stage.said("memory"));
    let a_case = |grown: u64| grown as f64 / MANY as f64;
    let planned = a_case(most.saturating_sub(few));
    println!("| memory for each of 10,000 cases, planned and run | {planned:.0} bytes | |");
    let grown = a_case(most.saturating_sub(begin));
    held(
        "the same from the end of the first case on",
        grown,
        2048.0,
        " bytes",
    )
}

fn output(stage: &Stage) -> bool {
    stage.write("output", [printing(0, OUTPUT)]);
    let (program, file) = (
        stage.directory.join("selftests/print_test"),
        stage.directory.join("file"),
    );
    let bare = || {
        let took = time(|| {
            let mut print = Command::new(&program);
            let mut print = print
                .args([PRINT, &OUTPUT.to_string()])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut cat = Command::new("cat");
            cat.stdin(print.stdout.take().unwrap());
            cat.stdout(File::create(&file).unwrap());
            assert!(cat.status().unwrap().success() && print.wait().unwrap().success());
        });
        assert_eq!(fs::metadata(&file).unwrap().len(), OUTPUT as u64);
        fs::remove_file(&file).unwrap();
        took
    };
    let case = || {
        stage.run("output", "output", 1);
        stage.outcomes("output")[0].1
    };
    let whole = || stage.run("output", "output", 1);
    let [bare, case, whole] = least([&bare, &case, &whole]).map(|time| time.as_secs_f64());
    println!("| 1 GiB of output, the whole run | {:.2} | |", whole / bare);
    held_in_time(
        "1 GiB of output, ratio to `prog \\| cat > file`",
        case / bare,
        1.1,
        "",
    )
}

fn reports(stage: &Stage) -> bool {
    stage.write("talking", (0..TALKING).map(|number| printing(number, TALK)));
    let [_, memory] = memory_of(stage.suite("reports", "talking"), &stage.said("reports"));
    let mut command = Command::new(stage.directory.join("runner"));
    command.arg("report").arg(stage.last("reports"));
    command.stdout(Stdio::null());
    let took = time(|| assert!(command.status().unwrap().success()));
    let megabytes = memory as f64 / 1e6;
    held("5,000 cases of 20 KiB, memory", megabytes, 100.0, " MB")
        & held_in_time("their reports", took.as_secs_f64(), 2.0, " s")
}

fn real(stage: &Stage) -> bool {
    let Some(selftests) = std::env::var_os("KVM_SELFTESTS") else {
        println!("| real selftests | left out: no `KVM_SELFTESTS` | 1.02 |");
        return true;
    };
    let selftests = fs::canonicalize(selftests).unwrap();
    let run = |args: &[&str]| {
        let mut command = stage.command("real");
        command
            .args(args)
            .args(["--test-threads", "2"])
            .arg("--selftests")
            .arg(&selftests);
        command.env_remove("KVM_TESTS_ROOT");
        // Some fail on most hosts.
        let took = time(|| assert!(command.status().unwrap().code().is_some()));
        (took, stage.outcomes("real"))
    };
    let (_, outcomes) = run(&["::default", "--timeout", "2"]);
    let quick = outcomes.iter().filter(|(_, duration)| *duration < QUICK);
    let names: Vec<&str> = ["--exact"]
        .into_iter()
        .chain(quick.map(|(name, _)| name.as_str()))
        .collect();
    let ratios = (0..ROUNDS).map(|_| {
        let (took, outcomes) = run(&names);
        let durations: Vec<_> = outcomes.iter().map(|(_, duration)| *duration).collect();
        took.as_secs_f64() / lower_bound(&durations, 2).as_secs_f64()
    });
    let best = ratios.fold(f64::MAX, f64::min);
    let what = format!(
        "{} real selftests, 2 workers, ratio to the least",
        names.len() - 1
    );
    held_in_time(&what, best, 1.02, "")
}

/// Prints what was measured beside what is promised; returns whether the promise is kept.
fn held(what: &str, measured: f64, promised: f64, unit: &str) -> bool {
    let is_kept = measured <= promised;
    let broken = if is_kept { "" } else { " BROKEN" };
    println!("| {what} | {measured:.2}{unit} | {promised}{unit}{broken} |");
    is_kept
}

/// The same of a time: a slow or busy machine is no reason to fail, three times the promise is.
fn held_in_time(what: &str, measured: f64, promised: f64, unit: &str) -> bool {
    held(what, measured, promised, unit) || measured <= 3.0 * promised
}

/// How long work of these durations takes at least.
fn lower_bound(durations: &[Duration], workers: u32) -> Duration {
    let total: Duration = durations.iter().sum();
    durations
        .iter()
        .copied()
        .fold(total / workers, Duration::max)
}

/// The least that each took, all in turns: what else the machine does must not favour one of them.
fn least<const N: usize>(works: [&dyn Fn() -> Duration; N]) -> [Duration; N] {
    let mut least = [Duration::MAX; N];
    for _ in 0..ROUNDS {
        for (work, least) in works.iter().zip(&mut least) {
            *least = work().min(*least);
        }
    }
    least
}

fn time(work: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    work();
    begin.elapsed()
}

/// The memory that the program had when it had said how its first case ended, and the most that it had until its end, in
/// bytes: proc_pid_status(5).
fn memory_of(mut command: Command, said: &Path) -> [u64; 2] {
    let mut child = command.spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let memory = |name| {
        let text = fs::read_to_string(&status).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kilobytes = line.trim().strip_suffix(" kB")?;
        Some(kilobytes.parse::<u64>().unwrap() * 1024)
    };
    let (mut begin, mut most) = (None, 0);
    while child.try_wait().unwrap().is_none() {
        if begin.is_none() && fs::read_to_string(said).unwrap().contains(" ok\n") {
            begin = memory("VmRSS:");
        }
        // When it ends it has none left.
        most = memory("VmHWM:").unwrap_or(most);
        thread::sleep(Duration::from_millis(1));
    }
    [begin.unwrap(), most]
}

fn print(bytes: usize) {
    let line = "Iteration 31 clear dirty log time: 0.000021953s, vCPU 3 halted 13110 times\n";
    let text = line.repeat(STDIO_BUFFER);
    // Past the standard library's own buffer, which would write line by line.
    let mut stdout = File::from(std::io::stdout().as_fd().try_clone_to_owned().unwrap());
    let blocks = text.as_bytes().chunks_exact(STDIO_BUFFER).cycle();
    blocks
        .take(bytes / STDIO_BUFFER)
        .for_each(|block| stdout.write_all(block).unwrap());
}

fn printing(number: usize, bytes: usize) -> String {
    variant(number, "print_test", &format!("[\"{PRINT}\", \"{bytes}\"]"))
}

fn variant(number: usize, selftest: &str, args: &str) -> String {
    format!("[[test]]\nname = \"n{number}\"\nselftest = \"{selftest}\"\nargs = {args}\n")
}

/// Where all happens: the program, what it runs, and a directory that stands for the host.
struct Stage<'a> {
    directory: &'a Path,
    names: Cell<usize>,
}

impl<'a> Stage<'a> {
    fn new(directory: &'a Path) -> Self {
        let stage = Self {
            directory,
            names: Cell::new(0),
        };
        for part in ["selftests", "suites", "root/dev"] {
            fs::create_dir_all(directory.join(part)).unwrap();
        }
        fs::write(directory.join("root/dev/kvm"), "").unwrap();
        let this = std::env::current_exe().unwrap();
        for (from, to) in [
            // Outside of Cargo's target directory, it keeps the history in the working directory.
            (Path::new(env!("CARGO_BIN_EXE_kvm-tests-runner")), "runner"),
            (Path::new("/bin/true"), "selftests/true_test"),
            (Path::new("/bin/sleep"), "selftests/sleep_test"),
            (&this, "selftests/print_test"),
        ] {
            fs::copy(from, directory.join(to)).unwrap();
        }
        for (suite, count) in [("few", FEW), ("programs", PROGRAMS), ("many", MANY)] {
            stage.write(
                suite,
                (0..count).map(|number| variant(number, "true_test", "[]")),
            );
        }
        stage
    }

    fn write(&self, suite: &str, tests: impl IntoIterator<Item = String>) {
        let path = self
            .directory
            .join("suites")
            .join(suite)
            .with_extension("toml");
        fs::write(path, tests.into_iter().collect::<String>()).unwrap();
    }

    /// A name that nothing has yet.
    fn new_name(&self) -> String {
        self.names.set(self.names.get() + 1);
        format!("new-{}", self.names.get())
    }

    /// The program, which keeps its history in the directory `place`, and its results in a new one there.
    fn command(&self, place: &str) -> Command {
        let directory = self.directory.join(place);
        fs::create_dir_all(&directory).unwrap();
        let said = File::create(self.said(place)).unwrap();
        let mut command = Command::new(self.directory.join("runner"));
        command
            .args(["run", "--output", &self.new_name()])
            .current_dir(directory);
        command.env("KVM_TESTS_ROOT", self.directory.join("root"));
        command
            .stdin(Stdio::null())
            .stdout(said.try_clone().unwrap())
            .stderr(said);
        command
    }

    /// The same for the variants of a suite.
    fn suite(&self, place: &str, suite: &str) -> Command {
        let mut command = self.command(place);
        command.args(["--selftests", "../selftests", "--config"]);
        command
            .arg(format!("../suites/{suite}.toml"))
            .arg(format!("{suite}::"));
        command
    }

    /// What the last one there said.
    fn said(&self, place: &str) -> PathBuf {
        self.directory.join(place).join("said")
    }

    fn run(&self, place: &str, suite: &str, workers: usize) -> Duration {
        let mut command = self.suite(place, suite);
        command.args(["--test-threads", &workers.to_string()]);
        let said = self.said(place);
        time(|| {
            let is_green = command.status().unwrap().success();
            assert!(is_green, "{}", fs::read_to_string(said).unwrap());
        })
    }

    /// The results of the last run there.
    fn last(&self, place: &str) -> PathBuf {
        let last = format!("new-{}", self.names.get());
        self.directory.join(place).join(last)
    }

    /// Its cases, and how long each took.
    fn outcomes(&self, place: &str) -> Vec<(String, Duration)> {
        let text = fs::read(self.last(place).join("run.json")).unwrap();
        let run: Value = serde_json::from_slice(&text).unwrap();
        let outcomes = run["outcomes"].as_array().unwrap().iter();
        let case = |outcome: &Value| {
            let duration = outcome["duration_s"].as_f64().unwrap();
            (
                outcome["name"].as_str().unwrap().to_owned(),
                Duration::from_secs_f64(duration),
            )
        };
        outcomes.map(case).collect()
    }
}
