//! Reads suites from TOML.

use std::collections::{HashMap, HashSet};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{Keys, SelftestName};
use super::placeholder::{Matrix, NCPUS};
use super::suite::{SuiteFile, TestEntry, What};
use crate::model::problem::{Problem, TextFile};
use crate::model::value::Identifier;

/// How many tests the matrices of one file may make.
const MAX_TESTS: usize = 100_000;

/// How many bytes of command lines the matrices of one file may make.
const MAX_TEXT: usize = 256 << 20;

/// What a file says, and what is wrong with it.
#[derive(Debug, Default)]
pub(super) struct SuiteToml {
    /// Its suite; `None` where it has none, or not even a name.
    pub(super) suite: Option<SuiteFile>,
    /// `[default.SELFTEST]`: what holds for the case that a selftest has without any suite.
    pub(super) defaults: Vec<(String, TestEntry)>,
    pub(super) problems: Vec<Problem>,
}

/// Reads a file's suite from the tables of its TOML, on a host with `ncpus` CPUs.
pub(super) fn read(file: &TextFile<'_>, mut table: DeTable<'_>, ncpus: u32) -> SuiteToml {
    let (tests, defaults) = (table.remove("test"), table.remove("default"));
    let has_suite = tests.is_some() || defaults.is_none();
    let mut reader = SuiteReader::new(file, ncpus);
    let keys = file.read_table(table);
    let suite = keys.and_then(|keys| reader.suite(&keys, has_suite));
    let suite = reader.noted(suite).flatten();
    let defaults = reader.defaults(defaults);
    match tests.map(|tests| (tests.span().start, tests.into_inner())) {
        Some((_, DeValue::Array(tests))) if !tests.is_empty() => {
            reader.tests.reserve(tests.len());
            for test in tests {
                let read = reader.test(test);
                reader.noted(read);
            }
        }
        Some((at, DeValue::Array(_))) => reader.wrong(at, "a suite without a test"),
        Some((at, _)) => reader.wrong(at, "`test` must be an array of tables, each `[[test]]`"),
        None if has_suite => reader.wrong(0, "missing key `test`"),
        None => {}
    }
    let SuiteReader {
        tests,
        mut problems,
        ..
    } = reader;
    problems.sort_by_key(|problem| problem.place.position);
    SuiteToml {
        suite: suite.map(|suite| SuiteFile { tests, ..suite }),
        defaults,
        problems,
    }
}

struct SuiteReader<'f, 'a> {
    file: &'f TextFile<'a>,
    ncpus: String,
    /// What the suite says for all of its tests.
    base: TestEntry,
    has_selftest: bool,
    /// The names of the tests, and in which lines they are.
    names: HashMap<String, usize>,
    tests: Vec<TestEntry>,
    problems: Vec<Problem>,
    /// The bytes of the command lines that matrices have made so far.
    text: usize,
}

impl<'f, 'a> SuiteReader<'f, 'a> {
    fn new(file: &'f TextFile<'a>, ncpus: u32) -> Self {
        let nothing = What::Shell(String::new());
        Self {
            file,
            ncpus: ncpus.to_string(),
            base: TestEntry::new(String::new(), nothing, file.place(0)),
            has_selftest: false,
            names: HashMap::new(),
            tests: Vec::new(),
            problems: Vec::new(),
            text: 0,
        }
    }

    /// What was read; else what is wrong is noted.
    fn noted<T>(&mut self, read: Result<T, Problem>) -> Option<T> {
        read.map_err(|problem| self.problems.push(problem)).ok()
    }

    fn wrong(&mut self, at: usize, message: &str) {
        self.problems.push(self.file.problem(at, message));
    }

    /// The suite without its tests; `None` where the file is for the defaults of selftests alone.
    fn suite(&mut self, keys: &Keys, has_suite: bool) -> Result<Option<SuiteFile>, Problem> {
        let checked = keys.check(self.file, &["suite", "selftest"], &Matrix::default());
        // Its tests are read all the same.
        self.base = keys.over(self.file, &self.base, &[(NCPUS, &self.ncpus)]);
        self.has_selftest = keys.selftest.is_some();
        let (setup, teardown) = (self.base.setup.take(), self.base.teardown.take());
        checked?;
        if !has_suite {
            return Ok(None);
        }
        let (name, place) = match &keys.suite {
            Some(name) => (name.get_ref().0.clone(), self.file.place(name.span().start)),
            None => (self.file.name("suite")?.0, self.file.path.as_ref().into()),
        };
        Ok(Some(SuiteFile {
            setup,
            teardown,
            env: self.base.env.clone(),
            ..SuiteFile::new(name, place)
        }))
    }

    fn test(&mut self, test: Spanned<DeValue<'a>>) -> Result<(), Problem> {
        const ALLOWED: &[&str] = &["name", "selftest", "args", "command", "matrix"];
        let (file, at) = (self.file, test.span().start);
        let mut keys: Keys = file.read(test)?;
        let matrix = Matrix::read(file, keys.matrix.take(), &self.ncpus)?;
        keys.check_what(file, at, self.has_selftest)?;
        keys.check(file, ALLOWED, &matrix)?;
        let name = keys.name.as_ref();
        let name = name.ok_or_else(|| file.problem(at, "missing key `name`"))?;
        let (place, Identifier(name)) = (name.span().start, name.get_ref());
        if let Some(first) = self.names.get(name) {
            let message = format!("a second test named `{name}`; the first is in line {first}");
            return Err(file.problem(place, message));
        }
        let (line, _) = file.position(place);
        self.names.insert(name.clone(), line);
        self.spread(&keys, name, &matrix)
            .map_err(|message| file.problem(at, message))
    }

    /// Adds a test for every combination of its matrix, within limits.
    fn spread(&mut self, keys: &Keys, name: &str, matrix: &Matrix) -> Result<(), String> {
        let count = matrix.count();
        if count > 1 && count > MAX_TESTS.saturating_sub(self.tests.len()) {
            let limit = format!("a file may make {MAX_TESTS} tests");
            return Err(format!("its matrix has {count} combinations: {limit}"));
        }
        let mut segments = HashSet::new();
        for (segment, mut values) in matrix.combinations() {
            values.push((NCPUS, &self.ncpus));
            let mut test = keys.over(self.file, &self.base, &values);
            test.name = name.to_owned();
            if let Some(segment) = segment {
                let Identifier(segment) = Identifier::new(segment)?;
                test.name += &format!("::{segment}");
                self.text += test.bytes();
                if self.text > MAX_TEXT {
                    let limit = format!("command lines of more than {MAX_TEXT} bytes in all");
                    return Err(format!("its matrix makes {limit}"));
                }
                if let Some(segment) = segments.replace(segment) {
                    return Err(format!(
                        "two of its matrix's combinations are named `{segment}`"
                    ));
                }
            }
            self.tests.push(test);
        }
        Ok(())
    }

    fn defaults(&mut self, defaults: Option<Spanned<DeValue<'a>>>) -> Vec<(String, TestEntry)> {
        let Some(defaults) = defaults else {
            return Vec::new();
        };
        let at = defaults.span().start;
        let DeValue::Table(defaults) = defaults.into_inner() else {
            self.wrong(at, "`default` must have tables, `[default.SELFTEST]`");
            return Vec::new();
        };
        let read = defaults.into_iter().map(|(selftest, keys)| {
            let mut keys: Keys = self.file.read(keys)?;
            keys.check(self.file, &[], &Matrix::default())?;
            let (at, name) = (selftest.span(), selftest.into_inner().into_owned());
            let name =
                Identifier::new(name).map_err(|problem| self.file.problem(at.start, problem));
            let Identifier(name) = name?;
            keys.selftest = Some(Spanned::new(at, SelftestName(name.clone())));
            let mut test = keys.over(self.file, &self.base, &[(NCPUS, &self.ncpus)]);
            test.name = "default".to_owned();
            Ok((name, test))
        });
        let read: Vec<_> = read.collect();
        read.into_iter()
            .filter_map(|read| self.noted(read))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::model::host::Arch;
    use crate::model::value::{Count, Size};

    fn read_text(text: &str) -> SuiteToml {
        let file = TextFile::new(Path::new("suites/dirty_log.toml"), text);
        read(&file, file.parse().unwrap(), 4)
    }

    /// What a test runs: a selftest's arguments one by one, in brackets.
    fn line(test: &TestEntry) -> String {
        let line = match &test.what {
            What::Selftest { name, args } => args
                .iter()
                .fold(name.clone(), |line, arg| format!("{line} [{arg}]")),
            What::Shell(line) => format!("sh: {line}"),
        };
        let (row, column) = test.place.position.unwrap();
        format!("{row}:{column} {} = {line}", test.name)
    }

    #[test]
    fn a_suite_says_what_its_tests_run_and_how() {
        let read = read_text(
            r#"
timeout_s = 300
arch = ["x86_64", "arm64"]
setup = "modprobe x; echo {ncpus} ${HOME}"
requires = { cpus = 2, memory = "2G", hugepages = { "2M" = 64 } }
tags = "perf"
env = { A = "{ncpus}", B = "b" }
[[test]]
name = "plain"
selftest = "dirty_log_perf_test"
args = ["-v", "{ncpus}", "-g", ""]
precheck = "test -e /dev/kvm"
exclusive = true
[[test]]
name = "sweep"
command = "./dirty_log_perf_test -s {backing_src} -v {vcpus} ${HOME} {{vcpus}}"
setup = "echo {vcpus}"
matrix = { vcpus = [1, "{ncpus}"], backing_src = ["anonymous", "shmem"] }
timeout_s = 5
arch = "s390"
weight = "{ncpus}"
iterations = 3
requires = {}
tags = ["slow"]
env = { B = "{vcpus}" }
kernel_log_ignore = "WARNING*x"
"#,
        );
        assert_eq!(read.problems, []);
        let suite = read.suite.unwrap();
        assert_eq!(
            suite.tests.iter().map(line).collect::<Vec<_>>(),
            [
                "10:12 plain = dirty_log_perf_test [-v] [4] [-g] []",
                "16:11 sweep::vcpus_1__backing_src_anonymous = \
                 sh: ./dirty_log_perf_test -s anonymous -v 1 ${HOME} {vcpus}",
                "16:11 sweep::vcpus_1__backing_src_shmem = \
                 sh: ./dirty_log_perf_test -s shmem -v 1 ${HOME} {vcpus}",
                "16:11 sweep::vcpus_ncpus__backing_src_anonymous = \
                 sh: ./dirty_log_perf_test -s anonymous -v 4 ${HOME} {vcpus}",
                "16:11 sweep::vcpus_ncpus__backing_src_shmem = \
                 sh: ./dirty_log_perf_test -s shmem -v 4 ${HOME} {vcpus}",
            ]
        );
        assert_eq!(suite.name, "dirty_log");
        assert_eq!(suite.setup.unwrap(), "modprobe x; echo 4 ${HOME}");
        let [plain, .., last] = suite.tests.as_slice() else {
            panic!("five tests");
        };
        let of_suite = plain;
        assert_eq!(of_suite.timeout, Some(Duration::from_secs(300)));
        assert_eq!(of_suite.arch, Some(vec![Arch::X86_64, Arch::Aarch64]));
        let requires = &of_suite.requires;
        let (cpus, memory) = (Some(Count(2)), Some(Size(2 << 30)));
        assert_eq!((requires.cpus, requires.memory), (cpus, memory));
        assert_eq!(requires.hugepages.0, [(2 << 20, 64)].into());
        assert!(of_suite.exclusive && of_suite.weight == 1 && of_suite.iterations == 1);
        let own = TestEntry {
            timeout: Some(Duration::from_secs(5)),
            arch: Some(vec![Arch::S390x]),
            weight: 4,
            iterations: 3,
            ignored_splats: ["WARNING*x".to_owned()].into(),
            tags: ["perf".to_owned(), "slow".to_owned()].into(),
            requires: Default::default(),
            exclusive: false,
            ..last.clone()
        };
        assert_eq!(format!("{last:?}"), format!("{own:?}"));
        assert_eq!(last.setup.as_deref(), Some("echo 4"));
        let env = ["A", "B"].map(|name| (name.to_owned(), "4".to_owned()));
        assert_eq!(last.env, env);
    }

    #[test]
    fn what_a_suite_runs_and_requires_first_holds_for_its_tests() {
        let read = read_text(
            "selftest = \"a_test\"\nprecheck = \"true\"\n[[test]]\nname = \"a\"\nargs = [\"x\"]\n\
             [[test]]\nname = \"b\"\ncommand = \"c\"\nprecheck = \"false\"\n",
        );
        assert_eq!(read.problems, []);
        let tests = read.suite.unwrap().tests;
        assert_eq!(
            tests.iter().map(line).collect::<Vec<_>>(),
            ["1:12 a = a_test [x]", "8:11 b = sh: c"]
        );
        let prechecks: Vec<_> = tests.iter().map(|test| test.precheck.as_deref()).collect();
        assert_eq!(prechecks, [Some("true"), Some("false")]);
    }

    #[test]
    fn a_file_may_say_what_holds_for_a_selftest_without_a_suite() {
        let read = read_text(
            "timeout_s = 9\n[default.rseq_test]\nexclusive = true\n[default.a_test]\ntags = \"perf\"\n",
        );
        assert_eq!(read.problems, []);
        assert!(read.suite.is_none());
        let [(rseq, test), (other, _)] = read.defaults.as_slice() else {
            panic!("two of them");
        };
        assert_eq!((rseq.as_str(), other.as_str()), ("rseq_test", "a_test"));
        assert_eq!(line(test), "2:10 default = rseq_test");
        assert!(test.exclusive);
        assert_eq!(test.timeout, Some(Duration::from_secs(9)));
    }
}
