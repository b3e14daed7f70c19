//! `results.ktap`: a run in the kernel's own format (Documentation/dev-tools/ktap.rst, version 1).

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};

use super::reported::{Reported, account, name_in_suite};
use crate::model::outcome::{Outcome, OutcomeKind, Subtest, SubtestResult};
use crate::model::text::printable_within;

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

/// What a suite stands for: its host and its environment, where these are told, and its name.
type SuiteKey<'a> = ([Option<&'a str>; 2], &'a str);

/// Writes the run as KTAP.
///
/// # Errors
/// It cannot be written.
pub(super) fn write(run: &Reported<'_>, out: &mut dyn Write) -> io::Result<()> {
    let mut suites: BTreeMap<SuiteKey<'_>, Vec<&Outcome>> = BTreeMap::new();
    for outcome in run.outcomes() {
        let before = [&outcome.host, &outcome.environment].map(Option::as_deref);
        let suite = suites.entry((before, &outcome.suite));
        suite.or_default().push(outcome);
    }
    writeln!(out, "KTAP version 1")?;
    for host in run.state.hosts() {
        let before = host.map_or_else(String::new, |host| format!("{host}: "));
        for (name, value) in run.facts(host) {
            writeln!(out, "# {}", line(&format!("{before}{name}: {value}"), LINE))?;
        }
    }
    writeln!(out, "1..{}", suites.len())?;
    for (((before, suite), mut outcomes), number) in suites.into_iter().zip(1..) {
        outcomes.sort_by_key(|outcome| (&outcome.variant, outcome.iteration));
        let mut names = Names::default();
        let cases = outcomes.iter().map(|case| of_case(case, &mut names));
        let cases: Vec<Test> = cases.collect();
        let before = before.into_iter().flatten();
        let before: String = before.map(|name| format!("{name}::")).collect();
        let name = line(&format!("{before}{suite}"), NAME);
        let test = match Sum::of(&cases) {
            Sum::Skip => Test::new(name, Sum::Skip, "SKIP", "every case was skipped", cases),
            sum => Test::new(name, sum, "", "", cases),
        };
        test.print(number, "", out)?;
    }
    Ok(())
}

/// A test of KTAP: a suite, a case or a sub-test.
struct Test {
    name: String,
    result: Sum,
    /// What stands behind `#` in its result line; empty where nothing does.
    directive: String,
    diagnostics: Vec<String>,
    subtests: Vec<Self>,
}

/// What tests add up to, as far as KTAP counts: the first of these that one of them has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Sum {
    NotOk,
    Ok,
    Skip,
}

impl Sum {
    fn of(tests: &[Test]) -> Self {
        let results = tests.iter().map(|test| test.result);
        results.min().unwrap_or(Self::Skip)
    }
}

fn of_case(outcome: &Outcome, names: &mut Names) -> Test {
    let (result, word) = match outcome.kind() {
        OutcomeKind::Passed => (Sum::Ok, ""),
        OutcomeKind::Skipped => (Sum::Skip, "SKIP"),
        // No failures: as kselftest.h prints them.
        OutcomeKind::Known => (Sum::Ok, "XFAIL"),
        OutcomeKind::Xpass => (Sum::Ok, "XPASS"),
        OutcomeKind::Failed => (Sum::NotOk, ""),
        OutcomeKind::TimedOut => (Sum::NotOk, "TIMEOUT"),
        OutcomeKind::NoRun => (Sum::NotOk, "ERROR"),
    };
    let name = names.unique(&name_in_suite(outcome));
    let mut subtests = outcome.subtests.clone();
    if outcome.kind() == OutcomeKind::Known {
        let failed = subtests
            .iter_mut()
            .filter(|one| one.result == SubtestResult::NotOk);
        failed.for_each(|one| one.result = SubtestResult::Todo);
    }
    let subtests = nested(&subtests);
    let mut test = Test::new(name, result, word, &outcome.message(), subtests);
    if outcome.status.is_failure() {
        let account = format!("{}: {}", outcome.status.as_str(), account(outcome));
        let reproduce = outcome.reproduce_line(|command| line(command, LINE));
        let lines = account.lines().map(|text| line(text, LINE)).zip(0..);
        let lines = lines.map(|(line, number)| {
            if number > 0 {
                format!("  {line}")
            } else {
                line
            }
        });
        test.diagnostics = lines.chain(reproduce).collect();
    }
    test
}

/// Nested sub-tests stand before their parent, and are named `parent/child`.
fn nested(subtests: &[Subtest]) -> Vec<Test> {
    let mut open: Vec<(&Subtest, Vec<Test>)> = Vec::new();
    for subtest in subtests {
        let is_inner = |inner: &Subtest| {
            let rest = inner.name.strip_prefix(&subtest.name);
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        let last_other = open.iter().rposition(|(other, _)| !is_inner(other));
        let inner = open.split_off(last_other.map_or(0, |last| last + 1));
        open.push((subtest, of_level(inner, subtest.name.len() + 1)));
    }
    of_level(open, 0)
}

/// Those of one level, whose names begin with `prefix` bytes of their parent's.
fn of_level(level: Vec<(&Subtest, Vec<Test>)>, prefix: usize) -> Vec<Test> {
    let mut names = Names::default();
    let test = |(subtest, inner): (&Subtest, Vec<Test>)| {
        let name = names.unique(&subtest.name[prefix..]);
        let reason = subtest.reason.as_deref().unwrap_or_default();
        let (result, word) = match subtest.result {
            SubtestResult::Ok => (Sum::Ok, ""),
            SubtestResult::NotOk => (Sum::NotOk, ""),
            SubtestResult::Skip => (Sum::Skip, "SKIP"),
            // Expected to fail, so it is no failure: as kselftest.h prints it.
            SubtestResult::Todo => (Sum::Ok, "XFAIL"),
            SubtestResult::Xpass => (Sum::Ok, "XPASS"),
        };
        let mut test = Test::new(name, result, word, reason, inner);
        if word.is_empty() && !reason.is_empty() {
            test.diagnostics = vec![line(&format!("{}: {reason}", test.name), LINE)];
        }
        test
    };
    level.into_iter().map(test).collect()
}

impl Test {
    /// One whose directive is `word` with the reason, if it has a word. Parsers count what has no sub-tests: where its
    /// sub-tests add up to something else than this, one more tells.
    fn new(name: String, result: Sum, word: &str, reason: &str, subtests: Vec<Self>) -> Self {
        let reason = if word.is_empty() { "" } else { reason };
        let directive = format!("{word} {}", line(reason, LINE));
        let mut test = Self {
            name,
            result,
            directive: directive.trim().to_owned(),
            diagnostics: Vec::new(),
            subtests,
        };
        if !test.subtests.is_empty() && Sum::of(&test.subtests) != result {
            let mut names = Names::default();
            for subtest in &test.subtests {
                names.unique(&subtest.name);
            }
            let exit = Self::new(names.unique(EXIT), result, word, reason, Vec::new());
            test.subtests.push(exit);
        }
        test
    }

    fn print(&self, number: usize, indent: &str, out: &mut dyn Write) -> io::Result<()> {
        if !self.subtests.is_empty() {
            let inner = format!("{indent}  ");
            writeln!(out, "{inner}KTAP version 1")?;
            // The kernel's parser would take a sub-test of the same name for the end of this one.
            if self.subtests.iter().all(|test| test.name != self.name) {
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
        let not = if self.result == Sum::NotOk {
            "not "
        } else {
            ""
        };
        let hash = if self.directive.is_empty() { "" } else { " # " };
        let directive = &self.directive;
        writeln!(
            out,
            "{indent}{not}ok {number} {}{hash}{directive}",
            self.name
        )
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

/// `text` in one line that can be taken for nothing else.
fn line(text: &str, limit: usize) -> String {
    let text = printable_within(text.as_bytes(), limit);
    let words: Vec<_> = text.split_whitespace().collect();
    let text = words.join(" ").replace('#', "\\x23");
    ENDS.iter().fold(text, |text, end| {
        text.replace(end, &end.replace(':', "\\x3a"))
    })
}
