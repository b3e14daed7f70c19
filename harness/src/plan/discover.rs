//! From sources to cases: selftests and suites put together, with what this host lacks worked out.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::bail;

use crate::cli::Options;
use crate::environment::definition::{Definition, HOST};
use crate::exec::gate;
use crate::model::arch::Arch;
use crate::model::case::{Case, Command, Suite, Variant};
use crate::model::host::Host;
use crate::model::name::CaseName;
use crate::model::problem::Problem;
use crate::plan::definitions::Definitions;
use crate::plan::embedded::{Embedded, SMOKE_SELFTEST};
use crate::plan::files;
use crate::plan::select::Selection;
use crate::plan::selftests::{Program, Selftest, Selftests};
use crate::plan::suite::{Settings, SuiteFile, TestEntry, What, WrittenAt};

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
    ignored_splats: Vec<String>,
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

/// A case that was found in an environment.
#[derive(Debug, Clone, Copy)]
struct Found<'a> {
    /// The same on the host as it is.
    case: &'a Case,
    environment: Option<&'a str>,
    listed: Listed<'a>,
}

impl Found<'_> {
    fn case(self, iteration: Option<u32>) -> Case {
        let environment = self.environment.map(str::to_owned);
        let name = CaseName {
            environment,
            iteration,
            ..self.case.name.clone()
        };
        Case {
            name,
            ignored: self.listed.ignored.map(str::to_owned),
            ..self.case.clone()
        }
    }
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
        let kvm_problem = self
            .host
            .kvm_problem
            .as_deref()
            .filter(|_| case.needs_kvm && self.is_as_it_is);
        kvm_problem
            .map(Cow::Borrowed)
            .or_else(|| self.host.lacks(&case.requires).map(Cow::Owned))
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
    let shipped = Shipped {
        suites: embedded.suites,
        environments: embedded.environments,
    };
    let mut discovered = assemble(
        origin,
        selftests,
        &embedded.with_local(&options.config),
        shipped,
        host,
    )?;
    discovered.asked_for = discovered
        .definitions
        .selected(&options.environment, &options.made_up)?;
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
        [] => (
            Origin::Embedded,
            Ok(Selftests::embedded(embedded.iter().map(String::as_str))),
        ),
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
    let ncpus = u32::try_from(host.cpus).unwrap_or(u32::MAX);
    let users = files::read(paths, ncpus);
    let environments = files::read_embedded(shipped.environments, ncpus).environments;
    let (definitions, environment_problems) =
        Definitions::read(users.environments.iter().chain(&environments));
    let mut shipped = files::read_embedded(shipped.suites, ncpus);
    let is_the_users =
        |suite: &SuiteFile| users.suites.iter().any(|users| users.name == suite.name);
    let replaced: Vec<_> = shipped
        .suites
        .extract_if(.., |suite| is_the_users(suite))
        .map(|suite| suite.name)
        .collect();

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

    // What the user says of a selftest takes the place of what is shipped.
    let mut defaults = shipped.defaults;
    defaults.extend(users.defaults);
    let mut assembly = Assembly::new(&selftests, host, defaults);
    assembly.add_suites(users.suites, Missing::IsNoRun);
    assembly.add_suites(shipped.suites, Missing::IsLeftOut);
    assembly.add_defaults();
    let Assembly {
        mut cases,
        mut left_out,
        ..
    } = assembly;
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    left_out.sort_by(|a, b| a.name.cmp(&b.name));
    let (host, asked_for) = (host.clone(), Vec::new());
    let ignored_splats = users.ignored_splats;
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
fn hidden_suites(
    definitions: &Definitions,
    users: &[SuiteFile],
    shipped: &[SuiteFile],
) -> Vec<Problem> {
    let is_environment = |suite: &&SuiteFile| definitions.iter().any(|one| one.name == suite.name);
    let hidden = users.iter().chain(shipped).filter(is_environment);
    let problem = |suite: &SuiteFile| {
        suite.place.problem(format!(
            "the suite `{}` has the name of an environment: rename one of them",
            suite.name
        ))
    };
    hidden.map(problem).collect()
}

fn lines(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

fn find_selftests(
    options: &Options,
    embedded: &Embedded,
) -> (Origin, Result<Selftests, Vec<Problem>>) {
    let variable = std::env::var_os(KVM_SELFTESTS).filter(|value| !value.is_empty());
    if !options.selftests.is_empty() {
        (Origin::CommandLine, Selftests::find(&options.selftests))
    } else if let Some(value) = variable {
        (
            Origin::Variable,
            Selftests::find(&std::env::split_paths(&value).collect::<Vec<_>>()),
        )
    } else if let Some(directory) = embedded.built_selftests {
        (Origin::Built, Selftests::find(&[PathBuf::from(directory)]))
    } else {
        (
            Origin::Embedded,
            Ok(Selftests::embedded(
                embedded.selftests.iter().map(|(name, _)| *name),
            )),
        )
    }
}

impl Discovered {
    /// Tells `visit` of the cases as they are listed: those of the environments asked for; where none are, those on the
    /// host as it is, and those of every environment as ignored.
    pub fn list(&self, mut visit: impl FnMut(Listed<'_>)) {
        self.visit(|found| visit(found.listed), true);
    }

    /// The cases that `selection` asks for, each as often as it is to run, and the number of those it does not. Cases of
    /// environments that were not asked for are among them only where ignored cases or whole names are.
    pub fn select(&self, selection: &Selection, iterations: u32) -> (Vec<Case>, usize) {
        let with_others = selection.runs_ignored() || selection.is_exact();
        let mut selected = Vec::new();
        let mut others = 0;
        self.visit(
            |found| {
                let count = found.case.iterations.saturating_mul(iterations);
                for iteration in 1..=count {
                    let iteration = (count > 1).then_some(iteration);
                    if selection.has(found.listed, iteration) {
                        selected.push(found.case(iteration));
                    } else {
                        others += 1;
                    }
                }
            },
            with_others,
        );
        if selection.is_exact() {
            selected.extend(self.selected_of_left_out(selection).cloned());
        }
        (selected, others)
    }

    fn selected_of_left_out(&self, selection: &Selection) -> impl Iterator<Item = &Case> {
        self.left_out.iter().filter(|case| {
            let listed = Listed {
                name: &case.name.to_string(),
                ignored: case.ignored.as_deref(),
            };
            selection.has(listed, None)
        })
    }

    /// Tells `visit` of every case in each of the environments asked for; where none are, on the host as it is, and
    /// `with_others` also in every environment, as ignored.
    fn visit(&self, mut visit: impl FnMut(Found<'_>), with_others: bool) {
        let mut name = String::new();
        for (environment, not_asked_for) in self.environments_listed(with_others) {
            let host = self.host_in(&environment);
            let prefix = environment.prefix();
            for case in &self.cases {
                name.clear();
                let environment = (!prefix.is_empty()).then_some(prefix);
                environment
                    .into_iter()
                    .for_each(|prefix| name.extend([prefix, "::"]));
                name.extend([&case.name.suite, "::", &case.name.variant]);
                let ignored = not_asked_for.as_deref().map(Cow::Borrowed);
                let ignored = ignored.or_else(|| host.ignores(case));
                visit(Found {
                    case,
                    environment,
                    listed: Listed {
                        name: &name,
                        ignored: ignored.as_deref(),
                    },
                });
            }
        }
    }

    fn environments_listed(
        &self,
        with_others: bool,
    ) -> impl Iterator<Item = (Cow<'_, Definition>, Option<String>)> {
        let asked_for = self.asked_for.iter().map(|one| (Cow::Borrowed(one), None));
        let none = self.asked_for.is_empty();
        let host = none.then(|| (Cow::Owned(Definition::host()), None));
        let others = self.definitions.iter().filter(move |_| none && with_others);
        let others = others.map(|one| (Cow::Borrowed(one), Some(gate::not_asked_for(&one.name))));
        asked_for.chain(host).chain(others)
    }

    fn host_in(&self, environment: &Definition) -> HostIn {
        let mut host = self.host.clone();
        environment.reserve_in(&mut host.free_hugepages);
        HostIn {
            host,
            is_as_it_is: environment.name == HOST,
        }
    }

    /// The environments of this run.
    pub fn environments(&self) -> Vec<Definition> {
        if self.asked_for.is_empty() {
            vec![Definition::host()]
        } else {
            self.asked_for.clone()
        }
    }

    /// The environments of this run, in words.
    pub fn describe_environments(&self) -> Vec<String> {
        let asked_for = self
            .asked_for
            .iter()
            .map(|one| match one.settings().join(", ") {
                settings if settings.is_empty() => format!("{}: as it is", one.name),
                settings => format!("{}: {settings}", one.name),
            });
        match self.definitions.iter().count() {
            _ if !self.asked_for.is_empty() => asked_for.collect(),
            count => {
                vec![format!(
                    "{HOST}: as it is; {count} others with --environment (kvm-tests environments)"
                )]
            }
        }
    }

    /// Why nothing is selected, in a sentence.
    pub fn nothing_matches(&self, selection: &Selection) -> String {
        let left_out = self.selected_of_left_out(selection).count();
        let mut elsewhere = None;
        let mut is_elsewhere = |found: Found<'_>| {
            if elsewhere.is_none() && selection.has(found.listed, None) {
                elsewhere = found.environment.map(str::to_owned);
            }
        };
        self.visit(&mut is_elsewhere, true);
        let hint = match (left_out, elsewhere) {
            (_, Some(environment)) => gate::not_asked_for(&environment),
            (0, None) => "`--list` shows their names".to_owned(),
            (count, None) => format!("{count} more would match, but their selftests are not there"),
        };
        format!(
            "none of {} cases matches {}: {hint}",
            self.cases.len(),
            selection.describe()
        )
    }

    /// The kernel's splats that count for no case.
    pub fn ignored_splats(&self) -> &[String] {
        &self.ignored_splats
    }

    /// The directories of the selftests.
    pub fn selftest_sources(&self) -> Vec<PathBuf> {
        self.selftests
            .sources
            .iter()
            .map(|(directory, _)| directory.clone())
            .collect()
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
        let line = |(directory, used): &(PathBuf, usize)| {
            format!("{used} in {} ({from})", directory.display())
        };
        self.selftests.sources.iter().map(line).collect()
    }

    /// What of the shipped suites is left out, in words.
    pub fn describe_left_out(&self) -> Vec<String> {
        let suites: HashSet<_> = self.left_out.iter().map(|case| &case.name.suite).collect();
        let count = self.left_out.len();
        let missing = (count > 0).then(|| {
            format!(
                "{count} variants of {} shipped suites: their selftests are not there",
                suites.len()
            )
        });
        let replaced = self
            .replaced
            .iter()
            .map(|name| format!("the shipped suite {name}: yours of this name is used"));
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
    defaults: HashMap<String, TestEntry>,
    suites: BTreeMap<String, Arc<Suite>>,
    has_default: HashSet<String>,
    cases: Vec<Case>,
    left_out: Vec<Case>,
}

/// How a test is started.
struct Start<'a> {
    command: Command,
    directory: Arc<Path>,
    selftest: Option<&'a Selftest>,
    missing: Option<String>,
}

impl<'a> Assembly<'a> {
    fn new(selftests: &'a Selftests, host: &'a Host, defaults: HashMap<String, TestEntry>) -> Self {
        Self {
            selftests,
            host,
            defaults,
            suites: BTreeMap::new(),
            has_default: HashSet::new(),
            cases: Vec::new(),
            left_out: Vec::new(),
        }
    }

    fn add_suites(&mut self, files: Vec<SuiteFile>, missing: Missing) {
        for file in files {
            let suite = Arc::new(Suite {
                name: file.name,
                setup: file.setup,
                teardown: file.teardown,
                env: file.env,
            });
            self.suites.insert(suite.name.clone(), Arc::clone(&suite));
            self.cases.reserve(file.tests.len());
            for test in file.tests {
                if test.name == DEFAULT_VARIANT {
                    self.has_default.insert(suite.name.clone());
                }
                let shipped = missing == Missing::IsLeftOut;
                let case = self.case(&suite, test, shipped);
                let is_left_out =
                    missing == Missing::IsLeftOut && !case.needs_kvm && case.missing.is_some();
                if is_left_out {
                    self.left_out.push(case)
                } else {
                    self.cases.push(case)
                }
            }
        }
    }

    /// A case without arguments for each selftest whose suite has none.
    fn add_defaults(&mut self) {
        for selftest in self
            .selftests
            .iter()
            .filter(|selftest| !self.has_default.contains(&selftest.name))
        {
            let named = || {
                Arc::new(Suite {
                    name: selftest.name.clone(),
                    ..Suite::default()
                })
            };
            let suite = Arc::clone(
                self.suites
                    .entry(selftest.name.clone())
                    .or_insert_with(named),
            );
            let test = self.defaults.remove(&selftest.name).unwrap_or_else(|| {
                let place = WrittenAt {
                    path: Path::new("").into(),
                    position: None,
                };
                let what = What::Selftest {
                    name: selftest.name.clone(),
                    args: Vec::new(),
                };
                TestEntry::new(DEFAULT_VARIANT.to_owned(), what, place)
            });
            let case = self.case(&suite, test, true);
            self.cases.push(case);
        }
    }

    fn case(&self, suite: &Arc<Suite>, test: TestEntry, shipped: bool) -> Case {
        let start = self.start(test.what, &test.place);
        let settings = test.settings;
        let ignored = self.ignored(&settings, &start);
        let variant = Variant {
            suite: Arc::clone(suite),
            command: start.command,
            directory: start.directory,
            setup: test.setup,
            teardown: test.teardown,
            precheck: test.precheck,
            env: test.env,
            timeout: settings.timeout,
            requires: settings.requires,
            weight: settings.weight,
            needs_kvm: start.selftest.is_some(),
            ignored_splats: settings.ignored_splats,
            tags: settings.tags,
            iterations: settings.iterations,
            shipped,
            missing: start.missing,
        };
        Case {
            name: CaseName::new(&suite.name, test.name),
            variant: Arc::new(variant),
            exclusive: settings.exclusive,
            suspect: false,
            ignored,
        }
    }

    fn start(&self, what: What, place: &WrittenAt) -> Start<'a> {
        match what {
            What::Selftest { name, args } => {
                let args = args.into_iter().map(OsString::from).collect();
                match self.selftests.get(&name) {
                    Some(selftest) => start_of(selftest, args),
                    None => {
                        let command = Command::Program {
                            path: Path::new(&name).into(),
                            args,
                        };
                        self.start_of_missing(place, &name, command)
                    }
                }
            }
            What::SelftestLine { name, rest } => match self.selftests.get(&name) {
                Some(selftest) => {
                    let start = start_of(selftest, Vec::new());
                    let Command::Program { path, args } = &start.command else {
                        return start;
                    };
                    let words = std::iter::once(path.as_os_str())
                        .chain(args.iter().map(OsString::as_os_str));
                    let words: Vec<_> = words.map(crate::model::case::quoted).collect();
                    Start {
                        command: Command::Shell(format!("{} {rest}", words.join(" "))),
                        ..start
                    }
                }
                None => {
                    self.start_of_missing(place, &name, Command::Shell(format!("{name} {rest}")))
                }
            },
            What::Shell(line) => self.start_of_line(place, line),
        }
    }

    /// A shell line runs in the selftests' directory: that of the one it starts with (`./NAME`), where it does.
    fn start_of_line(&self, place: &WrittenAt, line: String) -> Start<'a> {
        let first = line.split_whitespace().next().unwrap_or_default();
        let named = first.strip_prefix("./").filter(|name| !name.contains('/'));
        let selftest = named.and_then(|name| self.selftests.get(name));
        if let Some(selftest) =
            selftest.filter(|selftest| matches!(selftest.program, Program::File { .. }))
        {
            let start = start_of(selftest, Vec::new());
            return Start {
                command: Command::Shell(line),
                ..start
            };
        }
        match named {
            Some(name) => self.start_of_missing(place, name, Command::Shell(line.clone())),
            None => Start {
                command: Command::Shell(line),
                directory: self.directory(place),
                selftest: None,
                missing: None,
            },
        }
    }

    fn start_of_missing(&self, place: &WrittenAt, name: &str, command: Command) -> Start<'a> {
        let missing = format!("there is no selftest {name}: {place}: asked for here");
        Start {
            command,
            directory: self.directory(place),
            selftest: None,
            missing: Some(missing),
        }
    }

    /// Where a command runs that is no selftest's: where the selftests are, else beside the file that has it.
    fn directory(&self, place: &WrittenAt) -> Arc<Path> {
        let of_selftest = |selftest: &Selftest| match &selftest.program {
            Program::File { directory, .. } => Some(Arc::clone(directory)),
            Program::Embedded => None,
        };
        let beside = || {
            std::path::absolute(&place.path)
                .ok()?
                .parent()?
                .canonicalize()
                .ok()
                .map(Into::into)
        };
        self.selftests
            .iter()
            .find_map(of_selftest)
            .or_else(beside)
            .unwrap_or_else(|| Path::new("/").into())
    }

    /// Why it is ignored whatever the environment.
    fn ignored(&self, settings: &Settings, start: &Start<'_>) -> Option<String> {
        let here = |machine: &str| format!("this host is {machine}");
        if let Some(arches) = &settings.arch
            && !arches.iter().any(|arch| arch.is_host())
        {
            let names: Vec<_> = arches.iter().map(|arch| arch.as_str()).collect();
            return Some(format!(
                "for {} only; {}",
                names.join(" and "),
                here(&self.host.machine)
            ));
        }
        if let Some(arch) = start.selftest.and_then(|selftest| selftest.arch)
            && !Arch::is_host(arch)
        {
            return Some(format!("built for {arch}; {}", here(&self.host.machine)));
        }
        None
    }
}

fn start_of(selftest: &Selftest, args: Vec<OsString>) -> Start<'_> {
    let (path, args, directory) = match &selftest.program {
        Program::File { path, directory } => (Arc::clone(path), args, Arc::clone(directory)),
        Program::Embedded => {
            let exe = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"));
            let hidden = [SMOKE_SELFTEST, selftest.name.as_str()].map(OsString::from);
            (
                exe.into(),
                hidden.into_iter().chain(args).collect(),
                Path::new("/").into(),
            )
        }
    };
    Start {
        command: Command::Program { path, args },
        directory,
        missing: selftest.missing.clone(),
        selftest: Some(selftest),
    }
}
