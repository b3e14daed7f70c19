//! What the cases of the real program share with it and with each other: memory, and the cores that they leave.

use std::fs;
use std::process::Command;

use crate::support::Status;
use crate::support::{Fixture, Ran};

/// So little memory that it is no hindrance.
const LITTLE: u64 = 4096;

fn available_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<u64>().unwrap() * 1024
}

/// What cases require: so much memory, in bytes.
fn memory(bytes: u64) -> String {
    format!("memory = \"{}K\"", bytes >> 10)
}

/// Two cases that require this each, in an environment with 8 hugepages, and end as soon as both run at once.
fn two_that_wait_for_each_other(requires: &str, timeout: &str) -> [Status; 2] {
    let meet = |own: &str, other: &str| {
        format!(
            "echo $$ > {own}.pid; until kill -0 \\\"$(cat {other}.pid 2>/dev/null)\\\" 2>/dev/null; do sleep 0.01; done; \
             touch {own}.met; until test -e {other}.met; do sleep 0.01; done"
        )
    };
    let suite = format!(
        "requires = {{ {requires} }}\n\
         [[test]]\nname = \"a\"\ncommand = \"{}\"\n[[test]]\nname = \"b\"\ncommand = \"{}\"\n",
        meet("a", "b"),
        meet("b", "a")
    );
    let fixture = Fixture::new()
        .selftest("a_test", "exit 0")
        .file("suite.toml", &suite);
    let pool = "root/sys/kernel/mm/hugepages/hugepages-65536kB/nr_hugepages";
    let fixture = fixture
        .file(pool, "0\n")
        .file("pages.toml", "hugepages = { \"64M\" = 8 }\n");
    let ran = fixture.run(&[
        "--config",
        "suite.toml",
        "--config",
        "pages.toml",
        "--environment",
        "pages",
        "suite::",
        "--test-threads",
        "2",
        "--timeout",
        timeout,
    ]);
    assert!(
        ran.code == Some(0) || ran.code == Some(101),
        "{}",
        ran.stderr
    );
    ["pages::suite::a", "pages::suite::b"].map(|name| fixture.verdict(name).0)
}

#[test]
fn two_cases_that_need_more_than_half_of_the_memory_each_never_overlap() {
    let most = available_memory() / 10 * 9;
    check_that_two_meet_only_where_there_is_enough(&memory(LITTLE), &memory(most));
}

#[test]
fn two_cases_that_need_more_than_half_of_the_hugepages_each_never_overlap() {
    let pages = |count| format!("hugepages = {{ \"64M\" = {count} }}");
    check_that_two_meet_only_where_there_is_enough(&pages(4), &pages(5));
}

fn check_that_two_meet_only_where_there_is_enough(enough: &str, too_much: &str) {
    // Alone, each waits until its time is up: that they can meet is what the other half shows.
    let met = two_that_wait_for_each_other(enough, "60");
    assert_eq!(met, [Status::Passed; 2], "{enough}");
    let alone = two_that_wait_for_each_other(too_much, "1");
    assert_eq!(alone, [Status::TimedOut; 2], "{too_much}");
}

/// Runs a crashing selftest with a limit on the size of cores, and returns its reason.
fn crash(limit: &str) -> (Fixture, String) {
    let fixture = Fixture::new().selftest("crash_test", "kill -SEGV $$");
    let program = fixture.command(&["--selftests", "selftests", "--output", "run"]);
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!("ulimit -S -c {limit} && exec \"$@\""))
        .arg("sh");
    command
        .arg(program.get_program())
        .args(program.get_args())
        .current_dir(fixture.path());
    command.env("KVM_TESTS_ROOT", fixture.path().join("root"));
    let ran = Ran::of(command.output().unwrap());
    assert_eq!(ran.code, Some(101), "{}", ran.stderr);
    let reason = fixture.outcome("crash_test::default").reason.unwrap();
    assert!(ran.stdout.contains(&reason), "{}", ran.stdout);
    (fixture, reason)
}

#[test]
fn a_failure_names_the_core_that_was_dumped() {
    let (fixture, reason) = crash("unlimited");
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let line = reason.lines().last().unwrap();
    assert!(
        reason.starts_with("killed by SIGSEGV (core dumped)"),
        "{reason}"
    );
    let place = line.strip_prefix("core dump: ").unwrap();
    if pattern.starts_with(['|', '@']) {
        return eprintln!("not tested with a file: core_pattern is {pattern}");
    }
    let core = fs::read(place).unwrap_or_else(|error| panic!("{place}: {error}"));
    assert_eq!(core.get(..4), Some(b"\x7fELF".as_slice()));
    if !pattern.starts_with('/') {
        assert!(
            place.starts_with(fixture.path().join("selftests").to_str().unwrap()),
            "{place}"
        );
    }
}

#[test]
fn the_limit_on_the_size_of_cores_is_left_as_it_is() {
    let (fixture, reason) = crash("0");
    if !fs::read_to_string("/proc/sys/kernel/core_pattern")
        .unwrap()
        .starts_with(['|', '@'])
    {
        assert_eq!(reason, "killed by SIGSEGV");
    }
    assert_eq!(
        fs::read_dir(fixture.path().join("selftests"))
            .unwrap()
            .count(),
        1
    );
}
