//! Reads suites from TOML.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{Keys, Line, SelftestName};
use super::placeholder::{self, Matrix, Mistake, NCPUS};
use super::suite::{Settings, SuiteFile, TestEntry, What, WrittenAt};
use crate::model::problem::Problem;
use crate::model::text_file::TextFile;
use crate::model::value::{Identifier, Text};

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
    let mut reader = Reader::new(file, ncpus);
    let keys = file.read_table(table);
    let suite = keys.and_then(|keys| reader.suite(keys, has_suite));
    let suite = suite.unwrap_or_else(|problem| {
        reader.problems.push(problem);
        None
    });
    if let Some(defaults) = defaults {
        reader.each_default(defaults);
    }
    match tests {
        Some(tests) => reader.each_test(tests),
        None if has_suite => reader.wrong((0, "missing key `test`".to_owned())),
        None => {}
    }
    reader.problems.sort_by_key(|problem| problem.position);
    let tests = reader.tests;
    SuiteToml {
        suite: suite.map(|suite| SuiteFile { tests, ..suite }),
        defaults: reader.defaults,
        problems: reader.problems,
    }
}

struct Reader<'f, 'a> {
    file: &'f TextFile<'a>,
    path: Arc<Path>,
    ncpus: u32,
    ncpus_text: String,
    /// What the suite says, for its tests.
    suite: Keys,
    settings: Settings,
    /// The names of the tests, and in which lines they are.
    names: HashMap<String, usize>,
    tests: Vec<TestEntry>,
    defaults: Vec<(String, TestEntry)>,
    problems: Vec<Problem>,
    /// The bytes of the command lines that matrices have made so far.
    text: usize,
}

impl<'f, 'a> Reader<'f, 'a> {
    fn new(file: &'f TextFile<'a>, ncpus: u32) -> Self {
        Self {
            file,
            path: file.path.into(),
            ncpus,
            ncpus_text: ncpus.to_string(),
            suite: Keys::default(),
            settings: Settings::default(),
            names: HashMap::new(),
            tests: Vec::new(),
            defaults: Vec::new(),
            problems: Vec::new(),
            text: 0,
        }
    }

    fn wrong(&mut self, (at, message): Mistake) {
        self.problems.push(self.file.problem(at, message));
    }

    /// The suite without its tests; `None` where the file is for the defaults of selftests alone.
    fn suite(&mut self, keys: Keys, has_suite: bool) -> Result<Option<SuiteFile>, Problem> {
        let name = self.suite_name(&keys);
        let checked = keys.check_of_suite();
        // Its tests are read all the same.
        self.settings = keys.settings(&Settings::default(), self.ncpus);
        self.suite = keys;
        let placed = |(at, message)| self.file.problem(at, message);
        checked.map_err(placed)?;
        if !has_suite {
            return Ok(None);
        }
        let (name, position) = name.map_err(placed)?;
        let values = [(NCPUS, self.ncpus_text.as_str())];
        Ok(Some(SuiteFile {
            setup: fill_line(self.suite.setup.as_ref(), &values),
            teardown: fill_line(self.suite.teardown.as_ref(), &values),
            env: fill_env(&self.suite, &values),
            ..SuiteFile::new(name, self.written_at(position))
        }))
    }

    /// The suite's name, and where it is written: by default it is the stem of its file.
    fn suite_name(&self, keys: &Keys) -> Result<(String, Option<usize>), Mistake> {
        if let Some(name) = &keys.suite {
            return Ok((name.get_ref().0.clone(), Some(name.span().start)));
        }
        let stem = self.path.file_stem().unwrap_or_default().to_string_lossy();
        let Identifier(name) = Identifier::new(stem.into_owned()).map_err(|problem| {
            let message = format!("{problem}: rename the file, or say `suite = \"…\"`");
            (0, message)
        })?;
        Ok((name, None))
    }

    fn each_test(&mut self, tests: Spanned<DeValue<'a>>) {
        let at = tests.span().start;
        let DeValue::Array(tests) = tests.into_inner() else {
            return self.wrong((
                at,
                "`test` must be an array of tables, each `[[test]]`".into(),
            ));
        };
        if tests.is_empty() {
            self.wrong((at, "a suite without a test".to_owned()));
        }
        self.tests.reserve(tests.len());
        for test in tests {
            let at = test.span().start;
            match self.file.read(test) {
                Ok(keys) => {
                    self.test(at, keys)
                        .unwrap_or_else(|mistake| self.wrong(mistake));
                }
                Err(problem) => self.problems.push(problem),
            }
        }
    }

    fn test(&mut self, at: usize, mut keys: Keys) -> Result<(), Mistake> {
        let axes = keys.matrix.take();
        let matrix = axes.map(|axes| Matrix::new(axes, &self.ncpus_text));
        let matrix = matrix.transpose()?.unwrap_or_default();
        keys.check_of_test(at, &self.suite, &matrix)?;
        let name = keys.name.take();
        let name = name.ok_or_else(|| (at, "missing key `name`".to_owned()))?;
        let place = name.span().start;
        let Identifier(name) = name.into_inner();
        if let Some(first) = self.names.get(&name) {
            let message = format!("a second test named `{name}`; the first is in line {first}");
            return Err((place, message));
        }
        let (line, _) = self.file.position(place);
        self.names.insert(name.clone(), line);
        self.spread(at, &name, &keys, &matrix)
    }

    /// Adds a test for every combination of its matrix, within limits.
    fn spread(
        &mut self,
        at: usize,
        name: &str,
        keys: &Keys,
        matrix: &Matrix,
    ) -> Result<(), Mistake> {
        let count = matrix.count();
        if count > 1 && count > MAX_TESTS.saturating_sub(self.tests.len()) {
            let limit = format!("a file may make {MAX_TESTS} tests");
            return Err((at, format!("its matrix has {count} combinations: {limit}")));
        }
        let mut segments = HashSet::new();
        for combination in matrix.combinations() {
            let Some(segment) = combination.segment else {
                let test = self.entry(name.to_owned(), keys, &[]);
                self.tests.push(test);
                return Ok(());
            };
            let Identifier(segment) = Identifier::new(segment).map_err(|problem| (at, problem))?;
            let test = self.entry(format!("{name}::{segment}"), keys, &combination.values);
            self.text += test.bytes();
            if self.text > MAX_TEXT {
                let limit = format!("command lines of more than {MAX_TEXT} bytes in all");
                return Err((at, format!("its matrix makes {limit}")));
            }
            if let Some(segment) = segments.replace(segment) {
                let message = format!("two of its matrix's combinations are named `{segment}`");
                return Err((at, message));
            }
            self.tests.push(test);
        }
        Ok(())
    }

    fn each_default(&mut self, defaults: Spanned<DeValue<'a>>) {
        let at = defaults.span().start;
        let DeValue::Table(defaults) = defaults.into_inner() else {
            return self.wrong((
                at,
                "`default` must have tables, `[default.SELFTEST]`".to_owned(),
            ));
        };
        for (selftest, keys) in defaults {
            let selftest = Spanned::new(selftest.span(), selftest.into_inner().into_owned());
            match self.file.read(keys) {
                Err(problem) => self.problems.push(problem),
                Ok(keys) => match self.default(selftest, keys) {
                    Ok(test) => self.defaults.push(test),
                    Err(mistake) => self.wrong(mistake),
                },
            }
        }
    }

    fn default(
        &self,
        selftest: Spanned<String>,
        mut keys: Keys,
    ) -> Result<(String, TestEntry), Mistake> {
        keys.check_of_default()?;
        let (span, name) = (selftest.span(), selftest.into_inner());
        let Identifier(name) = Identifier::new(name).map_err(|problem| (span.start, problem))?;
        keys.selftest = Some(Spanned::new(span, SelftestName(name.clone())));
        Ok((name, self.entry("default".to_owned(), &keys, &[])))
    }

    /// What `keys` say, with these values for the axes of their matrix.
    fn entry(&self, name: String, keys: &Keys, axes: &[(&str, &str)]) -> TestEntry {
        let values = [axes, &[(NCPUS, &self.ncpus_text)]].concat();
        let (at, what) = self.what(keys, &values);
        let mut env = fill_env(&self.suite, &values);
        let own = fill_env(keys, &values);
        env.retain(|(name, _)| own.iter().all(|(own, _)| own != name));
        env.extend(own);
        let precheck = keys.precheck.as_ref().or(self.suite.precheck.as_ref());
        TestEntry {
            name,
            what,
            setup: fill_line(keys.setup.as_ref(), &values),
            teardown: fill_line(keys.teardown.as_ref(), &values),
            precheck: fill_line(precheck, &values),
            env,
            settings: keys.settings(&self.settings, self.ncpus),
            place: self.written_at(Some(at)),
        }
    }

    /// What is run, and where that is written.
    fn what(&self, keys: &Keys, values: &[(&str, &str)]) -> (usize, What) {
        let selftest = keys.selftest.as_ref().or(self.suite.selftest.as_ref());
        match (&keys.command, selftest) {
            (None, Some(selftest)) => {
                let args = keys.args.iter().flat_map(Spanned::get_ref);
                let fill = |arg: &Spanned<Text>| placeholder::fill(&arg.get_ref().0, values);
                let (name, args) = (selftest.get_ref().0.clone(), args.map(fill).collect());
                (selftest.span().start, What::Selftest { name, args })
            }
            (line, _) => {
                let at = line.as_ref().map_or(0, |line| line.span().start);
                let line = fill_line(line.as_ref(), values);
                (at, What::Shell(line.unwrap_or_default()))
            }
        }
    }

    fn written_at(&self, at: Option<usize>) -> WrittenAt {
        WrittenAt {
            path: Arc::clone(&self.path),
            position: at.map(|at| self.file.position(at)),
        }
    }
}

fn fill_line(line: Option<&Spanned<Line>>, values: &[(&str, &str)]) -> Option<String> {
    line.map(|line| placeholder::fill(&line.get_ref().0, values))
}

fn fill_env(keys: &Keys, values: &[(&str, &str)]) -> Vec<(String, String)> {
    let variables = keys.env.0.iter();
    variables
        .map(|(name, value)| {
            (
                name.0.clone(),
                placeholder::fill(&value.get_ref().0, values),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::arch::Arch;

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
            What::SelftestLine { .. } => panic!("not from TOML"),
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
        let of_suite = &plain.settings;
        assert_eq!(of_suite.timeout, Some(Duration::from_secs(300)));
        assert_eq!(of_suite.arch, Some(vec![Arch::X86_64, Arch::Aarch64]));
        let requires = &of_suite.requires;
        assert_eq!((requires.cpus, requires.memory), (Some(2), Some(2 << 30)));
        assert_eq!(requires.hugepages, [(2 << 20, 64)].into());
        assert!(of_suite.exclusive && of_suite.weight == 1 && of_suite.iterations == 1);
        let own = Settings {
            timeout: Some(Duration::from_secs(5)),
            arch: Some(vec![Arch::S390x]),
            weight: 4,
            iterations: 3,
            ignored_splats: ["WARNING*x".to_owned()].into(),
            tags: ["perf".to_owned(), "slow".to_owned()].into(),
            ..Settings::default()
        };
        assert_eq!(last.settings, own);
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
        assert!(test.settings.exclusive);
        assert_eq!(test.settings.timeout, Some(Duration::from_secs(9)));
    }
}
