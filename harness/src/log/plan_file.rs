//! A plan in a file: the event that says what all parts together owe, in one line.

use std::io::{self, BufRead, Read, Write};
use std::path::Path;

use anyhow::{Context, anyhow};

use super::journal::line_of;
use super::read::check_version;
use crate::model::event::Event;
use crate::model::file;
use crate::model::planned::Planned;

/// What stands for the standard input and the standard output.
const STANDARD: &str = "-";

/// Reads a plan.
///
/// # Errors
/// It cannot be read, is no plan, or a newer version wrote it.
pub fn read_plan(path: &Path) -> anyhow::Result<Planned> {
    let context = || format!("read the plan {}", path.display());
    let text = match path.as_os_str() == STANDARD {
        true => {
            let mut text = Vec::new();
            // More may follow: the end of the input ends the run of a place.
            let mut input = io::stdin().lock().take(file::MOST);
            let read = input.read_until(b'\n', &mut text);
            read.map(|_| text)
        }
        false => file::read(path),
    };
    parse(&text.with_context(context)?).with_context(context)
}

fn parse(text: &[u8]) -> anyhow::Result<Planned> {
    let no_plan = "it is no plan: --plan-only writes one";
    check_version(text)?;
    match serde_json::from_slice(text).context(no_plan)? {
        Event::Planned(planned) => Ok(*planned),
        _ => Err(anyhow!(no_plan)),
    }
}

/// Writes a plan.
///
/// # Errors
/// It cannot be written.
pub fn write_plan(planned: &Planned, path: &Path) -> anyhow::Result<()> {
    let line = line_of(&Event::Planned(Box::new(planned.clone())));
    let written = match path.as_os_str() == STANDARD {
        true => io::stdout().write_all(&line),
        false => file::replace(path, |file| file.write_all(&line)),
    };
    written.with_context(|| format!("write the plan {}", path.display()))
}
