//! Reads a suite from TOML.

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use crate::fields::{Fields, Item, short_enough};
use crate::matrix::Matrix;
use crate::name;
use crate::node::{Node, Value};
use crate::placeholder::{NCPUS, Template};
use crate::settings::Settings;
use crate::source::Source;
use crate::suite_file::{Names, SuiteFile, TestEntry, What};

/// How many tests the matrices of one file may make.
const MAX_TESTS: usize = 100_000;

/// How many bytes of command lines the matrices of one file may make.
const MAX_TEXT: usize = 256 << 20;

/// Reads a suite from the tree of a TOML file; `None`, with the problems noted, where it has not even a name.
pub fn read(source: &Source<'_>, root: Node<'_>) -> Option<SuiteFile> {
    let path: Arc<Path> = source.path.into();
    let mut fields = Item::root(source, root).fields()?;
    let mut position = source.positions();
    let named = fields.take("suite", |item| Some((position(item.at), item.identifier()?)));
    let (position, name) = match named {
        Some((position, name)) => (Some(position), Some(name)),
        None => (None, name_of_file(source, &fields)),
    };
    let setup = fields.take("setup", |item| item.line(&[NCPUS]));
    let teardown = fields.take("teardown", |item| item.line(&[NCPUS]));
    let settings = Settings::default().overridden(&mut fields);
    let tests = fields.require("test", |item| Some(read_tests(item, &settings, &path)));
    fields.finish();
    Some(SuiteFile { path, position, name: name?, setup, teardown, tests: tests.unwrap_or_default() })
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

fn read_tests(item: Item<'_, '_>, defaults: &Settings, path: &Arc<Path>) -> Vec<TestEntry> {
    let source = item.source;
    let at = item.at;
    let items = item.list("an array of tables, each `[[test]]`").unwrap_or_default();
    if items.is_empty() {
        source.lacking(at, "a suite without a test");
    }
    let mut names = Names::new(source);
    let mut spread = Spread { tests: Vec::new(), text: 0 };
    let mut position = source.positions();
    for item in items {
        let Some(mut fields) = item.fields() else { continue };
        let matrix_at = fields.at;
        let name = fields.require("name", |item| {
            let at = item.at;
            item.identifier().filter(|name| names.is_new(name, name, at))
        });
        let matrix = fields.take("matrix", Matrix::read);
        let entry = read_test(&mut fields, name, matrix.as_ref(), defaults, path, &mut position);
        fields.finish();
        if let Some(entry) = entry {
            spread.add(source, matrix_at, entry, &matrix.unwrap_or_default());
        }
    }
    spread.tests
}

fn read_test(
    fields: &mut Fields<'_, '_>,
    name: Option<String>,
    matrix: Option<&Matrix>,
    defaults: &Settings,
    path: &Arc<Path>,
    position: &mut impl FnMut(usize) -> (usize, usize),
) -> Option<TestEntry> {
    let mut known: Vec<&str> = matrix.into_iter().flat_map(Matrix::names).collect();
    known.push(NCPUS);
    let what = read_what(fields, &known);
    let setup = fields.take("setup", |item| item.line(&known));
    let teardown = fields.take("teardown", |item| item.line(&known));
    let precheck = fields.take("precheck", |item| item.line(&known));
    let settings = defaults.overridden(fields);
    let (at, what) = what?;
    let entry = TestEntry {
        name: name?,
        what,
        setup,
        teardown,
        precheck,
        settings,
        path: Arc::clone(path),
        position: position(at),
    };
    if let Some(matrix) = matrix {
        let used: HashSet<&str> = entry.templates().flat_map(Template::names).collect();
        matrix.check_use(fields.source, &used);
    }
    Some(entry)
}

fn read_what(fields: &mut Fields<'_, '_>, known: &[&str]) -> Option<(usize, What)> {
    let (source, at) = (fields.source, fields.at);
    let is_command = fields.has("command");
    match (fields.has("selftest"), is_command) {
        (true, true) => source.problem(at, "both `selftest` and `command`: a test has one of them"),
        (false, false) => source.lacking(at, "neither `selftest` nor `command`: a test has one of them"),
        _ => {}
    }
    let selftest = fields.take("selftest", |item| Some((item.at, selftest(item)?)));
    let command = fields.take("command", |item| Some((item.at, item.line(known)?)));
    let args = fields.take("args", |item| {
        if is_command {
            source.problem(item.at, "`args` go with `selftest`; those of a `command` are a part of its line");
        }
        let args = item.list("an array of strings")?.into_iter().map(|item| item.template(known));
        Some(args.collect::<Vec<_>>())
    });
    match (selftest, command) {
        (Some((at, name)), None) => {
            let args = args.unwrap_or_default().into_iter().collect::<Option<_>>()?;
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

/// The tests of a file with their matrices spread out, within limits.
struct Spread {
    tests: Vec<TestEntry>,
    text: usize,
}

impl Spread {
    fn add(&mut self, source: &Source<'_>, at: usize, entry: TestEntry, matrix: &Matrix) {
        if matrix.count() > MAX_TESTS.saturating_sub(self.tests.len()) && matrix.count() > 1 {
            let message =
                format!("its matrix has {} combinations: a file may make {MAX_TESTS} tests", matrix.count());
            source.problem(at, message);
            return;
        }
        let mut segments = HashSet::new();
        for combination in matrix.combinations() {
            let Some(segment) = combination.segment else {
                self.tests.push(entry);
                return;
            };
            let bound = entry.bind(&segment, &combination.values);
            self.text += bound.templates().map(Template::bytes).sum::<usize>();
            if self.text > MAX_TEXT {
                source.problem(
                    at,
                    format!("its matrix makes command lines of more than {MAX_TEXT} bytes in all"),
                );
                return;
            }
            if short_enough(source, at, segment.clone()).is_none() {
                return;
            }
            if segments.contains(&segment) {
                source.problem(at, format!("two of its matrix's combinations are named `{segment}`"));
                return;
            }
            segments.insert(segment);
            self.tests.push(bound);
        }
    }
}
