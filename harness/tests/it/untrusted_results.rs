//! Whatever is in the directory of a run, which may come from anybody: it is read or refused, and nothing outside of it is
//! touched or quoted.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::support::{Fixture, journals, report};
use proptest::prelude::{ProptestConfig, Strategy, any, prop, proptest};
use proptest::sample::Index;
use tempfile::TempDir;

/// run.json, the journal and an output of a real run.
fn real() -> &'static [String; 2] {
    static REAL: OnceLock<[String; 2]> = OnceLock::new();
    REAL.get_or_init(|| {
        let fixture = Fixture::new()
            .selftest(
                "pass_test",
                "printf 'TAP version 13\\n1..2\\nok 1 a\\nok 2 b # SKIP no\\n'",
            )
            .selftest(
                "assert_test",
                "printf '==== Test Assertion Failure ====\\n  a.c:1: x\\n' >&2; exit 254",
            )
            .selftest("crash_test", "kill -SEGV $$")
            .selftest("leave_test", "sleep 1000 & exit 0");
        fixture.run(&["--iterations", "2"]);
        let journal = &journals(&fixture.results())[0];
        let run_json = fixture.results().join("run.json");
        [&run_json, journal].map(|path| fs::read_to_string(path).unwrap())
    })
}

/// Pieces that mean something in them, or nearly so.
const PIECES: &[&str] = &[
    "null",
    "true",
    "-1",
    "0",
    "1e400",
    "18446744073709551616",
    "9223372036854775807",
    "[]",
    "{}",
    "\"\"",
    "\"../../../../etc\"",
    "\"/etc\"",
    "\"\\u001b[31m\\u202e\\u0000\"",
    "\"PASSED\"",
    "\"finished\":{",
    "\"schema_version\":3,",
    "\n",
    "{",
    "}",
    "]",
    ",",
    "\0",
];

#[derive(Debug, Clone)]
enum Edit {
    /// Of the values in the text, this one becomes that.
    Value(Index, &'static str),
    Insert(Index, &'static str),
    Delete(Index, usize),
    Cut(Index),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let piece = || prop::sample::select(PIECES);
    let edit = prop::strategy::Union::new_weighted(vec![
        (
            6,
            (any::<Index>(), piece())
                .prop_map(|(at, piece)| Edit::Value(at, piece))
                .boxed(),
        ),
        (
            2,
            (any::<Index>(), piece())
                .prop_map(|(at, piece)| Edit::Insert(at, piece))
                .boxed(),
        ),
        (
            1,
            (any::<Index>(), 1..200_usize)
                .prop_map(|(at, count)| Edit::Delete(at, count))
                .boxed(),
        ),
        (1, any::<Index>().prop_map(Edit::Cut).boxed()),
    ]);
    prop::collection::vec(edit, 0..4)
}

fn edited(text: &str, edits: &[Edit]) -> String {
    let mut text = text.to_owned();
    for edit in edits {
        let place = |at: &Index, text: &str| text.floor_char_boundary_of(at.index(text.len() + 1));
        match edit {
            Edit::Value(at, piece) => {
                let values: Vec<_> = text.match_indices("\":").map(|(at, _)| at + 2).collect();
                if values.is_empty() {
                    continue;
                }
                let start = *at.get(&values);
                let rest = &text[start..];
                let end = rest.find([',', '}', '\n']).unwrap_or(rest.len());
                text.replace_range(start..start + end, piece);
            }
            Edit::Insert(at, piece) => text.insert_str(place(at, &text), piece),
            Edit::Delete(at, count) => {
                let start = place(at, &text);
                let end = text.floor_char_boundary_of(start + count);
                text.replace_range(start..end, "");
            }
            Edit::Cut(at) => text.truncate(place(at, &text)),
        }
    }
    text
}

trait Boundary {
    fn floor_char_boundary_of(&self, at: usize) -> usize;
}

impl Boundary for str {
    fn floor_char_boundary_of(&self, at: usize) -> usize {
        (0..=at.min(self.len()))
            .rev()
            .find(|&at| self.is_char_boundary(at))
            .unwrap_or(0)
    }
}

fn write(directory: &Path, run_json: &str, journal: &str) {
    fs::create_dir_all(directory.join("journal")).unwrap();
    fs::write(directory.join("run.json"), run_json).unwrap();
    fs::write(directory.join("journal/1.jsonl"), journal).unwrap();
}

/// The reports that `kvm-tests report` writes, where it does not refuse.
fn reported(directory: &Path) -> Vec<String> {
    let reports = ["junit.xml", "results.ktap", "report.html"].map(|name| directory.join(name));
    reports.iter().for_each(|path| drop(fs::remove_file(path)));
    // It may well be refused: then there are none.
    drop(report(directory));
    let there = reports.iter().filter(|path| path.exists());
    there
        .map(|path| fs::read_to_string(path).unwrap())
        .collect()
}

/// What `kvm-tests compare` prints in this form.
fn compared(old: &Path, new: &Path, format: &str) -> String {
    let mut program = Command::new(env!("CARGO_BIN_EXE_kvm-tests-runner"));
    program
        .args(["compare", "--format", format])
        .args([old, new]);
    let output = program.output().unwrap();
    assert!([0, 1, 2].contains(&output.status.code().unwrap()));
    String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
}

#[test]
fn nothing_outside_of_a_run_is_quoted_in_its_reports() {
    let directory = TempDir::new().unwrap();
    let secret = directory.path().join("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("command.stdout"), "a secret text\n").unwrap();
    let quote = |output: &str| {
        let run = directory.path().join("run");
        let [run_json, journal] = real();
        let here = "\"output\":\"assert_test/default/";
        assert!(run_json.contains(here), "{run_json}");
        write(
            &run,
            &run_json.replace(here, &format!("\"output\":\"{output}/")),
            journal,
        );
        symlink_once(&secret, &run.join("link"));
        let reports = reported(&run);
        assert_eq!(reports.len(), 3);
        let mut reports = reports.iter();
        reports.any(|report| report.contains("a secret text"))
    };
    fs::create_dir_all(directory.path().join("run/inside/iteration_1")).unwrap();
    for place in [
        "secret/iteration_1",
        "secret/iteration_2",
        "run/inside/iteration_1",
    ] {
        fs::create_dir_all(directory.path().join(place)).unwrap();
        fs::copy(
            secret.join("command.stdout"),
            directory.path().join(place).join("command.stdout"),
        )
        .unwrap();
    }
    assert!(quote("inside"), "it would be found");
    assert!(!quote("../secret") && !quote("link") && !quote(secret.to_str().unwrap()));
}

#[test]
fn no_number_in_a_run_makes_its_reports_endless() {
    let [run_json, journal] = real();
    let directory = TempDir::new().unwrap();
    let run = directory.path().join("run");
    let mut known = BTreeSet::new();
    for start in run_json.match_indices("\":").map(|(at, _)| at + 2) {
        let key = run_json[..start].rsplit('"').nth(1).unwrap();
        if !known.insert(key) {
            continue;
        }
        let end = start + run_json[start..].find([',', '}', '\n']).unwrap();
        for number in ["18446744073709551615", "9223372036854775807", "1e300", "-1"] {
            write(
                &run,
                &[&run_json[..start], number, &run_json[end..]].concat(),
                journal,
            );
            let begin = Instant::now();
            drop(reported(&run));
            assert!(begin.elapsed() < Duration::from_secs(60), "{key} {number}");
        }
    }
}

fn symlink_once(target: &Path, link: &Path) {
    if !link.is_symlink() {
        std::os::unix::fs::symlink(target, link).unwrap();
    }
}

/// How many are tried, each with four processes.
fn cases() -> u32 {
    let cases = std::env::var("PROPTEST_CASES").ok();
    cases.and_then(|cases| cases.parse().ok()).unwrap_or(30)
}

proptest! {
    // PROPTEST_CASES asks for more of them.
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_run_is_reported_and_compared_or_refused(of_run_json in edits(), of_journal in edits()) {
        let [run_json, journal] = real();
        let directory = TempDir::new().unwrap();
        let [old, new] = ["old", "new"].map(|name| directory.path().join(name));
        write(&old, run_json, journal);
        write(&new, &edited(run_json, &of_run_json), &edited(journal, &of_journal));
        for text in reported(&new) {
            assert!(!text.contains(['\u{1b}', '\u{202e}', '\0']), "{text}");
        }
        for format in ["text", "markdown", "json"] {
            let text = compared(&old, &new, format);
            assert!(!text.contains(['\u{1b}', '\u{202e}', '\0']), "{text}");
        }
        let in_directory = fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(in_directory, 2);
    }
}
