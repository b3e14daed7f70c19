//! A file's text, and the problems found in it so far.

use std::cell::{Cell, OnceCell, RefCell};
use std::path::Path;

use memchr::{memchr_iter, memrchr};

use crate::plan::problem::Problem;

/// A file that is being read. Problems are noted by byte offset and get their lines and columns at the end, in one
/// pass, so that even a long file with many problems is read in linear time.
#[derive(Debug)]
pub struct Source<'a> {
    /// The file, as the user would name it.
    pub path: &'a Path,
    /// What it holds.
    pub text: &'a str,
    found: RefCell<Vec<Found>>,
    sound: Cell<bool>,
    line_starts: OnceCell<Vec<usize>>,
}

#[derive(Debug)]
struct Found {
    at: usize,
    kind: Kind,
    message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// The text cannot be parsed here.
    Syntax,
    /// What the text says here is wrong.
    Meaning,
}

impl<'a> Source<'a> {
    /// A file in which nothing wrong has been found yet.
    pub fn new(path: &'a Path, text: &'a str) -> Self {
        Self {
            path,
            text,
            found: RefCell::default(),
            sound: Cell::new(true),
            line_starts: OnceCell::new(),
        }
    }

    /// Notes what is wrong with what stands at the byte offset `at`.
    pub fn problem(&self, at: usize, message: impl Into<String>) {
        self.note(at, Kind::Meaning, message.into());
    }

    /// Notes that something is lacking at the byte offset `at`, unless a syntax error may have swallowed it.
    pub fn lacking(&self, at: usize, message: impl Into<String>) {
        if self.sound.get() {
            self.problem(at, message);
        }
    }

    /// Notes that the text cannot be parsed at the byte offset `at`.
    pub fn syntax_error(&self, at: usize, message: impl Into<String>) {
        self.sound.set(false);
        self.note(at, Kind::Syntax, message.into());
    }

    /// Whether nothing wrong has been found.
    pub fn is_faultless(&self) -> bool {
        self.found.borrow().is_empty()
    }

    fn note(&self, at: usize, kind: Kind, message: String) {
        self.found.borrow_mut().push(Found { at, kind, message });
    }

    /// The byte offset of a part of the text: of that very slice, not of one like it.
    pub fn place_of(&self, part: &str) -> usize {
        part.as_ptr()
            .addr()
            .saturating_sub(self.text.as_ptr().addr())
    }

    /// The line, from 1, of the byte offset `at`.
    pub fn line(&self, at: usize) -> usize {
        self.line_starts().partition_point(|&start| start <= at)
    }

    /// The byte offset of a line and a column in bytes, both from 1.
    pub fn offset(&self, line: usize, column: usize) -> usize {
        let start = self
            .line_starts()
            .get(line.saturating_sub(1))
            .copied()
            .unwrap_or(self.text.len());
        start
            .saturating_add(column.saturating_sub(1))
            .min(self.text.len())
    }

    fn line_starts(&self) -> &[usize] {
        self.line_starts.get_or_init(|| {
            let after_newlines = self
                .text
                .bytes()
                .enumerate()
                .filter(|&(_, byte)| byte == b'\n');
            std::iter::once(0)
                .chain(after_newlines.map(|(at, _)| at + 1))
                .collect()
        })
    }

    /// Turns byte offsets into lines and columns.
    pub fn positions(&self) -> Positions<'a> {
        Positions {
            text: self.text.as_bytes(),
            reached: 0,
            line: 1,
            column: 1,
        }
    }

    /// What was found, in the order of the text. Of a line that cannot be parsed only the first error is told, and
    /// nothing of the meaning of what follows a broken table header, because the parser has lost its way there.
    pub fn into_problems(self) -> Vec<Problem> {
        let mut found = self.found.take();
        found.sort_by_key(|found| found.at);
        let syntax = || found.iter().filter(|found| found.kind == Kind::Syntax);
        let mut unparsable: Vec<(usize, usize)> = syntax()
            .map(|found| (self.line(found.at), found.at))
            .collect();
        unparsable.dedup_by_key(|(line, _)| *line);
        let lost = unparsable
            .iter()
            .find(|(line, _)| self.is_header(*line))
            .map(|(_, at)| *at);

        let mut positions = self.positions();
        found
            .into_iter()
            .filter(|found| {
                let line = self.line(found.at);
                match unparsable.binary_search_by_key(&line, |(line, _)| *line) {
                    Ok(index) => found.kind == Kind::Syntax && found.at == unparsable[index].1,
                    Err(_) => lost.is_none_or(|lost| found.at < lost),
                }
            })
            .map(|found| {
                let position = Some(positions.of(found.at));
                let place = crate::model::problem::WrittenAt {
                    path: self.path.into(),
                    position,
                };
                place.problem(found.message)
            })
            .collect()
    }

    fn is_header(&self, line: usize) -> bool {
        let start = self.offset(line, 1);
        self.text[start..]
            .trim_start_matches([' ', '\t'])
            .starts_with('[')
    }
}

/// A cursor that turns byte offsets into lines and columns: in one pass over the text, if the offsets ascend.
#[derive(Debug)]
pub struct Positions<'a> {
    text: &'a [u8],
    reached: usize,
    line: usize,
    column: usize,
}

impl Positions<'_> {
    /// The line and the column, both from 1, of the byte offset `at`.
    pub fn of(&mut self, at: usize) -> (usize, usize) {
        let at = at.min(self.text.len());
        if at < self.reached {
            (self.reached, self.line, self.column) = (0, 1, 1);
        }
        let mut line = &self.text[self.reached..at];
        if let Some(end) = memrchr(b'\n', line) {
            self.line += memchr_iter(b'\n', &line[..=end]).count();
            self.column = 1;
            line = &line[end + 1..];
        }
        // UTF-8 (RFC 3629, section 3): 10xxxxxx continues a character that has been counted.
        self.column += line
            .iter()
            .filter(|byte| !matches!(byte, 0x80..=0xbf))
            .count();
        self.reached = at;
        (self.line, self.column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_come_in_the_order_of_the_text_with_columns_in_characters() {
        let source = Source::new(Path::new("f"), "ab\nöö x\n");
        source.problem(8, "second");
        source.problem(1, "first");
        let problems: Vec<String> = source
            .into_problems()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(problems, ["f:1:2: first", "f:2:4: second"]);
    }

    #[test]
    fn positions_may_be_asked_for_in_any_order_and_beyond_the_end() {
        let source = Source::new(Path::new("f"), "a\nb");
        let mut positions = source.positions();
        assert_eq!(
            [positions.of(2), positions.of(0), positions.of(99)],
            [(2, 1), (1, 1), (2, 2)]
        );
        assert_eq!((source.line(1), source.line(2)), (1, 2));
        assert_eq!(
            (
                source.offset(2, 1),
                source.offset(9, 9),
                source.offset(0, 0)
            ),
            (2, 3, 0)
        );
    }

    #[test]
    fn a_line_that_cannot_be_parsed_has_one_problem_and_hides_what_it_may_have_swallowed() {
        let source = Source::new(Path::new("f"), "a = b c\nd = 1\n[[t\ne = 1\n");
        source.syntax_error(6, "second error");
        source.syntax_error(4, "not a value");
        source.problem(4, "not a string");
        source.problem(8, "unknown key");
        source.lacking(0, "missing key");
        source.syntax_error(17, "unclosed");
        source.problem(18, "unknown key");
        let problems: Vec<String> = source
            .into_problems()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            problems,
            [
                "f:1:5: not a value",
                "f:2:1: unknown key",
                "f:3:4: unclosed"
            ]
        );
    }
}
