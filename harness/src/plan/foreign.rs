//! Reads suites that were written for others: the JSON of the runner that was proposed for the kernel in 2024, and
//! upstream's `.test` files. Nothing is replaced in their lines for the shell; their names become identifiers.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::keys::{MAX_TIMEOUT_S, ShellLine};
use super::suite::{SuiteFile, TestEntry, What};
use crate::model::host::Arch;
use crate::model::problem::{Problem, TextFile, excerpt};
use crate::model::value::{Count, Identifier, OneOrMore, Text};

/// A suite of the proposal; `timeout_s` and `arch` are the defaults of its tests.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
struct ProposedSuite<'a> {
    suite: Foreign,
    timeout_s: Option<Count<MAX_TIMEOUT_S>>,
    arch: Option<OneOrMore<Arch>>,
    setup: Option<ShellLine>,
    teardown: Option<ShellLine>,
    #[serde(borrow)]
    tests: Vec<&'a RawValue>,
}

/// A test of the proposal.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
struct ProposedTest {
    name: Foreign,
    command: ShellLine,
    timeout_s: Option<Count<MAX_TIMEOUT_S>>,
    arch: Option<OneOrMore<Arch>>,
    setup: Option<ShellLine>,
    teardown: Option<ShellLine>,
}

/// A name that becomes an identifier.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Text")]
struct Foreign {
    written: String,
    name: String,
}

impl TryFrom<Text> for Foreign {
    type Error = String;

    fn try_from(Text(written): Text) -> Result<Self, String> {
        if written.trim().is_empty() {
            return Err("a name with nothing in it".to_owned());
        }
        let Identifier(name) = Identifier::foreign(&written)?;
        Ok(Self { written, name })
    }
}

/// Reads an array of the proposal's suites; what is wrong is added to `problems`.
pub(super) fn read_json(file: &TextFile<'_>, problems: &mut Vec<Problem>) -> Vec<SuiteFile> {
    let suites: Vec<&RawValue> = match json(file, file.text) {
        Ok(suites) => suites,
        Err(problem) => {
            problems.push(problem);
            return Vec::new();
        }
    };
    if suites.is_empty() {
        problems.push(file.problem(0, "no suite"));
    }
    let mut read = |suite| {
        read_suite(file, suite, problems)
            .map_err(|problem| problems.push(problem))
            .ok()
    };
    suites.into_iter().filter_map(&mut read).collect()
}

fn read_suite(
    file: &TextFile<'_>,
    raw: &RawValue,
    problems: &mut Vec<Problem>,
) -> Result<SuiteFile, Problem> {
    let suite: ProposedSuite<'_> = json(file, raw.get())?;
    let place = file.place(file.place_of(raw.get()));
    if suite.tests.is_empty() {
        problems.push(file.problem(file.place_of(raw.get()), "a suite without a test"));
    }
    let mut base = TestEntry::new(String::new(), What::Shell(String::new()), place.clone());
    base.timeout = suite.timeout_s.map(Count::seconds);
    base.arch = suite.arch.map(|OneOrMore(arch)| arch);
    let mut names = HashMap::new();
    let mut tests = Vec::with_capacity(suite.tests.len());
    for raw in suite.tests {
        match read_test(file, raw, &base, &mut names) {
            Ok(test) => tests.push(test),
            Err(problem) => problems.push(problem),
        }
    }
    let line = |line: Option<ShellLine>| line.map(|ShellLine(line)| line);
    Ok(SuiteFile {
        setup: line(suite.setup),
        teardown: line(suite.teardown),
        tests,
        ..SuiteFile::new(suite.suite.name, place)
    })
}

fn read_test(
    file: &TextFile<'_>,
    raw: &RawValue,
    base: &TestEntry,
    names: &mut HashMap<String, (usize, String)>,
) -> Result<TestEntry, Problem> {
    let test: ProposedTest = json(file, raw.get())?;
    let Foreign { written, name } = test.name;
    let place = file.place(file.place_of(raw.get()));
    let (line, _) = file.position(file.place_of(raw.get()));
    if let Some((line, first)) = names.insert(name.clone(), (line, written)) {
        let first = excerpt(&first);
        let message =
            format!("a second test named `{name}`; the first, \"{first}\", is in line {line}");
        return Err(file.problem(file.place_of(raw.get()), message));
    }
    Ok(TestEntry {
        name,
        what: What::Shell(test.command.0),
        place,
        setup: test.setup.map(|ShellLine(line)| line),
        teardown: test.teardown.map(|ShellLine(line)| line),
        timeout: test.timeout_s.map(Count::seconds).or(base.timeout),
        arch: test
            .arch
            .map(|OneOrMore(arch)| arch)
            .or_else(|| base.arch.clone()),
        ..base.clone()
    })
}

/// Reads a part of the file that is JSON.
fn json<'a, T: Deserialize<'a>>(file: &TextFile<'_>, part: &'a str) -> Result<T, Problem> {
    serde_json::from_str(part).map_err(|error| {
        // serde_json counts from the start of the part, in bytes.
        let in_part = TextFile::new(&file.path, part).offset(error.line(), error.column());
        let message = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        let message = message.strip_suffix(&place).unwrap_or(&message);
        file.refused(file.place_of(part) + in_part, message)
    })
}

/// Reads the test of a `.test` file: one line for the shell that starts with a selftest. Blank lines and lines that
/// start with `#` do not count; the file's stem is the test's name.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read_test_file(file: &TextFile<'_>) -> Result<TestEntry, Problem> {
    let stem = file.path.file_stem().unwrap_or_default().to_string_lossy();
    let name = Identifier::foreign(&stem);
    let Identifier(name) = name.map_err(|message| file.problem(0, message))?;
    let lines = file.text.lines().map(str::trim);
    let mut lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let line = lines
        .next()
        .ok_or_else(|| file.problem(0, "no line for the shell"))?;
    let at = file.place_of(line);
    if let Some(second) = lines.next() {
        let message = "a second line: a test is one line for the shell";
        return Err(file.problem(file.place_of(second), message));
    }
    if let Some(nul) = line.find('\0') {
        return Err(file.problem(at + nul, "a NUL, which no command line can hold"));
    }
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    // Built in the kernel's tree, a selftest may be written with its directory (`x86/cpuid_test`, `./cpuid_test`).
    let selftest = word.rsplit('/').next().unwrap_or(word);
    if matches!(selftest, "" | "." | "..") {
        return Err(file.problem(at, format!("\"{}\" names no selftest", excerpt(word))));
    }
    // As the other formats write it.
    let what = What::Shell(format!("./{selftest} {}", rest.trim_start()));
    Ok(TestEntry::new(name, what, file.place(at)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_2024_proposal_is_read_as_it_is() {
        let text = r#"[
  {
    "suite": "perf-tests", "timeout_s": 300, "arch": "x86_64", "setup": "echo {ncpus}",
    "tests": [
      { "name": "2slot-5vcpu", "command": "./dirty_log_perf_test -v $(nproc) {x} \"${Y}\"" },
      { "name": "quick", "command": "./kvm_clock_test", "timeout_s": 5, "arch": ["aarch64"], "teardown": "true" }
    ]
  },
  { "suite": "sanity", "tests": [ { "name": "kvm_clock_test", "command": "./kvm_clock_test" } ] }
]"#;
        let file = TextFile::new(Path::new("tests.json"), text);
        let mut problems = Vec::new();
        let suites = read_json(&file, &mut problems);
        assert_eq!(problems, []);
        let [perf, sanity] = suites.as_slice() else {
            panic!("two suites");
        };
        assert_eq!(
            (perf.name.as_str(), sanity.name.as_str()),
            ("perf_tests", "sanity")
        );
        assert_eq!(perf.setup.as_deref(), Some("echo {ncpus}"));
        let [slots, quick] = perf.tests.as_slice() else {
            panic!("two tests");
        };
        let line = "./dirty_log_perf_test -v $(nproc) {x} \"${Y}\"";
        assert_eq!(slots.what, What::Shell(line.to_owned()));
        assert_eq!(
            (slots.name.as_str(), slots.place.position),
            ("_2slot_5vcpu", Some((5, 7)))
        );
        let settings = |test: &TestEntry| (test.timeout, test.arch.clone());
        let (long, short) = (Duration::from_secs(300), Duration::from_secs(5));
        assert_eq!(settings(slots), (Some(long), Some(vec![Arch::X86_64])));
        assert_eq!(settings(quick), (Some(short), Some(vec![Arch::Aarch64])));
        assert_eq!(
            (&slots.teardown, quick.teardown.as_deref()),
            (&None, Some("true"))
        );
    }

    #[test]
    fn upstream_test_files_are_read_as_they_are() {
        let read = |path: &str, text: &str| {
            let file = TextFile::new(Path::new(path), text);
            let test = read_test_file(&file).unwrap();
            (test.name, test.what, test.place.position.unwrap())
        };
        let line = |line: &str| What::Shell(line.to_owned());
        let default = ("default".to_owned(), line("./kvm_clock_test "), (1, 1));
        assert_eq!(
            read("kvm_clock_test/default.test", "kvm_clock_test\n"),
            default
        );
        let text = "# SPDX\r\n\r\n  x86/dirty_log_test  -x 2 -v $(nproc) {ncpus}\r\n";
        let slots = line("./dirty_log_test -x 2 -v $(nproc) {ncpus}");
        assert_eq!(
            read("a/2slot.test", text),
            ("_2slot".to_owned(), slots, (3, 3))
        );
    }
}
