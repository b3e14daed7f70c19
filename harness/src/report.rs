//! What a run leaves for other programs and for people, written from its record: reports know no process.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use anyhow::{Context, anyhow};

use crate::log::no_links;
use crate::log::record::Record;
use crate::model::host::{Modules, size};
use crate::model::outcome::{Outcome, Status};

pub mod html;
pub mod junit;
pub mod ktap;

/// Writes one report of a run that lies in a directory.
type Writer = fn(&Record, &Path, &mut dyn Write) -> io::Result<()>;

/// The files in a run's directory, and what writes them.
const REPORTS: &[(&str, Writer)] = &[
    ("junit.xml", junit::write),
    ("results.ktap", ktap::write),
    (html::REPORT_HTML, page),
];

/// Writes all reports of the run in a directory (or of that run.json), each in one step: readers see the old one or the new
/// one. Returns what it wrote.
///
/// # Errors
/// The run cannot be read, or some reports not be written; the others are.
pub fn write_all(run: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let (record, directory) = Record::read(run)?;
    write_all_of(&record, &directory)
}

/// The same for the run of this record.
///
/// # Errors
/// Some reports cannot be written; the others are.
pub fn write_all_of(record: &Record, directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut written = Vec::new();
    let mut problems = Vec::new();
    let write_these = |reports: &[(&str, Writer)]| -> Vec<_> {
        reports
            .iter()
            .map(|(name, writer)| write(record, directory, name, *writer))
            .collect()
    };
    // The first takes as long as the others together, and most memory: here it finds that which reading the run took.
    let (first, others) = REPORTS.split_at(1);
    let results = thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, || write_these(others));
        let mut results = write_these(first);
        results.extend(match thread {
            Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Err(_) => write_these(others),
        });
        results
    });
    for result in results {
        match result {
            Ok(path) => written.push(path),
            Err(error) => problems.push(format!("{error:#}")),
        }
    }
    if problems.is_empty() {
        Ok(written)
    } else {
        Err(anyhow!(problems.join("\n")))
    }
}

/// `kvm-tests report RUN`: writes all reports again, and says where.
///
/// # Errors
/// As [`write_all`] has them.
pub fn rewrite(run: &Path) -> anyhow::Result<ExitCode> {
    let written = write_all(run)?;
    let mut out = io::stdout();
    // A reader that went away wants to know no more.
    drop(
        written
            .iter()
            .try_for_each(|path| writeln!(out, "{}", path.display())),
    );
    Ok(ExitCode::SUCCESS)
}

fn page(record: &Record, directory: &Path, mut out: &mut dyn Write) -> io::Result<()> {
    html::write(
        record,
        directory,
        Record::before(directory).as_ref(),
        &mut out,
    )
}

fn write(record: &Record, directory: &Path, name: &str, writer: Writer) -> anyhow::Result<PathBuf> {
    // Links in what the user has named are followed, and no others.
    let canonical = directory
        .canonicalize()
        .with_context(|| format!("find {}", directory.display()))?;
    no_links::replace(&canonical.join(name), |file| {
        writer(record, directory, file)
    })?;
    Ok(directory.join(name))
}

/// The cases of one suite in one environment.
#[derive(Debug)]
pub struct Suite<'a> {
    /// The environment; `None` is the host as it is.
    pub environment: Option<&'a str>,
    /// `suite`, or `environment::suite`.
    pub name: String,
    /// What became of its cases, by their names.
    pub outcomes: Vec<&'a Outcome>,
}

impl<'a> Suite<'a> {
    /// Those of a run, by their names: the order of a report does not depend on what ended first.
    pub fn all(record: &'a Record) -> Vec<Self> {
        let mut suites: BTreeMap<(Option<&str>, &str), Vec<&Outcome>> = BTreeMap::new();
        for outcome in &record.outcomes {
            suites
                .entry((outcome.environment.as_deref(), &outcome.suite))
                .or_default()
                .push(outcome);
        }
        let suite =
            |((environment, suite), mut outcomes): ((Option<&'a str>, &str), Vec<&'a Outcome>)| {
                // The tenth iteration has a longer name than the second.
                outcomes
                    .sort_by_key(|outcome| (&outcome.variant, outcome.name.len(), &outcome.name));
                let prefix = environment
                    .map(|name| format!("{name}::"))
                    .unwrap_or_default();
                Self {
                    environment,
                    name: format!("{prefix}{suite}"),
                    outcomes,
                }
            };
        suites.into_iter().map(suite).collect()
    }

    /// The part of a case's name that tells it from the suite's others.
    pub fn name_of<'b>(&self, outcome: &'b Outcome) -> &'b str {
        let rest = outcome
            .name
            .strip_prefix(&self.name)
            .and_then(|rest| rest.strip_prefix("::"));
        rest.unwrap_or(&outcome.name)
    }
}

/// What there is to know of a run's host and of how it was started, each by a name.
pub fn facts(record: &Record) -> Vec<(String, String)> {
    let mut facts = facts_of_run(record);
    facts.extend(modules(&record.run.host.modules));
    facts
}

/// The same for an environment of the run: what it set, and the modules as they were in it.
pub fn facts_in(record: &Record, environment: Option<&str>) -> Vec<(String, String)> {
    let Some(stay) = environment.and_then(|name| record.last_stay(name)) else {
        return facts(record);
    };
    let mut facts = facts_of_run(record);
    facts.push(("environment".to_owned(), stay.environment.clone()));
    facts.push(("environment.settings".to_owned(), stay.settings.join(", ")));
    facts.extend(modules(&stay.modules));
    facts
}

fn facts_of_run(record: &Record) -> Vec<(String, String)> {
    let run = &record.run;
    let host = &run.host;
    let ended_early = (!record.finished).then(|| {
        let (suspects, others): (Vec<_>, Vec<_>) =
            record.of_status(Status::NoRun).partition(|outcome| outcome.suspect);
        format!(
            "no: the runner was gone before its end; {} cases ran then, or may have, and {} had not run",
            suspects.len(),
            others.len() + run.selected.saturating_sub(record.outcomes.len())
        )
    });
    let resumed = match record.resumed.as_slice() {
        [] => String::new(),
        [.., last] => format!(
            "{} times, the last time on Linux {}",
            record.resumed.len(),
            last.host.kernel
        ),
    };
    [
        ("kvm-tests", run.version.clone()),
        (
            "command_line",
            crate::model::case::quoted_words(&run.command_line),
        ),
        (
            "nextest_run_id",
            run.nextest_run_id.clone().unwrap_or_default(),
        ),
        ("selected", run.selected.to_string()),
        ("finished", ended_early.unwrap_or_default()),
        ("resumed", resumed),
        ("workers", run.workers.to_string()),
        (
            "shuffle_seed",
            run.shuffle_seed
                .map(|seed| seed.to_string())
                .unwrap_or_default(),
        ),
        ("host.name", host.hostname.clone()),
        ("host.kernel", host.kernel.clone()),
        ("host.kernel_version", host.kernel_version.clone()),
        ("host.machine", host.machine.clone()),
        (
            "host.cpu",
            format!("{} {}", host.cpu_vendor, host.cpu_model)
                .trim_end()
                .to_owned(),
        ),
        ("host.cpus", host.cpus.to_string()),
        ("host.memory", size(host.memory)),
        ("host.taint", host.taint.to_string()),
        (
            "host.kvm_problem",
            host.kvm_problem.clone().unwrap_or_default(),
        ),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

fn modules(modules: &Modules) -> impl Iterator<Item = (String, String)> {
    modules.iter().map(|(module, parameters)| {
        let values: Vec<_> = parameters
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        (format!("module.{module}"), values.join(" "))
    })
}

/// The first line of an outcome's reason; empty where it has none.
pub fn first_line(outcome: &Outcome) -> &str {
    outcome
        .reason
        .as_deref()
        .unwrap_or_default()
        .lines()
        .next()
        .unwrap_or_default()
}
