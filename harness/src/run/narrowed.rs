//! The part of a plan that this process runs.

use std::collections::HashSet;

use anyhow::{Context, bail, ensure};

use crate::model::case::Case;
use crate::model::case::name::CaseName;
use crate::model::event::SCHEMA_VERSION;
use crate::model::planned::{Planned, Shard};
use crate::model::text::plural;
use crate::options::Options;
use crate::plan::Discovered;

/// How many cases an error names.
const NAMED: usize = 4;

/// Leaves of `cases` those that this process is to run; returns the plan that they are a part of, where there is one.
///
/// # Errors
/// The plan cannot be carried out here, or the part is none of it.
pub(super) fn narrow(
    options: &Options,
    given: Option<Planned>,
    discovered: &Discovered,
    cases: &mut Vec<Case>,
) -> anyhow::Result<Option<Planned>> {
    let is_asked_for =
        options.shard.is_some() || options.plan_only.is_some() || options.has_places();
    let mut planned = match given {
        Some(planned) => planned,
        // Made anew by the first who asks for a part of it.
        None if is_asked_for => Planned {
            schema_version: SCHEMA_VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            machine: discovered.host.machine.clone(),
            options: options.given.clone(),
            selftests_commit: discovered.selftests_commit(),
            cases: cases.iter().map(|case| case.name.clone()).collect(),
        },
        None => return Ok(None),
    };
    if let Some(shard) = &options.shard {
        if let Shard::Environment(name) = shard {
            let is_there = planned.cases.iter().any(|case| shard.has(case));
            ensure!(
                is_there,
                "--shard {shard}: no case of the plan is in the environment `{name}`"
            );
        }
        cases.retain(|case| shard.has(&case.name));
    }
    // What is there no more when a run goes on is told in another way.
    if options.plan.is_some() && options.resume.is_none() {
        check(options, &planned, discovered, cases)
            .context("the plan cannot be carried out here")?;
        let wanted: HashSet<&CaseName> = planned.cases.iter().collect();
        cases.retain(|case| wanted.contains(&case.name));
    }
    if options.has_places() {
        // What they owe together.
        planned.cases = cases.iter().map(|case| case.name.clone()).collect();
    }
    Ok(Some(planned))
}

/// Fails unless program, selftests and cases are those of the plan.
fn check(
    options: &Options,
    planned: &Planned,
    discovered: &Discovered,
    cases: &[Case],
) -> anyhow::Result<()> {
    let ours = env!("CARGO_PKG_VERSION");
    let Planned { version, .. } = planned;
    ensure!(
        version == ours,
        "kvm-tests {version} made it, and this is {ours}: use the same version"
    );
    let (theirs, ours) = (&planned.machine, &discovered.host.machine);
    ensure!(
        theirs == ours,
        "it was made for {theirs}, and this is {ours}"
    );
    let commit = discovered.selftests_commit();
    if commit != planned.selftests_commit {
        let [theirs, ours] = [&planned.selftests_commit, &commit].map(|commit| {
            commit
                .as_deref()
                .unwrap_or("those within kvm-tests")
                .to_owned()
        });
        bail!("it is for other selftests: {theirs} there, {ours} here (--selftests)");
    }
    let there: HashSet<&CaseName> = cases.iter().map(|case| &case.name).collect();
    let is_ours = |case: &&CaseName| options.shard.as_ref().is_none_or(|shard| shard.has(case));
    let missing = planned
        .cases
        .iter()
        .filter(is_ours)
        .filter(|case| !there.contains(case));
    let missing: Vec<_> = missing.map(ToString::to_string).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let first = missing[..missing.len().min(NAMED)].join(", ");
    let count = plural(missing.len(), "case");
    bail!("{count} of it are not here, as other suites or environments are: {first}")
}
