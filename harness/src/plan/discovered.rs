//! What there is to run: every case in every environment, and what of it the user asked for.

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::PathBuf;

use super::definitions::Definitions;
use super::selection::{Listed, Selection};
use crate::environment::definition::{Definition, HOST};
use crate::model::case::Case;
use crate::model::host::Host;
use crate::model::name::CaseName;

/// What there is to run.
#[derive(Debug)]
pub struct Discovered {
    /// Every case on the host as it is, sorted by name.
    pub(super) cases: Vec<Case>,
    /// Cases of shipped suites whose selftests are not there: run, as `NO_RUN`, only if asked for by their whole names.
    pub(super) left_out: Vec<Case>,
    /// Shipped suites in whose place the user has one of the same name.
    pub(super) replaced: Vec<String>,
    /// The directories of the selftests.
    pub(super) directories: Vec<PathBuf>,
    /// Where the selftests come from and how many they are, a line for each place.
    pub(super) sources: Vec<String>,
    pub(super) definitions: Definitions,
    /// The environments that the command line asks for; none means the host as it is.
    pub(super) asked_for: Vec<Chosen>,
    pub(super) ignored_splats: Vec<String>,
    pub(super) host: Host,
}

/// An environment that the command line asks for.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) definition: Definition,
    /// Why its cases are ignored: this host cannot be that way, or is so already.
    pub(super) ignored: Option<String>,
    /// The host is that way already.
    pub(super) is_nothing: bool,
}

impl From<Definition> for Chosen {
    fn from(definition: Definition) -> Self {
        Self {
            definition,
            ignored: None,
            is_nothing: false,
        }
    }
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

impl Discovered {
    /// The number of cases that are listed; tells `visit` of each of those that `selection` asks for.
    pub fn list(&self, selection: &Selection, mut visit: impl FnMut(Listed<'_>)) {
        self.visit(with_others(selection), |found| {
            if selection.has(found.listed, None) {
                visit(found.listed);
            }
        });
    }

    /// The cases that `selection` asks for, each as often as it is to run, and the number of those it does not. Cases of
    /// environments that were not asked for are among them only where ignored cases or whole names are.
    pub fn select(&self, selection: &Selection, iterations: u32) -> (Vec<Case>, usize) {
        let mut selected = Vec::new();
        let mut others = 0;
        self.visit(with_others(selection), |found| {
            let count = found.case.iterations.saturating_mul(iterations);
            for iteration in 1..=count {
                let iteration = (count > 1).then_some(iteration);
                if selection.has(found.listed, iteration) {
                    selected.push(found.case(iteration));
                } else {
                    others += 1;
                }
            }
        });
        if selection.is_exact() {
            selected.extend(self.selected_of_left_out(selection).cloned());
        }
        (selected, others)
    }

    fn selected_of_left_out(&self, selection: &Selection) -> impl Iterator<Item = &Case> {
        self.left_out.iter().filter(|case| {
            let name = case.name.to_string();
            selection.has(Listed::new(&name, case.ignored.as_deref(), case), None)
        })
    }

    /// Tells `visit` of every case in each of the environments asked for; where none are, on the host as it is, and
    /// `with_others` also in every other one, as ignored.
    fn visit(&self, with_others: bool, mut visit: impl FnMut(Found<'_>)) {
        let mut name = String::new();
        for (environment, ignored) in self.environments_visited(with_others) {
            let host = self.host_in(&environment);
            let prefix = environment.prefix();
            for case in &self.cases {
                name.clear();
                if !prefix.is_empty() {
                    name.extend([prefix, "::"]);
                }
                name.extend([&case.name.suite, "::", &case.name.variant]);
                let ignored = ignored.as_deref().map(Cow::Borrowed);
                let ignored = ignored.or_else(|| ignores(&host, prefix.is_empty(), case));
                visit(Found {
                    case,
                    environment: (!prefix.is_empty()).then_some(prefix),
                    listed: Listed::new(&name, ignored.as_deref(), case),
                });
            }
        }
    }

    fn environments_visited(
        &self,
        with_others: bool,
    ) -> impl Iterator<Item = (Cow<'_, Definition>, Option<String>)> {
        let asked_for = self.asked_for.iter();
        let asked_for = asked_for.map(|one| (Cow::Borrowed(&one.definition), one.ignored.clone()));
        let none = self.asked_for.is_empty();
        let host = none.then(|| (Cow::Owned(Definition::host()), None));
        let others = self.definitions.iter().filter(move |_| none && with_others);
        let others = others.map(|one| (Cow::Borrowed(one), Some(not_asked_for(&one.name))));
        asked_for.chain(host).chain(others)
    }

    fn host_in(&self, environment: &Definition) -> Host {
        let mut host = self.host.clone();
        environment.reserve_in(&mut host.free_hugepages);
        host
    }

    /// The environments of this run.
    pub fn environments(&self) -> Vec<Definition> {
        if self.asked_for.is_empty() {
            vec![Definition::host()]
        } else {
            let asked_for = self.asked_for.iter();
            asked_for.map(|one| one.definition.clone()).collect()
        }
    }

    /// The environments of this run, in words.
    pub fn describe_environments(&self) -> Vec<String> {
        if self.asked_for.is_empty() {
            let count = self.definitions.iter().count();
            let others = "others with --environment (kvm-tests environments)";
            return vec![format!("{HOST}: as it is; {count} {others}")];
        }
        let line = |one: &Chosen| {
            let Definition { name, .. } = &one.definition;
            let settings = one.definition.settings().join(", ");
            match &one.ignored {
                Some(reason) => format!("{name}: skipped: {reason}"),
                None if settings.is_empty() => format!("{name}: as it is"),
                None if one.is_nothing => format!("{name}: {settings}, as the host is already"),
                None => format!("{name}: {settings}"),
            }
        };
        self.asked_for.iter().map(line).collect()
    }

    /// Why nothing is selected, in a sentence.
    pub fn nothing_matches(&self, selection: &Selection) -> String {
        let left_out = self.selected_of_left_out(selection).count();
        let mut elsewhere = None;
        self.visit(true, |found| {
            if elsewhere.is_none() && selection.has(found.listed, None) {
                elsewhere = found.environment.map(str::to_owned);
            }
        });
        let hint = match (left_out, elsewhere) {
            (_, Some(environment)) => not_asked_for(&environment),
            (0, None) => "`--list` shows their names".to_owned(),
            (count, None) => format!("{count} more would match, but their selftests are not there"),
        };
        format!(
            "none of {} cases matches {}: {hint}",
            self.cases.len(),
            selection.describe()
        )
    }

    /// The kernel's splats that count for no case: patterns of their lines.
    pub fn ignored_splats(&self) -> &[String] {
        &self.ignored_splats
    }

    /// The directories of the selftests.
    pub fn selftest_sources(&self) -> Vec<PathBuf> {
        self.directories.clone()
    }

    /// Where the selftests come from and how many they are, a line for each place.
    pub fn describe_sources(&self) -> Vec<String> {
        self.sources.clone()
    }

    /// What of the shipped suites is left out, in words.
    pub fn describe_left_out(&self) -> Vec<String> {
        let suites: HashSet<_> = self.left_out.iter().map(|case| &case.name.suite).collect();
        let count = self.left_out.len();
        let missing = (count > 0).then(|| {
            let suites = suites.len();
            format!("{count} variants of {suites} shipped suites: their selftests are not there")
        });
        let replaced = self.replaced.iter();
        let replaced =
            replaced.map(|name| format!("the shipped suite {name}: yours of this name is used"));
        missing.into_iter().chain(replaced).collect()
    }
}

/// Whether cases of environments that were not asked for are considered: those who list ignored cases, as nextest does,
/// or name a case wholly, shall find them.
fn with_others(selection: &Selection) -> bool {
    selection.runs_ignored() || selection.is_exact()
}

/// Why `case` is ignored on `host`, which `is_as_it_is` or in an environment.
fn ignores<'c>(host: &Host, is_as_it_is: bool, case: &'c Case) -> Option<Cow<'c, str>> {
    if case.missing.is_some() || case.ignored.is_some() {
        return case.ignored.as_deref().map(Cow::Borrowed);
    }
    // An environment may load the modules that are not there yet.
    let kvm_problem = host.kvm_problem.as_ref();
    let kvm_problem = kvm_problem.filter(|_| case.needs_kvm && is_as_it_is);
    let problem = kvm_problem.cloned().or_else(|| host.lacks(&case.requires));
    problem.map(Cow::Owned)
}

/// Why the cases of an environment that nobody asked for are ignored.
pub fn not_asked_for(environment: &str) -> String {
    format!("changes this host: run it with --environment {environment}")
}
