//! What makes two failures the same one, although lines, addresses and numbers vary from run to run.

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;

use super::known::flat;
use super::{Exit, Outcome, Status, SubtestResult};

/// How the line of a reason begins that says where a core is. It tells nothing about the failure.
pub const CORE_DUMP: &str = "core dump: ";

/// What stands in a reason before what a selftest's threads did when its time was up.
pub const THREADS: &str = "; threads: ";

/// How a line of its own began that said that, in earlier versions.
const THREADS_LINE: &str = "threads: ";

/// What stands in a reason before the last line that was printed.
pub const LAST_OUTPUT: &str = "; last output: ";

/// What a failure is known by.
///
/// Two failures are the same where all of this is. `errno` is no part of it: what an assertion prints of it is often
/// left from a call before, and a message that is about it says so in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Signature {
    /// The status.
    pub status: Status,
    /// How the process ended, whether or not it dumped core.
    pub exit: Option<Exit>,
    /// The assertion that failed.
    pub assertion: Option<FailedAssertion>,
    /// The names of the sub-tests that failed.
    pub subtests: BTreeSet<String>,
    /// What the kernel complained of because of it, [`normalised`].
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub splats: BTreeSet<String>,
    /// What else was wrong, such as its tear-down, [`normalised`]; only where there is an assertion.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub beside: BTreeSet<String>,
    /// The reason, [`normalised`]; only where there is no assertion.
    pub reason: Option<String>,
}

/// An assertion without what varies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailedAssertion {
    /// The source file's name, without its directories: those depend on the kernel's version and on how it was built.
    pub file: String,
    /// The expression, numbers and all: they stand in the source.
    pub expression: String,
    /// The message, [`normalised`].
    pub message: String,
}

impl Signature {
    /// That of `outcome`.
    pub fn of(outcome: &Outcome) -> Self {
        let assertion = outcome.assertion.as_ref().map(|assertion| FailedAssertion {
            file: assertion.file.rsplit('/').next().unwrap_or_default().into(),
            expression: flat(&assertion.expression),
            message: normalised(&assertion.message),
        });
        // These only repeat how it ended.
        let tells = |line: &&String| match outcome.exit {
            Some(Exit::Timeout) => !line.starts_with("timeout of "),
            Some(exit) => **line != exit.to_string(),
            None => true,
        };
        let beside = outcome.beside.iter().filter(|_| assertion.is_some());
        let beside = beside.filter(tells).map(|line| normalised(line));
        let subtests = outcome.subtests.iter();
        let failed = subtests.filter(|subtest| subtest.result == SubtestResult::NotOk);
        Self {
            status: outcome.status,
            exit: outcome.exit.map(|exit| match exit {
                Exit::Signal { signal, .. } => Exit::Signal {
                    signal,
                    core_dumped: false,
                },
                Exit::Code(_) | Exit::Timeout | Exit::Interrupted | Exit::ByUser => exit,
            }),
            subtests: failed.map(|subtest| subtest.name.clone()).collect(),
            splats: outcome
                .splats
                .iter()
                .map(|splat| normalised(&splat.title))
                .collect(),
            beside: beside.collect(),
            reason: assertion.is_none().then(|| normalised(&reason(outcome))),
            assertion,
        }
    }
}

/// The reason without the core that was dumped, and without how often it failed. How far a test got before its time was up
/// is left to chance, and left out, and so is where its threads were.
fn reason(outcome: &Outcome) -> String {
    let reason = outcome.reason.as_deref().unwrap_or_default();
    let rate = outcome.rate().map(|rate| format!("{rate}: "));
    let without = rate.and_then(|rate| reason.strip_prefix(&rate));
    let reason = without.unwrap_or(reason).replace(" (core dumped)", "");
    let lines = reason.lines();
    let lines =
        lines.filter(|line| !line.starts_with(CORE_DUMP) && !line.starts_with(THREADS_LINE));
    let has_timed_out = outcome.status == Status::TimedOut || outcome.exit == Some(Exit::Timeout);
    let lines = lines.map(|line| match has_timed_out {
        true => without_chance(line),
        false => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A line of the reason of a timeout, without what is left to chance: where its threads were, and what it printed last.
pub fn without_chance(line: &str) -> &str {
    let ends = [THREADS, LAST_OUTPUT]
        .into_iter()
        .filter_map(|part| line.find(part));
    &line[..ends.min().unwrap_or(line.len())]
}

/// `failures`, those together that are one to whoever reads of them: the same command failed in the same way, in whatever
/// environments and iterations. In the order in which each was first seen.
pub fn grouped<'a>(failures: impl IntoIterator<Item = &'a Outcome>) -> Vec<Vec<&'a Outcome>> {
    let mut groups: Vec<(Signature, Vec<&Outcome>)> = Vec::new();
    let mut of_command: HashMap<String, Vec<usize>> = HashMap::new();
    for outcome in failures {
        let signature = Signature::of(outcome);
        let known = of_command.entry(command(outcome)).or_default();
        match known.iter().find(|&&group| groups[group].0 == signature) {
            Some(&group) => groups[group].1.push(outcome),
            None => {
                known.push(groups.len());
                groups.push((signature, vec![outcome]));
            }
        }
    }
    groups.into_iter().map(|(_, outcomes)| outcomes).collect()
}

/// What was run, the same in every environment: there it is the last word of `kvm-tests with ENVIRONMENT -- sh -c COMMAND`.
fn command(outcome: &Outcome) -> String {
    if outcome.reproduce.is_empty() {
        return format!("{}::{}", outcome.suite, outcome.variant);
    }
    let words = outcome.environment.as_ref();
    let words = words.and_then(|_| shlex::split(&outcome.reproduce));
    let last = words.and_then(|mut words| words.pop());
    last.unwrap_or_else(|| outcome.reproduce.clone())
}

/// `text` with a `#` for every number, decimal, hexadecimal or with a unit, and one space for any white space.
///
/// Digits within a word that begins as an identifier does are its name (`CR4`, `MSR_IA32_TSC`).
pub fn normalised(text: &str) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_word) {
        let between = &rest[..start];
        let length = rest[start..].find(|c| !is_word(c));
        let end = length.map_or(rest.len(), |length| start + length);
        let word = &rest[start..end];
        rest = &rest[end..];
        let is_fraction = between == "." && result.ends_with('#');
        match (is_number(word), is_fraction) {
            (true, true) => {}
            (true, false) => {
                let sign = between
                    .strip_suffix('-')
                    .filter(|before| !before.is_empty() || result.is_empty());
                result.push_str(sign.unwrap_or(between));
                result.push('#');
            }
            (false, _) => {
                result.push_str(between);
                result.push_str(word);
            }
        }
    }
    result.push_str(rest);
    flat(&result)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn is_number(word: &str) -> bool {
    /// An address has that many digits at least, where nothing else tells it from a word.
    const BARE_ADDRESS: usize = 8;
    /// `ms`, `GiB`.
    const UNIT: usize = 3;
    let is_hex = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if let Some(digits) = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        return is_hex(digits);
    }
    let unit = word.trim_start_matches(|c: char| c.is_ascii_digit());
    let has_digits = unit.len() < word.len();
    let is_unit = unit.len() <= UNIT && unit.bytes().all(|byte| byte.is_ascii_alphabetic());
    (has_digits && (is_unit || is_hex(word))) || (is_hex(word) && word.len() >= BARE_ADDRESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_varies_from_run_to_run_is_taken_out_of_a_message() {
        for (a, b) in [
            (
                "INT3: exit 17 exception 1 rip 0x1 (should be 0x403099)",
                "INT3: exit 8 exception 3 rip 0x0 (should be 0x40)",
            ),
            ("0x7df00000000 != 0 (val)", "0 != 0x1f (val)"),
            ("took 0.007952149s", "took 12s"),
            ("at ffffffff81234567, page   663", "at deadbeef, page 12"),
            ("rc: -1 of 7ffd12ab34cd", "rc: 0 of 55e0c1d2a3b4"),
            ("-5 pages of 4K", "17 pages of 2M"),
            ("range: [8834722077028, 8834723436827]", "range: [1, 2]"),
            ("thread-12", "thread-3"),
        ] {
            assert_eq!(normalised(a), normalised(b));
            assert!(normalised(a).contains('#'), "{a}");
        }
    }

    #[test]
    fn what_names_things_stays_in_a_message() {
        for (a, b) in [
            (
                "Wanted KVM exit reason: 2 (IO)",
                "Wanted KVM exit reason: 6 (MMIO)",
            ),
            ("INT3 failed", "INT1 failed"),
            ("CR4", "CR0"),
            ("2slot_5vcpu", "3slot_5vcpu"),
            ("a-1", "a 1"),
            ("défaut", "d\u{e9}faux"),
        ] {
            assert_ne!(normalised(a), normalised(b));
        }
    }
}
