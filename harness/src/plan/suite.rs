//! Suites as they are written, whatever the format: what their files say, with placeholders filled.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::model::case::{DEFAULT, Requires};
use crate::model::host::Arch;
use crate::model::problem::WrittenAt;

/// A suite.
#[derive(Debug, Clone)]
pub(super) struct SuiteFile {
    pub(super) name: String,
    /// Where its name is written; its file, or the directory of its `.test` files, where it is named after that.
    pub(super) place: WrittenAt,
    pub(super) setup: Option<String>,
    pub(super) teardown: Option<String>,
    pub(super) env: Vec<(String, String)>,
    /// Its tests, in the order of the file, with every matrix spread out.
    pub(super) tests: Vec<TestEntry>,
}

/// One test of a suite.
#[derive(Debug, Clone)]
pub(super) struct TestEntry {
    /// An identifier; one of a matrix has a second one, as in `sweep::vcpus_4`.
    pub(super) name: String,
    pub(super) what: What,
    /// Where what it runs is written.
    pub(super) place: WrittenAt,
    pub(super) setup: Option<String>,
    pub(super) teardown: Option<String>,
    pub(super) precheck: Option<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) timeout: Option<Duration>,
    /// `None` is every one.
    pub(super) arch: Option<Vec<Arch>>,
    pub(super) requires: Requires,
    pub(super) exclusive: bool,
    pub(super) weight: u32,
    pub(super) iterations: u32,
    pub(super) ignored_splats: Arc<[String]>,
    pub(super) tags: Arc<[String]>,
}

/// What a test runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// A selftest with its arguments: no shell.
    Selftest { name: String, args: Vec<String> },
    /// A line for the shell, run in the directory of the selftests. A selftest that it starts with as `./NAME` is one.
    Shell(String),
}

impl SuiteFile {
    /// One without tests.
    pub(super) fn new(name: String, place: WrittenAt) -> Self {
        Self {
            name,
            place,
            setup: None,
            teardown: None,
            env: Vec::new(),
            tests: Vec::new(),
        }
    }
}

impl TestEntry {
    /// One that has nothing but what it runs.
    pub(super) fn new(name: String, what: What, place: WrittenAt) -> Self {
        Self {
            name,
            what,
            place,
            setup: None,
            teardown: None,
            precheck: None,
            env: Vec::new(),
            timeout: None,
            arch: None,
            requires: Requires::default(),
            exclusive: false,
            weight: 1,
            iterations: 1,
            ignored_splats: Arc::default(),
            tags: Arc::default(),
        }
    }

    /// What the selftest `name` is without any suite.
    pub(super) fn default_of(name: String) -> Self {
        let args = Vec::new();
        let place = Path::new("").into();
        Self::new(DEFAULT.to_owned(), What::Selftest { name, args }, place)
    }

    /// How long its command lines are, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let args = match &self.what {
            What::Selftest { args, .. } => args.as_slice(),
            What::Shell(line) => std::slice::from_ref(line),
        };
        let lines = [&self.setup, &self.teardown, &self.precheck];
        let env = self.env.iter().map(|(_, value)| value);
        let texts = args.iter().chain(lines.into_iter().flatten()).chain(env);
        texts.map(String::len).sum()
    }
}
