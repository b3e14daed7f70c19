//! `results.ktap`: a run in the kernel's own format (Documentation/dev-tools/ktap.rst, version 1).

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;

use super::{Suite, facts, first_line};
use crate::log::record::Record;
use crate::model::outcome::{Outcome, Status, Subtest, SubtestResult};
use crate::model::printable::printable_within;

/// What is kept of a name and of a line, in bytes.
const NAME: usize = 200;
const LINE: usize = 1000;

/// The sub-test that is added where a case's own sub-tests do not add up to its status.
const EXIT: &str = "exit";

/// Where the kernel's parser takes a kernel's log to end, wherever in a line it stands (tools/testing/kunit/kunit_parser.py).
const ENDS: [&str; 3] = [
    "List of all partitions:",
    "Kernel panic - not syncing: VFS:",
    "reboot: System halted",
];

/// Writes the run as KTAP.
///
/// # Errors
/// It cannot be written.
pub fn write(record: &Record, _directory: &Path, out: &mut dyn Write) -> io::Result<()> {
    let suites = Suite::all(record);
    writeln!(out, "KTAP version 1")?;
    for (name, value) in facts(record) {
        writeln!(out, "# {}", line(&format!("{name}: {value}"), LINE))?;
    }
    writeln!(out, "1..{}", suites.len())?;
    for (suite, number) in suites.iter().zip(1..) {
        of_suite(suite).print(number, "", out)?;
    }
    Ok(())
}

/// A test of KTAP: a suite, a case or a sub-test.
struct Test {
    name: String,
    result: Result,
    /// What stands behind `#` in its result line.
    directive: Option<String>,
    diagnostics: Vec<String>,
    subtests: Vec<Self>,
}

/// What a test came to, as far as KTAP counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Result {
    Ok,
    Skip,
    NotOk,
}

fn of_suite(suite: &Suite) -> Test {
    let mut names = Names::default();
    let cases: Vec<Test> = suite
        .outcomes
        .iter()
        .map(|outcome| of_case(outcome, names.unique(suite.name_of(outcome))))
        .collect();
    let result = Result::of(&cases);
    let directive = (result == Result::Skip).then(|| "SKIP every case was skipped".to_owned());
    Test {
        name: line(&suite.name, NAME),
        result,
        directive,
        diagnostics: Vec::new(),
        subtests: cases,
    }
}

fn of_case(outcome: &Outcome, name: String) -> Test {
    let reason = first_line(outcome);
    let (result, directive) = match outcome.status {
        Status::Passed => (Result::Ok, None),
        Status::Skipped => (Result::Skip, Some(directive("SKIP", reason))),
        Status::Failed => (Result::NotOk, None),
        Status::TimedOut => (Result::NotOk, Some(directive("TIMEOUT", reason))),
        Status::NoRun => (Result::NotOk, Some(directive("ERROR", reason))),
    };
    let mut diagnostics = Vec::new();
    if outcome.status.is_failure() {
        let account = outcome.account();
        let mut lines = account.lines();
        let first = lines.next().unwrap_or("no reason given");
        diagnostics.push(line(&format!("{}: {first}", outcome.status.as_str()), LINE));
        diagnostics.extend(lines.map(|more| format!("  {}", line(more, LINE))));
        diagnostics.push(line(&format!("reproduce: {}", outcome.reproduce), LINE));
    }
    let mut test = Test {
        name,
        result,
        directive,
        diagnostics,
        subtests: nest(&outcome.subtests),
    };
    test.add_up();
    test
}

/// Nested sub-tests stand before their parent, and are named `parent/child`.
fn nest(subtests: &[Subtest]) -> Vec<Test> {
    let mut open: Vec<(&Subtest, Vec<Test>)> = Vec::new();
    for subtest in subtests {
        let is_inner = |inner: &(&Subtest, Vec<Test>)| {
            inner
                .0
                .name
                .strip_prefix(&subtest.name)
                .is_some_and(|rest| rest.starts_with('/'))
        };
        let first = open
            .iter()
            .rposition(|other| !is_inner(other))
            .map_or(0, |last| last + 1);
        let inner = open.split_off(first);
        open.push((subtest, finish(inner, subtest.name.len() + 1)));
    }
    finish(open, 0)
}

/// Those of one level, whose names begin with `prefix` bytes of their parent's.
fn finish(level: Vec<(&Subtest, Vec<Test>)>, prefix: usize) -> Vec<Test> {
    let mut names = Names::default();
    let test = |(subtest, inner): (&Subtest, Vec<Test>)| {
        let name = names.unique(&subtest.name[prefix..]);
        let reason = subtest.reason.as_deref().unwrap_or_default();
        let (result, directive) = match subtest.result {
            SubtestResult::Ok => (Result::Ok, None),
            SubtestResult::NotOk => (Result::NotOk, None),
            SubtestResult::Skip => (Result::Skip, Some(directive("SKIP", reason))),
            // Expected to fail, so it is no failure: as kselftest.h prints it.
            SubtestResult::Todo => (Result::Ok, Some(directive("XFAIL", reason))),
        };
        let is_told = directive.is_none() && !reason.is_empty();
        let diagnostics = is_told
            .then(|| line(&format!("{name}: {reason}"), LINE))
            .into_iter()
            .collect();
        let mut test = Test {
            name,
            result,
            directive,
            diagnostics,
            subtests: inner,
        };
        test.add_up();
        test
    };
    level.into_iter().map(test).collect()
}

impl Test {
    /// Parsers count what has no sub-tests: where the sub-tests add up to something else than this, one more tells.
    fn add_up(&mut self) {
        if self.subtests.is_empty() || Result::of(&self.subtests) == self.result {
            return;
        }
        let mut names = Names::default();
        for subtest in &self.subtests {
            names.unique(&subtest.name);
        }
        self.subtests.push(Self {
            name: names.unique(EXIT),
            result: self.result,
            directive: self.directive.clone(),
            diagnostics: Vec::new(),
            subtests: Vec::new(),
        });
    }

    fn print(&self, number: usize, indent: &str, out: &mut dyn Write) -> io::Result<()> {
        if !self.subtests.is_empty() {
            let inner = format!("{indent}  ");
            writeln!(out, "{inner}KTAP version 1")?;
            // The kernel's parser would take a sub-test of the same name for the end of this one.
            if self
                .subtests
                .iter()
                .all(|subtest| subtest.name != self.name)
            {
                writeln!(out, "{inner}# Subtest: {}", self.name)?;
            }
            writeln!(out, "{inner}1..{}", self.subtests.len())?;
            for (subtest, number) in self.subtests.iter().zip(1..) {
                subtest.print(number, &inner, out)?;
            }
        }
        for diagnostic in &self.diagnostics {
            writeln!(out, "{}", format!("{indent}# {diagnostic}").trim_end())?;
        }
        let word = if self.result == Result::NotOk {
            "not ok"
        } else {
            "ok"
        };
        write!(out, "{indent}{word} {number} {}", self.name)?;
        match &self.directive {
            Some(directive) => writeln!(out, " # {directive}"),
            None => writeln!(out),
        }
    }
}

impl Result {
    /// What `tests` add up to.
    fn of(tests: &[Test]) -> Self {
        let has = |result| tests.iter().any(|test| test.result == result);
        if has(Self::NotOk) {
            Self::NotOk
        } else if has(Self::Ok) {
            Self::Ok
        } else {
            Self::Skip
        }
    }
}

/// The names of one level.
#[derive(Default)]
struct Names(HashMap<String, u32>);

impl Names {
    /// `name` as KTAP can have it, with a number behind it where it was there before.
    fn unique(&mut self, name: &str) -> String {
        let name = line(name, NAME);
        // A dash before a description is no part of it.
        let name = name.trim_start_matches(['-', ' ']);
        let name = if name.is_empty() { "unnamed" } else { name };
        let mut unique = name.to_owned();
        while self.0.contains_key(&unique) {
            let number = self.0.entry(name.to_owned()).or_insert(1);
            *number += 1;
            unique = format!("{name}_{number}");
        }
        self.0.insert(unique.clone(), 1);
        unique
    }
}

fn directive(word: &str, reason: &str) -> String {
    format!("{word} {}", line(reason, LINE))
        .trim_end()
        .to_owned()
}

/// `text` in one line that can be taken for nothing else.
fn line(text: &str, limit: usize) -> String {
    let words = printable_within(text.as_bytes(), limit);
    let text = words
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('#', "\\x23");
    ENDS.iter().fold(text, |text, end| {
        text.replace(end, &end.replace(':', "\\x3a"))
    })
}
