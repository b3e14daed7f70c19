//! Failed assertions in a selftest's output, as upstream's `test_assert()` (lib/assert.c) prints them.

use crate::model::outcome::Assertion;
use crate::model::printable::{printable, printable_within};

/// What a message keeps, in lines and in bytes of one line.
const MESSAGE_LINES: usize = 20;
const MESSAGE_LINE: usize = 500;

/// Finds the first assertion in lines given one by one.
#[derive(Debug, Default)]
pub struct Reader {
    step: Step,
    found: Option<Assertion>,
}

#[derive(Debug, Default)]
enum Step {
    #[default]
    Header,
    Place,
    Ids,
    Backtrace,
    Message {
        lines: usize,
    },
    Done,
}

impl Reader {
    /// Takes the next line.
    #[inline]
    pub fn line(&mut self, line: &[u8]) {
        // Nearly all lines.
        if !line.ends_with(b"=") && matches!(self.step, Step::Header | Step::Done) {
            return;
        }
        self.step_on(line);
    }

    fn step_on(&mut self, line: &[u8]) {
        // Unfinished output may stand before it on the line. A second one ends the first: two threads may fail at once.
        if line.ends_with(b"==== Test Assertion Failure ====") {
            self.step = if self.found.is_none() {
                Step::Place
            } else {
                Step::Done
            };
            return;
        }
        match &mut self.step {
            Step::Header | Step::Done => {}
            Step::Place => {
                self.found = Some(at_place(line));
                self.step = Step::Ids;
            }
            Step::Ids => {
                if let Some(assertion) = &mut self.found {
                    assertion.errno = errno(line);
                }
                self.step = Step::Backtrace;
            }
            Step::Backtrace => {
                if let Some(message) = line.strip_prefix(b"  ").filter(|_| !is_backtrace(line)) {
                    self.step = Step::Message { lines: 1 };
                    self.add_to_message(message);
                }
            }
            // The message has no end of its own. `# ` begins what kselftest_harness.h says of the sub-test that failed.
            Step::Message { lines } if *lines >= MESSAGE_LINES || line.starts_with(b"# ") => {
                self.step = Step::Done;
            }
            Step::Message { lines } => {
                *lines += 1;
                self.add_to_message(line);
            }
        }
    }

    /// The assertion found.
    pub fn finish(mut self) -> Option<Assertion> {
        if let Some(assertion) = &mut self.found {
            assertion
                .message
                .truncate(assertion.message.trim_end().len());
        }
        // A header that nothing follows was printed by a process killed just then: it failed all the same.
        let cut_off = matches!(self.step, Step::Place).then(|| at_place(b""));
        self.found.or(cut_off)
    }

    fn add_to_message(&mut self, line: &[u8]) {
        if let Some(assertion) = &mut self.found {
            if !assertion.message.is_empty() {
                assertion.message.push('\n');
            }
            assertion
                .message
                .push_str(&printable_within(line, MESSAGE_LINE));
        }
    }
}

/// Splits `FILE:LINE:REST`.
fn split_place(text: &str) -> Option<(&str, u32, &str)> {
    text.match_indices(':').find_map(|(colon, _)| {
        let (line, rest) = text[colon + 1..].split_once(':')?;
        Some((&text[..colon], line.parse().ok()?, rest))
    })
}

/// An assertion from its line `  FILE:LINE: EXPRESSION`; where that is something else, all of it is the expression.
fn at_place(line: &[u8]) -> Assertion {
    let text = printable(line.trim_ascii());
    let (file, line, expression) = split_place(&text).unwrap_or(("", 0, &text));
    Assertion {
        file: file.to_owned(),
        line,
        expression: expression.trim().to_owned(),
        message: String::new(),
        errno: None,
    }
}

/// The number in `  pid=1 tid=1 errno=13 - Permission denied`.
fn errno(line: &[u8]) -> Option<i32> {
    let start = memchr::memmem::find(line, b" errno=")? + b" errno=".len();
    let digits = line[start..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    std::str::from_utf8(&line[start..start + digits])
        .ok()?
        .parse()
        .ok()
}

/// Whether `line` is one of `cat -n`'s (`     1\t0x…: main at x.c:1`), or says that there is no backtrace.
fn is_backtrace(line: &[u8]) -> bool {
    let text = line.trim_ascii_start();
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (digits > 0 && text.get(digits) == Some(&b'\t')) || text == b"(stack trace empty)"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Assertion> {
        let mut reader = Reader::default();
        text.lines().for_each(|line| reader.line(line.as_bytes()));
        reader.finish()
    }

    fn assertion(
        file: &str,
        line: u32,
        expression: &str,
        message: &str,
        errno: Option<i32>,
    ) -> Assertion {
        Assertion {
            file: file.into(),
            line,
            expression: expression.into(),
            message: message.into(),
            errno,
        }
    }

    #[test]
    fn the_first_assertion_is_read_with_its_message_of_several_lines() {
        let text = "\
noise
progress... ==== Test Assertion Failure ====
  x86_64/foo_test.c:12: a ? b : c
  pid=1 tid=2 errno=22 - Invalid argument
sh: 1: addr2line: not found
     1\t0x0000000000402569: main at foo_test.c:12
     2\t (inlined by) f at foo_test.c:13
  first
second

  fourth

==== Test Assertion Failure ====
  lib/other.c:1: false
";
        let expected = assertion(
            "x86_64/foo_test.c",
            12,
            "a ? b : c",
            "first\nsecond\n\n  fourth",
            Some(22),
        );
        assert_eq!(read(text), Some(expected));
    }

    #[test]
    fn a_block_cut_off_anywhere_is_an_assertion_still() {
        let text = "\
==== Test Assertion Failure ====
  a.c:7: x
  pid=1 tid=1 errno=4 - E
  (stack trace empty)
  m
";
        for (lines, expected) in [
            (1, assertion("", 0, "", "", None)),
            (2, assertion("a.c", 7, "x", "", None)),
            (3, assertion("a.c", 7, "x", "", Some(4))),
            (4, assertion("a.c", 7, "x", "", Some(4))),
            (5, assertion("a.c", 7, "x", "m", Some(4))),
        ] {
            let cut: Vec<&str> = text.lines().take(lines).collect();
            assert_eq!(read(&cut.join("\n")), Some(expected), "{lines} lines");
        }
        assert_eq!(read("==== Test Assertion Failure ===\n  a.c:7: x\n"), None);
    }

    #[test]
    fn what_the_harness_of_sub_tests_adds_is_no_part_of_the_message() {
        let text = "\
==== Test Assertion Failure ====
  a.c:7: x
  pid=1 tid=1 errno=0 - Success
  m
# sub: Test failed
";
        assert_eq!(read(text), Some(assertion("a.c", 7, "x", "m", Some(0))));
    }

    #[test]
    fn a_garbled_place_is_kept_as_the_expression() {
        let text = "==== Test Assertion Failure ====\n  no place here\n  garbage\n  m\n";
        assert_eq!(
            read(text),
            Some(assertion("", 0, "no place here", "m", None))
        );
    }
}
