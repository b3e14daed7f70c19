//! `--list`: the cases in libtest's own forms.

use std::io::{self, Write};

use serde_json::json;

use crate::cli::Format;
use crate::discover::Listed;

/// Prints the cases that it is told of, in `format`.
pub struct List<W> {
    format: Format,
    out: W,
    count: usize,
    ignored: usize,
    result: io::Result<()>,
}

impl<W: Write> List<W> {
    /// A list that begins.
    pub fn begin(format: Format, mut out: W) -> Self {
        let result = match format {
            Format::Pretty | Format::Terse => Ok(()),
            Format::Json => writeln!(out, "{}", json!({"type": "suite", "event": "discovery"})),
        };
        Self { format, out, count: 0, ignored: 0, result }
    }

    /// Adds a case.
    pub fn add(&mut self, case: Listed<'_>) {
        self.count += 1;
        self.ignored += usize::from(case.ignored.is_some());
        if self.result.is_ok() {
            self.result = self.line(case);
        }
    }

    fn line(&mut self, Listed { name, ignored, .. }: Listed<'_>) -> io::Result<()> {
        match self.format {
            Format::Pretty | Format::Terse => {
                self.out.write_all(name.as_bytes()).and_then(|()| self.out.write_all(b": test\n"))
            }
            Format::Json => {
                let line = json!({
                    "type": "test", "event": "discovered", "name": name,
                    "ignore": ignored.is_some(), "ignore_message": ignored.unwrap_or_default(),
                    "source_path": "", "start_line": 0, "start_col": 0, "end_line": 0, "end_col": 0,
                });
                writeln!(self.out, "{line}")
            }
        }
    }

    /// Ends the list.
    ///
    /// # Errors
    /// It could not be printed.
    pub fn end(self) -> io::Result<()> {
        let Self { format, mut out, count, ignored, result } = self;
        result?;
        match format {
            Format::Pretty => {
                let (blank, plural) = (if count == 0 { "" } else { "\n" }, if count == 1 { "" } else { "s" });
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
        out.flush()
    }
}
