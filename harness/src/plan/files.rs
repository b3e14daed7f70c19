//! Finds the files of the configuration and has them read.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::changed::{CHANGED, Concern};
use super::foreign;
use super::keys::Keys;
use super::known::{self, KNOWN, KnownEntry};
use super::suite::{SuiteFile, TestEntry};
use super::suite_toml;
use crate::environment::ENVIRONMENT_KEYS;
use crate::model::file;
use crate::model::problem::{Problem, TextFile, WrittenAt};
use crate::model::value::Identifier;

/// A file that stands among suites and is none.
pub const PLACES_TOML: &str = "places.toml";

/// No configuration is longer than this; a longer file was given by mistake.
const MAX_FILE: u64 = 16 << 20;

/// Everything that the files say, and everything that is wrong with them.
#[derive(Debug, Default)]
pub(super) struct Configuration {
    /// The suites, in the order in which they were found.
    pub(super) suites: Vec<SuiteFile>,
    /// What holds for the cases that selftests have without any suite, by the selftest's name.
    pub(super) defaults: HashMap<String, TestEntry>,
    /// The files of environments, as the user would name them, and what they hold.
    pub(super) environments: Vec<(PathBuf, String)>,
    /// The patterns of the kernel's splats that count for no case.
    pub(super) ignored_splats: Vec<String>,
    /// Which paths in a kernel tree concern which selftests.
    pub(super) concerns: Vec<Concern>,
    /// The known failures.
    pub(super) known: Vec<KnownEntry>,
    /// What is wrong. If there is anything, the rest is incomplete.
    pub(super) problems: Vec<Problem>,
}

/// Reads files, and directories searched for them: in the order of their names, without the hidden ones, each file once.
/// `{ncpus}` in them is `ncpus`. Files of known failures are also read where they are called otherwise.
pub(super) fn read(paths: &[PathBuf], known: &[PathBuf], ncpus: u32) -> Configuration {
    let mut reader = FilesReader {
        ncpus,
        ..FilesReader::default()
    };
    // First: whatever they are called, they are that.
    known
        .iter()
        .for_each(|path| reader.file(path, FileKind::Known));
    paths.iter().for_each(|path| reader.given(path));
    reader.found
}

/// Reads files that are a part of the program: their paths and their texts.
pub(super) fn read_embedded(files: &[(&str, &str)], ncpus: u32) -> Configuration {
    let mut reader = FilesReader {
        ncpus,
        ..FilesReader::default()
    };
    for (path, text) in files {
        let path = Path::new(path);
        match FileKind::of(path) {
            Some(format) => reader.text(path, format, text),
            None => reader.problem(path, NO_FORMAT),
        }
    }
    reader.found
}

/// What a file is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileKind {
    Toml,
    /// TOML, of known failures.
    Known,
    Json,
    Test,
}

const NO_FORMAT: &str = "neither a .toml, a .json nor a .test file";

impl FileKind {
    fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "toml" if path.file_stem()? == KNOWN => Some(Self::Known),
            "toml" => Some(Self::Toml),
            "json" => Some(Self::Json),
            "test" => Some(Self::Test),
            _ => None,
        }
    }
}

#[derive(Default)]
struct FilesReader {
    ncpus: u32,
    found: Configuration,
    /// The index of the suite that the `.test` files of a directory make.
    directories: HashMap<PathBuf, usize>,
    /// Where what may be there only once is written, by what it is.
    places: HashMap<String, WrittenAt>,
    /// The files and directories that were read, by their canonical paths.
    seen: HashSet<PathBuf>,
}

impl FilesReader {
    /// A path from the command line.
    fn given(&mut self, path: &Path) {
        match (fs::metadata(path), FileKind::of(path)) {
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
        let mut names = match self.names_in(directory) {
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
            } else if let Some(format) = FileKind::of(&path) {
                files += 1;
                self.file(&path, format);
            }
        }
        Some(files)
    }

    fn names_in(&mut self, directory: &Path) -> io::Result<Option<Vec<OsString>>> {
        if !self.seen.insert(directory.canonicalize()?) {
            return Ok(None);
        }
        let entries = fs::read_dir(directory)?;
        let names = entries.map(|entry| Ok(entry?.file_name()));
        let mut names = names.collect::<io::Result<Vec<_>>>()?;
        names.retain(|name| name != PLACES_TOML);
        Ok(Some(names))
    }

    fn file(&mut self, path: &Path, format: FileKind) {
        let new = canonical(path).map(|canonical| self.seen.insert(canonical));
        let bytes = match new {
            Ok(false) => return,
            // The user may give a link.
            Ok(true) => path
                .canonicalize()
                .and_then(|path| file::read_within(&path, MAX_FILE)),
            Err(error) => Err(error),
        };
        match bytes.map(String::from_utf8) {
            Err(error) => self.problem(path, error.to_string()),
            Ok(Ok(text)) => self.text(path, format, &text),
            Ok(Err(error)) => {
                let end = error.utf8_error().valid_up_to();
                let text = String::from_utf8_lossy(&error.as_bytes()[..end]);
                let problem = TextFile::new(path, &text).problem(end, "not UTF-8");
                self.found.problems.push(problem);
            }
        }
    }

    fn text(&mut self, path: &Path, format: FileKind, text: &str) {
        let file = TextFile::new(path, text);
        if text.starts_with('\u{feff}') {
            let message = "it begins with a byte order mark (BOM): save it as UTF-8 without one";
            self.found.problems.push(file.problem(0, message));
            return;
        }
        match format {
            FileKind::Json => {
                let suites = foreign::read_json(&file, &mut self.found.problems);
                suites.into_iter().for_each(|suite| self.suite(suite));
            }
            FileKind::Test => match foreign::read_test_file(&file) {
                Ok(test) => self.test_file(path, test),
                Err(problem) => self.found.problems.push(problem),
            },
            FileKind::Toml | FileKind::Known => match file.parse() {
                Ok(table) if format == FileKind::Known || table.contains_key(KNOWN) => {
                    self.known(&file, table);
                }
                Ok(table) if is_environment(&table) => {
                    let source = (path.to_owned(), text.to_owned());
                    self.found.environments.push(source);
                }
                Ok(table) => self.toml(&file, table),
                Err(problems) => self.found.problems.extend(problems),
            },
        }
    }

    fn toml<'a>(&mut self, file: &TextFile<'a>, table: DeTable<'a>) {
        if is_for_the_kernel_log(&table) {
            match file.read_table::<Keys>(table) {
                Ok(keys) => self.found.ignored_splats.extend(keys.patterns().cloned()),
                Err(problem) => self.found.problems.push(problem),
            }
            return;
        }
        if table.contains_key(CHANGED) {
            let (concerns, problems) = file.read_tables(table, CHANGED);
            self.found.concerns.extend(concerns);
            self.found.problems.extend(problems);
            return;
        }
        let read = suite_toml::read(file, table, self.ncpus);
        self.found.problems.extend(read.problems);
        if let Some(suite) = read.suite {
            self.suite(suite);
        }
        for (selftest, test) in read.defaults {
            if self.is_first(format!("`[default.{selftest}]`"), &test.place) {
                self.found.defaults.insert(selftest, test);
            }
        }
    }

    fn known<'a>(&mut self, file: &TextFile<'a>, table: DeTable<'a>) {
        let (entries, problems) = known::read(file, table);
        self.found.known.extend(entries);
        self.found.problems.extend(problems);
    }

    fn suite(&mut self, suite: SuiteFile) {
        self.is_first(format!("suite named `{}`", suite.name), &suite.place);
        self.found.suites.push(suite);
    }

    /// Adds the test of a `.test` file to the suite of its directory.
    fn test_file(&mut self, path: &Path, test: TestEntry) {
        let Some(index) = self.suite_of(path) else {
            return;
        };
        let name = format!("{}::{}", self.found.suites[index].name, test.name);
        if self.is_first(format!("test named `{name}`"), &test.place) {
            self.found.suites[index].tests.push(test);
        }
    }

    /// The index of the suite that the `.test` files beside this one make; it is called as their directory.
    fn suite_of(&mut self, path: &Path) -> Option<usize> {
        let directory = parent(path);
        if let Some(&index) = self.directories.get(directory) {
            return Some(index);
        }
        // `.` and `..` do not say what the directory is called.
        let canonical = directory.canonicalize().unwrap_or_default();
        let name = canonical.file_name().unwrap_or_default().to_string_lossy();
        match Identifier::foreign(&name) {
            Ok(Identifier(name)) => {
                self.suite(SuiteFile::new(name, directory.into()));
                let index = self.found.suites.len() - 1;
                self.directories.insert(directory.to_owned(), index);
                Some(index)
            }
            Err(problem) => {
                self.problem(path, problem);
                None
            }
        }
    }

    /// Notes `what` may be written only once; false, with a problem, where it was before.
    fn is_first(&mut self, what: String, place: &WrittenAt) -> bool {
        if let Some(first) = self.places.get(&what) {
            let message = format!("a second {what}; the first is {first}");
            self.found.problems.push(place.problem(message));
            return false;
        }
        self.places.insert(what, place.clone());
        true
    }

    fn problem(&mut self, path: &Path, message: impl Into<String>) {
        let problem = Problem::of_file(path, message);
        self.found.problems.push(problem);
    }
}

/// A TOML file is an environment if it has a key that only environments have, and no test.
fn is_environment(table: &DeTable<'_>) -> bool {
    let has = |key: &&str| table.contains_key(*key);
    !has(&"test") && ENVIRONMENT_KEYS.iter().any(has)
}

/// A TOML file that has nothing but patterns of splats.
fn is_for_the_kernel_log(table: &DeTable<'_>) -> bool {
    table.len() == 1 && table.contains_key("kernel_log_ignore")
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::plan::selftests::other_names;
    use crate::plan::suite::What;

    #[test]
    fn no_shipped_test_runs_what_another_one_or_a_selftest_by_itself_does() {
        let suites = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kvm-tests/suites");
        for ncpus in [1, 2, 4, 8] {
            let shipped = read(std::slice::from_ref(&suites), &[], ncpus);
            assert_eq!(shipped.problems, []);
            let mut seen = HashMap::new();
            for test in shipped.suites.iter().flat_map(|suite| &suite.tests) {
                let What::Selftest { name, args } = &test.what else {
                    continue;
                };
                assert!(!args.is_empty(), "{}: the default of {name}", test.place);
                // In any kernel: a selftest that was renamed is one.
                let names = other_names(name).chain([name.as_str()]);
                if let Some(first) = seen.insert((names.min(), args), &test.place) {
                    panic!("{}: the same as {first} on {ncpus} CPUs", test.place);
                }
            }
            assert!(seen.len() > 60);
        }
    }
}
