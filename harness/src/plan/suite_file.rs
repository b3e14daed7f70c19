//! Suites as they are written, whatever the format: what they say, with nothing of the host in it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::plan::fields::quoted;
use crate::plan::placeholder::Template;
use crate::plan::settings::Settings;
use crate::plan::source::Source;

/// A suite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuiteFile {
    /// The file it was read from, or the directory of its `.test` files, as the user would name it.
    pub path: Arc<Path>,
    /// The line and the column of its name, from 1; `None` where it is named after its file.
    pub position: Option<(usize, usize)>,
    /// `suite`: its name, an identifier. By default the file's stem.
    pub name: String,
    /// `setup`: a line for the shell, run once before the suite's first case. By default nothing.
    pub setup: Option<Template>,
    /// `teardown`: a line for the shell, run once after the suite's last case. By default nothing.
    pub teardown: Option<Template>,
    /// `test`: its tests, in the order of the file, with every matrix spread out.
    pub tests: Vec<TestEntry>,
}

/// One test of a suite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestEntry {
    /// `name`: its name in the suite, an identifier; one of a matrix has a second one, as in `sweep::vcpus_4`.
    pub name: String,
    /// `selftest` with `args`, or `command`: what it runs.
    pub what: What,
    /// `setup`: a line for the shell, run before it. By default nothing.
    pub setup: Option<Template>,
    /// `teardown`: a line for the shell, run after it, whatever came of it. By default nothing.
    pub teardown: Option<Template>,
    /// `precheck`: a line for the shell whose failure skips it. By default nothing.
    pub precheck: Option<Template>,
    /// What the suite may say for all of its tests.
    pub settings: Arc<Settings>,
    /// Where what it runs stands.
    pub place: Place,
}

/// Where something stands in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, as the user would name it.
    pub path: Arc<Path>,
    /// The line and the column, from 1.
    pub position: (usize, usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.position;
        write!(f, "{}:{line}:{column}", self.path.display())
    }
}

/// What a test runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A selftest with its arguments: no shell.
    Selftest {
        /// The name of its executable.
        name: String,
        /// Its arguments.
        args: Vec<Template>,
    },
    /// A line for the shell, run in the directory of the selftests.
    Shell(Template),
    /// A line for the shell that starts with a selftest, from a `.test` file.
    SelftestLine {
        /// The name of the executable, which is to be replaced by its path.
        selftest: String,
        /// The rest of the line, for the shell.
        rest: String,
    },
}

impl TestEntry {
    /// Everything in it that can have placeholders.
    pub(crate) fn templates(&self) -> impl Iterator<Item = &Template> {
        let what = match &self.what {
            What::Selftest { args, .. } => args.as_slice(),
            What::Shell(line) => std::slice::from_ref(line),
            What::SelftestLine { .. } => &[],
        };
        what.iter()
            .chain(&self.setup)
            .chain(&self.teardown)
            .chain(&self.precheck)
    }

    /// Its variant with these values for the axes of a matrix.
    pub(crate) fn bind(&self, segment: &str, values: &[(&str, &Template)]) -> Self {
        let line = |line: &Option<Template>| line.as_ref().map(|line| line.bind(values));
        Self {
            name: format!("{}::{segment}", self.name),
            what: match &self.what {
                What::Selftest { name, args } => What::Selftest {
                    name: name.clone(),
                    args: args.iter().map(|arg| arg.bind(values)).collect(),
                },
                What::Shell(line) => What::Shell(line.bind(values)),
                line @ What::SelftestLine { .. } => line.clone(),
            },
            setup: line(&self.setup),
            teardown: line(&self.teardown),
            precheck: line(&self.precheck),
            settings: Arc::clone(&self.settings),
            place: self.place.clone(),
        }
    }
}

/// The names given in a suite so far.
pub(crate) struct Names<'s, 'a> {
    source: &'s Source<'a>,
    /// The places where they stand, and what is written there where that is something else.
    given: HashMap<Cow<'a, str>, (usize, Option<Cow<'a, str>>)>,
}

impl<'s, 'a> Names<'s, 'a> {
    /// None yet, of some `expected` ones.
    pub(crate) fn new(source: &'s Source<'a>, expected: usize) -> Self {
        Self {
            source,
            given: HashMap::with_capacity(expected),
        }
    }

    /// All of them.
    pub(crate) fn into_names(self) -> impl Iterator<Item = Cow<'a, str>> {
        self.given.into_keys()
    }

    /// Whether no test has this `name` yet, for which `written` stands at `at`; if one has, that is noted.
    pub(crate) fn is_new(&mut self, name: Cow<'a, str>, written: Cow<'a, str>, at: usize) -> bool {
        let Some((first, as_written)) = self.given.get(&name) else {
            let as_written = (written != name).then_some(written);
            self.given.insert(name, (at, as_written));
            return true;
        };
        let line = self.source.line(*first);
        let as_written = as_written
            .as_ref()
            .map_or(String::new(), |written| format!(", {},", quoted(written)));
        self.source.problem(
            at,
            format!("a second test named `{name}`; the first{as_written} is in line {line}"),
        );
        false
    }
}
