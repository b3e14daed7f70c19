//! Names of cases: Rust paths whose every segment is an identifier.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the last segment of an iteration's name begins with, before its number.
const ITERATION: &str = "iteration_";

/// The same of a repetition's.
const RETRY: &str = "retry_";

/// The name of a case: `suite::variant`, with `environment::` before it for any environment but the host as it is, and in a
/// run of several hosts with `host::` before all.
///
/// A variant of a matrix has one more segment in `variant` (`sweep::vcpus_4`).
#[derive(
    Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct CaseName {
    /// The host's name in a run of several; `None` in a run on one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The environment's name; `None` is the host as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// The suite's name, one identifier.
    pub suite: String,
    /// The variant's name: one or more identifiers joined by `::`.
    pub variant: String,
    /// Which of several iterations it is, from 1; `None` where it runs once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iteration: Option<u32>,
    /// Which repetition of a case it is that has failed, from 1; `None` is the case itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<u32>,
}

impl CaseName {
    /// A name on the host as it is, without iterations.
    pub fn new(suite: &str, variant: impl Into<String>) -> Self {
        Self {
            host: None,
            environment: None,
            suite: suite.to_owned(),
            variant: variant.into(),
            iteration: None,
            retry: None,
        }
    }

    /// The name without its iteration: the one that is listed.
    pub fn listed(&self) -> String {
        Self {
            iteration: None,
            retry: None,
            ..self.clone()
        }
        .to_string()
    }

    /// The name of the case that this is a repetition of.
    pub fn repeated(&self) -> Self {
        Self {
            retry: None,
            ..self.clone()
        }
    }

    /// What stands behind the variant, in order.
    fn numbers(&self) -> impl Iterator<Item = String> + use<> {
        let numbers = [(ITERATION, self.iteration), (RETRY, self.retry)].into_iter();
        numbers.filter_map(|(what, number)| Some(format!("{what}{}", number?)))
    }

    /// The same on the host as it is.
    pub fn on_host(&self) -> String {
        format!("{}::{}", self.suite, self.variant)
    }

    /// Its segments, in order.
    pub fn segments(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let before = self
            .host
            .iter()
            .chain(&self.environment)
            .map(String::as_str);
        let named = before
            .chain([self.suite.as_str()])
            .chain(self.variant.split("::"))
            .map(Cow::Borrowed);
        named.chain(self.numbers().map(Cow::Owned))
    }

    /// The directory of its output, below the run's: every segment of the name is one.
    pub fn place(&self) -> PathBuf {
        self.segments().map(Cow::into_owned).collect()
    }
}

impl fmt::Display for CaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for before in self.host.iter().chain(&self.environment) {
            write!(f, "{before}::")?;
        }
        write!(f, "{}::{}", self.suite, self.variant)?;
        self.numbers()
            .try_for_each(|number| write!(f, "::{number}"))
    }
}

/// The name of a case in a run of several hosts, on the one called `host`.
pub fn on_host(host: &str, name: &str) -> String {
    format!("{host}::{name}")
}

/// The name of one iteration of the case that is `listed` so.
pub fn of_iteration(listed: &str, number: u32) -> String {
    format!("{listed}::{ITERATION}{number}")
}

/// The name of a case without its iteration.
pub fn listed(name: &str) -> &str {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match name.rsplit_once("::") {
        Some((listed, last)) if last.strip_prefix(ITERATION).is_some_and(is_number) => listed,
        _ => name,
    }
}

/// Rust's keywords: a segment must also do as the name of a `#[test]` stub.
const KEYWORDS: &[&str] = &[
    "as", "async", "await", "break", "const", "continue", "crate", "dyn", "else", "enum", "extern",
    "false", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "match", "mod", "move", "mut",
    "pub", "ref", "return", "self", "Self", "static", "struct", "super", "trait", "true", "type",
    "unsafe", "use", "where", "while", "_", "abstract", "become", "box", "do", "final", "macro",
    "override", "priv", "try", "typeof", "unsized", "virtual", "yield",
];

/// Whether `text` can be a segment of a name: `[A-Za-z_][A-Za-z0-9_]*`, and no keyword of Rust.
pub fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !KEYWORDS.contains(&text)
}

/// The identifier for a name taken over from a foreign format or from a matrix value: what cannot stand in an
/// identifier becomes `_`, and a leading digit or a keyword gets a `_` before it (`2slot-5vcpu` is `_2slot_5vcpu`).
pub fn to_identifier(text: &str) -> String {
    let mut identifier: String = text
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    while !is_identifier(&identifier) {
        identifier.insert(0, '_');
    }
    identifier
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_names_become_identifiers() {
        for (foreign, identifier) in [
            ("2slot-5vcpu", "_2slot_5vcpu"),
            ("a.b", "a_b"),
            ("-", "__"),
            ("é", "__"),
            ("ok", "ok"),
            ("move", "_move"),
        ] {
            assert_eq!(to_identifier(foreign), identifier);
            assert!(is_identifier(&to_identifier(foreign)), "{foreign}");
        }
    }
}
