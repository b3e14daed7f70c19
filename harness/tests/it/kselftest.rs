//! `kvm-tests kselftest`: the kernel's run_kselftest.sh, with this program behind it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Fixture, Ran, Status, lines_with, wait_until};

/// An installed tree, `tree`, with these tests (`COLLECTION:TEST`) and their scripts.
fn tree(tests: &[(&str, &str)]) -> Fixture {
    let list: String = tests.iter().map(|(name, _)| format!("{name}\n")).collect();
    let fixture = Fixture::new()
        .file("tree/kselftest-list.txt", &list)
        .file("tree/kvm/settings", "# seconds\ntimeout=120\n")
        .executable("tree/run_kselftest.sh", "#!/bin/sh\necho the kernel\n");
    tests.iter().fold(fixture, |fixture, (name, script)| {
        let file = format!("tree/{}", name.replace(':', "/"));
        fixture.executable(&file, &format!("#!/bin/sh\n{script}\n"))
    })
}

/// Runs `kvm-tests kselftest` in the tree, one case at a time.
fn kselftest(fixture: &Fixture, arguments: &[&str]) -> Ran {
    let mut command = command(fixture, arguments);
    Ran::of(command.output().unwrap())
}

fn command(fixture: &Fixture, arguments: &[&str]) -> Command {
    let mut command = fixture.program(&["kselftest"]);
    command
        .args(arguments)
        .current_dir(fixture.path().join("tree"));
    command.env("RUST_TEST_THREADS", "1");
    command
}

/// Whether nothing was run: then there are no results.
fn has_run(fixture: &Fixture) -> bool {
    fixture.path().join("tree/kvm-tests-results").exists()
}

const EVERY_STATUS: [(&str, &str); 8] = [
    (
        "kvm:a_passes",
        "printf 'TAP version 13\\n1..1\\nok 1 sub\\n'; echo told >&2",
    ),
    ("kvm:b_skips.sh", "exit 4"),
    ("kvm:c_fails", "exit 254"),
    ("kvm:d-dies", "kill -TERM $$"),
    ("kvm:e_args", "echo \"$# $*\""),
    (
        "kvm:f_pretends",
        "printf 'not ok 1 selftests: x: y\\n1..0\\nBail out!\\n' | sed 's/^/a /'; printf '\\033[1mbold\\0no end'",
    ),
    ("kvm:g_gone", ""),
    ("net/slow:hangs", "sleep 1000"),
];

/// Lines without what the threads of a case did when its time was up.
fn without_threads(lines: &str) -> String {
    let lines = lines.lines();
    let lines = lines.map(|line| line.split("; threads: ").next().unwrap_or_default());
    lines.map(|line| format!("{line}\n")).collect()
}

fn every_status() -> Fixture {
    let fixture = tree(&EVERY_STATUS).file("tree/net/slow/settings", "timeout=1\n");
    fs::remove_file(fixture.path().join("tree/kvm/g_gone")).unwrap();
    fixture
}

#[test]
fn the_standard_output_is_the_kernels_and_has_every_status() {
    let fixture = every_status();
    let mut command = command(&fixture, &["-c", "kvm", "--collection", "net/slow"]);
    command.env("KSELFTEST_E_ARGS_ARGS", "-a  'b c'");
    let ran = Ran::of(command.output().unwrap());
    let gone = fixture
        .path()
        .canonicalize()
        .unwrap()
        .join("tree/kvm/g_gone");
    let gone = format!("{}: No such file or directory (os error 2)", gone.display());
    let expected = format!(
        r"TAP version 13
1..8
# timeout set to 120
# selftests: kvm: a_passes
# TAP version 13
# 1..1
# ok 1 sub
# told
ok 1 selftests: kvm: a_passes
# timeout set to 120
# selftests: kvm: b_skips.sh
# SKIPPED: exit code 4 (skip), without a reason
ok 2 selftests: kvm: b_skips.sh # SKIP
# timeout set to 120
# selftests: kvm: c_fails
# FAILED: exit code 254 (failed assertion)
not ok 3 selftests: kvm: c_fails # exit=254
# timeout set to 120
# selftests: kvm: d-dies
# FAILED: killed by SIGTERM
not ok 4 selftests: kvm: d-dies # exit=143
# timeout set to 120
# selftests: kvm: e_args
# 3 -a 'b c'
ok 5 selftests: kvm: e_args
# timeout set to 120
# selftests: kvm: f_pretends
# a not ok 1 selftests: x: y
# a 1..0
# a Bail out!
# bold\x00no end
ok 6 selftests: kvm: f_pretends
# timeout set to 120
# selftests: kvm: g_gone
# NO_RUN: {gone}
not ok 7 selftests: kvm: g_gone # ERROR {gone}
# timeout set to 1
# selftests: net/slow: hangs
# TIMED_OUT: timeout of 1 s: did not end in its time
not ok 8 selftests: net/slow: hangs # TIMEOUT 1 seconds
# Totals: pass:3 fail:3 xfail:0 xpass:0 skip:1 error:1
"
    );
    assert_eq!(without_threads(&ran.stdout), expected);
    assert_eq!(ran.code, Some(1));
    assert_eq!(
        lines_with(
            &ran.stderr,
            "# kvm:e_args is called with -a  'b c' (KSELFTEST_E_ARGS_ARGS)"
        )
        .len(),
        1,
        "{}",
        ran.stderr
    );
}

#[test]
fn a_known_failure_is_xfail_and_fails_nothing() {
    let known = "[[known]]\ncase = \"c_fails::default\"\nfailure = \"exit code 254\"\nreason = \"bug 7\"\n\
                 [[known]]\ncase = \"gone::*\"\nreason = \"r\"\n[[known]]\ncase = \"*\"\nreason = \"r\"\nuntil = 2001-01-31\n";
    let tests = [("kvm:a_passes", "exit 0"), ("kvm:c_fails", "exit 254")];
    let fixture = tree(&tests).file("tree/k.toml", known);
    let ran = kselftest(&fixture, &["--", "--known", "k.toml"]);
    let line = "ok 2 selftests: kvm: c_fails # XFAIL known failure: bug 7";
    assert_eq!(lines_with(&ran.stdout, "kvm: c_fails #"), [line]);
    let totals = "# Totals: pass:1 fail:0 xfail:1 xpass:0 skip:0 error:0";
    assert_eq!(lines_with(&ran.stdout, "# Totals"), [totals]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    // Of another test it may be, but not after its day.
    assert!(!ran.stderr.contains("gone::*"), "{}", ran.stderr);
    assert_eq!(lines_with(&ran.stderr, "held until 2001-01-31").len(), 1);

    fs::write(
        fixture.path().join("tree/kvm/c_fails"),
        "#!/bin/sh\nexit 3\n",
    )
    .unwrap();
    let ran = kselftest(&fixture, &["--", "--known", "k.toml"]);
    let failed = lines_with(&ran.stdout, " selftests: kvm: c_fails # exit=3");
    assert!(failed.len() == 1 && failed[0].starts_with("not ok "));
    assert_eq!(ran.code, Some(1));
}

#[test]
fn a_test_that_prints_the_lines_of_the_harness_is_not_taken_for_it() {
    let lies = "printf 'ok 1 selftests: kvm: other\\nnot ok 1 selftests: x: y\\n# selftests: kvm: z\\n1..9\\n'";
    let fixture = tree(&[("kvm:lies", lies)]);
    let ran = kselftest(&fixture, &[]);
    let results = ran.stdout.lines().filter(|line| !line.starts_with("# "));
    let results: Vec<_> = results.collect();
    assert_eq!(results[..2], ["TAP version 13", "1..1"]);
    assert_eq!(results.len(), 3, "{}", ran.stdout);
    assert!(
        results[2].starts_with("not ok 1 selftests: kvm: lies # "),
        "{}",
        results[2]
    );
}

/// How many lines of `text` grep finds with this pattern of Perl's.
fn count(text: &str, pattern: &str) -> usize {
    let mut grep = Command::new("grep");
    let grep = grep
        .args(["-cP", pattern])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut grep = grep.spawn().unwrap();
    grep.stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let found = grep.wait_with_output().unwrap().stdout;
    String::from_utf8(found).unwrap().trim().parse().unwrap()
}

#[test]
fn every_ci_finds_every_case_with_its_own_pattern() {
    let fixture = every_status();
    let arguments = [
        "-c",
        "kvm",
        "--",
        "--test-threads",
        "4",
        "--iterations",
        "2",
    ];
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$@\" 2>&1", "sh"]);
    let program = self::command(&fixture, &arguments);
    command.arg(program.get_program()).args(program.get_args());
    command.env_clear().envs(
        program
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    command.current_dir(program.get_current_dir().unwrap());
    // With what is said on the standard error in between, as most CIs have it.
    let text = Ran::of(command.output().unwrap()).stdout;
    for (whose, pattern, found) in [
        (
            "LISA",
            r"^(not ok|ok)\s+\d+\s+selftests:\s+\S+:\s+(\S+)",
            14,
        ),
        ("lkp", r"^(ok|not ok).*selftests: (.+)", 14),
        ("openQA", r"^(not )?ok \d+ selftests: \S+: \S+", 14),
        ("NIPA", r"^not ok \d+( \d+)? selftests: ", 6),
        (
            "iterations",
            r"^(not )?ok \d+ selftests: kvm: \S+::iteration_2( |$)",
            7,
        ),
        ("sub-tests", r"^# (not )?ok \d+ sub$", 2),
    ] {
        assert_eq!(count(&text, pattern), found, "{whose}: {text}");
    }
    let reader = "use TAP::Parser; local $/; my $p = TAP::Parser->new({tap => <STDIN>}); $p->run; \
                  print join ' ', scalar($p->parse_errors), $p->tests_run, scalar($p->failed), scalar($p->skipped);";
    let has_reader = Command::new("perl")
        .args(["-MTAP::Parser", "-e", "1"])
        .output();
    if has_reader.is_ok_and(|output| output.status.success()) {
        let mut perl = Command::new("perl");
        let perl = perl
            .args(["-e", reader])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut perl = perl.spawn().unwrap();
        perl.stdin
            .take()
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        assert_eq!(
            Ran::of(perl.wait_with_output().unwrap()).stdout,
            "0 14 6 2",
            "{text}"
        );
    }
}

#[test]
fn tests_are_chosen_listed_and_left_out_as_the_script_does_it() {
    let tests = ["kvm:a", "kvm:b", "mm:a", "mm:a.sh"].map(|name| (name, "exit 0"));
    let fixture = tree(&tests);
    for (arguments, expected) in [
        (&["-l"][..], &["kvm:a", "kvm:b", "mm:a", "mm:a.sh"][..]),
        (&["-d"], &["kvm:a", "kvm:b"]),
        (&["-d", "-c", "mm"], &["mm:a", "mm:a.sh"]),
        (
            &["-d", "-c", "kvm mm", "-S", "kvm:a"],
            &["kvm:b", "mm:a", "mm:a.sh"],
        ),
        (
            &["--dry-run", "--test", "mm:a", "-t", "kvm:b", "-t", "mm:a"],
            &["kvm:b", "mm:a"],
        ),
        (
            &["-d", "-c", "kvm", "-t", "mm:a", "--skip", "kvm:b"],
            &["kvm:a", "mm:a"],
        ),
    ] {
        let ran = kselftest(&fixture, arguments);
        assert_eq!(
            ran.stdout.lines().collect::<Vec<_>>(),
            expected,
            "{arguments:?}"
        );
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    }
    assert!(!has_run(&fixture));
    // Each of them is run, also where they would have the same name here.
    let ran = kselftest(
        &fixture,
        &["-c", "kvm", "-c", "mm", "--", "--output", "../run"],
    );
    assert_eq!(
        (
            ran.code,
            count(&ran.stdout, "^ok \\d selftests: (kvm: [ab]|mm: a(.sh)?)$")
        ),
        (Some(0), 4)
    );
    let names = [
        "a::default",
        "b::default",
        "mm_a::default",
        "mm_a_sh::default",
    ];
    assert_eq!(fixture.record().outcomes.len(), 4);
    for name in names {
        assert_eq!(fixture.outcome(name).status, Status::Passed, "{name}");
    }
    for file in [
        "run.json",
        "junit.xml",
        "results.ktap",
        "report.html",
        "journal",
    ] {
        assert!(fixture.results().join(file).exists(), "{file}");
    }
}

#[test]
fn what_is_not_there_is_told_with_what_is_near_and_nothing_runs() {
    let fixture = tree(&[("kvm:cpuid_test", ""), ("mm:a", "")]);
    for (arguments, told) in [
        (
            &["-c", "kwm"][..],
            "no such collection `kwm`; did you mean `kvm`?",
        ),
        (
            &["-t", "kvm:cpuid_tset"],
            "no such test `kvm:cpuid_tset`; did you mean `kvm:cpuid_test`?",
        ),
        (&["-S", "x"], "no such test `x`; --list shows all tests"),
        (
            &["-S", "kvm:cpuid_test"],
            "nothing is to be run; --list shows all tests",
        ),
        (&["-n"], "--netns is not supported"),
        (&["-o", "soon"], "invalid value 'soon'"),
        (&["-x"], "unexpected argument '-x' found"),
        (&["-s", "-p"], "cannot be used with"),
        (
            &["--tree", "kvm"],
            "kselftest-list.txt, the list of an installed tree: No such file",
        ),
        (&["--", "--config", "."], "cannot be used with"),
        (
            &["--", "--selftests", "."],
            "--tree says where the tests are",
        ),
        (
            &["-f", "--", "--resume", "x"],
            "goes on with its own -t, -c",
        ),
        (
            &["-t", "kvm:cpuid_test", "--", "--resume=x"],
            "leave them out",
        ),
    ] {
        let ran = kselftest(&fixture, arguments);
        assert!(ran.stderr.contains(told), "{arguments:?}: {}", ran.stderr);
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (Some(1), ""),
            "{arguments:?}"
        );
    }
    let fixture = fixture.file("tree/kvm/settings", "timeout=45\ntimeout=a while\n");
    let ran = kselftest(&fixture, &[]);
    let told = "kvm/settings:2:1: `a while` is no number of seconds";
    assert_eq!(
        (ran.code, lines_with(&ran.stderr, told).len()),
        (Some(1), 1),
        "{}",
        ran.stderr
    );
    assert!(!has_run(&fixture));
}

#[test]
fn the_lines_of_a_list_that_name_no_test_are_told_and_the_others_run() {
    let list = "make: Entering directory\n\nkvm:a\r\nkvm:\nkvm:../b\n/kvm:a\nkvm:a b\nkvm:a\nkvm:.a\nmm/../..:a\nkvm:caf\u{e9}\n";
    let fixture =
        tree(&[("kvm:a", ""), ("kvm:caf\u{e9}", "")]).file("tree/kselftest-list.txt", list);
    let ran = kselftest(&fixture, &[]);
    assert_eq!(
        (ran.code, count(&ran.stdout, "^ok ")),
        (Some(0), 2),
        "{}",
        ran.stdout
    );
    for line in [1, 4, 5, 6, 7, 9, 10] {
        let told = lines_with(&ran.stderr, &format!("kselftest-list.txt:{line}:1: "));
        let is_told = told.len() == 1
            && told[0].starts_with("# ")
            && told[0].ends_with("is no COLLECTION:TEST; it is left out");
        assert!(is_told, "{}", ran.stderr);
    }
    assert_eq!(
        lines_with(&ran.stderr, "left out").len(),
        7,
        "{}",
        ran.stderr
    );
}

#[test]
fn failures_may_be_forgiven_and_outputs_kept_elsewhere() {
    let fixture = tree(&[
        ("kvm:fails", "echo told; exit 1"),
        ("kvm:passes", "echo fine"),
    ]);
    let short = "TAP version 13\n1..2\n# selftests: kvm: fails\n# FAILED: exit code 1; last output: told\nnot ok 1 selftests: kvm: fails # exit=1\n\
                 # selftests: kvm: passes\nok 2 selftests: kvm: passes\n\
                 # Totals: pass:1 fail:1 xfail:0 xpass:0 skip:0 error:0\n";
    let ran = kselftest(&fixture, &["-f", "-s", "-o", "9"]);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(0), short),
        "{}",
        ran.stderr
    );
    let read = |path: &str| fs::read_to_string(fixture.path().join(path)).unwrap();
    assert_eq!(
        read("tree/output.log"),
        "# timeout set to 9\n# told\n# timeout set to 9\n# fine\n"
    );

    // What took longer just now starts first.
    let ran = kselftest(&fixture, &["-p", "../logs/new", "-o", "0"]);
    let totals = short.lines().last().unwrap();
    assert_eq!(
        (ran.code, ran.stdout.lines().last()),
        (Some(1), Some(totals)),
        "{}",
        ran.stderr
    );
    assert_eq!(read("logs/new/fails"), "# timeout set to 0\n# told\n");
    assert_eq!(read("logs/new/passes"), "# timeout set to 0\n# fine\n");
}

#[test]
fn an_installed_tree_calls_this_program_until_it_is_uninstalled() {
    let fixture = tree(&[("kvm:passes", "echo fine")]);
    let root = fixture.path().join("tree");
    let read = |name: &str| fs::read_to_string(root.join(name)).unwrap();
    let script = || {
        let mut script = Command::new(root.join("run_kselftest.sh"));
        Ran::of(
            script
                .args(["-t", "kvm:passes"])
                .current_dir("/tmp")
                .output()
                .unwrap(),
        )
    };
    let change = |option: &str| {
        Ran::of(
            fixture
                .program(&["kselftest", option, "tree"])
                .output()
                .unwrap(),
        )
    };
    for told in ["now\n", "already\n"] {
        let ran = change("--install");
        assert!(
            ran.code == Some(0) && ran.stdout.ends_with(told),
            "{}{}",
            ran.stdout,
            ran.stderr
        );
        assert_eq!(
            read("run_kselftest.sh.orig"),
            "#!/bin/sh\necho the kernel\n"
        );
    }
    let help = Command::new(root.join("run_kselftest.sh"))
        .arg("-h")
        .output()
        .unwrap();
    assert!(
        help.status.success()
            && String::from_utf8_lossy(&help.stdout).contains("--override-timeout")
    );
    let listed = Command::new(root.join("run_kselftest.sh"))
        .arg("-l")
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&listed.stdout), "kvm:passes\n");

    let program = fixture.path().join("bin/kvm-tests");
    fs::rename(&program, fixture.path().join("moved")).unwrap();
    let ran = script();
    let gone = format!("{} is gone", program.display());
    assert!(
        ran.code == Some(1) && ran.stderr.contains(&gone),
        "{}",
        ran.stderr
    );
    fs::rename(fixture.path().join("moved"), &program).unwrap();

    for told in ["again\n", "already\n"] {
        let ran = change("--uninstall");
        assert!(
            ran.code == Some(0) && ran.stdout.ends_with(told),
            "{}{}",
            ran.stdout,
            ran.stderr
        );
        assert_eq!(script().stdout, "the kernel\n");
        assert!(!root.join("run_kselftest.sh.orig").exists());
    }
    let ran = Ran::of(
        fixture
            .program(&["kselftest", "--install", "bin"])
            .output()
            .unwrap(),
    );
    assert!(
        ran.code == Some(1) && ran.stderr.contains("is this an installed tree?"),
        "{}",
        ran.stderr
    );
}

/// The results of a stream of TAP, which are numbered from 1 to the end of its plan.
fn results(stream: &str) -> Vec<&str> {
    let mut lines = stream.lines().filter(|line| !line.starts_with("# "));
    assert_eq!(lines.next(), Some("TAP version 13"));
    let plan = lines.next().unwrap().to_owned();
    let results: Vec<_> = lines.collect();
    assert_eq!(plan, format!("1..{}", results.len()));
    for (number, line) in (1..).zip(&results) {
        let line = line.strip_prefix("not ").unwrap_or(line);
        assert!(
            line.starts_with(&format!("ok {number} selftests: kvm: ")),
            "{line}"
        );
    }
    results
}

#[test]
fn a_case_is_told_before_the_next_one_starts_and_an_interrupted_run_leaves_tap_and_can_be_resumed()
{
    let hangs = "[ -e ../../go ] || sleep 1000";
    let fixture = tree(&[
        ("kvm:a_first", "echo one"),
        ("kvm:b_hangs", hangs),
        ("kvm:c_last", "exit 7"),
    ]);
    let mut command = command(&fixture, &["--", "--output", "../run"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut stream = String::new();
    while !stream.ends_with("# selftests: kvm: b_hangs\n") {
        assert_ne!(stdout.read_line(&mut stream).unwrap(), 0, "{stream}");
    }
    assert_eq!(
        lines_with(&stream, "ok 1 selftests: kvm: a_first"),
        ["ok 1 selftests: kvm: a_first"]
    );
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    stdout.read_to_string(&mut stream).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(
        results(&stream)[1..],
        [
            "not ok 2 selftests: kvm: b_hangs # ERROR interrupted",
            "not ok 3 selftests: kvm: c_last # ERROR interrupted before it started",
        ]
    );

    fs::write(fixture.path().join("go"), "").unwrap();
    let ran = Ran::of(
        self::command(&fixture, &["--", "--resume", "../run"])
            .output()
            .unwrap(),
    );
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let mut again = results(&ran.stdout);
    again.sort_unstable();
    assert_eq!(again.len(), 2, "{}", ran.stdout);
    assert!(
        ran.stdout.contains("selftests: kvm: b_hangs\n") && ran.stdout.contains("c_last # exit=7")
    );
    assert_eq!(fixture.outcome("b_hangs::default").status, Status::Passed);
}

#[test]
fn what_a_killed_run_has_printed_is_tap_but_for_its_end() {
    let fixture = tree(&[
        ("kvm:a_first", "echo one"),
        ("kvm:b_hangs", "echo $$ > ../../pid; sleep 1000"),
    ]);
    let mut child = command(&fixture, &[])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid = fixture.path().join("pid");
    wait_until(|| fs::read_to_string(&pid).is_ok_and(|text| text.ends_with('\n')));
    // It is told when it has started.
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut stream = String::new();
    while !stream.ends_with("kvm: b_hangs\n") {
        assert!(out.read_line(&mut stream).unwrap() > 0, "{stream}");
    }
    child.kill().unwrap();
    out.read_to_string(&mut stream).unwrap();
    child.wait().unwrap();
    let expected = "TAP version 13\n1..2\n# timeout set to 120\n# selftests: kvm: a_first\n# one\nok 1 selftests: kvm: a_first\n\
                    # timeout set to 120\n# selftests: kvm: b_hangs\n";
    assert_eq!(stream, expected);
    let gone = fs::read_to_string(&pid).unwrap();
    wait_until(|| !Path::new("/proc").join(gone.trim()).exists());
}
