//! What a selftest's output says about how it went, read as it is printed.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use memchr::memmem;
use memchr::{memchr2, memchr2_iter, memrchr2};

use crate::model::facts::{Evidence, Ktap};
use crate::model::text::{escape_sequence, printable_within};

mod assertion;
mod ktap;
mod line;

/// What is read of a line, in bytes. An assertion's header is found behind that too.
const LIMIT: usize = 4096;

/// How much of a line that is not complete is kept at most before what is beyond [`LIMIT`] goes, in bytes.
const BEGUN: usize = 64 * 1024;

/// What is kept of a line that is quoted, in bytes.
const QUOTE: usize = 500;

/// How many diagnostics are kept of each stream.
const DIAGNOSTICS: usize = 10;

/// Reads what a selftest prints, in memory of a fixed size. However that is split, what is found is the same.
pub struct OutputReader {
    program: ProgramName,
    stdout: Stream,
    stderr: Stream,
}

impl OutputReader {
    /// For the output of `program`: the name of the file that is run, by which its usage text is known; `sh` for a shell
    /// command, which may be any program's.
    pub fn new(program: &OsStr) -> Self {
        Self {
            program: ProgramName(program.as_bytes().to_owned()),
            stdout: Stream::default(),
            stderr: Stream::default(),
        }
    }

    /// Takes what it has printed next to its standard output.
    pub fn stdout(&mut self, bytes: &[u8]) {
        self.stdout.read(bytes, &self.program);
    }

    /// Takes what it has printed next to its standard error.
    pub fn stderr(&mut self, bytes: &[u8]) {
        self.stderr.read(bytes, &self.program);
    }

    /// What was found in all of it.
    pub fn finish(mut self) -> Evidence {
        let program = &self.program;
        let (out, err) = (&mut self.stdout, &mut self.stderr);
        out.end(program);
        err.end(program);
        let complaint = err.complaint.take().or(out.complaint.take());
        let (complaint, unknown_option) = complaint.unzip();
        Evidence {
            last_stdout: quote_last(&out.last),
            last_stderr: quote_last(&err.last),
            assertion: (self.stderr.assertion.finish(&program.0))
                .or(self.stdout.assertion.finish(&program.0)),
            ktap: both(self.stdout.ktap.finish(), self.stderr.ktap.finish()),
            usage: complaint.or(self.stdout.usage).or(self.stderr.usage),
            unknown_option: unknown_option.flatten(),
            diagnostics: [self.stderr.diagnostics, self.stdout.diagnostics].concat(),
        }
    }
}

/// What two streams say in KTAP.
fn both(mut one: Ktap, other: Ktap) -> Ktap {
    one.subtests.extend(other.subtests);
    for (count, other) in one.counts.iter_mut().zip(other.counts) {
        *count += other;
    }
    Ktap {
        mismatch: one.mismatch.or(other.mismatch),
        contradiction: one.contradiction.or(other.contradiction),
        bail_out: one.bail_out.or(other.bail_out),
        skip: one.skip.or(other.skip),
        running: one.running.or(other.running),
        ..one
    }
}

/// One stream: its lines, and what is found in them.
#[derive(Default)]
struct Stream {
    /// The beginning of a line whose end has not come yet.
    begun: Vec<u8>,
    /// Whether the line before ended with a CR, so that a LF right here ends no line of its own.
    is_after_cr: bool,
    ktap: ktap::KtapReader,
    assertion: assertion::AssertionReader,
    usage: Option<String>,
    /// A line in which getopt complains, and the option that it does not know.
    complaint: Option<(String, Option<String>)>,
    diagnostics: Vec<String>,
    last: Vec<u8>,
}

impl Stream {
    /// Splits `bytes` into lines. A CR ends one too: what follows it overwrites on a terminal what was there.
    fn read(&mut self, mut bytes: &[u8], program: &ProgramName) {
        if !self.begun.is_empty() {
            let Some(end) = memchr2(b'\n', b'\r', bytes) else {
                return self.begin(bytes);
            };
            let (rest, others) = bytes.split_at(end + 1);
            self.begin(rest);
            self.end(program);
            bytes = others;
        }
        if let Some(end) = memrchr2(b'\n', b'\r', bytes) {
            let (whole, others) = bytes.split_at(end + 1);
            self.lines(whole, program);
            bytes = others;
        }
        self.begin(bytes);
    }

    /// Keeps the next bytes of a line that is not complete.
    fn begin(&mut self, bytes: &[u8]) {
        for bytes in bytes.chunks(BEGUN) {
            self.begun.extend_from_slice(bytes);
            if self.begun.len() > BEGUN {
                // A header may lie across either end of what goes.
                let beyond = &self.begun[LIMIT - assertion::HEADER.len()..];
                let is_header = contains(beyond, assertion::HEADER);
                let left: &[u8] = if is_header { assertion::HEADER } else { b"\0" };
                let tail = self.begun.len() - assertion::HEADER.len();
                // Not by Vec::splice, which goes over them one by one.
                let end = LIMIT + left.len();
                self.begun[LIMIT..end].copy_from_slice(left);
                self.begun.copy_within(tail.., end);
                self.begun.truncate(end + assertion::HEADER.len());
            }
        }
    }

    /// The line that was begun has ended.
    fn end(&mut self, program: &ProgramName) {
        let mut begun = std::mem::take(&mut self.begun);
        if !begun.is_empty() && !matches!(begun.last(), Some(b'\n' | b'\r')) {
            begun.push(b'\n');
        }
        self.lines(&begun, program);
        begun.clear();
        self.begun = begun;
    }

    /// Takes whole lines, each with what ends it.
    fn lines(&mut self, block: &[u8], program: &ProgramName) {
        // Looked for in all lines at once: they are in hardly any, and this is much faster.
        let may_complain = self.complaint.is_none() && contains(block, b" option");
        let has_header = contains(block, assertion::HEADER);
        let each_counts = may_complain || has_header || self.assertion.is_open();
        let (mut start, mut last) = (0, None);
        for end in memchr2_iter(b'\n', b'\r', block) {
            let line = &block[start..end.min(start + LIMIT)];
            let is_rest_of_end = self.is_after_cr && block[end] == b'\n' && line.is_empty();
            self.is_after_cr = block[end] == b'\r';
            if !each_counts && line.first().is_some_and(|&first| is_plain(first)) {
                last = Some(line);
            } else if !is_rest_of_end {
                let is_header = has_header && contains(&block[start..end], assertion::HEADER);
                self.assertion.line(line, is_header);
                last = Some(line).filter(|line| self.line(line, program)).or(last);
            }
            start = end + 1;
        }
        if let Some(last) = last {
            self.last.clear();
            self.last.extend_from_slice(last);
        }
    }

    /// Takes a line, and returns whether it says something to people.
    fn line(&mut self, line: &[u8], program: &ProgramName) -> bool {
        let line = &*without_escapes(line);
        if self.ktap.line(line) || !says_something(line) {
            return false;
        }
        if self.usage.is_none() && program.is_usage(line) {
            self.usage = Some(quote(line));
        }
        if self.complaint.is_none() {
            self.complaint = program.complaint(line);
        }
        if self.diagnostics.len() < DIAGNOSTICS {
            self.diagnostics.extend(diagnostic(line));
        }
        true
    }
}

/// Whether a line that begins so is nothing but text for people.
fn is_plain(first: u8) -> bool {
    !matches!(
        first,
        0..=b' ' | 0x7f | b'#' | b'1' | b'B' | b'K' | b'R' | b'T' | b'U' | b'n' | b'o' | b'u'
    )
}

/// A line without escape sequences and NULs, which a terminal does not show.
fn without_escapes(mut line: &[u8]) -> Cow<'_, [u8]> {
    const ESC: u8 = 0x1b;
    let mut shown = Vec::new();
    while let Some(hidden) = memchr2(ESC, 0, line) {
        shown.extend_from_slice(&line[..hidden]);
        let length = match line[hidden] {
            ESC => escape_sequence(&line[hidden..]),
            _ => 1,
        };
        line = &line[hidden + length..];
        if memchr2(ESC, 0, line).is_none() {
            shown.extend_from_slice(line);
            return Cow::Owned(shown);
        }
    }
    Cow::Borrowed(line)
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    memmem::find(text, part).is_some()
}

/// Not blank, nor the seed that lib/test_util.c prints before all else.
fn says_something(line: &[u8]) -> bool {
    let is_mark = |byte: &u8| !byte.is_ascii_whitespace() && !byte.is_ascii_control();
    line.iter().any(is_mark) && !line.starts_with(b"Random seed: 0x")
}

/// The file name of what prints.
struct ProgramName(Vec<u8>);

impl ProgramName {
    fn is(&self, path: &[u8]) -> bool {
        path.rsplit(|&byte| byte == b'/').next() == Some(&self.0)
    }

    /// `usage: PROGRAM …`, or `usage: /PATH [-h]` of whatever a shell command or a script runs. All else that begins with
    /// `usage:` is about something else.
    fn is_usage(&self, line: &[u8]) -> bool {
        let Some((start, text)) = line.split_at_checked(b"usage:".len()) else {
            return false;
        };
        let text = text.trim_ascii();
        let end = text.iter().position(u8::is_ascii_whitespace);
        let (name, rest) = text.split_at(end.unwrap_or(text.len()));
        let is_path = matches!(name, [b'/', ..] | [b'.', b'/', ..] | [b'.', b'.', b'/', ..]);
        let is_synopsis = matches!(rest.trim_ascii().first(), None | Some(b'[' | b'<' | b'-'));
        start.eq_ignore_ascii_case(b"usage:") && (self.is(name) || (is_path && is_synopsis))
    }

    /// What getopt(3) prints, as glibc and as musl word it, and the option that it does not know.
    fn complaint(&self, line: &[u8]) -> Option<(String, Option<String>)> {
        let (before, text) = line.split_at(memmem::find(line, b" option")?);
        let (name, unknown) = if let Some(name) = before.strip_suffix(b": invalid") {
            (name, Some(text.strip_prefix(b" option -- ")?))
        } else if let Some(name) = before.strip_suffix(b": unrecognized") {
            (name, Some(&text[b" option".len()..]))
        } else {
            let wrong = ["requires an", "allow an", "take an", "is ambiguous"];
            let is_wrong = wrong.iter().any(|wrong| contains(text, wrong.as_bytes()));
            (before.strip_suffix(b":").filter(|_| is_wrong)?, None)
        };
        // A shell says only what it runs.
        let is_self = self.is(name) || name.contains(&b'/') || self.0 == b"sh";
        is_self.then(|| (quote(line), unknown.map(option)))
    }
}

/// An option as it is given, where getopt names it `'w'`, ` '--foo'`, `: w` or `: foo`.
fn option(text: &[u8]) -> String {
    let text = quote(text);
    let name = text.trim_matches([':', ' ', '\'', '-']);
    let dashes = if name.chars().count() > 1 { "--" } else { "-" };
    format!("{dashes}{name}")
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
    use crate::model::outcome::SubtestResult;

    /// What is found in the output of a program `x`.
    fn of(stdout: &str, stderr: &str) -> Evidence {
        let mut reader = OutputReader::new("x".as_ref());
        reader.stdout(stdout.as_bytes());
        reader.stderr(stderr.as_bytes());
        reader.finish()
    }

    #[test]
    fn the_last_line_is_the_last_that_says_something() {
        let stdout = "one\n two\x07\x1b[0m \n\n \t\x1b[0m\n\0\0\n\
            Random seed: 0x6b8b4567\n1..1\nok 1 a\n# Totals: pass:1\n";
        assert_eq!(of(stdout, "").last_stdout.as_deref(), Some("two\\x07"));
        assert_eq!(of("", "a\nb").last_stderr.as_deref(), Some("b"));
        assert_eq!(of("10%\r20%\r\n", "").last_stdout.as_deref(), Some("20%"));
        assert_eq!(of("\n", "Random seed: 0x1\n"), Evidence::default());
    }

    #[test]
    fn results_are_seen_on_either_stream_and_behind_what_a_terminal_does_not_show() {
        for text in [
            "not ok 1 a",
            "\x1b[31mnot ok\x1b[0m 1 a\x1b[0m\r\n",
            "\0\0not ok 1 a\n",
            "10%\rnot ok 1 a\n",
            "not ok\t1\ta\n",
            "\x1b]0;title\x07no\0t ok 1 a\r",
        ] {
            for evidence in [of(text, ""), of("", text)] {
                let ktap = evidence.ktap;
                let not_ok = ktap.count(SubtestResult::NotOk);
                assert_eq!((not_ok, &*ktap.subtests[0].name), (1, "a"), "{text:?}");
            }
        }
    }

    #[test]
    fn a_header_is_found_wherever_it_stands_in_a_line_of_any_length() {
        let text = |before, after| {
            let (before, after) = ("x".repeat(before), "y".repeat(after));
            format!("{before}==== Test Assertion Failure ===={after}\n  a.c:7: x\n")
        };
        let borders = [0, LIMIT - 10, LIMIT, BEGUN - 10, BEGUN, 3 * BEGUN];
        for (before, after) in borders.into_iter().flat_map(|at| [(at, 0), (at, at)]) {
            let text = text(before, after);
            for step in [7, 4000, BEGUN, text.len()] {
                let mut reader = OutputReader::new("x".as_ref());
                text.as_bytes()
                    .chunks(step)
                    .for_each(|bytes| reader.stderr(bytes));
                let line = reader.finish().assertion.map(|assertion| assertion.line);
                assert_eq!(line, Some(7), "{before} and {after} by {step}");
            }
        }
        let torn = format!(
            "{}==== Test Assert\nion Failure ====",
            "x".repeat(LIMIT - 16)
        );
        assert_eq!(of(&torn, "").assertion, None);
    }

    #[test]
    fn messages_with_carriage_returns_have_no_blank_lines_for_them() {
        let text = "==== Test Assertion Failure ====\r\n  a.c:7: x\r\n  pid=1 tid=1 errno=0 - S\r\n  \
            one\r\n\r\ntwo\r\n";
        let message = of(text, "").assertion.map(|assertion| assertion.message);
        assert_eq!(message.as_deref(), Some("one\n\ntwo"));
    }

    #[test]
    fn a_usage_text_is_one_of_the_program_itself() {
        for text in [
            "usage: x",
            "Usage: /some/where/x HELLO",
            "USAGE: ./y [-h] [-m mode]",
            "usage: /a/y -m mode",
            "usage: ../y",
        ] {
            let found = of(&format!("seed\n\n{text}\n"), "").usage;
            assert_eq!(found.as_deref(), Some(text));
            assert_eq!(of("", text).usage.as_deref(), Some(text));
        }
        for text in [
            "Usage: 45 MB",
            "usage: -s <seconds>",
            "usage:",
            "Usage: /dev/shm 45%",
            "usage: other [-h]",
            "Memory usage: x",
            "  usage: x",
            "usages: x",
        ] {
            assert_eq!(of(text, text).usage, None, "{text}");
        }
    }

    #[test]
    fn getopts_complaints_are_known_with_the_option_that_it_does_not_know() {
        for (text, option) in [
            ("./x: invalid option -- 'Z'", Some("-Z")),
            ("x: unrecognized option '--foo'", Some("--foo")),
            ("/a b/x: unrecognized option: foo", Some("--foo")),
            ("x: unrecognized option: Z", Some("-Z")),
            ("x: option requires an argument -- 's'", None),
            ("x: option '--foo' requires an argument", None),
            ("x: option '--f' is ambiguous; possibilities:", None),
            ("x: option '--f' doesn't allow an argument", None),
        ] {
            let found = of("usage: x\n", &format!("{text}\n"));
            assert_eq!(found.usage.as_deref(), Some(text));
            assert_eq!(found.unknown_option.as_deref(), option, "{text}");
        }
        for text in [
            "no such option",
            "testing: invalid optional features",
            "grep: invalid option -- 'Z'",
            "x: the option is set",
        ] {
            assert_eq!(of(text, "").usage, None, "{text}");
        }
        let mut shell = OutputReader::new("sh".as_ref());
        shell.stderr(b"y: invalid option -- 'Z'");
        assert_eq!(shell.finish().unknown_option.as_deref(), Some("-Z"));
    }

    #[test]
    fn what_the_harness_of_sub_tests_says_of_a_failure_is_kept() {
        let stderr = "\
# a/x.c:12:name:Expected 1 (1) == 2 (2)
# name: Test terminated unexpectedly by signal 11
# name: Test failed
# at 12:30: x
";
        let expected = [
            "a/x.c:12:name:Expected 1 (1) == 2 (2)",
            "name: Test terminated unexpectedly by signal 11",
        ];
        assert_eq!(of("", stderr).diagnostics, expected);
    }
}
