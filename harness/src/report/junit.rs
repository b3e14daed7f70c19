//! `junit.xml`: a run as continuous integration reads it.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use chrono::DateTime;
use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};
use signal_hook::low_level::signal_name;

use super::{Suite, facts_in, first_line};
use crate::kernel_log::end::when;
use crate::kernel_log::splat::Splat;
use crate::log::no_links;
use crate::log::record::Record;
use crate::model::outcome::{Exit, Outcome, Status};
use crate::model::printable::{printable, printable_within};
use crate::show::tail::{STDERR, STDOUT, tail_of};

/// The most of a stream of a case that is shown, in bytes.
const TAIL: usize = 16 * 1024;

/// The suite of the splats that are no case's own.
const KERNEL: &str = "kernel";

/// The most of a failure's reason with what the kernel said, in bytes.
const ACCOUNT: usize = 16 * 1024;

/// The most of all streams together, in bytes, one half of it for the failures: quick-junit holds them in memory, and so
/// does what reads JUnit.
const TAILS: usize = 4 << 20;

/// Writes the run as JUnit.
///
/// # Errors
/// It cannot be written.
pub fn write(record: &Record, directory: &Path, out: &mut dyn Write) -> io::Result<()> {
    let limits = Limits::new(record);
    let run = no_links::directory(directory)?;
    let mut report = Report::new("kvm-tests");
    if let Some(time) = timestamp(record.run.started_ms) {
        report.set_timestamp(time);
    }
    if let Some(seconds) = record.duration_s {
        report.set_time(duration(seconds));
    }
    let mut properties = HashMap::new();
    for suite in Suite::all(record) {
        let mut element = TestSuite::new(text(&suite.name));
        element
            .extra
            .insert("hostname".into(), text(&record.run.host.hostname).into());
        let properties = properties
            .entry(suite.environment)
            .or_insert_with(|| properties_in(record, suite.environment));
        element.add_properties(properties.iter().cloned());
        if let Some(time) = suite
            .outcomes
            .iter()
            .map(|outcome| outcome.started_ms)
            .min()
            .and_then(timestamp)
        {
            element.set_timestamp(time);
        }
        element.set_time(
            suite
                .outcomes
                .iter()
                .map(|outcome| duration(outcome.duration_s))
                .sum(),
        );
        element.test_cases.reserve_exact(suite.outcomes.len());
        for outcome in &suite.outcomes {
            let mut case = TestCase::new(text(suite.name_of(outcome)), status(outcome));
            case.set_classname(text(&suite.name));
            case.set_time(duration(outcome.duration_s));
            let limit = limits.of(outcome.status);
            let end =
                |name| Some(tail_of(outcome, &run, name, limit)).filter(|text| !text.is_empty());
            case.system_out = end(STDOUT).map(Into::into);
            case.system_err = end(STDERR).map(Into::into);
            element.add_test_case(case);
        }
        report.add_test_suite(element);
    }
    if !record.splats.is_empty() {
        report.add_test_suite(kernel(&record.splats));
    }
    report.serialize(out).map_err(io::Error::other)
}

fn properties_in(record: &Record, environment: Option<&str>) -> Vec<Property> {
    let facts = facts_in(record, environment);
    facts
        .iter()
        .map(|(name, value)| Property::new(text(name), text(value)))
        .collect()
}

/// The splats that are no case's own, each as a failed case: what reads JUnit knows no other failures.
fn kernel(splats: &[Splat]) -> TestSuite {
    let mut suite = TestSuite::new(KERNEL);
    for (splat, number) in splats.iter().zip(1..) {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
        status.set_type(text(&splat.name));
        status.set_message(text(&splat.title));
        let lines = splat.lines.join("\n");
        status.set_description(printable_within(
            format!("{}\n{lines}", when(splat)).as_bytes(),
            ACCOUNT,
        ));
        let mut case = TestCase::new(format!("splat_{number}"), status);
        case.set_classname(KERNEL);
        suite.add_test_case(case);
    }
    suite
}

fn status(outcome: &Outcome) -> TestCaseStatus {
    let (mut status, kind) = match outcome.status {
        Status::Passed => return TestCaseStatus::success(),
        Status::Skipped => (TestCaseStatus::skipped(), None),
        Status::Failed | Status::TimedOut | Status::NoRun => (
            TestCaseStatus::non_success(NonSuccessKind::Failure),
            Some(kind(outcome)),
        ),
    };
    if let Some(kind) = kind {
        status.set_type(kind);
        let account = printable_within(outcome.account().as_bytes(), ACCOUNT);
        status.set_description(format!(
            "{account}\n{}",
            text(&format!("reproduce: {}", outcome.reproduce))
        ));
    }
    status.set_message(text(first_line(outcome)));
    status
}

/// What kind of failure it is: the signal that a process died of, or else the status.
fn kind(outcome: &Outcome) -> String {
    match (outcome.status, outcome.exit) {
        (Status::Failed, Some(Exit::Signal { signal, .. })) => {
            signal_name(signal).map_or_else(|| format!("signal {signal}"), str::to_owned)
        }
        (status, _) => status.as_str().to_owned(),
    }
}

/// How much of a stream is shown.
struct Limits {
    failure: usize,
    other: usize,
}

impl Limits {
    fn new(record: &Record) -> Self {
        let failures = record
            .outcomes
            .iter()
            .filter(|outcome| outcome.status.is_failure())
            .count();
        let share = |count: usize| TAIL.min(TAILS / 2 / (2 * count).max(1));
        Self {
            failure: share(failures),
            other: share(record.outcomes.len() - failures),
        }
    }

    fn of(&self, status: Status) -> usize {
        if status.is_failure() {
            self.failure
        } else {
            self.other
        }
    }
}

/// Harmless and well-formed, whatever it was.
fn text(text: &str) -> String {
    printable(text.as_bytes())
}

fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

fn timestamp(ms: u64) -> Option<DateTime<chrono::FixedOffset>> {
    Some(DateTime::from_timestamp_millis(i64::try_from(ms).ok()?)?.fixed_offset())
}
