//! In what two runs differ before any of their cases: hosts, kernels, parameters, selftests.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::model::event::Part;
use crate::model::host::Modules;
use crate::model::outcome::signature::normalised;
use crate::model::state::State;
use crate::model::text::printable;

/// What a difference is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Subject {
    /// The machine.
    Host,
    /// Its kernel.
    Kernel,
    /// The KVM modules that are loaded, and their parameters.
    Parameters,
    /// Where the selftests came from.
    Selftests,
    /// How they were run.
    Runner,
}

/// One difference.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct RunDifference {
    pub(super) subject: Subject,
    /// What differs: `kernel`, `kvm_amd.npt`, `kvm_amd.npt in shadow_mmu`.
    pub(super) what: String,
    pub(super) old: String,
    pub(super) new: String,
}

/// All differences between two runs. Each host is held against one of the same vendor.
pub(super) fn between(old: &State, new: &State) -> Vec<RunDifference> {
    let (were, are) = (old.hosts(), new.hosts());
    if were.len() < 2 && are.len() < 2 {
        return on_host(old, None, new, None);
    }
    let mut found = Vec::new();
    for host in are {
        let is_like = |was: &&Option<&str>| vendor(old, **was) == vendor(new, host);
        if let Some(was) = were.iter().find(is_like) {
            let name = host.or(*was).unwrap_or_default();
            let mut of_host = on_host(old, *was, new, host);
            let add = |one: &mut RunDifference| one.what = format!("{}: {}", flat(name), one.what);
            of_host.iter_mut().for_each(add);
            found.extend(of_host);
        }
    }
    found
}

/// What is wrong beside the cases of `new`, and was not in `old`: splats that are no case's own, a kernel log that is not
/// complete, a host that is not as it was. Numbers in it do not matter, and a splat of a case is known, too.
pub(super) fn trouble(old: &State, new: &State) -> Vec<String> {
    let mut known = BTreeSet::from_iter(beside(old).iter().map(|line| normalised(line)));
    let of_cases = old.outcomes.iter().flat_map(|outcome| &outcome.splats);
    known.extend(of_cases.map(|splat| normalised(&splat.title)));
    let mut lines = beside(new);
    lines.retain(|line| known.insert(normalised(line)));
    lines
}

/// What is wrong with a run beside its cases, a line each.
fn beside(state: &State) -> Vec<String> {
    let troubles = state.beside().into_iter();
    let lines = troubles.map(|trouble| trouble.what.lines().take(1).collect());
    lines.collect()
}

fn vendor<'s>(state: &'s State, host: Option<&str>) -> Option<&'s str> {
    let part = state.first_on(host)?;
    Some(&part.host.cpu_vendor)
}

/// What differs between a host of one run and a host of the other.
fn on_host(old: &State, was: Option<&str>, new: &State, is: Option<&str>) -> Vec<RunDifference> {
    let (old_host, new_host) = (was, is);
    let mut found = Vec::new();
    if let (Some(old), Some(new)) = (old.first_on(was), new.first_on(is)) {
        for ((what, old), (_, new)) in facts(old).into_iter().zip(facts(new)) {
            found.extend(difference(what, &old, &new));
        }
        // Another kernel is another build.
        let is_other = found.iter().any(|found| found.what == "kernel");
        found.retain(|found| found.what != "kernel_version" || !is_other);
        found.extend(of_modules(&old.host.modules, &new.host.modules));
    }
    let outside = found.len();
    let spans = new.environments.iter();
    let names: BTreeSet<_> = spans.map(|span| &span.environment).collect();
    for name in names {
        let (Some(was), Some(is)) = (old.last_span(old_host, name), new.last_span(new_host, name))
        else {
            continue;
        };
        let [old, new] = [was, is].map(|span| span.settings.join(", "));
        found.extend(difference(&format!("environment {name}"), &old, &new));
        for mut inside in of_modules(&was.modules, &is.modules) {
            // What differs in it as it does without is told once.
            if !found[..outside].contains(&inside) {
                inside.what = format!("{} in {}", inside.what, flat(name));
                found.push(inside);
            }
        }
    }
    found
}

/// What there is to compare of a run before its modules, in the same order for each.
fn facts(part: &Part) -> Vec<(&'static str, String)> {
    let sources = part.selftests.iter().map(|path| path.to_string_lossy());
    let commit = part.selftests_commit.clone();
    let mut facts = part.host.facts();
    facts[0].0 = "host";
    facts.extend([
        ("selftests", Vec::from_iter(sources).join(", ")),
        ("selftests_commit", commit.unwrap_or_default()),
        ("kvm-tests", part.version.clone()),
        ("workers", part.workers.to_string()),
    ]);
    facts
}

fn of_modules(old: &Modules, new: &Modules) -> Vec<RunDifference> {
    let mut found = Vec::new();
    let modules: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    for module in modules {
        let (Some(was), Some(is)) = (old.get(module), new.get(module)) else {
            let is_loaded = |modules: &Modules| usize::from(modules.contains_key(module));
            let [old, new] = [old, new].map(|modules| ["not loaded", "loaded"][is_loaded(modules)]);
            found.extend(difference(&format!("module {module}"), old, new));
            continue;
        };
        let parameters: BTreeSet<_> = was.keys().chain(is.keys()).collect();
        for parameter in parameters {
            let value = |values: &BTreeMap<String, String>| values.get(parameter).cloned();
            let [old, new] =
                [was, is].map(|values| value(values).unwrap_or("not there".to_owned()));
            found.extend(difference(&format!("{module}.{parameter}"), &old, &new));
        }
    }
    found
}

fn difference(what: &str, old: &str, new: &str) -> Option<RunDifference> {
    let subject = match what {
        "kernel" | "kernel_version" | "command_line" | "taint" => Subject::Kernel,
        "selftests" | "selftests_commit" => Subject::Selftests,
        "kvm-tests" | "workers" => Subject::Runner,
        // `kvm.tdp_mmu`, `module kvm_pvm`, `environment shadow_mmu`.
        _ if what.contains(['.', ' ']) => Subject::Parameters,
        _ => Subject::Host,
    };
    let told = |text: &str| Some(flat(text)).filter(|text| !text.is_empty());
    let [old, new] = [old, new].map(|text| told(text).unwrap_or("none".to_owned()));
    let what = flat(what);
    let is_other = old != new;
    is_other.then_some(RunDifference {
        subject,
        what,
        old,
        new,
    })
}

/// What a test or a host said, on one line.
pub(super) fn flat(text: &str) -> String {
    let text = printable(text.as_bytes());
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
