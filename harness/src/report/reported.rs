//! A run to report on, and what all reports say of it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context;

use crate::model::case::name::{CaseName, of_iteration};
use crate::model::case::quoted;
use crate::model::event::Part;
use crate::model::file;
use crate::model::host::Modules;
use crate::model::outcome::{Outcome, Status, Step};
use crate::model::state::State;
use crate::model::text::printable_end;
use crate::model::time::utc;

/// A run to report on.
pub(super) struct Reported<'a> {
    pub(super) state: &'a State,
    /// The part that began first: it knows the host.
    pub(super) part: &'a Part,
    /// Where the outputs lie.
    pub(super) directory: &'a Path,
    /// What failed beside the cases: who reads a report of another form knows no failures but those of cases.
    beside: Vec<Outcome>,
}

impl<'a> Reported<'a> {
    pub(super) fn new(state: &'a State, directory: &'a Path) -> anyhow::Result<Self> {
        Ok(Self {
            state,
            part: state.first().context("find how the run began")?,
            directory,
            beside: beside(state),
        })
    }

    /// What became of every case, and what failed beside them.
    pub(super) fn outcomes(&self) -> impl Iterator<Item = &Outcome> + Clone {
        self.state.outcomes.iter().chain(&self.beside)
    }

    /// The part that began first on this host: it knows it.
    pub(super) fn part_on(&self, host: Option<&str>) -> &'a Part {
        self.state.first_on(host).unwrap_or(self.part)
    }

    /// What there is to know of the run and of this one of its hosts, each by a name; what says nothing is left out.
    pub(super) fn facts(&self, host: Option<&str>) -> Vec<(String, String)> {
        let part = self.part_on(host);
        let host = &part.host;
        let words = |words: &[OsString]| {
            let words = words.iter().map(|word| quoted(word));
            words.collect::<Vec<_>>().join(" ")
        };
        let selftests: Vec<_> = part.selftests.iter().map(Into::into).collect();
        let parts = Some(self.state.parts.len()).filter(|parts| *parts > 1);
        let optional = |number: Option<u64>| number.map_or_else(String::new, |n| n.to_string());
        let facts = [
            ("kvm-tests", part.version.clone()),
            ("command_line", words(&part.command_line)),
            (
                "nextest_run_id",
                part.nextest_run_id.clone().unwrap_or_default(),
            ),
            ("started", utc(part.started_ms)),
            ("selected", self.state.selected.to_string()),
            ("finished", self.not_finished()),
            ("parts", optional(parts.map(|parts| parts as u64))),
            ("shard", part.shard.clone().unwrap_or_default()),
            ("workers", part.workers.to_string()),
            ("shuffle_seed", optional(part.shuffle_seed)),
            ("selftests", words(&selftests)),
            (
                "selftests_commit",
                part.selftests_commit.clone().unwrap_or_default(),
            ),
        ];
        let of_host = host.facts().into_iter();
        let of_host = of_host.map(|(name, value)| (format!("host.{name}"), value));
        let facts = facts.map(|(name, value)| (name.to_owned(), value));
        let facts = facts.into_iter().chain(of_host);
        let facts = facts.filter(|(_, value)| !value.is_empty());
        facts.chain(of_modules(&host.modules)).collect()
    }

    /// The same of an environment that this host was in.
    pub(super) fn facts_in(&self, host: Option<&str>, environment: &str) -> Vec<(String, String)> {
        let mut facts = vec![("environment".to_owned(), environment.to_owned())];
        if let Some(span) = self.state.last_span(host, environment) {
            facts.push(("environment.settings".to_owned(), span.settings.join(", ")));
            facts.extend(of_modules(&span.modules));
        }
        facts
    }

    /// Why the run was not finished; empty where it was.
    fn not_finished(&self) -> String {
        if self.state.finished {
            return String::new();
        }
        let not_run = self.state.of_kind(Status::NoRun);
        let (suspects, others): (Vec<_>, Vec<_>) = not_run.partition(|outcome| outcome.suspect);
        let (suspects, others) = (suspects.len(), others.len());
        format!(
            "no: the runner was gone before its end; {suspects} cases ran then, or may have, and {others} had not run"
        )
    }

    /// The end of what a step of a case printed to `stream` (`stdout` or `stderr`): at most `limit` bytes of harmless text
    /// behind a `…` where something was left out. `None` where it printed nothing; where that cannot be read, the text says so.
    pub(super) fn output(
        &self,
        outcome: &Outcome,
        step: Step,
        stream: &str,
        limit: usize,
    ) -> Option<String> {
        let place = outcome.output.as_deref()?;
        let name = format!("{}.{stream}", step.file_stem());
        match file::read_end(self.directory, &place.join(&name), limit) {
            Ok((bytes, _)) if bytes.is_empty() => None,
            Ok((bytes, skipped)) => Some(printable_end(&bytes, skipped > 0, limit)),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => Some(format!("(cannot read {name}: {error})")),
        }
    }
}

pub(super) fn of_modules(modules: &Modules) -> impl Iterator<Item = (String, String)> {
    modules.iter().map(|(module, parameters)| {
        let parameters = parameters.iter();
        let values: Vec<_> = parameters
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        (format!("module.{module}"), values.join(" "))
    })
}

/// A case's account in full: its reason, and what the kernel said because of it.
pub(super) fn account(outcome: &Outcome) -> String {
    let mut account = outcome.reason.clone().unwrap_or_default();
    for line in outcome.splats.iter().flat_map(|splat| &splat.lines) {
        account.push_str("\nkernel: ");
        account.push_str(line);
    }
    account
}

/// What tells a case from the others of its suite.
pub(super) fn name_in_suite(outcome: &Outcome) -> String {
    match outcome.iteration {
        Some(number) => of_iteration(&outcome.variant, number),
        None => outcome.variant.clone(),
    }
}

/// What has a run fail beside its cases, told as cases: `kernel::splat_1`.
fn beside(state: &State) -> Vec<Outcome> {
    let mut counts = BTreeMap::<_, usize>::new();
    let failures = state.beside().into_iter().map(|trouble| {
        let number = counts.entry((trouble.host, trouble.kind)).or_default();
        *number += 1;
        let [suite, kind] = trouble.kind;
        let name = CaseName {
            host: trouble.host.map(str::to_owned),
            ..CaseName::new(suite, format!("{kind}_{number}"))
        };
        Outcome {
            status: Status::Failed,
            ..Outcome::no_run(&name, u64::MAX, &trouble.what)
        }
    });
    failures.collect()
}
