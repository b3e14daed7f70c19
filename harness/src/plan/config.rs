//! Finds the files of the configuration and has them read.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::text_file::TextFile;
use crate::plan::fields::{Item, short_enough};
use crate::plan::long_suite::{self, PART};
use crate::plan::node::{self, Node, Value};
use crate::plan::problem::Problem;
use crate::plan::proposal;
use crate::plan::settings::{self, IGNORE};
use crate::plan::source::Source;
use crate::plan::suite_file::SuiteFile;
use crate::plan::suite_toml;
use crate::plan::testcases;

/// No configuration is longer than this; a longer file was given by mistake.
const MAX_FILE: u64 = 16 << 20;

/// The keys that only an environment has. A TOML file is one if it has any of them, and no test.
const ENVIRONMENT_KEYS: &[&str] = &[
    "description",
    "features",
    "params",
    "hugepages",
    "sysctls",
    "sysfs",
];

/// Everything that the files say, and everything that is wrong with them.
#[derive(Debug, Default)]
pub struct Configuration {
    /// The suites, in the order in which they were found.
    pub suites: Vec<SuiteFile>,
    /// The files of environments, not yet parsed.
    pub environments: Vec<EnvironmentSource>,
    /// The patterns of the kernel's splats that count for no case.
    pub ignored_splats: Vec<String>,
    /// What is wrong. If there is anything, the rest is incomplete.
    pub problems: Vec<Problem>,
}

/// The file of an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentSource {
    /// The file, as the user would name it.
    pub path: PathBuf,
    /// What it holds.
    pub text: String,
}

/// Reads files, and directories searched for them: in the order of their names, without the hidden ones, each file once.
pub fn read(paths: &[PathBuf]) -> Configuration {
    let mut reader = Reader::default();
    for path in paths {
        reader.given(path);
    }
    reader.finish()
}

/// Reads files that are a part of the program: their paths and their texts.
pub fn read_embedded(files: &[(&str, &str)]) -> Configuration {
    let mut reader = Reader::default();
    for (path, text) in files {
        let path = Path::new(path);
        match Format::of(path) {
            Some(format) => reader.text(path, format, (*text).to_owned()),
            None => reader.problem(path, NO_FORMAT),
        }
    }
    reader.finish()
}

impl Configuration {
    /// Adds what was read elsewhere; a suite that is in both is a problem.
    pub fn join(&mut self, mut other: Self) {
        let mut known = self
            .suites
            .iter()
            .map(|suite| (suite.name.as_str(), suite))
            .collect();
        let repeated = repeated_suites(&mut known, &other.suites);
        self.suites.append(&mut other.suites);
        self.environments.append(&mut other.environments);
        self.ignored_splats.append(&mut other.ignored_splats);
        self.problems.append(&mut other.problems);
        self.problems.extend(repeated);
    }
}

/// What a file is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Toml,
    Json,
    Test,
}

const NO_FORMAT: &str = "neither a .toml, a .json nor a .test file";

impl Format {
    fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "toml" => Some(Self::Toml),
            "json" => Some(Self::Json),
            testcases::EXTENSION => Some(Self::Test),
            _ => None,
        }
    }
}

#[derive(Default)]
struct Reader {
    configuration: Configuration,
    /// The index of the suite that the `.test` files of a directory make.
    directories: HashMap<PathBuf, usize>,
    /// The files of the tests by the index of their suite and their name.
    testcases: HashMap<(usize, String), Arc<Path>>,
    /// The files and directories that were read, by their canonical paths.
    seen: HashSet<PathBuf>,
}

impl Reader {
    /// A path from the command line.
    fn given(&mut self, path: &Path) {
        match (fs::metadata(path), Format::of(path)) {
            (Err(error), _) => self.problem(path, error.to_string()),
            (Ok(metadata), _) if metadata.is_dir() => {
                if self.directory(path) == Some(0) {
                    self.problem(path, "no .toml, .json or .test file in this directory");
                }
            }
            (Ok(_), Some(format)) => self.file(path, format),
            (Ok(_), None) => self.problem(path, NO_FORMAT),
        }
    }

    /// Searches a directory and what is below it. Answers how many files it has for us; `None` where it has been
    /// searched before, as one that a symbolic link leads back to, or cannot be searched, which is noted.
    fn directory(&mut self, directory: &Path) -> Option<usize> {
        let names = directory.canonicalize().and_then(|canonical| {
            if !self.seen.insert(canonical) {
                return Ok(None);
            }
            let entries = fs::read_dir(directory)?;
            entries
                .map(|entry| Ok(entry?.file_name()))
                .collect::<Result<Vec<_>, io::Error>>()
                .map(Some)
        });
        let mut names = match names {
            Ok(names) => names?,
            Err(error) => {
                self.problem(directory, error.to_string());
                return None;
            }
        };
        names.retain(|name| !name.as_encoded_bytes().starts_with(b"."));
        names.sort();
        let mut files = 0;
        for name in names {
            let path = directory.join(name);
            if path.is_dir() {
                files += self.directory(&path).unwrap_or(0);
            } else if let Some(format) = Format::of(&path) {
                files += 1;
                self.file(&path, format);
            }
        }
        Some(files)
    }

    fn file(&mut self, path: &Path, format: Format) {
        let new = canonical(path).map(|canonical| self.seen.insert(canonical));
        match new.and_then(|new| {
            if new {
                read_bytes(path).map(Some)
            } else {
                Ok(None)
            }
        }) {
            Err(error) => self.problem(path, error.to_string()),
            Ok(None) => {}
            Ok(Some(bytes)) => match String::from_utf8(bytes) {
                Ok(text) => self.text(path, format, text),
                Err(error) => {
                    let end = error.utf8_error().valid_up_to();
                    let text = String::from_utf8_lossy(&error.as_bytes()[..end]);
                    self.configuration
                        .problems
                        .push(TextFile::new(path, &text).problem(end, "not UTF-8"));
                }
            },
        }
    }

    fn text(&mut self, path: &Path, format: Format, text: String) {
        let source = Source::new(path, &text);
        match format {
            Format::Toml => return self.toml(path, text),
            Format::Json => self.configuration.suites.extend(proposal::read(&source)),
            Format::Test => self.testcase(&source),
        }
        self.configuration.problems.extend(source.into_problems());
    }

    fn toml(&mut self, path: &Path, text: String) {
        let Configuration {
            suites,
            environments,
            ignored_splats,
            problems,
        } = &mut self.configuration;
        if let Some(suite) = long_suite::read(path, &text, PART) {
            suites.push(suite);
            return;
        }
        let source = Source::new(path, &text);
        let root = node::from_toml(&source);
        if is_environment(&root) {
            drop((root, source));
            environments.push(EnvironmentSource {
                path: path.to_owned(),
                text,
            });
            return;
        }
        if is_for_the_kernel_log(&root) {
            let patterns = Item::root(&source, root).fields().and_then(|mut fields| {
                let patterns = fields.take(IGNORE, settings::patterns);
                fields.finish();
                patterns
            });
            ignored_splats.extend(patterns.unwrap_or_default());
        } else {
            suites.extend(suite_toml::read(&source, root));
        }
        problems.extend(source.into_problems());
    }

    /// Adds the test of a `.test` file to the suite of its directory.
    fn testcase(&mut self, source: &Source<'_>) {
        let Some(test) = testcases::read(source) else {
            return;
        };
        let Some(suite) = self.suite_of(source) else {
            return;
        };
        match self.testcases.entry((suite, test.name.clone())) {
            Entry::Vacant(vacant) => {
                vacant.insert(Arc::clone(&test.place.path));
                self.configuration.suites[suite].tests.push(test);
            }
            Entry::Occupied(first) => {
                let first = first.get().display();
                source.problem(
                    0,
                    format!("a second test named `{}`; the first is {first}", test.name),
                );
            }
        }
    }

    /// The index of the suite that the `.test` files beside this one make.
    fn suite_of(&mut self, source: &Source<'_>) -> Option<usize> {
        let directory = parent(source.path);
        if let Some(&index) = self.directories.get(directory) {
            return Some(index);
        }
        // `.` and `..` do not say what the directory is called.
        let called = || testcases::suite_name(&directory.canonicalize().ok()?);
        let Some(name) = testcases::suite_name(directory).or_else(called) else {
            source.problem(0, "no directory to name the suite after");
            return None;
        };
        let index = self.configuration.suites.len();
        self.configuration.suites.push(SuiteFile {
            path: directory.into(),
            position: None,
            name: short_enough(source, 0, name)?,
            setup: None,
            teardown: None,
            tests: Vec::new(),
        });
        self.directories.insert(directory.to_owned(), index);
        Some(index)
    }

    fn problem(&mut self, path: &Path, message: impl Into<String>) {
        self.configuration
            .problems
            .push(Problem::of_file(path, message));
    }

    fn finish(self) -> Configuration {
        let mut configuration = self.configuration;
        configuration
            .problems
            .extend(repeated_suites(&mut HashMap::new(), &configuration.suites));
        configuration
    }
}

/// A TOML file is an environment if it has a key that only environments have, and no test.
fn is_environment(root: &Node<'_>) -> bool {
    let Value::Table(fields) = &root.value else {
        return false;
    };
    fields.iter().all(|field| field.key != "test")
        && fields
            .iter()
            .any(|field| ENVIRONMENT_KEYS.contains(&field.key.as_ref()))
}

/// A TOML file that has nothing but patterns of splats.
fn is_for_the_kernel_log(root: &Node<'_>) -> bool {
    matches!(&root.value, Value::Table(fields) if !fields.is_empty() && fields.iter().all(|field| field.key == IGNORE))
}

/// The suites whose names are already `known`, or come twice.
fn repeated_suites<'c>(
    known: &mut HashMap<&'c str, &'c SuiteFile>,
    suites: &'c [SuiteFile],
) -> Vec<Problem> {
    let mut problems = Vec::new();
    for suite in suites {
        if let Some(first) = known.get(suite.name.as_str()) {
            let place = first
                .position
                .map_or(String::new(), |(line, column)| format!(":{line}:{column}"));
            let message = format!(
                "a second suite named `{}`; the first is {}{place}",
                suite.name,
                first.path.display()
            );
            problems.push(Problem {
                path: suite.path.to_path_buf(),
                position: suite.position,
                message,
            });
        } else {
            known.insert(&suite.name, suite);
        }
    }
    problems
}

/// The directory of a file.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The path of a file with its directory made canonical but its own name kept, because suites are named after it.
fn canonical(path: &Path) -> io::Result<PathBuf> {
    Ok(parent(path)
        .canonicalize()?
        .join(path.file_name().unwrap_or_default()))
}

fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    // Opening a pipe would wait for its other end.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    fs::File::open(path)?
        .take(MAX_FILE + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::other(format!("longer than {MAX_FILE} bytes")));
    }
    Ok(bytes)
}
