//! Whatever a selftest prints: no panic, bounded time and memory, nothing that drives a terminal, and no false green.

use std::io::{self, Read};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use harness::evidence::{self, Evidence};
use harness::exec::verdict::{Verdict, derive};
use harness::model::case::Command;
use harness::model::outcome::{Exit, Status, SubtestResult};
use proptest::collection::vec;
use proptest::prelude::*;

/// Outputs of upstream's selftests (Linux 6.12), with their exit codes and what they must add up to.
const RECORDED: &[(&str, i32, Status, &str)] = &[
    (
        "amx_test",
        4,
        Status::Skipped,
        "Required XSAVE feature 'XFEATURE_MASK_XTILE_DATA' not supported",
    ),
    (
        "apic_bus_clock_test_Z",
        4,
        Status::Failed,
        "printed its usage and exited with 4: ./apic_bus_clock_test: invalid option -- 'Z'",
    ),
    (
        "cpuid_test",
        254,
        Status::Failed,
        "x86_64/cpuid_test.c:94: e1->eax == e2->eax && e1->ebx == e2->ebx && e1->ecx == e2->ecx && e1->edx == e2->edx\n\
         CPUID 0x1.0 differ: 0xa00f11:0x1020800:0x81202000:0x78bfbff vs 0xa00f11:0x1020800:0xf7f83203:0x178bfbff",
    ),
    (
        "dirty_log_perf_test_Z",
        0,
        Status::Failed,
        "printed its usage and exited with 0: ./dirty_log_perf_test: invalid option -- 'Z'",
    ),
    (
        "nx_huge_pages_test",
        1,
        Status::Failed,
        "exit code 1; last output: tee: /sys/module/kvm/parameters/nx_huge_pages_recovery_period_ms: Permission denied",
    ),
    (
        "smm_test_denied",
        4,
        Status::Failed,
        "lib/kvm_util.c:34: fd >= 0\nFailed to open '/dev/kvm'\nerrno 13: Permission denied\n\
         exit code 4 (skip) is what TEST_ASSERT makes of errno EACCES, but it is a failed assertion",
    ),
    (
        "tsc_msrs_test",
        254,
        Status::Failed,
        "x86_64/tsc_msrs_test.c:106: rounded_host_rdmsr(MSR_IA32_TSC) == val\n\
         0x28a00000000 != 0 (rounded_host_rdmsr(MSR_IA32_TSC) != val)\nplanned 5 sub-tests, reported 0",
    ),
    (
        "ucna_injection_test",
        4,
        Status::Skipped,
        "MCG_CMCI_P is not supported, skipping test",
    ),
    ("userspace_msr_exit_test", 0, Status::Passed, ""),
    (
        "xapic_ipi_test_Z",
        254,
        Status::Failed,
        "x86_64/xapic_ipi_test.c:377: Usage: -s <runtime seconds>. Default is 3 seconds.\n\
         -m adds calls to migrate_pages while vCPUs are running. Default is no migrations.\n\
         -d <delay microseconds> - delay between migrate_pages() calls. Default is 500000 microseconds.\n\
         printed its usage and exited with 254: ./xapic_ipi_test: invalid option -- 'Z'",
    ),
];

/// A recorded output; a file that is not there was empty.
fn recorded(name: &str, stream: &str) -> Vec<u8> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/outputs");
    match std::fs::read(directory.join(format!("{name}.{stream}"))) {
        Ok(bytes) => bytes,
        Err(error) => {
            assert_eq!(error.kind(), io::ErrorKind::NotFound, "{name}.{stream}");
            Vec::new()
        }
    }
}

fn program() -> Command {
    Command::Program {
        path: std::path::Path::new("/x").into(),
        args: Vec::new(),
    }
}

fn judge(exit: Exit, stdout: impl Read, stderr: impl Read) -> (Evidence, Verdict) {
    let evidence = evidence::read(stdout, stderr).expect("read the output");
    let verdict = derive(exit, &evidence, &program());
    (evidence, verdict)
}

#[test]
fn recorded_outputs_give_the_verdict_that_a_developer_would() {
    for &(name, code, status, reason) in RECORDED {
        let (stdout, stderr) = (recorded(name, "stdout"), recorded(name, "stderr"));
        assert!(
            !(stdout.is_empty() && stderr.is_empty()),
            "{name} is recorded"
        );
        let (_, verdict) = judge(Exit::Code(code), &stdout[..], &stderr[..]);
        assert_eq!(
            (verdict.status, verdict.reason.unwrap_or_default().as_str()),
            (status, reason),
            "{name}"
        );
    }
}

/// What must hold for every output.
fn check(exit: Exit, stdout: &[u8], stderr: &[u8]) {
    let (evidence, verdict) = judge(exit, stdout, stderr);
    let ktap = &evidence.ktap;
    assert!(ktap.subtests.len() <= 20_000);
    assert!(ktap.subtests.len() as u64 <= ktap.counts.total());
    let texts = ktap
        .subtests
        .iter()
        .flat_map(|subtest| [Some(&subtest.name), subtest.reason.as_ref()])
        .chain([&ktap.bail_out, &ktap.skip, &ktap.running].map(Option::as_ref))
        .chain(
            [
                &evidence.usage,
                &evidence.last_stdout,
                &evidence.last_stderr,
            ]
            .map(Option::as_ref),
        )
        .chain(evidence.diagnostics.iter().map(Some))
        .flatten();
    for text in texts {
        assert!(text.len() <= 2000, "{} bytes of text", text.len());
        assert!(!text.contains('\n') && is_harmless(text), "{text:?}");
    }
    if let Some(assertion) = &evidence.assertion {
        let text = [&assertion.file, &assertion.expression, &assertion.message]
            .map(String::as_str)
            .concat();
        assert!(text.len() <= 20_000 && is_harmless(&text), "{text:?}");
    }
    match (verdict.status, exit) {
        (Status::Passed, Exit::Code(0)) => assert_eq!(verdict.reason, None),
        (Status::Skipped, Exit::Code(0 | 4))
        | (Status::Failed, Exit::Code(_) | Exit::Signal { .. })
        | (Status::TimedOut, Exit::Timeout)
        | (Status::NoRun, Exit::Interrupted) => {
            let reason = verdict.reason.expect("what is no pass has a reason");
            assert!(reason.len() <= 60_000 && is_harmless(&reason), "{reason:?}");
            assert!(
                !reason.lines().next().unwrap_or_default().trim().is_empty(),
                "{reason:?}"
            );
        }
        (status, exit) => panic!("{status:?} for {exit:?}"),
    }
    // However the file is read, what is found is the same.
    assert_eq!(judge(exit, Drip(stdout), Drip(stderr)).0, evidence);
}

fn is_harmless(text: &str) -> bool {
    text.chars()
        .all(|c| matches!(c, '\n' | '\t') || !(c.is_control() || c == '\u{202e}'))
}

/// A file that gives a few bytes at a time.
struct Drip<'a>(&'a [u8]);

impl Read for Drip<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.0.len().min(buffer.len()).min(13);
        let (now, later) = self.0.split_at(length);
        buffer[..length].copy_from_slice(now);
        self.0 = later;
        Ok(length)
    }
}

fn exits() -> impl Strategy<Value = Exit> {
    prop_oneof![
        3 => Just(Exit::Code(0)),
        3 => Just(Exit::Code(4)),
        2 => any::<i32>().prop_map(Exit::Code),
        1 => any::<(i32, bool)>().prop_map(|(signal, core_dumped)| Exit::Signal { signal, core_dumped }),
        1 => Just(Exit::Timeout),
        1 => Just(Exit::Interrupted),
    ]
}

/// Pieces of what the parsers know, and of what they do not.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    const KNOWN: &[&str] = &[
        "\n",
        "\n",
        "\n",
        "\r\n",
        "\n  ",
        "\n    ",
        "\n        ",
        " ",
        "\t",
        "ok",
        "ok 1",
        "ok 2 a",
        "not ok 3 b",
        "not ok",
        " - ",
        "#",
        " # ",
        "# SKIP",
        "# TODO",
        "# XFAIL ",
        "# XPASS",
        "# error",
        "1..",
        "1..0",
        "1..0 # SKIP why",
        "1..5",
        "1..18446744073709551615",
        "TAP version 13",
        "KTAP version 1",
        "# Subtest: s",
        "#  RUN           a.b ...",
        "#            OK  a.b",
        "# Totals: pass:1",
        "Bail out!",
        "==== Test Assertion Failure ====\n",
        "  a_test.c:12: x == y\n",
        "  pid=1 tid=2 errno=13 - Permission denied\n",
        "     1\t0x1: main\n",
        "  (stack trace empty)\n",
        ":",
        "4294967296",
        "# a.c:1:n:m",
        ": Test terminated ",
        "usage: x",
        "x: invalid option -- 'Z'",
        "x: option '--f' requires an argument",
        "Random seed: 0x1\n",
        "\x1b[",
        "\x1b]0;",
        "\x1b\\",
        "\x1b",
        "\x07",
        "\0",
        "\u{202e}",
        "é",
    ];
    let piece = prop_oneof![
        8 => prop::sample::select(KNOWN).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..40),
    ];
    vec(piece, 0..80).prop_map(|pieces| pieces.concat())
}

/// Lines that say nothing about success or failure.
fn noise() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "",
        "Random seed: 0x6b8b4567\n",
        "vCPU 3 is running\n",
        "# a diagnostic\n",
        "TAP version 13\n",
        "ok 4 fine\n",
        "ok 5 absent # SKIP why\n",
        "1..0 # SKIP why\n",
        "#  RUN           a.b ...\n",
        "  indented\n",
        "\x1b[31m\0\n",
        "KTAP version 1\n  1..1\n  ok 1 child\n",
    ])
}

/// One change to bytes: what is between two places goes, comes twice, or is overwritten.
type Change = (prop::sample::Index, prop::sample::Index, u8, Vec<u8>);

fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for (one, other, kind, new) in changes {
        let (one, other) = (one.index(bytes.len() + 1), other.index(bytes.len() + 1));
        let range = one.min(other)..one.max(other);
        let old = bytes[range.clone()].to_vec();
        let replacement = match kind % 3 {
            0 => Vec::new(),
            1 => [&old[..], &new[..], &old[..]].concat(),
            _ => new.clone(),
        };
        bytes.splice(range, replacement);
    }
    bytes
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    vec(
        (
            any::<prop::sample::Index>(),
            any::<prop::sample::Index>(),
            any::<u8>(),
            vec(any::<u8>(), 0..8),
        ),
        0..5,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_can_be_read(exit in exits(), stdout in vec(any::<u8>(), 0..5000), stderr in vec(any::<u8>(), 0..500)) {
        check(exit, &stdout, &stderr);
    }

    #[test]
    fn any_mixture_of_what_is_known_can_be_read(exit in exits(), stdout in pieces(), stderr in pieces()) {
        check(exit, &stdout, &stderr);
    }

    #[test]
    fn changed_recordings_can_be_read(
        exit in exits(),
        (name, ..) in prop::sample::select(RECORDED),
        out in changes(),
        err in changes(),
    ) {
        check(exit, &changed(recorded(name, "stdout"), &out), &changed(recorded(name, "stderr"), &err));
    }

    #[test]
    fn a_sign_of_failure_is_found_wherever_it_stands(
        before in vec(noise(), 0..10),
        after in vec(noise(), 0..10),
        code in prop::sample::select(vec![0, 4]),
        (in_stdout, sign) in prop::sample::select(vec![
            (true, "not ok 7 b\n"),
            (true, "ok 7 b # XPASS surprise\n"),
            (true, "Bail out! no memory\n"),
            (true, "usage: ./x [-h]\n"),
            (false, "./x: invalid option -- 'Z'\n"),
            (false, "==== Test Assertion Failure ====\n  a.c:1: x\n"),
            (true, "==== Test Assertion Failure ====\n  a.c:1: x\n"),
        ]),
    ) {
        let around = |sign: &str| format!("{}{sign}{}", before.concat(), after.concat());
        let (stdout, stderr) = if in_stdout { (around(sign), String::new()) } else { (String::new(), around(sign)) };
        let (_, verdict) = judge(Exit::Code(code), stdout.as_bytes(), stderr.as_bytes());
        prop_assert_eq!(verdict.status, Status::Failed, "{}", stdout);
    }

    #[test]
    fn sub_tests_are_read_back_as_they_were_printed(
        written in vec(("[a-z][a-z._0-9]{0,20}", 0_usize..4, prop::option::of("[a-z]{1,9}")), 1..50),
    ) {
        const FORMS: [(SubtestResult, &str, &str); 4] = [
            (SubtestResult::Ok, "ok", ""),
            (SubtestResult::NotOk, "not ok", ""),
            (SubtestResult::Skip, "ok", "SKIP "),
            (SubtestResult::Todo, "not ok", "TODO "),
        ];
        let mut text = format!("TAP version 13\n1..{}\n", written.len());
        for (index, (name, form, reason)) in written.iter().enumerate() {
            let (_, word, directive) = FORMS[*form];
            let reason = reason.as_deref().unwrap_or("-x");
            text += &format!("noise\n{word} {} {name} # {directive}{reason}\n", index + 1);
        }
        let (evidence, _) = judge(Exit::Code(0), text.as_bytes(), io::empty());
        let read: Vec<_> = evidence.ktap.subtests.iter().map(|s| (s.name.as_str(), s.result, s.reason.as_deref())).collect();
        let expected: Vec<_> = written
            .iter()
            .map(|(name, form, reason)| (name.as_str(), FORMS[*form].0, Some(reason.as_deref().unwrap_or("-x"))))
            .collect();
        prop_assert_eq!(read, expected);
        prop_assert_eq!(evidence.ktap.shortfall, None);
        prop_assert_eq!(evidence.ktap.counts.total(), written.len() as u64);
    }
}

#[test]
fn large_and_hostile_outputs_take_a_bounded_time() {
    // Some seconds without optimisation; anything quadratic would take hours.
    const LIMIT: Duration = Duration::from_secs(120);
    const SIZE: u64 = 2 << 20;
    let nested: String = (0..1000)
        .map(|level| format!("{}ok 1 a\n", " ".repeat(level)))
        .collect();
    let zigzag = "  1..1\n    ok 1 a\n      ok 2 b\n  ok 3 c\n ok 4 d\n".repeat(100);
    for pattern in [
        "x",
        "\n",
        " ",
        "#",
        "# ",
        " #",
        ":",
        "1",
        "\0",
        "\x1b",
        "\x1b[",
        "\x1b]",
        "é",
        "ok 1 a/b\n",
        "not ok 1 # x # y #\n",
        "ok 1 # SKIP a\n",
        "1..9\n",
        "KTAP version 1\n",
        "# a:1:\n",
        "==== Test Assertion Failure ====\n",
        "  x:1\n",
        "x: invalid option",
        " option",
        &nested,
        &zigzag,
    ] {
        for head in [
            "",
            "KTAP version 1\n==== Test Assertion Failure ====\n  a.c:1: x\n  pid\n  ",
        ] {
            let started = Instant::now();
            let mut output = pattern.as_bytes().repeat(1 + 100_000 / pattern.len());
            output.truncate(1 << 17);
            let stream = || {
                head.as_bytes().chain(
                    Endless {
                        bytes: &output,
                        at: 0,
                    }
                    .take(SIZE),
                )
            };
            let (evidence, _) = judge(Exit::Code(0), stream(), stream());
            assert!(evidence.ktap.subtests.len() <= 20_000 && evidence.diagnostics.len() <= 20);
            assert!(
                started.elapsed() < LIMIT,
                "{pattern:?}: {:?}",
                started.elapsed()
            );
        }
    }
}

/// The same bytes again and again.
struct Endless<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Read for Endless<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(self.bytes.len() - self.at);
        buffer[..length].copy_from_slice(&self.bytes[self.at..self.at + length]);
        self.at = (self.at + length) % self.bytes.len();
        Ok(length)
    }
}
