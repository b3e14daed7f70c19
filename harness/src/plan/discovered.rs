//! What there is to run: every case in every environment, and what of it the user asked for.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::changed::Concern;
use super::known::KnownFailures;
use super::selection::{Selection, names_of};
use super::selftests;
use crate::environment::{Definition, Definitions, HOST};
use crate::model::case::{Case, name};
use crate::model::host::Host;
use crate::model::problem::{excerpt, nearest};
use crate::model::text::plural;
use crate::options::Options;
use crate::show::Format;

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
    pub directories: Vec<PathBuf>,
    /// Their files.
    pub(super) selftests: Vec<Arc<Path>>,
    /// Where the selftests come from and how many they are, a line for each place.
    pub sources: Vec<String>,
    pub(super) definitions: Definitions,
    /// The environments that the command line asks for; none means the host as it is.
    pub(super) asked_for: Vec<Chosen>,
    /// The kernel's splats that count for no case: patterns of their lines.
    pub ignored_splats: Vec<String>,
    /// Which paths in a kernel tree concern which selftests.
    pub(super) concerns: Vec<Concern>,
    /// What `--changed` chose, and why.
    pub changed: Vec<String>,
    pub(super) known: KnownFailures,
    /// Only some of the cases are here: none of them need be a known failure's.
    pub(super) is_narrowed: bool,
    /// What is to be said of each whole name that is asked for (`--exact`) and that no case has.
    pub unknown_names: Vec<String>,
    /// The machine that they are for.
    pub host: Host,
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

impl Discovered {
    /// Every case that is considered, in each of the environments asked for; where none are, on the host as it is, and
    /// where `selection` asks for ignored cases, as nextest does, or names them wholly, also in others, as ignored.
    pub(super) fn cases(&self, selection: &Selection) -> impl Iterator<Item = Case> {
        let asked_for = self.asked_for.iter();
        let asked_for = asked_for.map(|one| (Cow::Borrowed(&one.definition), one.ignored.clone()));
        let none = self.asked_for.is_empty();
        let host = none.then(|| (Cow::Owned(Definition::host()), None));
        let others = self.definitions.iter();
        let others = others.filter(move |one| none && selection.considers(&one.name));
        let others = others.map(|one| (Cow::Borrowed(one), Some(not_asked_for(&one.name))));
        let environments = asked_for.chain(host).chain(others);
        let known = &self.known;
        environments.flat_map(move |(environment, ignored)| {
            let mut host = self.host.clone();
            environment.reserve_in(&mut host.free_hugepages);
            let name = Some(environment.prefix()).filter(|name| !name.is_empty());
            let name = name.map(str::to_owned);
            let options: Arc<[String]> = environment.as_options().into();
            self.cases.iter().map(move |case| {
                let ignored = ignored.clone();
                let ignored = ignored.or_else(|| ignores(&host, name.is_none(), case));
                let mut case = Case {
                    ignored,
                    ..case.clone()
                };
                case.name.environment.clone_from(&name);
                case.known = known.of(&case.name);
                let crash = case.crash().map(ToString::to_string);
                case.ignored = case.ignored.take().or(crash);
                case.environment_options = name.is_some().then(|| Arc::clone(&options));
                case
            })
        })
    }

    /// The names of the cases that `selection` asks for.
    pub fn names(&self, selection: &Selection) -> Vec<String> {
        let cases = self.cases(selection).filter(|case| selection.has(case));
        cases.map(|case| case.name.to_string()).collect()
    }

    /// The cases that `selection` asks for, each as often as it is to run, and the number of those it does not. Cases of
    /// environments that were not asked for are among them only where ignored cases or whole names are.
    pub fn select(&self, selection: &Selection, iterations: u32) -> (Vec<Case>, usize) {
        let mut selected = Vec::new();
        let mut others = 0;
        for case in self.cases(selection) {
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
            selected.extend(self.selected_of_left_out(selection).cloned());
        }
        (selected, others)
    }

    fn selected_of_left_out(&self, selection: &Selection) -> impl Iterator<Item = &Case> {
        self.left_out.iter().filter(|case| selection.has(case))
    }

    /// What is to be said of each whole name in `options` that no case has, be it left out otherwise or not.
    pub(super) fn unknown_names(&self, options: &Options) -> Vec<String> {
        // A name that stands alone matches nothing then.
        if !options.exact || options.filters.len() < 2 {
            return Vec::new();
        }
        let counted = |case: &Case| {
            let count = case.iterations.saturating_mul(options.iterations);
            (case.name.to_string(), count)
        };
        let counts: HashMap<_, _> = (self
            .cases(&Selection::new(options))
            .map(|case| counted(&case)))
        .chain(self.left_out.iter().map(counted))
        .collect();
        let is_known = |name: String| {
            let listed = name::listed(&name);
            let number = name[listed.len()..].rsplit('_').next();
            let number = number.and_then(|number| number.parse().ok()).unwrap_or(1);
            let count = counts.get(listed);
            count.is_some_and(|&count| name == listed || count > 1 && (1..=count).contains(&number))
        };
        let filters = options.filters.iter();
        let unknown = filters.filter(|filter| !names_of(filter).into_iter().any(is_known));
        let line = |filter: &String| {
            let near = nearest(name::listed(filter), counts.keys().map(String::as_str));
            let near = near.map(|near| format!("did you mean `{near}`?"));
            let hint = near.unwrap_or_else(|| "`--list` shows their names".to_owned());
            format!(
                "--exact: no case has the name `{}`; {hint}",
                excerpt(filter)
            )
        };
        unknown.map(line).collect()
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
        let mut others = self.definitions.iter().map(|one| one.name.as_str());
        let elsewhere = others.find(|name| selection.names_in(name));
        let hint = match (self.selected_of_left_out(selection).count(), elsewhere) {
            (_, Some(environment)) => not_asked_for(environment),
            (0, None) => "`--list` shows their names".to_owned(),
            (count, None) => format!("{count} more would match, but their selftests are not there"),
        };
        let count = self.cases.len();
        format!(
            "none of {count} cases matches {}: {hint}",
            selection.describe()
        )
    }

    /// How many known failures hold, in words.
    pub fn describe_known(&self) -> Option<String> {
        self.known.describe()
    }

    /// What is to be said of known failures that do not hold.
    pub fn notes_on_known(&self) -> Vec<String> {
        if self.is_narrowed {
            return self.known.expired.clone();
        }
        let cases = self.cases.iter().chain(&self.left_out);
        let defined = self.definitions.iter();
        let environments = defined.chain(self.asked_for.iter().map(|one| &one.definition));
        let environments = environments.map(Definition::prefix);
        let names: Vec<_> = cases.map(|case| &case.name).collect();
        self.known.notes(&names, &environments.collect::<Vec<_>>())
    }

    /// The commit that the selftests were built from, or a hash of them; `None` for those within the program.
    pub fn selftests_commit(&self) -> Option<String> {
        selftests::commit_of(&self.directories, &self.selftests)
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

/// Why `case` is ignored on `host`, which `is_as_it_is` or in an environment.
fn ignores(host: &Host, is_as_it_is: bool, case: &Case) -> Option<String> {
    if case.missing.is_some() || case.ignored.is_some() {
        return case.ignored.clone();
    }
    // An environment may load the modules that are not there yet.
    let kvm_problem = host.kvm_problem.as_ref();
    let kvm_problem = kvm_problem.filter(|_| case.needs_kvm() && is_as_it_is);
    kvm_problem.cloned().or_else(|| host.lacks(&case.requires))
}

/// Why the cases of an environment that nobody asked for are ignored.
pub fn not_asked_for(environment: &str) -> String {
    format!("changes this host: run it with --environment {environment}")
}

/// Prints the cases that `selection` asks for, in libtest's own `format`; answers how many they are.
///
/// # Errors
/// It could not be printed.
pub fn list(
    discovered: &Discovered,
    selection: &Selection,
    format: Format,
    mut out: impl Write,
) -> io::Result<usize> {
    if format == Format::Json {
        writeln!(out, "{}", json!({"type": "suite", "event": "discovery"}))?;
    }
    // A case, as libtest tells of it; it stands in no source.
    let mut line = json!({
        "type": "test", "event": "discovered", "name": "", "ignore": false, "ignore_message": "",
        "source_path": "", "start_line": 0, "start_col": 0, "end_line": 0, "end_col": 0,
    });
    let (mut count, mut ignored) = (0, 0);
    for case in discovered
        .cases(selection)
        .filter(|case| selection.has(case))
    {
        count += 1;
        ignored += usize::from(case.ignored.is_some());
        match format {
            Format::Pretty | Format::Terse | Format::Ktap => writeln!(out, "{}: test", case.name)?,
            Format::Json => {
                line["name"] = case.name.to_string().into();
                line["ignore"] = case.ignored.is_some().into();
                line["ignore_message"] = case.ignored.unwrap_or_default().into();
                writeln!(out, "{line}")?;
            }
        }
    }
    match format {
        Format::Pretty => {
            let blank = if count == 0 { "" } else { "\n" };
            writeln!(out, "{blank}{}, 0 benchmarks", plural(count, "test"))?;
        }
        Format::Terse | Format::Ktap => {}
        Format::Json => {
            let line = json!({
                "type": "suite", "event": "completed", "tests": count, "benchmarks": 0,
                "total": count, "ignored": ignored,
            });
            writeln!(out, "{line}")?;
        }
    }
    out.flush()?;
    Ok(count)
}
