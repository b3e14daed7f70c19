//! `--list`: the cases in libtest's own forms.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::json;

use super::selection::Listed;
use crate::cli::Format;

/// A case, as libtest tells of it in JSON; it stands in no source.
#[derive(Serialize)]
struct DiscoveredLine<'a> {
    r#type: &'a str,
    event: &'a str,
    name: &'a str,
    ignore: bool,
    ignore_message: &'a str,
    source_path: &'a str,
    start_line: u32,
    start_col: u32,
    end_line: u32,
    end_col: u32,
}

impl<'a> From<Listed<'a>> for DiscoveredLine<'a> {
    fn from(Listed { name, ignored, .. }: Listed<'a>) -> Self {
        Self {
            r#type: "test",
            event: "discovered",
            name,
            ignore: ignored.is_some(),
            ignore_message: ignored.unwrap_or_default(),
            source_path: "",
            start_line: 0,
            start_col: 0,
            end_line: 0,
            end_col: 0,
        }
    }
}

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
        Self {
            format,
            out,
            count: 0,
            ignored: 0,
            result,
        }
    }

    /// Whether there is no case in it.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds a case.
    pub fn add(&mut self, case: Listed<'_>) {
        self.count += 1;
        self.ignored += usize::from(case.ignored.is_some());
        if self.result.is_ok() {
            self.result = self.line(case);
        }
    }

    fn line(&mut self, case: Listed<'_>) -> io::Result<()> {
        match self.format {
            Format::Pretty | Format::Terse => self
                .out
                .write_all(case.name.as_bytes())
                .and_then(|()| self.out.write_all(b": test\n")),
            Format::Json => {
                serde_json::to_writer(&mut self.out, &DiscoveredLine::from(case))?;
                self.out.write_all(b"\n")
            }
        }
    }

    /// Ends the list.
    ///
    /// # Errors
    /// It could not be printed.
    pub fn end(self) -> io::Result<()> {
        let Self {
            format,
            mut out,
            count,
            ignored,
            result,
        } = self;
        result?;
        match format {
            Format::Pretty => {
                let (blank, plural) = (
                    if count == 0 { "" } else { "\n" },
                    if count == 1 { "" } else { "s" },
                );
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
