//! Finds the files of the configuration and has them read.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use toml::de::DeTable;

use super::foreign;
use super::keys::KernelLogKeys;
use super::suite::{SuiteFile, TestEntry};
use super::suite_toml;
use crate::model::problem::{Problem, WrittenAt};
use crate::model::text_file::TextFile;
use crate::model::value::Identifier;

/// No configuration is longer than this; a longer file was given by mistake.
const MAX_FILE: u64 = 16 << 20;

/// The keys that only an environment has. A TOML file is one if it has any of them, and no test.
const ENVIRONMENT_KEYS: &[&str] = &[
    "description",
    "environment",
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
    pub(super) suites: Vec<SuiteFile>,
    /// What holds for the cases that selftests have without any suite, by the selftest's name.
    pub(super) defaults: HashMap<String, TestEntry>,
    /// The files of environments, not yet parsed.
    pub environments: Vec<EnvironmentSource>,
    /// The patterns of the kernel's splats that count for no case.
    pub(super) ignored_splats: Vec<String>,
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
/// `{ncpus}` in them is `ncpus`.
pub fn read(paths: &[PathBuf], ncpus: u32) -> Configuration {
    let mut reader = Reader::new(ncpus);
    paths.iter().for_each(|path| reader.given(path));
    reader.configuration
}

/// Reads files that are a part of the program: their paths and their texts.
pub fn read_embedded(files: &[(&str, &str)], ncpus: u32) -> Configuration {
    let mut reader = Reader::new(ncpus);
    for (path, text) in files {
        let path = Path::new(path);
        match Format::of(path) {
            Some(format) => reader.text(path, format, text),
            None => reader.problem(path, NO_FORMAT),
        }
    }
    reader.configuration
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
            "test" => Some(Self::Test),
            _ => None,
        }
    }
}

struct Reader {
    ncpus: u32,
    configuration: Configuration,
    /// The index of the suite that the `.test` files of a directory make.
    directories: HashMap<PathBuf, usize>,
    /// Where the names of suites, and those of tests in `.test` files by the index of their suite, are written.
    places: HashMap<(Option<usize>, String), WrittenAt>,
    /// The files and directories that were read, by their canonical paths.
    seen: HashSet<PathBuf>,
}

impl Reader {
    fn new(ncpus: u32) -> Self {
        Self {
            ncpus,
            configuration: Configuration::default(),
            directories: HashMap::new(),
            places: HashMap::new(),
            seen: HashSet::new(),
        }
    }

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
            } else if let Some(format) = Format::of(&path) {
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
        names.collect::<io::Result<_>>().map(Some)
    }

    fn file(&mut self, path: &Path, format: Format) {
        let new = canonical(path).map(|canonical| self.seen.insert(canonical));
        let bytes = match new {
            Ok(false) => return,
            Ok(true) => read_bytes(path),
            Err(error) => Err(error),
        };
        match bytes.map(String::from_utf8) {
            Err(error) => self.problem(path, error.to_string()),
            Ok(Ok(text)) => self.text(path, format, &text),
            Ok(Err(error)) => {
                let end = error.utf8_error().valid_up_to();
                let text = String::from_utf8_lossy(&error.as_bytes()[..end]);
                let problem = TextFile::new(path, &text).problem(end, "not UTF-8");
                self.configuration.problems.push(problem);
            }
        }
    }

    fn text(&mut self, path: &Path, format: Format, text: &str) {
        let file = TextFile::new(path, text);
        if text.starts_with('\u{feff}') {
            let message = "it begins with a byte order mark (BOM): save it as UTF-8 without one";
            self.configuration.problems.push(file.problem(0, message));
            return;
        }
        match format {
            Format::Json => {
                let suites = foreign::read_json(&file, &mut self.configuration.problems);
                suites.into_iter().for_each(|suite| self.suite(suite));
            }
            Format::Test => match foreign::read_test_file(&file) {
                Ok(test) => self.test_file(path, test),
                Err(problem) => self.configuration.problems.push(problem),
            },
            Format::Toml => match file.parse() {
                Ok(table) if is_environment(&table) => {
                    let (path, text) = (path.to_owned(), text.to_owned());
                    let source = EnvironmentSource { path, text };
                    self.configuration.environments.push(source);
                }
                Ok(table) => self.toml(&file, table),
                Err(problems) => self.configuration.problems.extend(problems),
            },
        }
    }

    fn toml<'a>(&mut self, file: &TextFile<'a>, table: DeTable<'a>) {
        if is_for_the_kernel_log(&table) {
            match file.read_table::<KernelLogKeys>(table) {
                Ok(keys) => self.configuration.ignored_splats.extend(keys.patterns()),
                Err(problem) => self.configuration.problems.push(problem),
            }
            return;
        }
        let read = suite_toml::read(file, table, self.ncpus);
        self.configuration.problems.extend(read.problems);
        if let Some(suite) = read.suite {
            self.suite(suite);
        }
        for (selftest, test) in read.defaults {
            match self.configuration.defaults.entry(selftest) {
                Entry::Vacant(vacant) => drop(vacant.insert(test)),
                Entry::Occupied(first) => {
                    let (name, first) = (first.key(), &first.get().place);
                    let message = format!("a second `[default.{name}]`; the first is {first}");
                    self.configuration
                        .problems
                        .push(test.place.problem(message));
                }
            }
        }
    }

    fn suite(&mut self, suite: SuiteFile) {
        self.named(None, "suite", &suite.name, &suite.place);
        self.configuration.suites.push(suite);
    }

    /// Adds the test of a `.test` file to the suite of its directory.
    fn test_file(&mut self, path: &Path, test: TestEntry) {
        let Some(suite) = self.suite_of(path) else {
            return;
        };
        if self.named(Some(suite), "test", &test.name, &test.place) {
            self.configuration.suites[suite].tests.push(test);
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
                let index = self.configuration.suites.len() - 1;
                self.directories.insert(directory.to_owned(), index);
                Some(index)
            }
            Err(problem) => {
                self.problem(path, problem);
                None
            }
        }
    }

    /// Notes a name that stands at `place`; false, with a problem, where it was given before.
    fn named(&mut self, suite: Option<usize>, what: &str, name: &str, place: &WrittenAt) -> bool {
        let first = match self.places.entry((suite, name.to_owned())) {
            Entry::Vacant(vacant) => {
                vacant.insert(place.clone());
                return true;
            }
            Entry::Occupied(first) => first.get().clone(),
        };
        let message = format!("a second {what} named `{name}`; the first is {first}");
        self.configuration.problems.push(place.problem(message));
        false
    }

    fn problem(&mut self, path: &Path, message: impl Into<String>) {
        let problem = Problem::of_file(path, message);
        self.configuration.problems.push(problem);
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

fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    // A FIFO that nobody writes to is not waited for.
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = fs::File::options()
        .read(true)
        .custom_flags(nonblocking)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::other(format!("longer than {MAX_FILE} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{
        ProptestConfig, Strategy, any, prop, prop_assert, prop_oneof, proptest,
    };
    use proptest::sample::Index;
    use proptest::test_runner::TestCaseError;

    use super::*;
    use crate::plan::selftests::other_names;
    use crate::plan::suite::What;

    const SUITE: &str = r#"timeout_s = 300
arch = ["x86_64", "arm64"]
setup = "echo {ncpus} ${HOME}"
requires = { cpus = 2, memory = "2G", hugepages = { "2M" = 64 } }
[[test]]
name = "plain"
selftest = "dirty_log_perf_test"
args = ["-v", "{ncpus}", "-g"]
[[test]]
name = "sweep"
command = "./dirty_log_perf_test -s {backing_src} -v {vcpus} {{vcpus}}"
matrix = { vcpus = [1, "{ncpus}"], backing_src = ["anonymous", "shmem"] }
weight = "{ncpus}"
"#;

    const PROPOSAL: &str = r#"
[{ "suite": "a-b", "timeout_s": 300, "arch": "x86_64", "setup": "echo \u00e9\n",
  "tests": [{ "name": "2slot", "command": "./a -v $(nproc)" }, { "name": "b", "command": "b", "timeout_s": 1 }] }]"#;

    const TESTCASE: &str = "# a comment\n\ndirty_log_perf_test -x 2 -v $(nproc) -i 10\n";

    /// Pieces that mean something to one of the parsers, or nearly so.
    const PIECES: &[&str] = &[
        "[[test]]",
        "[",
        "]",
        "{",
        "}",
        "\"",
        "'",
        "\"\"\"",
        "\\",
        "\\u0000",
        "\\ud800",
        "\n",
        "\r",
        ",",
        "=",
        ":",
        "#",
        "{ncpus}",
        "{x}",
        "${",
        "{{",
        "}}",
        "matrix",
        "test.matrix.a = [1]",
        "null",
        "true",
        "1e9",
        "-1",
        "0x7f",
        "99999999999999999999",
        "1979-05-27",
        "é",
        "\u{feff}",
        "\0",
        "\u{1b}[31m",
        "name = \"a\"",
        "suite",
        "..",
        "/",
        "a.b.c",
        " ",
        "[1,2,3,4,5,6,7,8,9]",
    ];

    #[derive(Debug, Clone)]
    enum Edit {
        Insert(Index, &'static str),
        Delete(Index, usize),
        Repeat(Index, usize),
    }

    fn edit() -> impl Strategy<Value = Edit> {
        prop_oneof![
            (any::<Index>(), prop::sample::select(PIECES))
                .prop_map(|(at, piece)| Edit::Insert(at, piece)),
            (any::<Index>(), 1..20_usize).prop_map(|(at, count)| Edit::Delete(at, count)),
            (any::<Index>(), 1..200_usize).prop_map(|(at, count)| Edit::Repeat(at, count)),
        ]
    }

    #[test]
    fn no_shipped_test_runs_what_another_one_or_a_selftest_by_itself_does() {
        let suites = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kvm-tests/suites");
        for ncpus in [1, 2, 4, 8] {
            let shipped = read(std::slice::from_ref(&suites), ncpus);
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

    /// The suites and environments that are built in.
    fn shipped() -> Vec<String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kvm-tests");
        let files = ["suites", "environments"]
            .map(|directory| fs::read_dir(root.join(directory)).expect("read it"));
        let texts = files
            .into_iter()
            .flatten()
            .map(|file| fs::read_to_string(file.expect("find it").path()));
        texts
            .collect::<Result<_, _>>()
            .expect("read the shipped files")
    }

    /// A file that was right once.
    fn edited() -> impl Strategy<Value = String> {
        let known = [SUITE, PROPOSAL, TESTCASE].map(str::to_owned);
        let text = prop_oneof![
            prop::sample::select(known.to_vec()),
            prop::sample::select(shipped())
        ];
        (text, prop::collection::vec(edit(), 1..6)).prop_map(|(text, edits)| {
            let mut characters: Vec<char> = text.chars().collect();
            for edit in edits {
                let length = characters.len();
                match edit {
                    Edit::Insert(at, piece) => {
                        let at = at.index(length + 1);
                        characters.splice(at..at, piece.chars());
                    }
                    Edit::Delete(at, count) => {
                        let at = at.index(length + 1);
                        characters.drain(at..(at + count).min(length));
                    }
                    Edit::Repeat(at, count) => {
                        let at = at.index(length + 1);
                        let part = characters[at..(at + count).min(length)].to_vec();
                        characters.splice(at..at, part);
                    }
                }
            }
            characters.into_iter().collect()
        })
    }

    /// What every format makes of a text: the problems, each of which is one line that points into the text.
    fn check(text: &str) -> Result<(), TestCaseError> {
        let lines: Vec<&str> = text.split('\n').collect();
        for path in ["s/a.toml", "s/a.json", "s/a.test"] {
            let configuration = read_embedded(&[(path, text)], 2);
            for problem in &configuration.problems {
                let shown = problem.to_string();
                prop_assert!(!shown.contains(char::is_control), "{shown:?}");
                prop_assert!(shown.chars().count() < 1000, "{shown:?}");
                if let Some((line, column)) = problem.place.position {
                    prop_assert!((1..=lines.len()).contains(&line), "{shown}");
                    prop_assert!(
                        (1..=lines[line - 1].chars().count() + 1).contains(&column),
                        "{shown}"
                    );
                }
            }
            let tests = configuration.suites.iter().flat_map(|suite| &suite.tests);
            let sound = configuration.problems.is_empty() && configuration.defaults.is_empty();
            prop_assert!(
                !sound || tests.count() > 0 || !configuration.environments.is_empty(),
                "nothing was read"
            );
        }
        Ok(())
    }

    proptest! {
        // PROPTEST_CASES asks for more of them.
        #![proptest_config(ProptestConfig {
            cases: ProptestConfig::default().cases.max(400),
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn bytes_of_any_kind_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            check(&String::from_utf8_lossy(&bytes))?;
        }

        #[test]
        fn pieces_in_any_order_are_read_or_refused(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..60)) {
            check(&pieces.concat())?;
        }

        #[test]
        fn a_damaged_file_is_read_or_refused(text in edited()) {
            check(&text)?;
        }
    }

    #[test]
    fn long_files_of_nonsense_are_refused_in_linear_time() {
        const LENGTH: usize = 200_000;
        let mut axes = String::from("[[test]]\nname = \"a\"\ncommand = \"{q}\"\nmatrix = {");
        for axis in 0..LENGTH / 20 {
            axes += &format!("a{axis} = [1],");
        }
        let fill = |piece: &str| piece.repeat(LENGTH / piece.len());
        // Were the time to grow with the square of the length, any of these would take minutes.
        for text in [
            fill("["),
            fill("a={"),
            fill("a."),
            fill("=\n"),
            fill("[[test]]\nname = \"a\"\n"),
            format!("[[test]]\nname = \"a\"\ncommand = \"{}\"", fill("{")),
            format!("[[test]]\nname = \"a\"\ncommand = \"{}\"", fill("{a}")),
            axes + "}",
            format!("{} = 1", fill("k")),
            format!("a = [{}]", fill("1 ")),
            format!("{}{}", fill("["), fill("]")),
            format!("[{}1]", fill("1,")),
            format!("[{{{}\"a\": 1}}]", fill("\"a\": 1,")),
            format!("[{}1]", fill("\"\\ud800\",")),
        ] {
            check(&text).expect("every problem points into the text");
        }
    }
}
