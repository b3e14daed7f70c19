//! Known failures: what a case is known to do, and what counts as that.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How what is wrong with a sub-test begins, before its name: it failed, or passed against expectation.
pub const SUBTEST_IS_WRONG: [&str; 2] = ["not ok: ", "passed unexpectedly: "];

/// A failure that is known, as a file of the user's has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KnownFailure {
    /// The cases that it is known of: a glob over their names.
    pub case: String,
    /// What becomes of these.
    pub expect: Expectation,
    /// What is known of the failure: each thing that is wrong has one of these parts, in which `*` stands for anything.
    /// Where there is none, any failure is the known one.
    pub failure: Vec<String>,
    /// Why it fails.
    pub reason: String,
    /// Where there is more about it.
    pub link: Option<String>,
    /// Whether a pass is a failure.
    pub strict: bool,
    /// Where it is written: `known.toml:3:1`.
    pub place: String,
}

/// What becomes of a case that is known to fail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Expectation {
    /// It fails each time.
    #[default]
    Fail,
    /// It fails now and then.
    Flaky,
    /// It takes the host with it, so it is not run.
    Crash,
}

impl KnownFailure {
    /// Whether it accounts for this thing that is wrong.
    pub fn has(&self, wrong: &str) -> bool {
        let wrong = flat(wrong);
        self.failure.is_empty() || self.failure.iter().any(|part| is_part(&wrong, &flat(part)))
    }
}

impl fmt::Display for KnownFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "known failure: {}", self.reason)
    }
}

/// Text with one space for any white space, ends of lines among them.
pub fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether the parts of `pattern` between its `*` are in `text`, one after another. A sub-test is named to its end; else a
/// word is: `exit code 1` is no part of `exit code 12`.
fn is_part(text: &str, pattern: &str) -> bool {
    let (begin, last) = pattern.rsplit_once('*').unwrap_or(("", pattern));
    let mut rest = text;
    for part in begin.split('*') {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    let is_subtest = SUBTEST_IS_WRONG.iter().any(|begin| text.starts_with(begin));
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let is_end = |(at, _): (usize, &str)| {
        let after = &rest[at + last.len()..];
        let goes_on = last.ends_with(is_word) && after.starts_with(is_word);
        after.is_empty() || last.is_empty() || !(goes_on || is_subtest)
    };
    rest.match_indices(last).any(is_end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_ends_where_a_word_does_and_a_sub_test_is_named_whole() {
        let assertion = "x86_64/a_test.c:78: nent mismatch: 59 vs. 56 asserted a->nent == b->nent";
        for (text, pattern, fits) in [
            (assertion, "a->nent == b->nent", true),
            (
                assertion,
                "a_test.c:*: nent mismatch: * vs. *asserted a->nent",
                true,
            ),
            (assertion, "nent", true),
            (assertion, "mismatch: 5", false),
            (assertion, "mismatch: 5*", true),
            (assertion, "asserted*mismatch", false),
            ("exit code 12", "exit code 1", false),
            ("exit code 1 of 12, exit code 1", "exit code 1", true),
            ("not ok: guest memory", "not ok: guest", false),
            ("not ok: guest memory", "guest memory", true),
            ("not ok: guest memory", "not ok: guest*", true),
            ("not ok: a b a", "a", true),
        ] {
            assert_eq!(is_part(text, pattern), fits, "{text}: {pattern}");
        }
    }
}
