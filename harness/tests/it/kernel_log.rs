//! Splats of the kernel: what is one, whose it is, and what becomes of the run.
//!
//! No test can make a real kernel complain without leaving it tainted, and what user space writes to /dev/kmsg is never
//! taken for the kernel's word. So a file or a pipe stands for /dev/kmsg, but where the real one will do.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::{Fixture, Ran, Status, events, lines_with, wait_for};
use rustix::fs::{CWD, FileType, Mode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// More than any kernel gives a process (`PID_MAX_LIMIT` in include/linux/threads.h).
const NOBODY: &str = "99999999";

/// A shell function by which a selftest makes the kernel say something.
const SAY: &str = "say() { echo \"4,$((n += 1)),$((n * 10)),-;$1\" >>../root/dev/kmsg; }\n\
    warn() { say '------------[ cut here ]------------'; say \"WARNING: CPU: 0 PID: $1 at virt/kvm/x.c:7 f+0x1/0x2 [kvm]\"\n\
    say \"CPU: 0 UID: 0 PID: $1 Comm: $2 Not tainted 6.12.0 #1\"; say '---[ end trace 0000000000000000 ]---'; }\n";

const TITLE: &str = "virt/kvm/x.c:7 f+0x1/0x2 [kvm]";

fn host() -> Fixture {
    Fixture::new().file("root/dev/kmsg", "6,0,0,-;WARNING: from before the run\n")
}

fn kernel_log(fixture: &Fixture) -> String {
    fs::read_to_string(fixture.results().join("kernel.log")).unwrap()
}

fn script(lines: &str) -> String {
    format!("{SAY}{lines}")
}

#[test]
fn a_case_with_a_splat_of_its_own_has_failed_however_it_exited() {
    let fixture = host()
        .selftest("passes_test", &script("warn $$ passes_test; exit 0"))
        .selftest("skips_test", &script("warn $$ skips_test; exit 4"))
        .selftest("hangs_test", &script("warn $$ hangs_test; exec sleep 1000"))
        .selftest("quiet_test", "exit 0");
    let ran = fixture.run(&["--timeout", "2", "--test-threads", "1"]);
    assert_eq!(ran.code, Some(101), "{}", ran.stderr);
    for name in [
        "passes_test::default",
        "skips_test::default",
        "hangs_test::default",
    ] {
        let outcome = fixture.outcome(name);
        let reason = outcome.reason.unwrap();
        assert_eq!(outcome.status, Status::Failed, "{name}: {reason}");
        let first = reason.lines().next().unwrap();
        assert!(
            first.starts_with("kernel: WARNING: CPU: 0 PID: ") && first.ends_with(TITLE),
            "{first}"
        );
        let [splat] = outcome.splats.as_slice() else {
            panic!("{:?}", outcome.splats)
        };
        assert_eq!((&splat["name"], lines(splat)), (&"WARNING".into(), 4));
        assert_eq!(while_running(splat), [""; 0]);
    }
    assert_eq!(fixture.verdict("quiet_test::default").0, Status::Passed);
    let log = fixture.results().join("kernel.log");
    let told = format!("kernel:    {}\n", log.display());
    assert!(ran.stdout.contains(&told), "{}", ran.stdout);
    assert!(!ran.stdout.contains("KERNEL SPLATS"), "{}", ran.stdout);
    assert!(!kernel_log(&fixture).contains("before the run"));
    for report in ["junit.xml", "results.ktap", "report.html"] {
        let report = fs::read_to_string(fixture.results().join(report)).unwrap();
        assert!(report.contains("cut here"), "{report}");
    }
}

#[test]
fn the_log_of_a_run_has_every_record_between_the_marks_of_its_cases() {
    let fixture = host().selftest(
        "a_test",
        &script("say 'kvm: hello'; printf '12,9,9,-;WARNING: fake\\n' >>../root/dev/kmsg"),
    );
    let ran = fixture.run(&[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stdout);
    let log = kernel_log(&fixture);
    let lines: Vec<_> = log
        .lines()
        .map(|line| line.split_once("] ").unwrap().1)
        .collect();
    let expected = [
        "==== a_test::default begins",
        "kvm: hello",
        "(from user space) WARNING: fake",
        "==== a_test::default ends",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn a_process_below_a_case_is_the_cases_also_as_a_daemon() {
    let child = "sh -c 'echo $$ >../pid.child; exec sleep 1000' &\n";
    let daemon =
        "(setsid sh -c 'echo $$ >../pid.daemon; exec sleep 1000' </dev/null >/dev/null 2>&1 &)\n";
    let fixture = Fixture::new()
        .selftest("child_test", &format!("{child}{WAITS}"))
        .selftest("daemon_test", &format!("{daemon}{WAITS}"));
    let mut pipe = pipe(&fixture);
    let run = start(&fixture);
    for (number, name) in [(1, "child"), (2, "daemon")] {
        let file = fixture.path().join(format!("pid.{name}"));
        let pid = || {
            fs::read_to_string(&file)
                .unwrap_or_default()
                .trim()
                .to_owned()
        };
        wait_for("it has started", || !pid().is_empty());
        let line = format!(
            "4,{number},{number},-;WARNING: x.c:7 at f+0x1/0x2, CPU#0: sleep/{}\n",
            pid()
        );
        pipe.write_all(line.as_bytes()).unwrap();
        wait_for("the record is read", || {
            kernel_log(&fixture).contains(&format!("sleep/{}", pid()))
        });
        pipe.write_all(b"4,9,9,-;---[ end trace 0000000000000000 ]---\n")
            .unwrap();
    }
    let ran = end(&fixture, run);
    for name in ["child_test::default", "daemon_test::default"] {
        let outcome = fixture.outcome(name);
        assert_eq!(
            (outcome.status, outcome.splats.len()),
            (Status::Failed, 1),
            "{name}: {}",
            ran.stdout
        );
    }
}

#[test]
fn of_a_thread_that_has_ended_its_name_tells_whose_it_was() {
    let fixture = host()
        // The kernel knows 15 bytes of a name.
        .selftest(
            "a_quite_long_name_test",
            &script(&format!("warn {NOBODY} a_quite_long_na")),
        )
        .selftest(
            "other_test",
            &script(&format!("warn {NOBODY} somebody_else")),
        );
    let ran = fixture.run(&["--test-threads", "1"]);
    assert_eq!(
        fixture.verdict("a_quite_long_name_test::default").0,
        Status::Failed
    );
    assert_eq!(fixture.verdict("other_test::default").0, Status::Passed);
    let splats = fixture.record().splats;
    assert_eq!(while_running(&splats[0]), ["other_test::default"]);
    assert!(
        ran.stdout.contains("while this ran: other_test::default"),
        "{}",
        ran.stdout
    );
}

#[test]
fn a_splat_of_nobody_fails_no_case_but_the_run() {
    let fixture = host().selftest("a_test", &script("warn 1 systemd; exit 0"));
    let ran = fixture.run(&[]);
    assert_eq!(ran.code, Some(101), "{}", ran.stderr);
    assert_eq!(fixture.verdict("a_test::default").0, Status::Passed);
    assert!(
        ran.stdout
            .contains("\nKERNEL SPLATS that are no case's own"),
        "{}",
        ran.stdout
    );
    assert!(
        ran.stderr
            .contains("KERNEL SPLAT while this ran: a_test::default: WARNING: CPU: 0"),
        "{}",
        ran.stderr
    );
    let record = fixture.record();
    let [splat] = record.splats.as_slice() else {
        panic!("{:?}", record.splats)
    };
    assert!(splat["title"].as_str().unwrap().ends_with(TITLE));
    assert_eq!(while_running(splat), ["a_test::default"]);
    assert_eq!(lines(splat), 4);
    for report in ["junit.xml", "results.ktap", "report.html"] {
        let report = fs::read_to_string(fixture.results().join(report)).unwrap();
        assert!(report.contains("virt/kvm/x.c:7"), "{report}");
    }
    let ktap = fs::read_to_string(fixture.results().join("results.ktap")).unwrap();
    assert!(ktap.contains("\nnot ok 2 kernel\n"), "{ktap}");
    for (form, failed) in [
        ("tmt", "\"result\": \"fail\""),
        ("kcidb", "\"status\": \"FAIL\""),
    ] {
        let kcidb = ["--origin", "us", "--build-id", "b"].iter();
        let ids = kcidb.filter(|_| form == "kcidb").copied();
        let words: Vec<_> = ["report", "run", "--format", form]
            .into_iter()
            .chain(ids)
            .collect();
        let mut report = fixture.program(&words);
        let report = Ran::of(report.output().unwrap());
        assert_eq!(
            lines_with(&report.stdout, failed).len(),
            1,
            "{}{}",
            report.stdout,
            report.stderr
        );
    }
    assert!(
        ran.stdout
            .contains("test result: FAILED. 1 passed; 0 failed;"),
        "{}",
        ran.stdout
    );
    // As it goes on, and in the forms for programs.
    for (format, told) in [
        ("json", "\"event\":\"failed\""),
        ("ktap", "# KERNEL SPLAT: WARNING: CPU: 0"),
    ] {
        let ran = fixture.run(&["--format", format, "--overwrite"]);
        assert_eq!(lines_with(&ran.stdout, told).len(), 1, "{}", ran.stdout);
    }
}

#[test]
fn a_splat_of_nobody_fails_also_a_run_that_was_gone_on_with_and_one_that_was_merged() {
    let fixture = host()
        .selftest("a_test", &script("warn 1 systemd; exit 0"))
        .selftest(
            "b_test",
            "[ -e ../go ] || { touch ../begun.b; exec sleep 1000; }",
        );
    let run = fixture.start(&["--test-threads", "1", "--format", "terse"]);
    wait_for("the second one runs", || begun(fixture.path()) == 1);
    kill_process(Pid::from_child(&run), Signal::INT).unwrap();
    assert_eq!(end(&fixture, run).code, Some(130));
    let resumed = Ran::of(fixture.command(&["--resume", "run"]).output().unwrap());
    assert_eq!(resumed.code, Some(101), "{}", resumed.stdout);
    assert!(
        resumed.stdout.contains("2 PASSED of 2 cases"),
        "{}",
        resumed.stdout
    );
    let mut merge = fixture.program(&["merge", "merged", "run"]);
    assert_eq!(merge.output().unwrap().status.code(), Some(101));
}

#[test]
fn of_an_oom_kill_the_victim_is_told_and_not_who_asked_for_memory() {
    let lines = "say \"greedy invoked oom-killer: gfp_mask=0x1, order=0, oom_score_adj=0\"\n\
        say \"CPU: 0 PID: 1 Comm: greedy Not tainted\"\n\
        say \"oom-kill:constraint=CONSTRAINT_NONE,task=sh,pid=$$,uid=0\"\n\
        say \"Out of memory: Killed process $$ (sh) total-vm:1kB\"";
    let fixture = host().selftest("a_test", &script(lines));
    fixture.run(&[]);
    let outcome = fixture.outcome("a_test::default");
    assert_eq!(
        (outcome.status, &outcome.splats[0]["name"]),
        (Status::Failed, &"OOM kill".into())
    );
}

#[test]
fn ignored_splats_count_for_the_cases_that_they_were_written_for() {
    let suite = |ignore: &str| format!("{ignore}[[test]]\nname = \"one\"\nselftest = \"a_test\"\n");
    let ignore = "kernel_log_ignore = [\"virt/kvm/x.c*f+0x\"]\n";
    let fixture = host()
        .selftest("a_test", &script("warn $$ a_test; exit 0"))
        .file("with.toml", &suite(ignore))
        .file("without.toml", &suite(""))
        .file("all/kernel_log.toml", ignore);
    let ran = fixture.run(&["--config", "with.toml", "with::"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stdout);
    assert!(
        ran.stdout
            .contains("kernel splats ignored (kernel_log_ignore): 1"),
        "{}",
        ran.stdout
    );
    assert_eq!(
        fixture.run(&["--config", "without.toml", "without::"]).code,
        Some(101)
    );
    assert_eq!(
        fixture
            .run(&["--config", "without.toml", "--config", "all", "without::"])
            .code,
        Some(0)
    );
    let ran = fixture
        .file("bad.toml", "kernel_log_ignore = [\"*\"]\n")
        .run(&["--config", "bad.toml"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("bad.toml:1:"), "{}", ran.stderr);
}

#[test]
fn a_taint_that_tells_of_a_splat_which_the_log_did_not_fails_the_run() {
    let taint = |mask: &str| format!("echo {mask} >../root/proc/sys/kernel/tainted");
    let fixture = |mask: &str| {
        Fixture::new()
            .file("root/proc/sys/kernel/tainted", "4096\n")
            .selftest("a_test", &taint(mask))
    };
    let warned = fixture("4608");
    let ran = warned.run(&[]);
    assert_eq!(ran.code, Some(101), "{}", ran.stderr);
    assert!(
        ran.stdout.contains(
            "\nKERNEL TAINT before: 4096 (O); after: 4608 (WO)\n  W: the kernel warned\n"
        ),
        "{}",
        ran.stdout
    );
    let record = warned.record();
    assert_eq!(record.first()["host"]["taint"], 4096);
    assert_eq!(record.end()["kernel"]["taint"], 4608);
    // An unsigned module is none.
    let ran = fixture("12288").run(&[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stdout);
    assert!(
        ran.stdout.contains("  E: an unsigned module was loaded"),
        "{}",
        ran.stdout
    );
}

#[test]
fn where_the_log_cannot_be_read_the_header_says_so_and_there_is_none() {
    let fixture = Fixture::new().selftest("a_test", "exit 0");
    let ran = fixture.run(&[]);
    assert_eq!(ran.code, Some(0));
    assert!(
        ran.stderr.contains("  kernel log   not followed, "),
        "{}",
        ran.stderr
    );
    assert!(!fixture.results().join("kernel.log").exists());
}

#[test]
fn what_is_not_the_kernels_log_is_not_followed() {
    for device in ["null", "zero", "full", ""] {
        let fixture = Fixture::new().selftest("a_test", "exit 0");
        let kmsg = fixture.path().join("root/dev/kmsg");
        fs::create_dir_all(kmsg.parent().unwrap()).unwrap();
        // `/dev/` is a directory.
        symlink(Path::new("/dev").join(device), kmsg).unwrap();
        let ran = fixture.run(&[]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        let told = "/dev/kmsg cannot be read: it is not the kernel's log\n";
        assert!(ran.stderr.contains(told), "{}", ran.stderr);
        assert!(!fixture.results().join("kernel.log").exists());
    }
}

/// A case that has begun when there is a file `begun`, and ends when there is a file `go`.
const WAITS: &str = "echo >../begun.$$; until [ -e ../go ]; do sleep 0.02; done";

#[test]
fn records_are_read_as_they_come_and_all_that_run_are_named() {
    let fixture = Fixture::new()
        .selftest("a_test", WAITS)
        .selftest("b_test", WAITS);
    let mut pipe = pipe(&fixture);
    let child = start(&fixture);
    wait_for("both cases run", || begun(fixture.path()) == 2);
    let splat = "4,1,1000,-;BUG: unable to handle page fault for address: 0\n4,2,1001,-;CPU: 0 PID: 1 Comm: init Not tainted\n";
    pipe.write_all(splat.as_bytes()).unwrap();
    // Without a mark at its end, it has ended when nothing follows.
    wait_for("the journal has it", || count(&fixture, "splat") == 1);
    assert_eq!(count(&fixture, "finished"), 0);
    let ran = end(&fixture, child);
    assert_eq!(ran.code, Some(101), "{}", ran.stderr);
    let splats = fixture.record().splats;
    let mut names = while_running(&splats[0]);
    names.sort_unstable();
    assert_eq!(names, ["a_test::default", "b_test::default"]);
}

/// A run of the cases of `suite` on this host itself, whose log is the kernel's.
fn on_the_real_log(suite: &str) -> (Fixture, Command) {
    let fixture = Fixture::new()
        .selftest("a_test", "exit 0")
        .file("real.toml", suite);
    let mut command = fixture.command(&[
        "--selftests",
        "selftests",
        "--config",
        "real.toml",
        "--output",
        "run",
        "real::",
    ]);
    command.env_remove("KVM_TESTS_ROOT");
    (fixture, command)
}

#[test]
fn on_the_real_log_what_user_space_writes_is_kept_and_fails_nothing() {
    if File::open("/dev/kmsg").is_err() || OpenOptions::new().write(true).open("/dev/kmsg").is_err()
    {
        eprintln!("not tested: /dev/kmsg may not be read and written here");
        return;
    }
    let line = format!(
        "WARNING: this is a test of kvm-tests, number {}",
        std::process::id()
    );
    let suite = format!("[[test]]\nname = \"a\"\ncommand = \"echo '<4>{line}' >/dev/kmsg\"\n");
    let (fixture, mut command) = on_the_real_log(&suite);
    Ran::of(command.output().unwrap());
    let outcome = fixture.outcome("real::a");
    assert_eq!(
        (outcome.status, outcome.splats),
        (Status::Passed, Vec::new())
    );
    let log = kernel_log(&fixture);
    assert!(
        log.contains(&format!("(from user space) {line}\n")),
        "{log}"
    );
}

/// Overwrites this host's kernel log: `cargo test -p harness --test it -- kernel_log:: --ignored`, as root.
#[test]
#[ignore = "it overwrites all that this host's kernel has logged"]
fn a_log_that_overruns_is_said_and_the_case_is_none_the_worse() {
    let suite = format!("[[test]]\nname = \"a\"\ncommand = \"{WAITS}\"\n");
    let (fixture, mut command) = on_the_real_log(&suite);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    wait_for("the case runs", || begun(fixture.path()) == 1);
    // One record that it reads for sure, so that it can count those that it misses.
    flood(1, "the first");
    wait_for("it follows the log", || {
        kernel_log(&fixture).contains("the first")
    });
    let runner = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(runner, Signal::STOP).unwrap();
    flood(20_000, &"x".repeat(900));
    kill_process(runner, Signal::CONT).unwrap();
    let ran = end(&fixture, child);
    assert_eq!(fixture.verdict("real::a").0, Status::Passed);
    let lost = fixture.record().end()["kernel"]["lost"].as_u64();
    assert!(lost.unwrap() > 1000, "{lost:?}");
    assert!(
        ran.stdout.contains("KERNEL LOG NOT COMPLETE"),
        "{}",
        ran.stdout
    );
    assert!(kernel_log(&fixture).contains("records are missing here"));
}

/// Each time anew: what one that writes through an open file may say is limited (`devkmsg_write`).
fn flood(count: usize, text: &str) {
    for _ in 0..count {
        let mut log = OpenOptions::new().write(true).open("/dev/kmsg").unwrap();
        log.write_all(format!("<7>kvm-tests: {text}").as_bytes())
            .unwrap();
    }
}

/// A pipe that stands for /dev/kmsg, so that what is written to it is read at once.
fn pipe(fixture: &Fixture) -> File {
    let path = fixture.path().join("root/dev/kmsg");
    rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    // Opened for both, it neither waits for a reader nor ends with one.
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap()
}

fn start(fixture: &Fixture) -> Child {
    fixture.start(&["--test-threads", "2"])
}

fn end(fixture: &Fixture, child: Child) -> Ran {
    File::create(fixture.path().join("go")).unwrap();
    Ran::of(child.wait_with_output().unwrap())
}

fn begun(directory: &Path) -> usize {
    let names = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    names
        .filter(|name| name.to_string_lossy().starts_with("begun."))
        .count()
}

/// How many events of this name the journal has.
fn count(fixture: &Fixture, name: &str) -> usize {
    let events = events(&fixture.results());
    events.iter().filter(|(event, _)| event == name).count()
}

fn lines(splat: &Value) -> usize {
    splat["lines"].as_array().unwrap().len()
}

fn while_running(splat: &Value) -> Vec<&str> {
    let cases = splat["while_running"].as_array().unwrap().iter();
    cases.map(|case| case.as_str().unwrap()).collect()
}
