//! Failed assertions in a selftest's output, as upstream's `test_assert()` (lib/assert.c) prints them.

use crate::model::outcome::Assertion;
use crate::model::text::{printable, printable_within};

/// What an assertion begins with. Unfinished output may stand before it on its line.
pub(super) const HEADER: &[u8] = b"==== Test Assertion Failure ====";

/// What a message keeps, in lines and in bytes of one line.
const MESSAGE_LINES: usize = 20;
const MESSAGE_LINE: usize = 500;

/// How many lines behind the header are read: assert.c prints 18 frames, each with those that were inlined into it.
const LINES: usize = 100;

/// Finds the first assertion in lines given one by one.
#[derive(Default)]
pub(super) struct AssertionReader {
    /// The lines behind the header; `None` before it has come.
    lines: Option<Vec<String>>,
    is_complete: bool,
}

/// A line of the backtrace.
struct Frame {
    is_main: bool,
    /// The name of the source file, without its directory.
    file: String,
    line: String,
}

impl AssertionReader {
    /// Whether every line counts.
    pub(super) fn is_open(&self) -> bool {
        self.lines.is_some() && !self.is_complete
    }

    /// Takes the next line; `is_header` says whether [`HEADER`] is in it.
    pub(super) fn line(&mut self, line: &[u8], is_header: bool) {
        match &mut self.lines {
            None if is_header => self.lines = Some(Vec::new()),
            None => {}
            // A second one ends the first: two threads may fail at once.
            Some(_) if is_header => self.is_complete = true,
            Some(_) if self.is_complete => {}
            Some(lines) => {
                lines.push(match lines.is_empty() {
                    true => printable(line.trim_ascii()),
                    false => printable_within(line, MESSAGE_LINE),
                });
                self.is_complete = lines.len() == LINES;
            }
        }
    }

    /// The assertion found in the output of `program`, which is the name of its file.
    pub(super) fn finish(self, program: &[u8]) -> Option<Assertion> {
        let mut lines = self.lines?.into_iter();
        // A header that nothing follows was printed by a process killed just then: it failed all the same.
        let mut assertion = at_place(&lines.next().unwrap_or_default());
        assertion.errno = lines.next().and_then(|line| errno(&line));
        let is_message = |line: &String| line.starts_with("  ") && !is_backtrace(line);
        let (mut frames, mut message) = (Vec::new(), Vec::new());
        for line in lines {
            if message.is_empty() && !is_message(&line) {
                frames.extend(frame(&line).filter(|_| is_backtrace(&line)));
            } else if message.len() == MESSAGE_LINES || line.starts_with("# ") {
                // It has no end of its own. `# ` begins what kselftest_harness.h says of the sub-test that failed.
                break;
            } else {
                let indent = if message.is_empty() { "  " } else { "" };
                message.push(line[indent.len()..].to_owned());
            }
        }
        message
            .join("\n")
            .trim_end()
            .clone_into(&mut assertion.message);
        let is_elsewhere = |part: &str| part == "lib" || part == "include";
        if assertion.file.split('/').any(is_elsewhere) {
            assertion.caller = caller(&frames, program);
        }
        Some(assertion)
    }
}

/// The first frame in the selftest's own source: in `PROGRAM.c`, or else in the file that `main` is in. The backtrace gives
/// names of files without directories, so nothing else tells them from the library's.
fn caller(frames: &[Frame], program: &[u8]) -> Option<String> {
    let stem = String::from_utf8_lossy(program);
    let stem = stem.rsplit_once('.').map_or(&*stem, |(stem, _)| stem);
    let own = |frame: &&Frame| frame.file.strip_suffix(".c") == Some(stem);
    let found = frames.iter().find(own).or_else(|| {
        let main = frames.iter().find(|frame| frame.is_main)?;
        frames.iter().find(|frame| frame.file == main.file)
    })?;
    Some(format!("{}:{}", found.file, found.line))
}

/// Splits `FILE:LINE:REST`.
fn split_place(text: &str) -> Option<(&str, u32, &str)> {
    text.match_indices(':').find_map(|(colon, _)| {
        let (line, rest) = text[colon + 1..].split_once(':')?;
        Some((&text[..colon], line.parse().ok()?, rest))
    })
}

/// An assertion from its line `  FILE:LINE: EXPRESSION`; where that is something else, all of it is the expression.
fn at_place(text: &str) -> Assertion {
    let (file, line, expression) = split_place(text).unwrap_or(("", 0, text));
    Assertion {
        file: file.to_owned(),
        line,
        expression: expression.trim().to_owned(),
        message: String::new(),
        errno: None,
        caller: None,
    }
}

/// The number in `  pid=1 tid=1 errno=13 - Permission denied`.
fn errno(line: &str) -> Option<i32> {
    let (_, number) = line.split_once(" errno=")?;
    number.split(' ').next()?.parse().ok()
}

/// Whether `line` is one of `cat -n`'s (`     1\t0x…: main at x.c:1`), or says that there is no backtrace.
fn is_backtrace(line: &str) -> bool {
    let text = line.trim_ascii_start();
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    (rest.len() < text.len() && rest.starts_with('\t')) || text == "(stack trace empty)"
}

/// `     6\t (inlined by) main at smm_test.c:138 (discriminator 4)`, as addr2line(1) and `cat -n` make it.
fn frame(line: &str) -> Option<Frame> {
    let (function, place) = line.rsplit_once(" at ")?;
    let (file, line) = place.split(' ').next()?.rsplit_once(':')?;
    line.parse::<u32>().ok()?;
    Some(Frame {
        is_main: function.ends_with(" main"),
        file: file.rsplit('/').next()?.to_owned(),
        line: line.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use memchr::memmem;

    use super::*;

    fn read(text: &str, program: &str) -> Option<Assertion> {
        let mut reader = AssertionReader::default();
        for line in text.lines().map(str::as_bytes) {
            reader.line(line, memmem::find(line, HEADER).is_some());
        }
        reader.finish(program.as_bytes())
    }

    fn assertion(file: &str, line: u32, expression: &str, message: &str) -> Assertion {
        Assertion {
            file: file.into(),
            line,
            expression: expression.into(),
            message: message.into(),
            errno: None,
            caller: None,
        }
    }

    #[test]
    fn the_first_assertion_is_read_with_its_message_of_several_lines() {
        let text = "\
noise
progress... ==== Test Assertion Failure ====\x1b[0m
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
        let message = "first\nsecond\n\n  fourth";
        let expected = Assertion {
            errno: Some(22),
            ..assertion("x86_64/foo_test.c", 12, "a ? b : c", message)
        };
        assert_eq!(read(text, "foo_test"), Some(expected));
    }

    #[test]
    fn of_one_in_the_library_the_selftests_own_line_is_found() {
        let text = "\
==== Test Assertion Failure ====
  lib/kvm_util.c:34: fd >= 0
  pid=7126 tid=7126 errno=13 - Permission denied
     1\t0x00000000004040f5: open_path_or_exit at kvm_util.c:34 (discriminator 4)
     2\t (inlined by) kvm_check_cap at kvm_util.c:173
     3\t0x0000000000402483: kvm_has_cap at kvm_util.h:261
     4\t (inlined by) helper at smm_test.c:77 (discriminator 2)
     5\t (inlined by) main at smm_test.c:138
     6\t0x00007f5f9809b249: ?? ??:0
     7\t0x0000000000402960: _start at ??:?
  Failed to open '/dev/kvm'
";
        let caller = |text: &str, program| read(text, program).and_then(|found| found.caller);
        for program in ["smm_test", "smm_test.sh", "sh"] {
            assert_eq!(caller(text, program).as_deref(), Some("smm_test.c:77"));
        }
        let in_thread = text.replace("main at smm_test.c", "thread at other.c");
        assert_eq!(
            caller(&in_thread, "smm_test").as_deref(),
            Some("smm_test.c:77")
        );
        assert_eq!(caller(&in_thread, "sh"), None);
        let in_test = text.replace("lib/kvm_util.c", "x86_64/smm_test.c");
        assert_eq!(caller(&in_test, "smm_test"), None);
    }

    #[test]
    fn a_block_cut_off_anywhere_is_an_assertion_still() {
        let text = "\
==== Test Assertion Failure ====
  a.c:7: x
  pid=1 tid=1 errno=4 - E
  (stack trace empty)
  m
# sub: Test failed
";
        let errno = |assertion| Assertion {
            errno: Some(4),
            ..assertion
        };
        for (lines, expected) in [
            (1, assertion("", 0, "", "")),
            (2, assertion("a.c", 7, "x", "")),
            (3, errno(assertion("a.c", 7, "x", ""))),
            (4, errno(assertion("a.c", 7, "x", ""))),
            (5, errno(assertion("a.c", 7, "x", "m"))),
            (6, errno(assertion("a.c", 7, "x", "m"))),
        ] {
            let cut: Vec<&str> = text.lines().take(lines).collect();
            assert_eq!(read(&cut.join("\n"), "a"), Some(expected), "{lines} lines");
        }
        assert_eq!(read(&text.replace("====\n", "===\n"), "a"), None);
    }

    #[test]
    fn a_garbled_place_is_kept_as_the_expression() {
        let text = "==== Test Assertion Failure ====\n  no place here\n  garbage\n  m\n";
        assert_eq!(
            read(text, "a"),
            Some(assertion("", 0, "no place here", "m"))
        );
    }
}
