//! Whatever is in a file of the configuration: reading it ends, in time, with problems that point into it.

use std::fs;
use std::path::Path;

use proptest::prelude::{ProptestConfig, Strategy, any, prop, prop_assert, prop_oneof, proptest};
use proptest::sample::Index;
use proptest::test_runner::TestCaseError;

use crate::plan::files::read_embedded;

const SUITE: &str = r#"timeout_s = 300
arch = ["x86_64", "arm64"]
setup = "echo {ncpus} ${HOME}"
requires = { cpus = 2, memory = "2G", hugepages = { "2M" = 64 } }
[[test]]
name = "plain"
selftest = "dirty_log_perf_test"
args = ["-v", "{ncpus}", "-g"]
[[test]]
name = "sweep"
command = "./dirty_log_perf_test -s {backing_src} -v {vcpus} {{vcpus}}"
matrix = { vcpus = [1, "{ncpus}"], backing_src = ["anonymous", "shmem"] }
weight = "{ncpus}"
"#;

const PROPOSAL: &str = r#"
[{ "suite": "a-b", "timeout_s": 300, "arch": "x86_64", "setup": "echo \u00e9\n",
  "tests": [{ "name": "2slot", "command": "./a -v $(nproc)" }, { "name": "b", "command": "b", "timeout_s": 1 }] }]"#;

const TESTCASE: &str = "# a comment\n\ndirty_log_perf_test -x 2 -v $(nproc) -i 10\n";

/// Pieces that mean something to one of the parsers, or nearly so.
const PIECES: &[&str] = &[
    "[[test]]",
    "[",
    "]",
    "{",
    "}",
    "\"",
    "'",
    "\"\"\"",
    "\\",
    "\\u0000",
    "\\ud800",
    "\n",
    "\r",
    ",",
    "=",
    ":",
    "#",
    "{ncpus}",
    "{x}",
    "${",
    "{{",
    "}}",
    "matrix",
    "test.matrix.a = [1]",
    "null",
    "true",
    "1e9",
    "-1",
    "0x7f",
    "99999999999999999999",
    "1979-05-27",
    "é",
    "\u{feff}",
    "\0",
    "\u{1b}[31m",
    "name = \"a\"",
    "suite",
    "..",
    "/",
    "a.b.c",
    " ",
    "[1,2,3,4,5,6,7,8,9]",
];

#[derive(Debug, Clone)]
enum Edit {
    Insert(Index, &'static str),
    Delete(Index, usize),
    Repeat(Index, usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        (any::<Index>(), prop::sample::select(PIECES))
            .prop_map(|(at, piece)| Edit::Insert(at, piece)),
        (any::<Index>(), 1..20_usize).prop_map(|(at, count)| Edit::Delete(at, count)),
        (any::<Index>(), 1..200_usize).prop_map(|(at, count)| Edit::Repeat(at, count)),
    ]
}

/// The suites, environments and tables that are built in.
fn shipped() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kvm-tests");
    let files = ["suites", "environments"]
        .map(|directory| fs::read_dir(root.join(directory)).expect("read it"));
    let texts = files
        .into_iter()
        .flatten()
        .map(|file| fs::read_to_string(file.expect("find it").path()));
    texts
        .collect::<Result<_, _>>()
        .expect("read the shipped files")
}

/// A file that was right once.
fn edited() -> impl Strategy<Value = String> {
    let known = [SUITE, PROPOSAL, TESTCASE].map(str::to_owned);
    let text = prop_oneof![
        prop::sample::select(known.to_vec()),
        prop::sample::select(shipped())
    ];
    (text, prop::collection::vec(edit(), 1..6)).prop_map(|(text, edits)| {
        let mut characters: Vec<char> = text.chars().collect();
        for edit in edits {
            let length = characters.len();
            match edit {
                Edit::Insert(at, piece) => {
                    let at = at.index(length + 1);
                    characters.splice(at..at, piece.chars());
                }
                Edit::Delete(at, count) => {
                    let at = at.index(length + 1);
                    characters.drain(at..(at + count).min(length));
                }
                Edit::Repeat(at, count) => {
                    let at = at.index(length + 1);
                    let part = characters[at..(at + count).min(length)].to_vec();
                    characters.splice(at..at, part);
                }
            }
        }
        characters.into_iter().collect()
    })
}

/// What every format makes of a text: the problems, each of which is one line that points into the text.
fn check(text: &str) -> Result<(), TestCaseError> {
    let lines: Vec<&str> = text.split('\n').collect();
    for path in ["s/a.toml", "s/a.json", "s/a.test"] {
        let configuration = read_embedded(&[(path, text)], 2);
        for problem in &configuration.problems {
            let shown = problem.to_string();
            prop_assert!(!shown.contains(char::is_control), "{shown:?}");
            prop_assert!(shown.chars().count() < 1000, "{shown:?}");
            if let Some((line, column)) = problem.place.position {
                prop_assert!((1..=lines.len()).contains(&line), "{shown}");
                prop_assert!(
                    (1..=lines[line - 1].chars().count() + 1).contains(&column),
                    "{shown}"
                );
            }
        }
        let tests = configuration.suites.iter().flat_map(|suite| &suite.tests);
        let sound = configuration.problems.is_empty() && configuration.defaults.is_empty();
        let read = tests.count()
            + configuration.environments.len()
            + configuration.known.len()
            + configuration.concerns.len();
        prop_assert!(!sound || read > 0, "nothing was read");
    }
    Ok(())
}

proptest! {
    // PROPTEST_CASES asks for more of them.
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(400),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn bytes_of_any_kind_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        check(&String::from_utf8_lossy(&bytes))?;
    }

    #[test]
    fn pieces_in_any_order_are_read_or_refused(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..60)) {
        check(&pieces.concat())?;
    }

    #[test]
    fn a_damaged_file_is_read_or_refused(text in edited()) {
        check(&text)?;
    }
}

#[test]
fn long_files_of_nonsense_are_refused_in_linear_time() {
    const LENGTH: usize = 50_000;
    let mut axes = String::from("[[test]]\nname = \"a\"\ncommand = \"{q}\"\nmatrix = {");
    for axis in 0..LENGTH / 20 {
        axes += &format!("a{axis} = [1],");
    }
    let fill = |piece: &str| piece.repeat(LENGTH / piece.len());
    // Were the time to grow with the square of the length, any of these would take minutes.
    for text in [
        fill("["),
        fill("a={"),
        fill("a."),
        fill("=\n"),
        fill("[[test]]\nname = \"a\"\n"),
        format!("[[test]]\nname = \"a\"\ncommand = \"{}\"", fill("{")),
        format!("[[test]]\nname = \"a\"\ncommand = \"{}\"", fill("{a}")),
        axes + "}",
        format!("{} = 1", fill("k")),
        format!("a = [{}]", fill("1 ")),
        format!("{}{}", fill("["), fill("]")),
        format!("[{}1]", fill("1,")),
        format!("[{{{}\"a\": 1}}]", fill("\"a\": 1,")),
        format!("[{}1]", fill("\"\\ud800\",")),
    ] {
        check(&text).expect("every problem points into the text");
    }
}
