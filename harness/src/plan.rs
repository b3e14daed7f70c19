//! What will run: sources become cases, which are named, selected, and ordered.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::{bail, ensure};

use cases::{Assembly, KERNELS_OWN, SuiteOwner};
use changed::Changed;
use discovered::Chosen;
use files::Configuration;
use known::KnownFailures;
use selection::NOT_QUICK;
use selftests::Selftests;
use suite::SuiteFile;

use crate::embedded::Embedded;
use crate::environment::{Definition, Definitions, Environments, HOST, Refusal};
use crate::kernel_src;
use crate::model::case::Case;
use crate::model::host::{Arch, Host};
use crate::model::problem::{Problem, hint};
use crate::options::Options;

pub use discovered::{Discovered, list, not_asked_for};
pub use files::PLACES_TOML;
pub use selection::{Selection, seed, sort};
pub use selftests::INSTALLED_LIST;

mod cases;
mod changed;
mod discovered;
mod files;
mod foreign;
#[cfg(test)]
#[path = "../tests/unit/hostile_input.rs"]
mod hostile_input;
mod installed;
mod keys;
mod known;
mod placeholder;
mod selection;
mod selftests;
mod suite;
mod suite_toml;

/// The variable that names directories of selftests, separated by `:`.
const KVM_SELFTESTS: &str = "KVM_SELFTESTS";

/// Finds everything that there is to run, and which of the environments that the user asks for this host can be in.
///
/// # Errors
/// Everything that is wrong with the configuration, a line each; an unknown tag; an environment that is asked for by
/// name and cannot be; a patch series that git does not know, or that concerns nothing here.
pub fn discover(
    options: &Options,
    embedded: &Embedded<'_>,
    host: &Host,
    environments: &Environments,
) -> anyhow::Result<Discovered> {
    let target = Arch::from_name(std::env::consts::ARCH);
    let users = embedded.with_local(&options.config);
    let mut users = files::read(&users, &options.known, ncpus(host));
    let mut discovered = match (options.kselftest.tests.as_slice(), &*options.selftests) {
        (tests @ [_, ..], [tree, ..]) => {
            let (selftests, suites) = installed::of(tests, tree, embedded, ncpus(host));
            let selftests = (INSTALLED_LIST, Ok(selftests));
            // These tests run, as their tree says, and nothing else.
            (users.suites, users.defaults) = (suites, HashMap::new());
            let no_suites = Embedded {
                suites: &[],
                ..*embedded
            };
            assemble(selftests, target, users, &no_suites, host)?
        }
        _ => {
            let selftests = find_selftests(given(options)?, embedded, target);
            assemble(selftests, target, users, embedded, host)?
        }
    };
    discovered.is_narrowed = !options.kselftest.tests.is_empty();
    check_tags(options, &discovered)?;
    discovered.asked_for = choose(options, &discovered.definitions, environments)?;
    // What is there no more of a plan, or of a run that is gone on with, is told in another way.
    if options.plan.is_none() && options.resume.is_none() {
        discovered.unknown_names = discovered.unknown_names(options);
    }
    keep_concerned(options, &mut discovered, target)?;
    Ok(discovered)
}

/// The directories of selftests that the user gives, and how: those of a run that is gone on with are known.
fn given(options: &Options) -> anyhow::Result<(&'static str, Vec<PathBuf>)> {
    let of_guests = options.guests.sources();
    let of_guests = of_guests.filter(|_| std::env::var_os(KVM_SELFTESTS).is_none());
    let source = options.kernel_src.clone().or(of_guests);
    let source = source.filter(|_| options.selftests.is_empty());
    let built = source.as_deref().map(kernel_src::build_here).transpose()?;
    Ok(match built {
        Some(built) => ("--kernel-src", vec![built]),
        None => ("--selftests", options.selftests.clone()),
    })
}

/// The names of the cases that are known when the program is built for the architecture `target`, as Rust names it: on
/// the host, and in those environments that it can be in.
///
/// # Errors
/// Everything that is wrong with the configuration, a line each.
pub fn names(
    embedded: &Embedded<'_>,
    target: &str,
    host: &Host,
    environments: &Environments,
) -> anyhow::Result<Vec<String>> {
    let target = Arch::from_name(target);
    let selftests = find_selftests(("", Vec::new()), embedded, target);
    let users = files::read(&embedded.with_local(&[]), &[], ncpus(host));
    let mut discovered = assemble(selftests, target, users, embedded, host)?;
    let is_possible = |one: &&Definition| {
        let refusal = environments.plan(one).refusal;
        !matches!(refusal, Some(Refusal::Impossible(_)))
    };
    let possible = discovered.definitions.iter().filter(is_possible).cloned();
    let all = std::iter::once(Definition::host()).chain(possible);
    discovered.asked_for = all.map(Chosen::from).collect();
    Ok(discovered.names(&Selection::everything()))
}

/// The selftests of the directories that are `given` by an option, that the variable names, or that were built from `KERNEL_SRC`; else
/// those that are embedded. With where they come from.
fn find_selftests(
    (option, given): (&'static str, Vec<PathBuf>),
    embedded: &Embedded<'_>,
    target: Option<Arch>,
) -> (&'static str, Result<Selftests, Vec<Problem>>) {
    let variable = std::env::var_os(KVM_SELFTESTS).filter(|value| !value.is_empty());
    let built = embedded.built_selftests.map(PathBuf::from);
    let (from, directories) = match (given.is_empty(), variable, built) {
        (false, _, _) => (option, given),
        (true, Some(value), _) => (KVM_SELFTESTS, std::env::split_paths(&value).collect()),
        (true, None, Some(built)) => ("built from KERNEL_SRC", vec![built]),
        (true, None, None) => {
            let names = embedded.selftests.iter().map(|(name, _)| *name);
            return ("", Ok(Selftests::embedded(names)));
        }
    };
    (from, Selftests::find(&directories, target))
}

/// The shipped environments and those of `paths`, for commands that have nothing to do with suites.
///
/// # Errors
/// Everything that is wrong with them, a line each.
pub fn definitions(embedded: &Embedded<'_>, paths: &[PathBuf]) -> anyhow::Result<Definitions> {
    // No suite is of interest here, and so no number of CPUs.
    let users = files::read(&embedded.with_local(paths), &[], 1);
    let (definitions, problems) = read_definitions(&users, embedded);
    refuse(users.problems.iter().chain(&problems))?;
    Ok(definitions)
}

/// The environments of the user and those that are shipped, and what is wrong with them.
fn read_definitions(users: &Configuration, embedded: &Embedded<'_>) -> (Definitions, Vec<Problem>) {
    let shipped = files::read_embedded(embedded.environments, 1);
    let sources = users.environments.iter().chain(&shipped.environments);
    Definitions::read(sources.map(|(path, text)| (path.as_path(), text.as_str())))
}

/// Puts the selftests and the suites together.
fn assemble(
    (from, selftests): (&str, Result<Selftests, Vec<Problem>>),
    target: Option<Arch>,
    users: Configuration,
    embedded: &Embedded<'_>,
    host: &Host,
) -> anyhow::Result<Discovered> {
    let mut shipped = files::read_embedded(embedded.suites, ncpus(host));
    let (definitions, environment_problems) = read_definitions(&users, embedded);
    let (selftests, mut problems) = match selftests {
        Ok(selftests) => (selftests, Vec::new()),
        Err(problems) => (Selftests::default(), problems),
    };
    let are_known = problems.is_empty();
    problems.extend(users.problems.iter().chain(&shipped.problems).cloned());
    problems.extend(environment_problems);
    problems
        .extend(hidden_suites(&definitions, &users).chain(hidden_suites(&definitions, &shipped)));
    let is_the_users =
        |suite: &SuiteFile| users.suites.iter().any(|users| users.name == suite.name);
    let (replaced, kept): (Vec<_>, _) = std::mem::take(&mut shipped.suites)
        .into_iter()
        .partition(is_the_users);
    shipped.suites = kept;
    let replaced = replaced.into_iter().map(|suite| suite.name).collect();

    let mut assembly = Assembly::new(&selftests, target);
    assembly.add_suites(users.suites, SuiteOwner::User);
    assembly.add_suites(shipped.suites, SuiteOwner::Program);
    assembly.add_defaults(users.defaults, shipped.defaults);
    if are_known {
        problems.append(&mut assembly.problems);
    }
    refuse(&problems)?;
    Ok(Discovered {
        cases: sorted(assembly.cases),
        left_out: sorted(assembly.left_out),
        replaced,
        sources: describe(&selftests, from),
        selftests: selftests.files(),
        directories: selftests
            .sources
            .into_iter()
            .map(|(directory, _)| directory)
            .collect(),
        definitions,
        asked_for: Vec::new(),
        ignored_splats: users.ignored_splats,
        concerns: [users.concerns, shipped.concerns].concat(),
        changed: Vec::new(),
        known: KnownFailures::new(users.known, host),
        is_narrowed: false,
        unknown_names: Vec::new(),
        host: host.clone(),
    })
}

fn ncpus(host: &Host) -> u32 {
    u32::try_from(host.cpus).unwrap_or(u32::MAX)
}

fn sorted(mut cases: Vec<Case>) -> Vec<Case> {
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

/// Suites with the name of an environment: `NAME::x::y` could be of either.
fn hidden_suites<'c>(
    definitions: &'c Definitions,
    configuration: &'c Configuration,
) -> impl Iterator<Item = Problem> + use<'c> {
    let is_hidden = |suite: &&SuiteFile| definitions.iter().any(|one| one.name == suite.name);
    let hidden = configuration.suites.iter().filter(is_hidden);
    hidden.map(|suite| {
        let name = &suite.name;
        let message =
            format!("the suite `{name}` has the name of an environment: rename one of them");
        suite.place.problem(message)
    })
}

/// Where the selftests come from and how many they are, a line for each place.
fn describe(selftests: &Selftests, from: &str) -> Vec<String> {
    if selftests.sources.is_empty() {
        let count = selftests.iter().count();
        return vec![format!("{count} of this program's own; {KERNELS_OWN}")];
    }
    let line = |(directory, used): &(PathBuf, usize)| {
        format!("{used} in {} ({from})", directory.display())
    };
    selftests.sources.iter().map(line).collect()
}

/// Fails where there are problems, a line each.
fn refuse<'p>(problems: impl IntoIterator<Item = &'p Problem>) -> anyhow::Result<()> {
    let lines: Vec<_> = problems.into_iter().map(ToString::to_string).collect();
    ensure!(lines.is_empty(), "{}", lines.join("\n"));
    Ok(())
}

/// Where `--changed` says so, keeps only the cases of the selftests that a patch series concerns.
fn keep_concerned(
    options: &Options,
    discovered: &mut Discovered,
    target: Option<Arch>,
) -> anyhow::Result<()> {
    let Some(changed) = Changed::of(options, &discovered.concerns, target)? else {
        return Ok(());
    };
    let all = discovered.cases.len();
    discovered.cases.retain(|case| changed.concerns(case));
    discovered.left_out.retain(|case| changed.concerns(case));
    discovered.is_narrowed = true;
    discovered.changed = changed.describe(discovered.cases.len(), all);
    let chosen = discovered.changed.join("\n");
    let is_any = !discovered.cases.is_empty();
    ensure!(is_any, "--changed concerns no case here\n{chosen}");
    Ok(())
}

/// Fails where an option names a tag that no test has.
fn check_tags(options: &Options, discovered: &Discovered) -> anyhow::Result<()> {
    let cases = discovered.cases.iter().chain(&discovered.left_out);
    let mut known: Vec<&str> = cases
        .flat_map(|case| case.tags.iter().map(String::as_str))
        .collect();
    known.extend(NOT_QUICK);
    known.sort_unstable();
    known.dedup();
    let mut asked_for = options.tag.iter().chain(&options.skip_tag);
    match asked_for.find(|tag| !known.contains(&tag.as_str())) {
        Some(tag) => bail!("no test has the tag `{tag}`{}", hint(tag, &known)),
        None => Ok(()),
    }
}

/// The environments that the user asks for, and what becomes of their cases.
fn choose(
    options: &Options,
    definitions: &Definitions,
    environments: &Environments,
) -> anyhow::Result<Vec<Chosen>> {
    let selected = definitions.selected(&options.environment, &options.made_up)?;
    let has_host = selected.iter().any(|one| one.name == HOST);
    let has_glob = options
        .environment
        .iter()
        .any(|name| name.contains(['*', '?', '[']));
    let is_ours = |name: &str| options.shard.as_ref().is_none_or(|shard| shard.is_in(name));
    let mut chosen = Vec::new();
    let mut refused = Vec::new();
    for definition in selected {
        let plan = environments.plan(&definition);
        let is_made_up = definitions.iter().all(|one| one.name != definition.name);
        let by_name = !has_glob || is_made_up || options.environment.contains(&definition.name);
        let is_nothing = plan.is_nothing() && definition.name != HOST;
        let ignored = match plan.refusal {
            Some(refusal)
                if by_name
                    && !options.list
                    && !options.dry_run
                    && options.plan_only.is_none()
                    && !options.has_places()
                    && is_ours(&definition.name) =>
            {
                refused.push(format!("environment {}: {refusal}", definition.name));
                continue;
            }
            Some(refusal) => Some(refusal.to_string()),
            None if is_nothing && has_host => Some("the same as host".to_owned()),
            None => None,
        };
        chosen.push(Chosen {
            ignored,
            is_nothing,
            definition,
        });
    }
    ensure!(refused.is_empty(), "{}", refused.join("\n"));
    Ok(chosen)
}
