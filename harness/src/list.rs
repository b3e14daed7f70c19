//! `--list`: the cases in libtest's own forms.

use std::io::{self, Write};

use serde_json::json;

use crate::case::Case;
use crate::cli::Format;

/// Prints `cases`.
///
/// # Errors
/// The output cannot be written.
pub fn print(cases: &[&Case], format: Format, out: &mut impl Write) -> io::Result<()> {
    match format {
        Format::Pretty | Format::Terse => {
            for case in cases {
                writeln!(out, "{}: test", case.name)?;
            }
            if format == Format::Pretty {
                let plural = if cases.len() == 1 { "" } else { "s" };
                writeln!(
                    out,
                    "{}{} test{plural}, 0 benchmarks",
                    if cases.is_empty() { "" } else { "\n" },
                    cases.len()
                )?;
            }
        }
        Format::Json => {
            writeln!(out, "{}", json!({"type": "suite", "event": "discovery"}))?;
            for case in cases {
                let line = json!({
                    "type": "test", "event": "discovered", "name": case.name.to_string(),
                    "ignore": case.ignored.is_some(), "ignore_message": case.ignored.as_deref().unwrap_or_default(),
                    "source_path": "", "start_line": 0, "start_col": 0, "end_line": 0, "end_col": 0,
                });
                writeln!(out, "{line}")?;
            }
            let ignored = cases.iter().filter(|case| case.ignored.is_some()).count();
            let line = json!({
                "type": "suite", "event": "completed", "tests": cases.len(), "benchmarks": 0,
                "total": cases.len(), "ignored": ignored,
            });
            writeln!(out, "{line}")?;
        }
    }
    out.flush()
}
