//! What cases printed, shown when they have ended, as far as `--report` wants it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::log::no_links;
use crate::model::event::{Event, Observer};
use crate::model::outcome::Outcome;
use crate::model::printable::printable_within;
use crate::show::console::Console;
use crate::show::shown::Shown;

/// The longest line that is shown, in bytes; the rest of it goes on a line of its own.
const LONGEST_LINE: u64 = 4096;

/// The observer that shows outputs on the standard output.
#[derive(Debug)]
pub struct Outputs {
    results: OwnedFd,
    console: Arc<Console>,
    shown: Shown,
}

impl Outputs {
    /// Shows what `shown` wants of what is kept in `results`.
    pub fn new(results: OwnedFd, console: Arc<Console>, shown: Shown) -> Self {
        Self {
            results,
            console,
            shown,
        }
    }

    fn show(&self, outcome: &Outcome) -> io::Result<()> {
        let streams = self.shown.of(outcome.status).streams();
        let Some(place) = outcome.output.as_ref().filter(|_| !streams.is_empty()) else {
            return Ok(());
        };
        self.console.above_the_live_line(|| {
            let mut out = io::stdout().lock();
            for (stream, file) in streams {
                match no_links::open_beneath(&self.results, &place.join(file)) {
                    Ok((file, _)) => copy(
                        &format!("---- {} {stream} ----", outcome.name),
                        file,
                        &mut out,
                    )?,
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            out.flush()
        })
    }
}

impl Observer for Outputs {
    fn notify(&self, event: Event<'_>) {
        let Event::Finished(outcome) = event else {
            return;
        };
        match self.show(outcome) {
            // A reader that went away ends the run where libtest's own lines are printed.
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                self.console.say(&format!(
                    "cannot show the output of {}: {error}",
                    outcome.name
                ));
            }
            _ => {}
        }
    }
}

/// Copies a file line by line, printable, under a heading; an empty one has none.
fn copy(heading: &str, file: File, out: &mut impl Write) -> io::Result<()> {
    let mut lines = BufReader::new(file);
    let mut line = Vec::new();
    let mut is_first = true;
    while lines
        .by_ref()
        .take(LONGEST_LINE)
        .read_until(b'\n', &mut line)?
        > 0
    {
        if is_first {
            writeln!(out, "{heading}")?;
            is_first = false;
        }
        writeln!(
            out,
            "{}",
            printable_within(line.trim_ascii_end(), LONGEST_LINE as usize * 4)
        )?;
        line.clear();
    }
    Ok(())
}
