//! Suites as they are written, whatever the format: what their files say, with placeholders filled.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::model::arch::Arch;
use crate::model::case::Requires;
use crate::model::problem::Problem;
use crate::model::text_file::TextFile;

/// A suite.
#[derive(Debug, Clone)]
pub(super) struct SuiteFile {
    /// Where its name is written; its file, or the directory of its `.test` files, where it is named after that.
    pub(super) place: WrittenAt,
    pub(super) name: String,
    pub(super) setup: Option<String>,
    pub(super) teardown: Option<String>,
    pub(super) env: Vec<(String, String)>,
    /// Its tests, in the order of the file, with every matrix spread out.
    pub(super) tests: Vec<TestEntry>,
}

impl SuiteFile {
    /// One without tests that is named at `place`.
    pub(super) fn new(name: String, place: WrittenAt) -> Self {
        Self {
            place,
            name,
            setup: None,
            teardown: None,
            env: Vec::new(),
            tests: Vec::new(),
        }
    }
}

/// One test of a suite.
#[derive(Debug, Clone)]
pub(super) struct TestEntry {
    /// An identifier; one of a matrix has a second one, as in `sweep::vcpus_4`.
    pub(super) name: String,
    pub(super) what: What,
    pub(super) setup: Option<String>,
    pub(super) teardown: Option<String>,
    pub(super) precheck: Option<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) settings: Settings,
    /// Where what it runs is written.
    pub(super) place: WrittenAt,
}

impl TestEntry {
    /// One that has nothing but what it runs, which is written at `place`.
    pub(super) fn new(name: String, what: What, place: WrittenAt) -> Self {
        Self {
            name,
            what,
            setup: None,
            teardown: None,
            precheck: None,
            env: Vec::new(),
            settings: Settings::default(),
            place,
        }
    }

    /// What the selftest `name` is without any suite.
    pub(super) fn default_of(name: String) -> Self {
        let place = WrittenAt {
            path: Path::new("").into(),
            position: None,
        };
        let args = Vec::new();
        Self::new("default".to_owned(), What::Selftest { name, args }, place)
    }

    /// How long its command lines are, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let args = match &self.what {
            What::Selftest { args, .. } => args.as_slice(),
            What::Shell(line) | What::SelftestLine { rest: line, .. } => std::slice::from_ref(line),
        };
        let lines = [&self.setup, &self.teardown, &self.precheck];
        let texts = args.iter().chain(lines.into_iter().flatten());
        let env = self.env.iter().map(|(_, value)| value);
        texts.chain(env).map(String::len).sum()
    }
}

/// What a test runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// A selftest with its arguments: no shell.
    Selftest { name: String, args: Vec<String> },
    /// A line for the shell, run in the directory of the selftests.
    Shell(String),
    /// A line for the shell whose first word is a selftest, to be replaced by its path: a `.test` file's.
    SelftestLine { name: String, rest: String },
}

/// What a suite may say for all of its tests; a test's own word replaces its suite's, but adds to its tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) timeout: Option<Duration>,
    pub(super) arch: Option<Vec<Arch>>,
    pub(super) requires: Requires,
    pub(super) exclusive: bool,
    pub(super) weight: u32,
    pub(super) iterations: u32,
    pub(super) ignored_splats: Arc<[String]>,
    pub(super) tags: Arc<[String]>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
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
}

/// Where something is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WrittenAt {
    /// The file, as the user would name it.
    pub(super) path: Arc<Path>,
    /// The line and the column, from 1.
    pub(super) position: Option<(usize, usize)>,
}

impl WrittenAt {
    /// At this byte of a file.
    pub(super) fn new(file: &TextFile<'_>, at: usize) -> Self {
        Self {
            path: file.path.into(),
            position: Some(file.position(at)),
        }
    }

    /// What is wrong there.
    pub(super) fn problem(&self, message: impl Into<String>) -> Problem {
        Problem {
            path: self.path.to_path_buf(),
            position: self.position,
            message: message.into(),
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
