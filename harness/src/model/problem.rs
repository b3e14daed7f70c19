//! What is wrong with the files that the user gave: every problem with its place.

use std::cell::Cell;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use crate::model::value::Identifier;

/// How many characters of a text messages show.
const MAX_EXCERPT: usize = 80;

/// Where something is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenAt {
    /// The file, or directory, as the user would name it.
    pub path: Arc<Path>,
    /// Line and column, both from 1, where there is text to point at.
    pub position: Option<(usize, usize)>,
}

impl WrittenAt {
    /// What is wrong there: one sentence, lower case, without a full stop.
    pub fn problem(&self, message: impl Into<String>) -> Problem {
        Problem {
            place: self.clone(),
            message: message.into(),
        }
    }
}

impl From<&Path> for WrittenAt {
    fn from(path: &Path) -> Self {
        Self {
            path: path.into(),
            position: None,
        }
    }
}

impl fmt::Display for WrittenAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        match self.position {
            Some((line, column)) => write!(f, ":{line}:{column}"),
            None => Ok(()),
        }
    }
}

/// One thing wrong with a file, or a directory, that the user gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: WrittenAt,
    /// One sentence, lower case, without a full stop.
    pub message: String,
}

impl Problem {
    /// A problem of the whole file or directory.
    pub fn of_file(path: &Path, message: impl Into<String>) -> Self {
        WrittenAt::from(path).problem(message)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// The start of a text, fit for a message: no control characters, not too long.
pub fn excerpt(text: &str) -> String {
    excerpt_within(text, MAX_EXCERPT)
}

/// The same, of at most `limit` characters.
pub fn excerpt_within(text: &str, limit: usize) -> String {
    let mut characters = text.chars();
    let escape = |c: char| match c {
        '"' | '\'' | '\\' => c.to_string(),
        c => c.escape_debug().to_string(),
    };
    let mut excerpt: String = characters.by_ref().take(limit).map(escape).collect();
    if characters.next().is_some() {
        excerpt.push('…');
    }
    excerpt
}

/// What to say after an unknown word: the known one nearest to it or, where none is near, all of them.
pub fn hint(word: &str, known: &[&str]) -> String {
    if let Some(nearest) = nearest(word, known.iter().copied()) {
        return format!("; did you mean `{nearest}`?");
    }
    let all: Vec<String> = known.iter().map(|known| format!("`{known}`")).collect();
    if all.is_empty() {
        String::new()
    } else {
        format!("; known here: {}", all.join(", "))
    }
}

/// The one of the `known` words that `word` may have been meant to be.
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let distance = |known: &str| strsim::damerau_levenshtein(word, known);
    known
        .into_iter()
        // Nothing near is that much longer, and the time to compare grows with the length.
        .filter(|known| word.len() <= 2 * known.len() + 1)
        .map(|known| (distance(known), known))
        .filter(|(distance, known)| *distance <= known.len().max(3) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// How many characters of a parser's message are shown: more than any of its own, less than a value can have.
const MAX_MESSAGE: usize = 400;

/// A file of the configuration on its way through serde: its text, and where its lines begin.
///
/// serde stops at the first mistake. A reader therefore parses the file once, takes its tables apart, and reads each by
/// itself: so the first mistake of every table is told at once.
#[derive(Debug)]
pub struct TextFile<'a> {
    /// The file, as the user would name it.
    pub path: Arc<Path>,
    /// What it holds.
    pub text: &'a str,
    line_starts: Vec<usize>,
    /// A byte offset whose column, from 0, is known: places of one long line are mostly asked for in their order.
    last: Cell<(usize, usize)>,
}

impl<'a> TextFile<'a> {
    /// The file `path`, which holds `text`.
    pub fn new(path: &Path, text: &'a str) -> Self {
        let after = memchr::memchr_iter(b'\n', text.as_bytes()).map(|newline| newline + 1);
        Self {
            path: path.into(),
            text,
            line_starts: std::iter::once(0).chain(after).collect(),
            last: Cell::default(),
        }
    }

    /// The line and the column, in characters, both from 1, of the byte offset `at`.
    pub fn position(&self, at: usize) -> (usize, usize) {
        let at = at.min(self.text.len());
        let line = self.line_starts.partition_point(|&start| start <= at);
        let start = self.line_starts[line - 1];
        let (known, column) = self.last.get();
        let (from, column) = if (start..=at).contains(&known) {
            (known, column)
        } else {
            (start, 0)
        };
        // UTF-8 (RFC 3629, section 3): 10xxxxxx continues a character that has been counted.
        let characters = self.text.as_bytes()[from..at].iter();
        let column = column + characters.filter(|byte| *byte & 0xc0 != 0x80).count();
        self.last.set((at, column));
        (line, column + 1)
    }

    /// The byte offset of a line, and a column in bytes, both from 1.
    pub fn offset(&self, line: usize, column: usize) -> usize {
        let start = self.line_starts.get(line.saturating_sub(1));
        let at = start.map_or(self.text.len(), |start| start + column.saturating_sub(1));
        at.min(self.text.len())
    }

    /// The byte offset of a part of the text: of that very slice, not of one like it.
    pub fn place_of(&self, part: &str) -> usize {
        let start = self.text.as_ptr().addr();
        part.as_ptr().addr().saturating_sub(start)
    }

    /// Where the byte offset `at` is.
    pub fn place(&self, at: usize) -> WrittenAt {
        WrittenAt {
            path: Arc::clone(&self.path),
            position: Some(self.position(at)),
        }
    }

    /// What is wrong at the byte offset `at`.
    pub fn problem(&self, at: usize, message: impl Into<String>) -> Problem {
        self.place(at).problem(message)
    }

    /// What serde, or a parser, says is wrong there, in our words.
    pub fn refused(&self, at: usize, message: &str) -> Problem {
        self.problem(at, in_our_words(message))
    }

    /// The name of what the file defines, where no `key` in it says one: its stem.
    ///
    /// # Errors
    /// That is no identifier.
    pub fn name(&self, key: &str) -> Result<Identifier, Problem> {
        let stem = self.path.file_stem().unwrap_or_default();
        let name = Identifier::new(stem.to_string_lossy().into_owned());
        name.map_err(|problem| {
            let message = format!("{problem}: rename the file, or say `{key} = \"…\"`");
            self.problem(0, message)
        })
    }

    /// Parses TOML.
    ///
    /// # Errors
    /// Where it is no TOML: the first error of each line. What the text around them says is not looked at.
    pub fn parse(&self) -> Result<DeTable<'a>, Vec<Problem>> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        let place = |error: &toml::de::Error| error.span().map_or(0, |span| span.start);
        let mut problems: Vec<Problem> = errors
            .iter()
            .map(|error| self.refused(place(error), error.message()))
            .collect();
        if problems.is_empty() {
            return Ok(table.into_inner());
        }
        problems.sort_by_key(|problem| problem.place.position);
        problems.dedup_by_key(|problem| problem.place.position.map(|(line, _)| line));
        Err(problems)
    }

    /// Reads a value, such as a table, by serde.
    ///
    /// # Errors
    /// The first mistake in it.
    pub fn read<T: Deserialize<'a>>(&self, value: Spanned<DeValue<'a>>) -> Result<T, Problem> {
        let start = value.span().start;
        T::deserialize(ValueDeserializer::from(value)).map_err(|error| {
            let at = error.span().map_or(start, |span| span.start);
            self.refused(at, error.message())
        })
    }

    /// Reads a file that has nothing but tables of one kind, `[[key]]`; and the first mistake of each.
    pub fn read_tables<T: Deserialize<'a>>(
        &self,
        mut file: DeTable<'a>,
        key: &str,
    ) -> (Vec<T>, Vec<Problem>) {
        let (mut read, mut problems) = (Vec::new(), Vec::new());
        let tables = file.remove(key);
        match tables.map(|tables| (tables.span().start, tables.into_inner())) {
            Some((_, DeValue::Array(tables))) => {
                for table in tables {
                    match self.read(table) {
                        Ok(table) => read.push(table),
                        Err(problem) => problems.push(problem),
                    }
                }
            }
            Some((at, _)) => {
                let message = format!("`{key}` must be an array of tables, each `[[{key}]]`");
                problems.push(self.problem(at, message));
            }
            None => {}
        }
        for other in file.keys() {
            let (at, word) = (other.span().start, other.get_ref());
            let message = format!("unknown key `{}`{}", excerpt(word), hint(word, &[key]));
            problems.push(self.problem(at, message));
        }
        (read, problems)
    }

    /// Reads a whole table, such as what is left of the file's when others were taken out of it.
    ///
    /// # Errors
    /// The first mistake in it.
    pub fn read_table<T: Deserialize<'a>>(&self, table: DeTable<'a>) -> Result<T, Problem> {
        self.read(Spanned::new(0..0, DeValue::Table(table)))
    }
}

/// serde's message in our words, with the nearest of the known words.
fn in_our_words(message: &str) -> String {
    for (start, what) in [("unknown field `", "key"), ("unknown variant `", "word")] {
        let unknown = message.strip_prefix(start);
        if let Some((word, known)) = unknown.and_then(|rest| rest.rsplit_once("`, expected ")) {
            // What is known stands between backticks: one of `a`, `b`.
            let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
            return format!("unknown {what} `{}`{}", excerpt(word), hint(word, &known));
        }
    }
    let message = match message.split_once(" field `") {
        Some((kind @ ("missing" | "duplicate"), rest)) => format!("{kind} key `{rest}"),
        _ => message.to_owned(),
    };
    excerpt_within(&message, MAX_MESSAGE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::value::{Count, Entries, OneOrMore, PageSize, Scalar, Size};

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Table {
        name: Identifier,
        #[serde(default)]
        count: Option<Count<10>>,
        #[serde(default)]
        size: Option<Size>,
        #[serde(default)]
        pages: Entries<Spanned<PageSize>, Count<4>>,
        #[serde(default)]
        words: Option<OneOrMore<Identifier>>,
        #[serde(default)]
        any: Entries<Spanned<String>, Spanned<Scalar>>,
    }

    fn read(text: &str) -> Result<Table, Vec<String>> {
        let file = TextFile::new(Path::new("f"), text);
        file.parse()
            .and_then(|table| file.read_table(table).map_err(|problem| vec![problem]))
            .map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_table_is_read_in_the_order_of_its_text() {
        let table = read(
            "name = \"a\"\ncount = 10\nsize = \"2K\"\npages = { 2M = 4, 1G = 1 }\nwords = \"b\"\n\
             any = { z = 1, y = true, x = \"é\" }",
        )
        .unwrap();
        let any: Vec<_> = table.any.0.iter().map(|(key, _)| key.get_ref()).collect();
        assert_eq!(any, ["z", "y", "x"]);
        assert_eq!(table.pages.0[0].0.span(), 44..46);
        assert_eq!(
            (table.count, table.size),
            (Some(Count(10)), Some(Size(2048)))
        );
        assert_eq!(table.words.unwrap().0, [Identifier("b".to_owned())]);
        assert_eq!(table.name.0, "a");
    }

    #[test]
    fn the_first_mistake_of_a_table_has_its_place_and_the_nearest_word() {
        for (text, problem) in [
            ("nme = 1", "1:1: unknown key `nme`; did you mean `name`?"),
            (
                "\"a`, b\" = 1",
                "1:1: unknown key `a`, b`; known here: `name`, `count`, `size`, `pages`, `words`, `any`",
            ),
            ("count = 1", "1:1: missing key `name`"),
            (
                "name = \"a-b\"",
                "1:8: the name \"a-b\" is no identifier; `a_b` would be one",
            ),
            (
                "count = 11",
                "1:9: invalid value: integer `11`, expected a whole number from 1 to 10",
            ),
            (
                "\nsize = \"2\"",
                "2:8: invalid value: string \"2\", expected a size such as `2M` (K, M, G or T)",
            ),
            (
                "pages = { 2M = 1, 3M = 1 }",
                "1:19: \"3M\" is no size of a hugepage, as \"2M\" and \"1G\" are",
            ),
            (
                "pages = { 2M = 0 }",
                "1:16: invalid value: integer `0`, expected a whole number from 1 to 4",
            ),
            (
                "words = []",
                "1:9: invalid length 0, expected one value or more",
            ),
            (
                "any = { x = \"\\u0000\" }",
                "1:13: invalid value: string \"\\0\", expected a string without NUL",
            ),
            (
                "any = { x = [1] }",
                "1:13: invalid type: sequence, expected a string, a whole number or a boolean",
            ),
            (
                "any = 1",
                "1:7: invalid type: integer `1`, expected a table",
            ),
        ] {
            assert_eq!(read(text).unwrap_err(), [format!("f:{problem}")], "{text}");
        }
    }

    #[test]
    fn of_each_line_that_is_no_toml_the_first_error_is_told() {
        assert_eq!(
            read("a = b c\nd = 1\n[[t\ne = 1\n").unwrap_err(),
            [
                "f:1:5: string values must be quoted, expected literal string",
                "f:3:4: unclosed array table, expected `]]`"
            ]
        );
    }

    #[test]
    fn places_may_be_asked_for_in_any_order_and_beyond_the_end() {
        let file = TextFile::new(Path::new("f"), "a\nöb\n");
        let places = [4, 2, 0, 5, 4, 99].map(|at| file.position(at));
        assert_eq!(places, [(2, 2), (2, 1), (1, 1), (2, 3), (2, 2), (3, 1)]);
        assert_eq!(
            [file.offset(2, 3), file.offset(9, 9), file.offset(0, 0)],
            [4, 6, 0]
        );
    }
}
