//! From sources to cases: selftests and suites put together, with what this host lacks worked out.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::bail;

use crate::arch::Arch;
use crate::case::{Case, Command, Requires, Suite};
use crate::cli::Options;
use crate::config::{self, Configuration};
use crate::definitions::Definitions;
use crate::embedded::{Embedded, SMOKE_SELFTEST};
use crate::environment::definition::{Definition, HOST};
use crate::gate;
use crate::host::Host;
use crate::kernel_log::ignore::Ignored;
use crate::name::CaseName;
use crate::placeholder::{NCPUS, Template};
use crate::problem::Problem;
use crate::select::Selection;
use crate::selftests::{Program, Selftest, Selftests};
use crate::settings::{Settings, Weight};
use crate::suite_file::{SuiteFile, TestEntry, What};

/// The variable that names directories of selftests, separated by `:`.
const KVM_SELFTESTS: &str = "KVM_SELFTESTS";

/// The variant that a selftest has by itself: run without arguments.
const DEFAULT_VARIANT: &str = "default";

/// What there is to run.
#[derive(Debug)]
pub struct Discovered {
    /// Every case on the host as it is, sorted by name.
    cases: Vec<Case>,
    /// Cases of shipped suites whose selftests are not there: run, as `NO_RUN`, only if asked for by their whole names.
    left_out: Vec<Case>,
    /// Shipped suites in whose place the user has one of the same name.
    replaced: Vec<String>,
    selftests: Selftests,
    origin: Origin,
    definitions: Definitions,
    /// The environments that the command line asks for; none means the host as it is.
    asked_for: Vec<Definition>,
    ignored_splats: Ignored,
    host: Host,
}

/// A case as it is listed.
#[derive(Debug, Clone, Copy)]
pub struct Listed<'a> {
    /// Its name.
    pub name: &'a str,
    /// Why it is ignored.
    pub ignored: Option<&'a str>,
}

/// The host as it will be in an environment.
struct HostIn {
    host: Host,
    is_as_it_is: bool,
}

impl HostIn {
    /// Why `case` is ignored there.
    fn ignores<'a>(&'a self, case: &'a Case) -> Option<Cow<'a, str>> {
        if case.missing.is_some() || case.ignored.is_some() {
            return case.ignored.as_deref().map(Cow::Borrowed);
        }
        // An environment may load the modules that are not there yet.
        let kvm_problem = self.host.kvm_problem.as_deref().filter(|_| case.needs_kvm && self.is_as_it_is);
        kvm_problem.map(Cow::Borrowed).or_else(|| self.host.lacks(&case.requires).map(Cow::Owned))
    }
}

/// Where the selftests come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    CommandLine,
    Variable,
    Built,
    Embedded,
}

/// Puts the selftests and the suites together.
///
/// # Errors
/// Everything that is wrong with them, a line each.
pub fn discover(options: &Options, embedded: &Embedded, host: &Host) -> anyhow::Result<Discovered> {
    let (origin, selftests) = find_selftests(options, embedded);
    let shipped = Shipped { suites: embedded.suites, environments: embedded.environments };
    let mut discovered = assemble(origin, selftests, &embedded.with_local(&options.config), shipped, host)?;
    discovered.asked_for = discovered.definitions.selected(&options.environment, &options.made_up)?;
    Ok(discovered)
}

/// The files of the shipped configuration: path and text of each.
#[derive(Debug, Clone, Copy)]
pub struct Shipped<'a> {
    /// The suites.
    pub suites: &'a [(&'a str, &'a str)],
    /// The environments.
    pub environments: &'a [(&'a str, &'a str)],
}

/// The names of the cases that are known when the program is built: with the selftests of `directories`, or, without
/// any, those that are `embedded`.
///
/// # Errors
/// Everything that is wrong with them, a line each.
pub fn names(
    directories: &[PathBuf],
    embedded: &[String],
    shipped: Shipped<'_>,
    local: &[PathBuf],
) -> anyhow::Result<Vec<String>> {
    let (origin, selftests) = match directories {
        [] => (Origin::Embedded, Ok(Selftests::embedded(embedded.iter().map(String::as_str)))),
        _ => (Origin::Built, Selftests::find(directories)),
    };
    let discovered = assemble(origin, selftests, local, shipped, &Host::probe())?;
    let mut names = Vec::new();
    discovered.list(|listed| names.push(listed.name.to_owned()));
    Ok(names)
}

fn assemble(
    origin: Origin,
    selftests: Result<Selftests, Vec<Problem>>,
    paths: &[PathBuf],
    shipped: Shipped<'_>,
    host: &Host,
) -> anyhow::Result<Discovered> {
    let users = config::read(paths);
    let environments = config::read_embedded(shipped.environments).environments;
    let (definitions, environment_problems) =
        Definitions::read(users.environments.iter().chain(&environments));
    let mut shipped = config::read_embedded(shipped.suites);
    let is_the_users = |suite: &SuiteFile| users.suites.iter().any(|users| users.name == suite.name);
    let replaced: Vec<_> =
        shipped.suites.extract_if(.., |suite| is_the_users(suite)).map(|suite| suite.name).collect();

    let (selftests, mut problems) = match selftests {
        Ok(selftests) => (selftests, Vec::new()),
        Err(problems) => (Selftests::default(), problems),
    };
    problems.extend(users.problems.iter().chain(&shipped.problems).cloned());
    problems.extend(environment_problems);
    problems.extend(hidden_suites(&definitions, &users.suites, &shipped.suites));
    if !problems.is_empty() {
        bail!("{}", lines(&problems));
    }

    let mut assembly = Assembly::new(&selftests, host);
    assembly.add_suites(&users, Missing::IsNoRun);
    assembly.add_suites(&shipped, Missing::IsLeftOut);
    assembly.add_defaults();
    let Assembly { mut cases, mut left_out, .. } = assembly;
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    left_out.sort_by(|a, b| a.name.cmp(&b.name));
    let (host, asked_for) = (host.clone(), Vec::new());
    let ignored_splats = Ignored::new(users.ignored_splats);
    Ok(Discovered {
        cases,
        left_out,
        replaced,
        selftests,
        origin,
        definitions,
        asked_for,
        ignored_splats,
        host,
    })
}

/// A suite with the name of an environment: `NAME::x::y` could be of either.
fn hidden_suites(definitions: &Definitions, users: &[SuiteFile], shipped: &[SuiteFile]) -> Vec<Problem> {
    let is_environment = |suite: &&SuiteFile| definitions.iter().any(|one| one.name == suite.name);
    let hidden = users.iter().chain(shipped).filter(is_environment);
    let problem = |suite: &SuiteFile| Problem {
        path: suite.path.to_path_buf(),
        position: suite.position,
        message: format!("the suite `{}` has the name of an environment: rename one of them", suite.name),
    };
    hidden.map(problem).collect()
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn find_selftests(options: &Options, embedded: &Embedded) -> (Origin, Result<Selftests, Vec<Problem>>) {
    let variable = std::env::var_os(KVM_SELFTESTS).filter(|value| !value.is_empty());
    if !options.selftests.is_empty() {
        (Origin::CommandLine, Selftests::find(&options.selftests))
    } else if let Some(value) = variable {
        (Origin::Variable, Selftests::find(&std::env::split_paths(&value).collect::<Vec<_>>()))
    } else if let Some(directory) = embedded.built_selftests {
        (Origin::Built, Selftests::find(&[PathBuf::from(directory)]))
    } else {
        (Origin::Embedded, Ok(Selftests::embedded(embedded.selftests.iter().map(|(name, _)| *name))))
    }
}

impl Discovered {
    /// Tells `visit` of the cases as they are listed: those of the environments asked for; where none are, those on the
    /// host as it is, and those of every environment as ignored.
    pub fn list(&self, mut visit: impl FnMut(Listed<'_>)) {
        let mut name = String::new();
        for (environment, not_asked_for) in self.listed_environments() {
            let host = self.host_in(&environment);
            for case in &self.cases {
                name.clear();
                let prefix = environment.prefix();
                // Writing to a string does not fail.
                write!(name, "{prefix}{}{}", if prefix.is_empty() { "" } else { "::" }, case.name).ok();
                let ignored = not_asked_for.as_deref().map(Cow::Borrowed);
                let ignored = ignored.or_else(|| host.ignores(case));
                visit(Listed { name: &name, ignored: ignored.as_deref() });
            }
        }
    }

    fn listed_environments(&self) -> impl Iterator<Item = (Cow<'_, Definition>, Option<String>)> {
        let asked_for = self.asked_for.iter().map(|one| (Cow::Borrowed(one), None));
        let none = self.asked_for.is_empty();
        let host = none.then(|| (Cow::Owned(Definition::host()), None));
        let others = self.definitions.iter().filter(move |_| none);
        let others = others.map(|one| (Cow::Borrowed(one), Some(gate::not_asked_for(&one.name))));
        asked_for.chain(host).chain(others)
    }

    /// The same as cases, for those that are to take part.
    fn listed(&self) -> impl Iterator<Item = Case> + '_ {
        self.listed_environments().flat_map(move |(environment, not_asked_for)| {
            self.in_environment(&environment, not_asked_for).collect::<Vec<_>>()
        })
    }

    /// The cases that `selection` asks for, each as often as it is to run, and the number of those it does not. Cases of
    /// environments that were not asked for are among them only where ignored cases or whole names are.
    pub fn select(&self, selection: &Selection, iterations: u32) -> (Vec<Case>, usize) {
        let candidates = match self.asked_for.is_empty() && !selection.runs_ignored() && !selection.is_exact()
        {
            true => self.in_environment(&Definition::host(), None).collect(),
            false => self.listed().collect::<Vec<_>>(),
        };
        let mut selected = Vec::new();
        let mut others = 0;
        for case in candidates {
            let count = case.iterations.saturating_mul(iterations);
            for iteration in 1..=count {
                let mut case = case.clone();
                case.name.iteration = (count > 1).then_some(iteration);
                if selection.has(&case) {
                    selected.push(case);
                } else {
                    others += 1;
                }
            }
        }
        if selection.is_exact() {
            selected.extend(self.left_out.iter().filter(|case| selection.has(case)).cloned());
        }
        (selected, others)
    }

    /// The cases in an environment, with what this host lacks for them there, or why they are all ignored.
    fn in_environment(
        &self,
        environment: &Definition,
        ignored: Option<String>,
    ) -> impl Iterator<Item = Case> + use<'_> {
        let host = self.host_in(environment);
        let prefix = Some(environment.prefix()).filter(|prefix| !prefix.is_empty()).map(str::to_owned);
        self.cases.iter().map(move |case| {
            let ignored = ignored.clone().or_else(|| host.ignores(case).map(Cow::into_owned));
            let name = CaseName { environment: prefix.clone(), ..case.name.clone() };
            Case { name, ignored, ..case.clone() }
        })
    }

    fn host_in(&self, environment: &Definition) -> HostIn {
        let mut host = self.host.clone();
        environment.reserve_in(&mut host.free_hugepages);
        HostIn { host, is_as_it_is: environment.name == HOST }
    }

    /// The environments of this run.
    pub fn environments(&self) -> Vec<Definition> {
        if self.asked_for.is_empty() { vec![Definition::host()] } else { self.asked_for.clone() }
    }

    /// The environments of this run, in words.
    pub fn describe_environments(&self) -> Vec<String> {
        let asked_for = self.asked_for.iter().map(|one| match one.settings().join(", ") {
            settings if settings.is_empty() => format!("{}: as it is", one.name),
            settings => format!("{}: {settings}", one.name),
        });
        match self.definitions.iter().count() {
            _ if !self.asked_for.is_empty() => asked_for.collect(),
            count => {
                vec![format!("{HOST}: as it is; {count} others with --environment (kvm-tests environments)")]
            }
        }
    }

    /// Why nothing is selected, in a sentence.
    pub fn nothing_matches(&self, selection: &Selection) -> String {
        let left_out = self.left_out.iter().filter(|case| selection.has(case)).count();
        let elsewhere = self.listed().find(|case| selection.has(case)).and_then(|case| case.name.environment);
        let hint = match (left_out, elsewhere) {
            (_, Some(environment)) => gate::not_asked_for(&environment),
            (0, None) => "`--list` shows their names".to_owned(),
            (count, None) => format!("{count} more would match, but their selftests are not there"),
        };
        format!("none of {} cases matches {}: {hint}", self.cases.len(), selection.describe())
    }

    /// The kernel's splats that count for no case.
    pub fn ignored_splats(&self) -> &Ignored {
        &self.ignored_splats
    }

    /// The directories of the selftests.
    pub fn selftest_sources(&self) -> Vec<PathBuf> {
        self.selftests.sources.iter().map(|(directory, _)| directory.clone()).collect()
    }

    /// Where the selftests come from and how many they are, a line for each place.
    pub fn describe_sources(&self) -> Vec<String> {
        let from = match self.origin {
            Origin::CommandLine => "--selftests",
            Origin::Variable => KVM_SELFTESTS,
            Origin::Built => "built from KERNEL_SRC",
            Origin::Embedded => {
                let count = self.selftests.iter().count();
                return vec![format!(
                    "{count} of this program's own; for the kernel's: --selftests DIR, KVM_SELFTESTS or KERNEL_SRC"
                )];
            }
        };
        let line =
            |(directory, used): &(PathBuf, usize)| format!("{used} in {} ({from})", directory.display());
        self.selftests.sources.iter().map(line).collect()
    }

    /// What of the shipped suites is left out, in words.
    pub fn describe_left_out(&self) -> Vec<String> {
        let suites: HashSet<_> = self.left_out.iter().map(|case| &case.name.suite).collect();
        let count = self.left_out.len();
        let missing = (count > 0).then(|| {
            format!("{count} variants of {} shipped suites: their selftests are not there", suites.len())
        });
        let replaced =
            self.replaced.iter().map(|name| format!("the shipped suite {name}: yours of this name is used"));
        missing.into_iter().chain(replaced).collect()
    }
}

/// What a selftest that is not there means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// The user asked for it.
    IsNoRun,
    /// It is a shipped suite's, for another kernel's selftests.
    IsLeftOut,
}

struct Assembly<'a> {
    selftests: &'a Selftests,
    host: &'a Host,
    ncpus: String,
    suites: BTreeMap<String, Arc<Suite>>,
    has_default: HashSet<String>,
    cases: Vec<Case>,
    left_out: Vec<Case>,
}

/// How a test is started.
struct Start<'a> {
    command: Command,
    directory: PathBuf,
    selftest: Option<&'a Selftest>,
    missing: Option<String>,
}

impl<'a> Assembly<'a> {
    fn new(selftests: &'a Selftests, host: &'a Host) -> Self {
        Self {
            selftests,
            host,
            ncpus: host.cpus.to_string(),
            suites: BTreeMap::new(),
            has_default: HashSet::new(),
            cases: Vec::new(),
            left_out: Vec::new(),
        }
    }

    fn add_suites(&mut self, configuration: &Configuration, missing: Missing) {
        for file in &configuration.suites {
            let suite = Arc::new(self.suite(file));
            self.suites.insert(file.name.clone(), Arc::clone(&suite));
            for test in &file.tests {
                if test.name == DEFAULT_VARIANT {
                    self.has_default.insert(file.name.clone());
                }
                let start = self.start(test);
                let is_left_out =
                    missing == Missing::IsLeftOut && start.selftest.is_none() && start.missing.is_some();
                let case = self.case(&suite, test, start);
                if is_left_out { self.left_out.push(case) } else { self.cases.push(case) }
            }
        }
    }

    /// A case without arguments for each selftest whose suite has none.
    fn add_defaults(&mut self) {
        for selftest in self.selftests.iter().filter(|selftest| !self.has_default.contains(&selftest.name)) {
            let named = || Arc::new(Suite { name: selftest.name.clone(), ..Suite::default() });
            let suite = Arc::clone(self.suites.entry(selftest.name.clone()).or_insert_with(named));
            let start = start_of(selftest, Vec::new());
            let ignored = self.ignored(&Settings::default(), &start);
            self.cases.push(Case {
                name: CaseName::new(&suite.name, DEFAULT_VARIANT),
                suite,
                command: start.command,
                directory: start.directory,
                setup: None,
                teardown: None,
                precheck: None,
                timeout: None,
                requires: Requires::default(),
                needs_kvm: true,
                weight: 1,
                exclusive: false,
                ignored_splats: Ignored::default(),
                suspect: false,
                iterations: 1,
                ignored,
                missing: start.missing,
            });
        }
    }

    fn suite(&self, file: &SuiteFile) -> Suite {
        let line = |template: &Option<Template>| template.as_ref().map(|line| self.expand(line));
        Suite { name: file.name.clone(), setup: line(&file.setup), teardown: line(&file.teardown) }
    }

    fn case(&self, suite: &Arc<Suite>, test: &TestEntry, start: Start<'_>) -> Case {
        let line = |template: &Option<Template>| template.as_ref().map(|line| self.expand(line));
        let settings = &test.settings;
        let ignored = self.ignored(settings, &start);
        let needs_kvm = start.selftest.is_some();
        Case {
            name: CaseName::new(&suite.name, &test.name),
            suite: Arc::clone(suite),
            command: start.command,
            directory: start.directory,
            setup: line(&test.setup),
            teardown: line(&test.teardown),
            precheck: line(&test.precheck),
            timeout: settings.timeout,
            requires: settings.requires.clone(),
            needs_kvm,
            weight: match settings.weight {
                Weight::Slots(slots) => slots,
                Weight::Ncpus => u32::try_from(self.host.cpus).unwrap_or(u32::MAX),
            },
            exclusive: settings.exclusive,
            ignored_splats: settings.ignored_splats.clone(),
            suspect: false,
            iterations: settings.iterations,
            ignored,
            missing: start.missing,
        }
    }

    fn start(&self, test: &TestEntry) -> Start<'a> {
        match &test.what {
            What::Selftest { name, args } => match self.selftests.get(name) {
                Some(selftest) => {
                    start_of(selftest, args.iter().map(|arg| self.expand(arg).into()).collect())
                }
                None => {
                    let args = args.iter().map(|arg| self.expand(arg).into()).collect();
                    let command = Command::Program { path: PathBuf::from(name), args };
                    self.start_of_missing(test, name, command)
                }
            },
            What::SelftestLine { selftest: name, rest } => match self.selftests.get(name) {
                Some(selftest) => {
                    let start = start_of(selftest, Vec::new());
                    let Command::Program { path, args } = &start.command else { return start };
                    let words = std::iter::once(path.as_os_str()).chain(args.iter().map(OsString::as_os_str));
                    let words: Vec<_> = words.map(crate::case::quoted).collect();
                    Start { command: Command::Shell(format!("{} {rest}", words.join(" "))), ..start }
                }
                None => self.start_of_missing(test, name, Command::Shell(format!("{name} {rest}"))),
            },
            What::Shell(line) => self.start_of_line(test, self.expand(line)),
        }
    }

    /// A shell line runs in the selftests' directory: that of the one it starts with (`./NAME`), where it does.
    fn start_of_line(&self, test: &TestEntry, line: String) -> Start<'a> {
        let first = line.split_whitespace().next().unwrap_or_default();
        let named = first.strip_prefix("./").filter(|name| !name.contains('/'));
        let selftest = named.and_then(|name| self.selftests.get(name));
        if let Some(selftest) = selftest.filter(|selftest| matches!(selftest.program, Program::File(_))) {
            let start = start_of(selftest, Vec::new());
            return Start { command: Command::Shell(line), ..start };
        }
        match named {
            Some(name) => self.start_of_missing(test, name, Command::Shell(line.clone())),
            None => Start {
                command: Command::Shell(line),
                directory: self.directory(test),
                selftest: None,
                missing: None,
            },
        }
    }

    fn start_of_missing(&self, test: &TestEntry, name: &str, command: Command) -> Start<'a> {
        let missing = format!("there is no selftest {name}: {}", test.problem("asked for here"));
        Start { command, directory: self.directory(test), selftest: None, missing: Some(missing) }
    }

    /// Where a command runs that is no selftest's: where the selftests are, else beside the file that has it.
    fn directory(&self, test: &TestEntry) -> PathBuf {
        let of_selftest = |selftest: &Selftest| match &selftest.program {
            Program::File(path) => path.parent().map(Path::to_owned),
            Program::Embedded => None,
        };
        let beside = || std::path::absolute(&test.path).ok()?.parent()?.canonicalize().ok();
        self.selftests.iter().find_map(of_selftest).or_else(beside).unwrap_or_else(|| PathBuf::from("/"))
    }

    /// Why it is ignored whatever the environment.
    fn ignored(&self, settings: &Settings, start: &Start<'_>) -> Option<String> {
        let here = |machine: &str| format!("this host is {machine}");
        if let Some(arches) = &settings.arch
            && !arches.iter().any(|arch| arch.is_host())
        {
            let names: Vec<_> = arches.iter().map(|arch| arch.as_str()).collect();
            return Some(format!("for {} only; {}", names.join(" and "), here(&self.host.machine)));
        }
        if let Some(arch) = start.selftest.and_then(|selftest| selftest.arch)
            && !Arch::is_host(arch)
        {
            return Some(format!("built for {arch}; {}", here(&self.host.machine)));
        }
        None
    }

    fn expand(&self, template: &Template) -> String {
        template.expand(&[(NCPUS, &self.ncpus)])
    }
}

fn start_of(selftest: &Selftest, args: Vec<OsString>) -> Start<'_> {
    let (path, args, directory) = match &selftest.program {
        Program::File(path) => (path.clone(), args, path.parent().unwrap_or(Path::new("/")).to_owned()),
        Program::Embedded => {
            let exe = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"));
            let hidden = [SMOKE_SELFTEST, selftest.name.as_str()].map(OsString::from);
            (exe, hidden.into_iter().chain(args).collect(), PathBuf::from("/"))
        }
    };
    Start {
        command: Command::Program { path, args },
        directory,
        missing: selftest.missing.clone(),
        selftest: Some(selftest),
    }
}
