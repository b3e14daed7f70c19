//! A comparison as `b4 review` takes it from a check command: an array of results.

use serde::Serialize;

use super::case::ChangeKind;
use super::comparison::Comparison;
use super::text;

/// A result of a check.
#[derive(Debug, Serialize)]
pub(super) struct CheckResult {
    tool: &'static str,
    /// `pass`, `warn` or `fail`.
    status: &'static str,
    summary: String,
    url: Option<String>,
    details: String,
}

/// One result: it fails where something got worse, and warns where something fails as it did before.
pub(super) fn results(comparison: &Comparison<'_>) -> [CheckResult; 1] {
    let fails = comparison.of_kind(ChangeKind::SameFailure).next().is_some();
    let status = match (comparison.is_worse(), fails) {
        (true, _) => "fail",
        (false, true) => "warn",
        (false, false) => "pass",
    };
    [CheckResult {
        tool: "kvm-tests",
        status,
        summary: text::verdict(comparison),
        url: None,
        details: text::cover(comparison),
    }]
}
