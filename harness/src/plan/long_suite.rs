//! A long suite in TOML: its parts are parsed and read on several CPUs.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use memchr::memmem;
use toml::de::DeTable;

use crate::plan::fields::Item;
use crate::plan::node::{Field, Node, Value, toml_fields};
use crate::plan::source::Source;
use crate::plan::suite_file::{SuiteFile, TestEntry};
use crate::plan::suite_toml::{MAX_TESTS, MAX_TEXT, Reader, read_with_reader};

/// How much is parsed at a time, in bytes: the parser takes forty times as much memory for it.
pub const PART: usize = 32 << 10;

/// The most CPUs that a file is read on.
const MOST_READERS: usize = 2;

/// The array of tests, as each part but the first begins.
const TESTS: &[u8] = b"[[test]]";

/// Reads a suite in parts of at least `size` bytes. `None` where it has to be read as a whole: where it is short, where a part
/// has an error, as one that ends amid a string, or holds anything but tests, and where anything is wrong with what it says.
pub fn read(path: &Path, text: &str, size: usize) -> Option<SuiteFile> {
    let parts = parts(text, size);
    let [first, _, ..] = parts.as_slice() else {
        return None;
    };
    let head = parse(text, first)?;
    // To an array that stands in the text as one nothing may be added.
    let begins = |field: &Field<'_>| text.as_bytes()[field.node.at..].starts_with(TESTS);
    if !head
        .iter()
        .any(|field| field.key == "test" && begins(field))
    {
        return None;
    }
    let source = Source::new(path, text);
    let (suite, reader) = read_with_reader(
        &source,
        Node {
            at: 0,
            value: Value::Table(head),
        },
    )?;
    let mut first = reader?;
    let (path, defaults) = (Arc::clone(&suite.path), Arc::clone(&first.defaults));
    let tests = vec![(0, std::mem::take(&mut first.tests))];
    let mut all = Share::of(tests, first, &source)?;

    let next = AtomicUsize::new(1);
    let read = || {
        let source = Source::new(&path, text);
        let mut reader = Reader::new(&source, Arc::clone(&path), Arc::clone(&defaults), 0);
        let mut tests = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(part) = parts.get(number) else {
                return Share::of(tests, reader, &source);
            };
            let [Field { node, .. }] = <[_; 1]>::try_from(parse(text, part)?).ok()?;
            Item::root(&source, node)
                .list("an array")?
                .for_each(|test| reader.read(test));
            tests.push((number, std::mem::take(&mut reader.tests)));
        }
    };
    thread::scope(|scope| {
        let count = num_cpus::get().min(MOST_READERS);
        // Where one cannot be started, the others do its work.
        let others: Vec<_> = (1..count)
            .flat_map(|_| thread::Builder::new().spawn_scoped(scope, read))
            .collect();
        all.add(read()?);
        for other in others {
            all.add(other.join().ok()??);
        }
        Some(())
    })?;
    Some(SuiteFile {
        tests: all.tests()?,
        ..suite
    })
}

/// What one reader has read, with which nothing is wrong.
struct Share<'a> {
    /// The tests of parts, by their numbers.
    tests: Vec<(usize, Vec<TestEntry>)>,
    names: Vec<Cow<'a, str>>,
    text: usize,
}

impl<'a> Share<'a> {
    fn of(
        tests: Vec<(usize, Vec<TestEntry>)>,
        reader: Reader<'_, 'a>,
        source: &Source<'a>,
    ) -> Option<Self> {
        let Reader { names, text, .. } = reader;
        source.is_faultless().then(|| Self {
            tests,
            names: names.into_names().collect(),
            text,
        })
    }

    fn add(&mut self, other: Self) {
        self.tests.extend(other.tests);
        self.names.extend(other.names);
        self.text += other.text;
    }

    /// All tests in their order. `None` where a name comes again, or they are too many together.
    fn tests(mut self) -> Option<Vec<TestEntry>> {
        let mut seen = HashSet::with_capacity(self.names.len());
        let are_unique = self.names.into_iter().all(|name| seen.insert(name));
        self.tests.sort_by_key(|(number, _)| *number);
        let mut all = Vec::with_capacity(self.tests.iter().map(|(_, tests)| tests.len()).sum());
        self.tests
            .into_iter()
            .for_each(|(_, mut tests)| all.append(&mut tests));
        (are_unique && all.len() <= MAX_TESTS && self.text <= MAX_TEXT).then_some(all)
    }
}

/// Where a text can be parted: every part but the first begins with a test.
fn parts(text: &str, size: usize) -> Vec<Range<usize>> {
    let next = [b"\n", TESTS].concat();
    let next = memmem::Finder::new(&next);
    let mut parts = Vec::new();
    let mut begin = 0;
    while begin < text.len() {
        let ahead = text.as_bytes().get(begin + size..).unwrap_or_default();
        let end = next
            .find(ahead)
            .map_or(text.len(), |at| begin + size + at + 1);
        parts.push(begin..end);
        begin = end;
    }
    parts
}

fn parse<'a>(text: &'a str, part: &Range<usize>) -> Option<Vec<Field<'a>>> {
    Some(toml_fields(
        DeTable::parse(&text[part.clone()]).ok()?.into_inner(),
        part.start,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::node::from_toml;
    use crate::plan::suite_toml;

    const SHORTEST: usize = TESTS.len();

    fn as_a_whole(text: &str) -> (Option<SuiteFile>, bool) {
        let source = Source::new(Path::new("f.toml"), text);
        (
            suite_toml::read(&source, from_toml(&source)),
            source.is_faultless(),
        )
    }

    fn in_parts(text: &str, size: usize) -> Option<SuiteFile> {
        read(Path::new("f.toml"), text, size)
    }

    #[test]
    fn a_suite_in_parts_is_what_it_is_as_a_whole() {
        let test = |name: &str| {
            format!(
                "[[test]]\nname = \"{name}\"\ncommand = \"true {{a}}\"\nmatrix = {{ a = [1, 2] }}\n\
                 [test.requires]\ncpus = 2\n"
            )
        };
        let several: String = ["a", "b", "c", "d", "e"].map(test).concat();
        for text in [
            &several,
            &format!("suite = \"x\"\ntimeout_s = 7\n{several}"),
        ] {
            let (whole, is_faultless) = as_a_whole(text);
            assert!(is_faultless && whole.as_ref().is_some_and(|suite| suite.tests.len() == 10));
            for size in text.find("[[test]]").unwrap() + SHORTEST..text.len() {
                let is_long = parts(text, size).len() > 1;
                assert_eq!(
                    in_parts(text, size),
                    whole.clone().filter(|_| is_long),
                    "{size}"
                );
            }
        }
        assert!(in_parts(&several, SHORTEST).is_some());
    }

    #[test]
    fn what_is_another_text_as_a_whole_or_has_a_problem_is_not_read_in_parts() {
        let test = |name: &str| format!("[[test]]\nname = \"{name}\"\ncommand = \"true\"\n");
        let [a, b, c] = ["a", "b", "c"].map(test);
        assert!(in_parts(&format!("{a}{b}{c}"), SHORTEST).is_some());
        for text in [
            // A second table of the same name.
            format!("{a}{b}[requires]\n{c}[requires]\n"),
            // Text of a string.
            format!("{a}{b}setup = \"\"\"\n[[test]]\n[[test]]\n\"\"\"\n{c}"),
            // Arrays that may not be added to.
            format!("test = [{{ name = \"x\" }}]\n{a}{b}"),
            format!("b = [\n[[test]]\n]\n{a}{b}"),
            // No part, at the end.
            format!("{a}{b}{c}x = y\n"),
            // The same name in different parts, and what is wrong in one part.
            format!("{a}{b}{a}"),
            format!("{a}{b}{c}unknown = 1\n"),
            format!("suite = 1\n{a}{b}{c}"),
        ] {
            assert!(parts(&text, SHORTEST).len() > 1);
            assert_eq!(in_parts(&text, SHORTEST), None, "{text}");
        }
    }
}
