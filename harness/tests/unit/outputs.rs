//! Whatever a selftest prints, in whatever pieces: no panic, bounded time and memory, nothing that drives a terminal, and no
//! false green.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;

use super::tests::{program, with_evidence};
use super::{Verdict, judge};
use crate::evidence::OutputReader;
use crate::model::facts::{Evidence, Facts};
use crate::model::outcome::{Exit, Status, Step, SubtestResult};

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
        "x86_64/cpuid_test.c:94: CPUID 0x1.0 differ: 0xa00f11:0x1020800:0x81202000:0x78bfbff vs 0xa00f11:0x1020800:0xf7f83203:0x178bfbff\n\
         asserted e1->eax == e2->eax && e1->ebx == e2->ebx && e1->ecx == e2->ecx && e1->edx == e2->edx",
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
        "smm_test.c:138: Failed to open '/dev/kvm'\nasserted fd >= 0 at lib/kvm_util.c:34\n\
         errno 13: Permission denied\n\
         exit code 4 (skip) is what TEST_ASSERT makes of errno EACCES, but it is a failed assertion",
    ),
    (
        "tsc_msrs_test",
        254,
        Status::Failed,
        "x86_64/tsc_msrs_test.c:106: 0x28a00000000 != 0 (rounded_host_rdmsr(MSR_IA32_TSC) != val)\n\
         asserted rounded_host_rdmsr(MSR_IA32_TSC) == val\nplanned 5 sub-tests, reported 0",
    ),
    (
        "ucna_injection_test",
        4,
        Status::Skipped,
        "MCG_CMCI_P is not supported, skipping test",
    ),
    ("userspace_msr_exit_test", 0, Status::Passed, ""),
    (
        "userspace_msr_exit_test_no_kvm",
        0,
        Status::Skipped,
        "Cannot open /dev/kvm: No such file or directory",
    ),
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
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/unit/outputs");
    std::fs::read(format!("{directory}/{name}.{stream}")).unwrap_or_default()
}

/// What is found in an output that comes in pieces of these sizes, in turn.
fn read(program: &str, mut streams: [&[u8]; 2], sizes: &[usize]) -> Evidence {
    let mut reader = OutputReader::new(program.as_ref());
    for (number, &size) in sizes.iter().cycle().enumerate() {
        let stream = &mut streams[number % 2];
        let (now, later) = stream.split_at(size.min(stream.len()));
        match number % 2 {
            0 => reader.stdout(now),
            _ => reader.stderr(now),
        }
        *stream = later;
        if streams.iter().all(|stream| stream.is_empty()) {
            break;
        }
    }
    reader.finish()
}

fn judged(exit: Exit, evidence: Evidence) -> Verdict {
    let selftest = Ok(with_evidence(exit, evidence));
    let facts = Facts {
        steps: vec![(Step::Selftest, selftest)],
        ..Facts::default()
    };
    judge(&facts, &program())
}

/// The verdict on an output that comes at once.
fn verdict(code: i32, stdout: &[u8], stderr: &[u8]) -> Verdict {
    judged(Exit::Code(code), read("x", [stdout, stderr], &[usize::MAX]))
}

#[test]
fn recorded_outputs_give_the_verdict_that_a_developer_would() {
    for &(name, code, status, reason) in RECORDED {
        let streams = ["stdout", "stderr"].map(|stream| recorded(name, stream));
        assert!(!streams.concat().is_empty(), "{name} is recorded");
        let program = &name[..name.find("_test").unwrap_or(0) + "_test".len()];
        let evidence = read(program, [&streams[0], &streams[1]], &[usize::MAX]);
        let found = judged(Exit::Code(code), evidence);
        let found = (found.status, found.reason.unwrap_or_default());
        assert_eq!(found, (status, reason.to_owned()), "{name}");
    }
}

/// What must hold for every output.
fn check(exit: Exit, stdout: &[u8], stderr: &[u8], sizes: &[usize]) {
    let evidence = read("x", [stdout, stderr], &[usize::MAX]);
    // However it is written, what is found is the same.
    assert_eq!(read("x", [stdout, stderr], sizes), evidence, "{sizes:?}");
    let ktap = &evidence.ktap;
    let count: u64 = ktap.counts.iter().sum();
    assert!(ktap.subtests.len() as u64 <= count.min(60_000));
    let subtests = ktap.subtests.iter();
    let texts = subtests.flat_map(|subtest| [Some(&subtest.name), subtest.reason.as_ref()]);
    let of_ktap = [&ktap.bail_out, &ktap.skip, &ktap.running, &ktap.mismatch];
    let lasts = [
        &evidence.usage,
        &evidence.last_stdout,
        &evidence.last_stderr,
    ];
    let texts = texts.chain(
        [of_ktap.as_slice(), &lasts]
            .concat()
            .into_iter()
            .map(Option::as_ref),
    );
    for text in texts.flatten().chain(&evidence.diagnostics) {
        assert!(text.len() <= 2000, "{} bytes of text", text.len());
        assert!(!text.contains('\n') && is_harmless(text), "{text:?}");
    }
    if let Some(found) = &evidence.assertion {
        let text = [&*found.file, &found.expression, &found.message].concat();
        assert!(text.len() <= 20_000 && is_harmless(&text), "{text:?}");
    }
    let Verdict { status, reason, .. } = judged(exit, evidence);
    match (status, exit) {
        (Status::Passed, Exit::Code(0)) => assert_eq!(reason, None),
        (Status::Skipped, Exit::Code(0 | 4))
        | (Status::Failed, Exit::Code(_) | Exit::Signal { .. })
        | (Status::TimedOut, Exit::Timeout)
        | (Status::NoRun, Exit::Interrupted) => {
            let reason = reason.expect("what is no pass has a reason");
            assert!(reason.len() <= 60_000 && is_harmless(&reason), "{reason:?}");
            let first = reason.lines().next().unwrap_or_default();
            assert!(!first.trim().is_empty(), "{reason:?}");
        }
        (status, exit) => panic!("{status:?} for {exit:?}"),
    }
}

fn is_harmless(text: &str) -> bool {
    let mut characters = text.chars();
    characters.all(|c| matches!(c, '\n' | '\t') || !(c.is_control() || c == '\u{202e}'))
}

fn exits() -> impl Strategy<Value = Exit> {
    let signal = any::<(i32, bool)>().prop_map(|(signal, core_dumped)| Exit::Signal {
        signal,
        core_dumped,
    });
    prop_oneof![
        3 => Just(Exit::Code(0)),
        3 => Just(Exit::Code(4)),
        2 => any::<i32>().prop_map(Exit::Code),
        1 => signal,
        1 => Just(Exit::Timeout),
        1 => Just(Exit::Interrupted),
    ]
}

/// Into what an output is split.
fn sizes() -> impl Strategy<Value = Vec<usize>> {
    vec(
        prop_oneof![1_usize..40, 1_usize..6000, 60_000_usize..70_000],
        1..8,
    )
}

/// Pieces of what the reader knows, and of what it does not.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    const KNOWN: &[&str] = &[
        "\n",
        "\n",
        "\n",
        "\r\n",
        "\r",
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
        "ok 1 # SKIP why\n",
        "ok 1 name # SKIP unknown\n",
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
        "# Totals: fail:18446744073709551615 error:1",
        "# Planned tests != run tests (2 != 1)",
        "# FAILED: 0 / 1 tests passed.",
        "Bail out!",
        "==== Test Assertion Failure ====\n",
        "==== Test Assertion",
        " Failure ====",
        "  a_test.c:12: x == y\n",
        "  lib/kvm_util.c:34: fd >= 0\n",
        "  pid=1 tid=2 errno=13 - Permission denied\n",
        "     1\t0x1: main at x.c:7\n",
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
        "\x1b[31m",
        "\x1b]0;",
        "\x1b\\",
        "\x1b",
        "\x07",
        "\0",
        "\u{202e}",
        "é",
    ];
    let flood = (
        0_u8..255,
        prop_oneof![4000_usize..4200, 60_000_usize..70_000],
    );
    let piece = prop_oneof![
        40 => prop::sample::select(KNOWN).prop_map(|piece| piece.as_bytes().to_vec()),
        5 => vec(any::<u8>(), 0..40),
        1 => flood.prop_map(|(byte, length)| vec![byte; length]),
    ];
    vec(piece, 0..80).prop_map(|pieces| pieces.concat())
}

/// Lines that say nothing about success or failure.
fn noise() -> impl Strategy<Value = String> {
    let lines = vec![
        "",
        "Random seed: 0x6b8b4567\n",
        "vCPU 3 is running\n",
        "# a diagnostic\n",
        "Usage: 45 MB\n",
        "ok 4 fine\n",
        "ok 5 absent # SKIP why\n",
        "1..0 # SKIP why\n",
        "#  RUN           a.b ...\n",
        "  indented\n",
        "\x1b[31m\0\n",
        "KTAP version 1\n  1..1\n  ok 1 child\n",
    ];
    let flood = (4000_usize..140_000).prop_map(|length| "x".repeat(length));
    prop_oneof![
        20 => prop::sample::select(lines).prop_map(str::to_owned),
        1 => flood.clone().prop_map(|flood| flood + "\n"),
        1 => flood.prop_map(|flood| flood + "\r"),
    ]
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
    let place = any::<prop::sample::Index>;
    vec(
        (place(), place(), any::<u8>(), vec(any::<u8>(), 0..8)),
        0..5,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_can_be_read(
        exit in exits(),
        stdout in vec(any::<u8>(), 0..5000),
        stderr in vec(any::<u8>(), 0..500),
        sizes in sizes(),
    ) {
        check(exit, &stdout, &stderr, &sizes);
    }

    #[test]
    fn any_mixture_of_what_is_known_can_be_read(
        exit in exits(),
        stdout in pieces(),
        stderr in pieces(),
        sizes in sizes(),
    ) {
        check(exit, &stdout, &stderr, &sizes);
    }

    #[test]
    fn changed_recordings_can_be_read(
        exit in exits(),
        (name, ..) in prop::sample::select(RECORDED),
        out in changes(),
        err in changes(),
        sizes in sizes(),
    ) {
        let stdout = changed(recorded(name, "stdout"), &out);
        check(exit, &stdout, &changed(recorded(name, "stderr"), &err), &sizes);
    }

    #[test]
    fn a_sign_of_failure_is_found_wherever_it_stands(
        before in vec(noise(), 0..10),
        after in vec(noise(), 0..10),
        code in prop::sample::select(vec![0, 4]),
        in_stdout in any::<bool>(),
        sizes in sizes(),
        sign in prop::sample::select(vec![
            "not ok 7 b\n",
            "not ok\n",
            "not ok words\n",
            "\x1b[1;31mnot ok 7\n",
            "10%\rnot ok 7\n",
            "\0not ok\t7\n",
            "ok 7 b # XPASS surprise\n",
            "ok 7 b # TODO surprise\n",
            "# Totals: pass:0 fail:3 xfail:0 xpass:0 skip:0 error:1\n",
            "# FAILED: 0 / 1 tests passed.\n",
            "Bail out! no memory\n",
            "usage: ./x [-h]\n",
            "./x: invalid option -- 'Z'\n",
            "==== Test Assertion Failure ====\n  a.c:1: x\n",
            "xyz ==== Test Assertion Failure ====\x1b[0m\n  a.c:1: x\n",
        ]),
    ) {
        let text = format!("{}{sign}{}", before.concat(), after.concat());
        let streams = if in_stdout { [text.as_bytes(), b""] } else { [&b""[..], text.as_bytes()] };
        let verdict = judged(Exit::Code(code), read("x", streams, &sizes));
        prop_assert_eq!(verdict.status, Status::Failed);
    }

    #[test]
    fn an_output_that_lost_a_result_or_has_it_twice_is_no_pass(
        count in 2_usize..30,
        lost in any::<prop::sample::Index>(),
        is_twice in any::<bool>(),
        is_plan_last in any::<bool>(),
    ) {
        let plan = format!("1..{count}\n");
        let mut lines: Vec<_> = (1..=count).map(|number| format!("ok {number} a\n")).collect();
        let text = |lines: &[String]| match is_plan_last {
            true => format!("{}{plan}", lines.concat()),
            false => format!("{plan}{}", lines.concat()),
        };
        prop_assert_eq!(verdict(0, text(&lines).as_bytes(), b"").status, Status::Passed);
        let line = lines.remove(lost.index(count));
        let twice = vec![line; if is_twice { 2 } else { 0 }];
        lines.splice(0..0, twice);
        prop_assert_eq!(verdict(0, text(&lines).as_bytes(), b"").status, Status::Failed);
    }

    #[test]
    fn sub_tests_are_read_back_as_they_were_printed(
        written in vec(("[a-z][a-z._0-9]{0,20}", 0_usize..5, prop::option::of("r[a-z]{0,8}")), 1..50),
    ) {
        const FORMS: [(SubtestResult, &str, &str); 5] = [
            (SubtestResult::Ok, "ok", ""),
            (SubtestResult::NotOk, "not ok", ""),
            (SubtestResult::Skip, "ok", "SKIP "),
            (SubtestResult::Todo, "not ok", "TODO "),
            (SubtestResult::Xpass, "ok", "XPASS "),
        ];
        let mut text = format!("TAP version 13\n1..{}\n", written.len());
        let mut expected = Vec::new();
        for (index, (name, form, reason)) in written.iter().enumerate() {
            let (result, word, directive) = FORMS[*form];
            let reason = reason.as_deref().unwrap_or("-x");
            text += &format!("noise\n{word} {} {name} # {directive}{reason}\n", index + 1);
            expected.push((name.as_str(), result, Some(reason)));
        }
        let ktap = read("x", [text.as_bytes(), b""], &[usize::MAX]).ktap;
        let subtests = ktap.subtests.iter();
        let found: Vec<_> = subtests.map(|s| (s.name.as_str(), s.result, s.reason.as_deref())).collect();
        prop_assert_eq!(found, expected);
        prop_assert_eq!(ktap.mismatch, None);
    }
}

/// What Perl's TAP::Parser says of each of the outputs that it gets between NULs. Known differences: there is no need of a
/// plan where there are results; `not ok … # SKIP` is skipped; `ok … # TODO` is an unexpected pass, and so a failure.
const TAP_PARSER: &str = r#"
    local $/;
    for my $tap (split /\0/, <STDIN>) {
        my $parser = TAP::Parser->new({ tap => $tap });
        my $bad = 0;
        while (my $line = $parser->next) {
            $bad = 1 if $line->is_bailout;
            $bad = 1 if $line->is_test && ($line->todo_passed || !$line->is_ok && !$line->has_skip);
        }
        my $needs_plan = $parser->version > 12 && !$parser->tests_run;
        $bad = 1 if grep { $needs_plan || !/^No plan found/ } $parser->parse_errors;
        print $bad ? "bad\n" : "good\n";
    }
"#;

#[test]
fn pass_and_failure_are_as_perls_tap_parser_has_them() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let outputs: Vec<String> = (0..2000).map(|_| tap(&mut random)).collect();
    let mut perl = Command::new("perl")
        .args(["-MTAP::Parser", "-e", TAP_PARSER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start perl, which this test needs");
    let mut stdin = perl.stdin.take().expect("it is piped");
    // It reads all before it prints.
    stdin
        .write_all(outputs.join("\0").as_bytes())
        .expect("write to perl");
    drop(stdin);
    let perl = perl.wait_with_output().expect("wait for perl");
    let said = String::from_utf8(perl.stdout).expect("perl prints words");
    let said: Vec<_> = said.lines().map(|word| word == "good").collect();
    assert_eq!(said.len(), outputs.len());
    let good = said.iter().filter(|&&is_good| is_good).count();
    assert!((200..1800).contains(&good), "{good} of 2000 are good");
    for (output, is_good) in outputs.iter().zip(said) {
        let Verdict { status, reason, .. } = verdict(0, output.as_bytes(), b"");
        let found = matches!(status, Status::Passed | Status::Skipped);
        assert_eq!(
            found, is_good,
            "seed {seed}: {status:?} {reason:?}\n{output}"
        );
    }
}

/// A random output. More that is different in TAP::Parser, and so is not in it: KTAP's nesting; several lists one after
/// another; kselftest.h's directives and totals, and its `ok N # SKIP` of a child; `1..5 # a comment`.
fn tap(random: &mut fastrand::Rng) -> String {
    const NAMES: &[&str] = &["", " a", " - b", " of words, and more", " \\# c", "\ta"];
    const DIRECTIVES: &[&str] = &[
        "",
        "",
        "",
        "",
        " # SKIP why",
        " # TODO why",
        " #skip",
        " # todo",
    ];
    const OTHERS: &[&str] = &[
        "text",
        "# comment",
        "okay",
        "not okay",
        "ok_1",
        "Random seed: 0x1",
        "",
        "  ok 7",
        "\tok 7",
    ];
    const RESULTS: &[&str] = &["ok, so", "ok: 1", "ok", "ok- 1"];
    let has_version = random.u8(..4) == 0;
    let count = random.usize(..6);
    let mut lines = Vec::new();
    for number in 1..=count {
        let is_bad = random.u8(..8) == 0;
        let word = if is_bad { "not ok" } else { "ok" };
        let number = match random.u8(..40) {
            0 => format!(" {}", random.usize(..8)),
            1..10 => String::new(),
            _ => format!(" {number}"),
        };
        let name = NAMES[random.usize(..NAMES.len())];
        let directive = DIRECTIVES[random.usize(..DIRECTIVES.len())];
        // A skip without a name may be a child's, which its parent tells again.
        let name = if directive.is_empty() || !name.is_empty() {
            name
        } else {
            " a"
        };
        lines.push(match random.u8(..20) {
            0 => RESULTS[random.usize(..RESULTS.len())].to_owned(),
            _ => format!("{word}{number}{name}{directive}"),
        });
    }
    let planned = match random.u8(..8) {
        0 => random.usize(..8),
        _ => count,
    };
    let plan = match random.u8(..10) {
        0 => "1..0 # SKIP why".to_owned(),
        _ => format!("1..{planned}"),
    };
    match random.u8(..16) {
        0 => {}
        1 => lines.insert(random.usize(..=lines.len()), plan),
        2..8 => lines.push(plan),
        _ => lines.insert(0, plan),
    }
    for _ in 0..random.usize(..3) {
        // With a version, what is indented is a nested result.
        let others = if has_version {
            OTHERS.len() - 2
        } else {
            OTHERS.len()
        };
        let other = OTHERS[random.usize(..others)].to_owned();
        lines.insert(random.usize(..=lines.len()), other);
    }
    if random.u8(..40) == 0 {
        lines.insert(random.usize(..=lines.len()), "Bail out! why".to_owned());
    }
    if has_version {
        lines.insert(0, "TAP version 13".to_owned());
    }
    lines.join("\n") + "\n"
}

#[test]
fn large_and_hostile_outputs_take_a_bounded_time() {
    // Some seconds without optimisation; anything quadratic would take many minutes.
    const LIMIT: Duration = Duration::from_secs(120);
    const TIMES: usize = 4;
    let nested: String = (0..1000)
        .map(|level| format!("{}ok 1 a\n", " ".repeat(level)))
        .collect();
    let zigzag = "  1..1\n    ok 1 a\n      ok 2 b\n  ok 3 c\n ok 4 d\n".repeat(100);
    for pattern in [
        "x",
        "\n",
        "\r",
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
        "o\x1b",
        "é",
        "ok 1 a/b\n",
        "not ok 1 # x # y #\n",
        "ok 1 # SKIP a\n",
        "1..9\n",
        "1..0 # SKIP\n",
        "KTAP version 1\n",
        "# a:1:\n",
        "# Totals: fail:1\n",
        "==== Test Assertion Failure ====\n",
        "==== Test Assertion Failure ====",
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
            let output = pattern.as_bytes().repeat(1 + 30_000 / pattern.len());
            let mut reader = OutputReader::new("x".as_ref());
            reader.stdout(head.as_bytes());
            for _ in 0..TIMES {
                reader.stdout(&output);
                reader.stderr(&output);
            }
            let evidence = reader.finish();
            assert!(evidence.ktap.subtests.len() <= 60_000 && evidence.diagnostics.len() <= 20);
            judged(Exit::Code(0), evidence);
            assert!(
                started.elapsed() < LIMIT,
                "{pattern:?}: {:?}",
                started.elapsed()
            );
        }
    }
}
