//! `kvm-tests known`: the failures of a run as entries of known failures, to be edited.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use glob::Pattern;
use toml::Value;

use crate::log;
use crate::model::outcome::known::flat;
use crate::model::outcome::signature::{LAST_OUTPUT, normalised, without_chance};
use crate::model::outcome::{Assertion, Exit, Outcome, Status, Subtest};
use crate::model::text::one_line;
use crate::show::print;

/// What stands before the entries.
const HEAD: &str = "# What failed in a run: say why, and give the file to --known, or keep it as kvm-tests/local/known.toml.\n";

/// `kvm-tests known`
#[derive(Debug, Clone, Args)]
pub struct KnownOptions {
    /// The run's directory, or its run.json
    #[arg(long, value_name = "RUN")]
    from: PathBuf,
}

/// Prints an entry for each way in which a case failed the run.
///
/// # Errors
/// The run cannot be read.
pub fn known(options: &KnownOptions) -> anyhow::Result<ExitCode> {
    let (state, _) = log::read(&options.from)?;
    let passed = state.of_kind(Status::Passed).map(Outcome::listed);
    let passed: BTreeSet<&str> = passed.collect();
    let failed = state.outcomes.iter();
    let failed = failed.filter(|one| one.kind().is_failure() && one.status != Status::NoRun);
    let mut told = BTreeSet::new();
    let entries = failed.filter_map(|one| {
        let parts = parts_of(one);
        // It failed because it passed.
        let is_pass = parts.is_empty() && one.exit == Some(Exit::Code(0));
        if is_pass {
            return None;
        }
        let entry = entry(one, &parts, passed.contains(one.listed()));
        told.insert((one.listed(), parts)).then_some(entry)
    });
    print(&(HEAD.to_owned() + &entries.collect::<String>()))?;
    Ok(ExitCode::SUCCESS)
}

/// The entry of a failure that has these parts.
fn entry(outcome: &Outcome, parts: &[String], also_passes: bool) -> String {
    let text = |text: &str| Value::from(one_line(text));
    let name = outcome.case_name().on_host();
    let is_any = parts.is_empty();
    let parts = match parts {
        [part] => text(part),
        parts => Value::Array(parts.iter().map(|part| text(part)).collect()),
    };
    let environment = outcome.environment.as_deref();
    let keys = [
        ("case", Some(text(&Pattern::escape(&name)))),
        (
            "environment",
            environment.map(|name| text(&Pattern::escape(name))),
        ),
        ("expect", also_passes.then(|| Value::from("flaky"))),
        ("failure", (!is_any).then_some(parts)),
        (
            "reason",
            Some(text(&format!("TODO: {}", outcome.first_line()))),
        ),
    ];
    let keys = keys
        .into_iter()
        .filter_map(|(key, value)| Some(format!("{key} = {}\n", value?)));
    format!("\n[[known]]\n{}", keys.collect::<String>())
}

/// What such a failure is known by, each thing that is wrong by itself: numbers that vary from run to run are `*`.
fn parts_of(outcome: &Outcome) -> Vec<String> {
    let assertion = outcome.assertion.iter().map(|one| of_assertion(one));
    let subtests = outcome.subtests.iter().filter_map(Subtest::wrong);
    let has_timed_out = outcome.exit == Some(Exit::Timeout);
    let beside = outcome.beside.iter().map(|line| {
        // How far it got before its time was up is left to chance.
        let line = match has_timed_out {
            true => without_chance(line),
            false => line,
        };
        // Another code is another failure.
        let code = match line.starts_with("exit code ") {
            true => line.find(LAST_OUTPUT).unwrap_or(line.len()),
            false => 0,
        };
        line[..code].to_owned() + &starred(&line[code..])
    });
    let splats = outcome.splats.iter().map(|splat| starred(&splat.title));
    let parts = assertion.chain(subtests).chain(beside).chain(splats);
    parts.collect()
}

/// The file, the message and the expression: another assertion of the same file is another failure.
fn of_assertion(assertion: &Assertion) -> String {
    let place = assertion.caller.as_ref().unwrap_or(&assertion.file);
    let file = place.rsplit('/').next().unwrap_or_default();
    let file = file.split(':').next().unwrap_or_default();
    let message = assertion
        .message
        .lines()
        .find(|line| !line.trim().is_empty());
    let message = message.map(starred);
    // TEST_FAIL() is an assertion of `false`, which tells nothing.
    let expression =
        Some(flat(&assertion.expression)).filter(|text| !matches!(&**text, "" | "false" | "0"));
    let told: Vec<_> = message.into_iter().chain(expression).collect();
    format!("{file}*{}", told.join("*asserted "))
}

fn starred(text: &str) -> String {
    normalised(text).replace('#', "*")
}
