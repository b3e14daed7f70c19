//! Reads a suite from TOML.

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use crate::model::name;
use crate::plan::fields::{Fields, Item, short_enough};
use crate::plan::matrix::Matrix;
use crate::plan::node::{Node, Value};
use crate::plan::placeholder::{NCPUS, Template};
use crate::plan::settings::Settings;
use crate::plan::source::{Positions, Source};
use crate::plan::suite_file::{Names, Place, SuiteFile, TestEntry, What};

/// How many tests the matrices of one file may make.
pub(crate) const MAX_TESTS: usize = 100_000;

/// How many bytes of command lines the matrices of one file may make.
pub(crate) const MAX_TEXT: usize = 256 << 20;

/// Reads a suite from the tree of a TOML file; `None`, with the problems noted, where it has not even a name.
pub fn read(source: &Source<'_>, root: Node<'_>) -> Option<SuiteFile> {
    let (suite, reader) = read_with_reader(source, root)?;
    Some(SuiteFile {
        tests: reader.map(|reader| reader.tests).unwrap_or_default(),
        ..suite
    })
}

/// The same, with the tests still where they were read.
pub(crate) fn read_with_reader<'s, 'a>(
    source: &'s Source<'a>,
    root: Node<'a>,
) -> Option<(SuiteFile, Option<Reader<'s, 'a>>)> {
    let path: Arc<Path> = source.path.into();
    let mut fields = Item::root(source, root).fields()?;
    let named = fields.take("suite", |item| {
        Some((
            source.positions().of(item.at),
            item.identifier()?.into_owned(),
        ))
    });
    let (position, name) = match named {
        Some((position, name)) => (Some(position), Some(name)),
        None => (None, name_of_file(source, &fields)),
    };
    let setup = fields.take("setup", |item| item.line(&[NCPUS]));
    let teardown = fields.take("teardown", |item| item.line(&[NCPUS]));
    let settings = Arc::new(Settings::default()).overridden(&mut fields);
    let reader = fields.require("test", |item| read_tests(item, settings, Arc::clone(&path)));
    fields.finish();
    Some((
        SuiteFile {
            path,
            position,
            name: name?,
            setup,
            teardown,
            tests: Vec::new(),
        },
        reader,
    ))
}

/// The name of a suite that does not say it: the stem of its file.
fn name_of_file(source: &Source<'_>, fields: &Fields<'_, '_>) -> Option<String> {
    let stem = source.path.file_stem()?.to_string_lossy();
    if fields.has("suite") {
        return None;
    }
    if !name::is_identifier(&stem) {
        let better = name::to_identifier(&stem);
        source.problem(
            0,
            format!("the file's name is no identifier; rename it, or say `suite = \"{better}\"`"),
        );
        return None;
    }
    short_enough(source, 0, stem.into_owned())
}

fn read_tests<'s, 'a>(
    item: Item<'s, 'a>,
    defaults: Arc<Settings>,
    path: Arc<Path>,
) -> Option<Reader<'s, 'a>> {
    let (source, at) = (item.source, item.at);
    let items = item.list("an array of tables, each `[[test]]`")?;
    if items.len() == 0 {
        source.lacking(at, "a suite without a test");
    }
    let mut reader = Reader::new(source, path, defaults, items.len());
    items.for_each(|item| reader.read(item));
    Some(reader)
}

/// Reads the tests of a suite.
pub(crate) struct Reader<'s, 'a> {
    source: &'s Source<'a>,
    path: Arc<Path>,
    /// What the suite says for all of its tests.
    pub(crate) defaults: Arc<Settings>,
    pub(crate) names: Names<'s, 'a>,
    positions: Positions<'a>,
    pub(crate) tests: Vec<TestEntry>,
    /// The bytes of the command lines that matrices have made so far.
    pub(crate) text: usize,
}

impl<'s, 'a> Reader<'s, 'a> {
    /// One that has read nothing yet, of some `expected` tests.
    pub(crate) fn new(
        source: &'s Source<'a>,
        path: Arc<Path>,
        defaults: Arc<Settings>,
        expected: usize,
    ) -> Self {
        Self {
            source,
            path,
            defaults,
            names: Names::new(source, expected),
            positions: source.positions(),
            tests: Vec::with_capacity(expected),
            text: 0,
        }
    }

    pub(crate) fn read(&mut self, item: Item<'_, 'a>) {
        let Some(mut fields) = item.fields() else {
            return;
        };
        let at = fields.at;
        let name = fields.require("name", |item| {
            let at = item.at;
            item.identifier()
                .filter(|name| self.names.is_new(name.clone(), name.clone(), at))
        });
        let matrix = fields.take("matrix", Matrix::read).unwrap_or_default();
        let entry = self.entry(&mut fields, name, &matrix);
        fields.finish();
        let Some(entry) = entry else { return };
        if matrix.names().next().is_none() {
            self.tests.push(entry);
        } else {
            let used: HashSet<&str> = entry.templates().flat_map(Template::names).collect();
            matrix.check_use(self.source, &used);
            drop(used);
            self.spread(at, entry, &matrix);
        }
    }

    /// A test whose matrix is not spread out yet.
    fn entry(
        &mut self,
        fields: &mut Fields<'_, '_>,
        name: Option<Cow<'a, str>>,
        matrix: &Matrix,
    ) -> Option<TestEntry> {
        let known: Vec<&str> = matrix.names().chain([NCPUS]).collect();
        let what = read_what(fields, &known);
        let setup = fields.take("setup", |item| item.line(&known));
        let teardown = fields.take("teardown", |item| item.line(&known));
        let precheck = fields.take("precheck", |item| item.line(&known));
        let settings = self.defaults.overridden(fields);
        let (at, what) = what?;
        let place = Place {
            path: Arc::clone(&self.path),
            position: self.positions.of(at),
        };
        Some(TestEntry {
            name: name?.into_owned(),
            what,
            setup,
            teardown,
            precheck,
            settings,
            place,
        })
    }

    /// Adds a test for every combination of its matrix, within limits.
    fn spread(&mut self, at: usize, entry: TestEntry, matrix: &Matrix) {
        let (source, count) = (self.source, matrix.count());
        if count > 1 && count > MAX_TESTS.saturating_sub(self.tests.len()) {
            source.problem(
                at,
                format!("its matrix has {count} combinations: a file may make {MAX_TESTS} tests"),
            );
            return;
        }
        let mut segments = HashSet::new();
        for combination in matrix.combinations() {
            let Some(segment) = combination.segment else {
                self.tests.push(entry);
                return;
            };
            if !segments.insert(segment.clone()) {
                source.problem(
                    at,
                    format!("two of its matrix's combinations are named `{segment}`"),
                );
                return;
            }
            let Some(segment) = short_enough(source, at, segment) else {
                return;
            };
            let bound = entry.bind(&segment, &combination.values);
            self.text += bound.templates().map(Template::bytes).sum::<usize>();
            if self.text > MAX_TEXT {
                let message =
                    format!("its matrix makes command lines of more than {MAX_TEXT} bytes in all");
                source.problem(at, message);
                return;
            }
            self.tests.push(bound);
        }
    }
}

fn read_what(fields: &mut Fields<'_, '_>, known: &[&str]) -> Option<(usize, What)> {
    let (source, at) = (fields.source, fields.at);
    let is_command = fields.has("command");
    match (fields.has("selftest"), is_command) {
        (true, true) => source.problem(at, "both `selftest` and `command`: a test has one of them"),
        (false, false) => source.lacking(
            at,
            "neither `selftest` nor `command`: a test has one of them",
        ),
        _ => {}
    }
    let selftest = fields.take("selftest", |item| Some((item.at, selftest(item)?)));
    let command = fields.take("command", |item| Some((item.at, item.line(known)?)));
    let args = fields.take("args", |item| {
        if is_command {
            source.problem(
                item.at,
                "`args` go with `selftest`; those of a `command` are a part of its line",
            );
        }
        let args = item
            .list("an array of strings")?
            .map(|item| item.template(known));
        Some(args.collect::<Vec<_>>())
    });
    match (selftest, command) {
        (Some((at, name)), None) => {
            let args = args
                .unwrap_or_default()
                .into_iter()
                .collect::<Option<_>>()?;
            Some((at, What::Selftest { name, args }))
        }
        (None, Some((at, line))) => Some((at, What::Shell(line))),
        _ => None,
    }
}

fn selftest(item: Item<'_, '_>) -> Option<String> {
    const MUST: &str = "the name of an executable, without its directory or its arguments";
    match &item.value {
        Value::String(text)
            if text.is_empty()
                || text.contains(|c: char| c == '/' || c.is_whitespace())
                || matches!(text.as_ref(), "." | "..") =>
        {
            item.wrong(MUST)
        }
        _ => item.text().map(Cow::into_owned),
    }
}
