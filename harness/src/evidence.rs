//! What a selftest's output says about how it went.

pub mod assertion;
pub mod ktap;
pub mod line;
use std::io::{self, Read};

use memchr::memmem::{self, Finder};

use crate::evidence::ktap::Ktap;
use crate::evidence::line::{each_block, lines};
use crate::model::outcome::Assertion;
use crate::model::printable::printable_within;

/// What is kept of a line that is quoted, in bytes.
const QUOTE: usize = 500;

/// How many diagnostics are kept of each file.
const DIAGNOSTICS: usize = 10;

/// The facts in a selftest's output. Every text is printable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The first failed assertion.
    pub assertion: Option<Assertion>,
    /// What stdout says in KTAP.
    pub ktap: Ktap,
    /// The line that shows that arguments were not understood: getopt's complaint, or the first line of a usage text.
    pub usage: Option<String>,
    /// What kselftest_harness.h says of a sub-test that fails: `x.c:12:name:Expected 1 (1) == 2 (2)`.
    pub diagnostics: Vec<String>,
    /// The last line of stdout that says something: it is not blank, not KTAP, and not the random seed.
    pub last_stdout: Option<String>,
    /// The last such line of stderr.
    pub last_stderr: Option<String>,
}

/// Reads all of a selftest's `stdout` and `stderr`, once and in bounded memory. Fails where they cannot be read.
pub fn read(stdout: impl Read, stderr: impl Read) -> io::Result<Evidence> {
    let mut ktap = ktap::Reader::default();
    let mut out = Text::new();
    each_block(stdout, |block| out.block(block, |line| ktap.line(line)))?;
    let mut err = Text::new();
    each_block(stderr, |block| err.block(block, |_| false))?;
    Ok(Evidence {
        assertion: err.assertion.finish().or(out.assertion.finish()),
        ktap: ktap.finish(),
        usage: [err.complaint, out.complaint, out.usage, err.usage]
            .into_iter()
            .flatten()
            .next(),
        diagnostics: [err.diagnostics, out.diagnostics].concat(),
        last_stdout: quote_last(&out.last),
        last_stderr: quote_last(&err.last),
    })
}

/// What is found in one file's lines, KTAP apart.
struct Text {
    option: Finder<'static>,
    assertion: assertion::Reader,
    usage: Option<String>,
    complaint: Option<String>,
    diagnostics: Vec<String>,
    last: Vec<u8>,
}

impl Text {
    fn new() -> Self {
        Self {
            option: Finder::new(" option"),
            assertion: assertion::Reader::default(),
            usage: None,
            complaint: None,
            diagnostics: Vec::new(),
            last: Vec::new(),
        }
    }

    /// Takes the next lines, but for those that `is_ktap` takes.
    fn block(&mut self, block: &[u8], mut is_ktap: impl FnMut(&[u8]) -> bool) {
        // Once for all of them: it is in hardly any, and looking for it costs more than all else.
        let may_complain = self.complaint.is_none() && self.option.find(block).is_some();
        let mut last = None;
        for line in lines(block) {
            if !is_ktap(line) && self.says_something(line, may_complain) {
                last = Some(line);
            }
        }
        if let Some(last) = last {
            self.last.clear();
            self.last.extend_from_slice(last);
        }
    }

    /// Takes a line, and returns whether it says something.
    fn says_something(&mut self, line: &[u8], may_complain: bool) -> bool {
        self.assertion.line(line);
        if !says_something(line) {
            return false;
        }
        match line[0] {
            b'u' | b'U' if self.usage.is_none() && is_usage(line) => self.usage = Some(quote(line)),
            b'#' if self.diagnostics.len() < DIAGNOSTICS => {
                self.diagnostics.extend(diagnostic(line))
            }
            _ => {}
        }
        if may_complain && self.complaint.is_none() && is_complaint(line, &self.option) {
            self.complaint = Some(quote(line));
        }
        true
    }
}

/// Not blank, nor the seed that lib/test_util.c prints before all else.
fn says_something(line: &[u8]) -> bool {
    let is_mark =
        |byte: &u8| !byte.is_ascii_whitespace() && (*byte == 0x1b || !byte.is_ascii_control());
    match line.iter().find(|byte| is_mark(byte)) {
        None => false,
        Some(0x1b) => !printable_within(line, QUOTE).trim().is_empty(),
        Some(b'R') => !line.starts_with(b"Random seed: 0x"),
        Some(_) => true,
    }
}

fn is_usage(line: &[u8]) -> bool {
    line.get(..6)
        .is_some_and(|start| start.eq_ignore_ascii_case(b"usage:"))
}

/// What getopt(3) prints, after `PROGRAM: `, as glibc and as musl word it.
fn is_complaint(line: &[u8], finder: &Finder<'_>) -> bool {
    finder.find(line).is_some_and(|option| {
        let (before, from) = (&line[..option], &line[option..]);
        let has = |text| memmem::find(from, text).is_some();
        (before.ends_with(b": invalid") && has(b" option -- "))
            || (before.ends_with(b": unrecognized") && has(b" option"))
            || (before.ends_with(b":")
                && (has(b" requires an argument")
                    || has(b" is ambiguous")
                    || has(b"allow an argument")))
    })
}

/// `# FILE:LINE:NAME:TEXT`, and `# NAME: Test terminated …`.
fn diagnostic(line: &[u8]) -> Option<String> {
    let text = line.strip_prefix(b"# ")?;
    let (name, rest) = text.split_at(memchr::memchr(b':', text)?);
    let is_failure =
        matches!(rest.get(1), Some(b'0'..=b'9')) || rest.starts_with(b": Test terminated ");
    (is_failure && !name.iter().any(u8::is_ascii_whitespace)).then(|| quote(text))
}

fn quote(line: &[u8]) -> String {
    printable_within(line, QUOTE).trim().to_owned()
}

fn quote_last(line: &[u8]) -> Option<String> {
    Some(quote(line)).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(stdout: &str, stderr: &str) -> Evidence {
        read(stdout.as_bytes(), stderr.as_bytes()).unwrap()
    }

    #[test]
    fn the_last_line_is_the_last_that_says_something() {
        let stdout = "one\n two\x07\x1b[0m \n\n \t\x1b[0m\n\0\0\n\
            Random seed: 0x6b8b4567\n1..1\nok 1 a\n# Totals: pass:1\n";
        assert_eq!(of(stdout, "").last_stdout.as_deref(), Some("two\\x07"));
        assert_eq!(of("", "a\nb").last_stderr.as_deref(), Some("b"));
        assert_eq!(of("\n", "Random seed: 0x1\n"), Evidence::default());
    }

    #[test]
    fn usage_texts_and_getopts_complaints_are_found_at_their_place_only() {
        for (stdout, stderr, expected) in [
            ("\nusage: x [-h]\nUsage: y\n", "", Some("usage: x [-h]")),
            (
                "USAGE: x\n",
                "./x: invalid option -- 'Z'\n",
                Some("./x: invalid option -- 'Z'"),
            ),
            (
                "",
                "x: unrecognized option '--foo'\n",
                Some("x: unrecognized option '--foo'"),
            ),
            (
                "",
                "x: unrecognized option: foo\n",
                Some("x: unrecognized option: foo"),
            ),
            (
                "x: option requires an argument -- 's'\n",
                "",
                Some("x: option requires an argument -- 's'"),
            ),
            (
                "",
                "x: option '--foo' requires an argument\n",
                Some("x: option '--foo' requires an argument"),
            ),
            (
                "",
                "x: option '--f' is ambiguous; possibilities:\n",
                Some("x: option '--f' is ambiguous; possibilities:"),
            ),
            (
                "Memory usage: 12\n  usage: x\nusages: 3\n",
                "no such option\n",
                None,
            ),
            ("", "testing: invalid optional features\n", None),
        ] {
            assert_eq!(
                of(stdout, stderr).usage.as_deref(),
                expected,
                "{stdout}{stderr}"
            );
        }
    }

    #[test]
    fn what_the_harness_of_sub_tests_says_of_a_failure_is_kept() {
        let stderr = "\
# a/x.c:12:name:Expected 1 (1) == 2 (2)
# name: Test terminated unexpectedly by signal 11
# name: Test failed
# at 12:30: x
";
        assert_eq!(
            of("", stderr).diagnostics,
            [
                "a/x.c:12:name:Expected 1 (1) == 2 (2)",
                "name: Test terminated unexpectedly by signal 11"
            ]
        );
    }
}
