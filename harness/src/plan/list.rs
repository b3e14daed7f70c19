//! `--list`: the cases in libtest's own forms.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::discovered::Discovered;
use super::selection::Selection;
use crate::cli::Format;
use crate::model::case::Case;

/// Prints the cases that `selection` asks for, in `format`; answers how many they are.
///
/// # Errors
/// It could not be printed.
pub fn list(
    discovered: &Discovered,
    selection: &Selection,
    format: Format,
    mut out: impl Write,
) -> io::Result<usize> {
    if format == Format::Json {
        writeln!(out, "{}", json!({"type": "suite", "event": "discovery"}))?;
    }
    let (mut count, mut ignored) = (0, 0);
    for case in discovered
        .cases(selection)
        .filter(|case| selection.has(case))
    {
        count += 1;
        ignored += usize::from(case.ignored.is_some());
        match format {
            Format::Pretty | Format::Terse => writeln!(out, "{}: test", case.name)?,
            Format::Json => writeln!(out, "{}", line(&case))?,
        }
    }
    match format {
        Format::Pretty => {
            let blank = if count == 0 { "" } else { "\n" };
            let plural = if count == 1 { "" } else { "s" };
            writeln!(out, "{blank}{count} test{plural}, 0 benchmarks")?;
        }
        Format::Terse => {}
        Format::Json => {
            let line = json!({
                "type": "suite", "event": "completed", "tests": count, "benchmarks": 0,
                "total": count, "ignored": ignored,
            });
            writeln!(out, "{line}")?;
        }
    }
    out.flush()?;
    Ok(count)
}

/// A case, as libtest tells of it in JSON; it stands in no source.
fn line(case: &Case) -> Value {
    json!({
        "type": "test", "event": "discovered", "name": case.name.to_string(),
        "ignore": case.ignored.is_some(), "ignore_message": case.ignored.as_deref().unwrap_or_default(),
        "source_path": "", "start_line": 0, "start_col": 0, "end_line": 0, "end_col": 0,
    })
}
