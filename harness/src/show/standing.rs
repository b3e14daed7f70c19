//! How a run stands at this moment: what has ended, what runs and what it printed last, and what failed.

use std::fmt::{Result, Write};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use crate::model::printable::printable_within;
use crate::show::pace::{Pace, roughly};
use crate::show::running::{Process, Running};
use crate::show::summary::Summary;
use crate::show::tail::{STDERR, STDOUT, tail};

/// How many of the running cases are shown, the longest first.
const SHOWN_CASES: usize = 32;

/// How many of the failures are shown, the latest last.
const SHOWN_FAILURES: usize = 32;

/// How many of the last lines of a stream are shown.
const LAST_LINES: usize = 3;

/// Where those are looked for: this many bytes at the end of the file.
const LOOKED_AT: usize = 4096;

/// How much of a line is shown, in bytes.
const LONGEST_LINE: usize = 240;

/// What it takes to say how a run stands.
#[derive(Debug)]
pub struct Standing {
    running: Arc<Running>,
    summary: Arc<Summary>,
    pace: Arc<Pace>,
    results: OwnedFd,
    total: usize,
    begin: Instant,
}

impl Standing {
    /// That of a run of `total` cases, which begins now and keeps its results in the directory `results`.
    pub fn new(
        running: Arc<Running>,
        summary: Arc<Summary>,
        pace: Arc<Pace>,
        results: OwnedFd,
        total: usize,
    ) -> Self {
        Self {
            running,
            summary,
            pace,
            results,
            total,
            begin: Instant::now(),
        }
    }

    /// It as text, of several lines.
    pub fn render(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).expect("write to a string");
        text
    }

    fn write(&self, text: &mut String) -> Result {
        let snapshot = self.running.snapshot();
        let (ended, seconds) = (snapshot.ended, self.begin.elapsed().as_secs());
        let counts = if ended.total() > 0 {
            format!(": {ended}")
        } else {
            String::new()
        };
        writeln!(
            text,
            "{} of {} cases have ended after {seconds} s{counts}",
            ended.total(),
            self.total
        )?;
        if let Some(left) = self.pace.left(&snapshot, Instant::now()) {
            writeln!(
                text,
                "about {} left, as long as it took last time",
                roughly(left)
            )?;
        }
        if snapshot.cases.is_empty() {
            writeln!(text, "RUNNING: no case at this moment")?;
        } else {
            writeln!(text, "RUNNING")?;
        }
        for (name, process) in snapshot.cases.iter().take(SHOWN_CASES) {
            self.write_case(text, name, process)?;
        }
        if snapshot.cases.len() > SHOWN_CASES {
            writeln!(text, "  and {} more", snapshot.cases.len() - SHOWN_CASES)?;
        }
        self.write_failures(text)
    }

    fn write_case(&self, text: &mut String, name: &str, process: &Process) -> Result {
        let Process {
            pid, worker, since, ..
        } = process;
        let time = self.pace.compared(name, since.elapsed());
        writeln!(text, "  {name}: {time}, pid {pid}, worker {worker}")?;
        let Some(place) = &process.output else {
            return Ok(());
        };
        for (stream, file) in [("stdout", STDOUT), ("stderr", STDERR)] {
            match tail(&self.results, &place.join(file), LOOKED_AT) {
                Ok(end) => {
                    for line in last_lines(&end) {
                        writeln!(text, "    {stream}: {line}")?;
                    }
                }
                // It may have ended, and been removed, meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => writeln!(text, "    {stream}: (cannot be read: {error})")?,
            }
        }
        Ok(())
    }

    fn write_failures(&self, text: &mut String) -> Result {
        let failures = self.summary.failures();
        if !failures.is_empty() {
            writeln!(text, "FAILED SO FAR")?;
        }
        let left_out = failures.len().saturating_sub(SHOWN_FAILURES);
        if left_out > 0 {
            writeln!(text, "  {left_out} earlier ones")?;
        }
        failures
            .iter()
            .skip(left_out)
            .try_for_each(|failure| writeln!(text, "  {failure}"))
    }
}

/// The last lines of printable `text` that have something in them, each cut to a length.
fn last_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<_> = text
        .lines()
        .rev()
        .filter(|line| !line.trim().is_empty())
        .take(LAST_LINES)
        .map(|line| printable_within(line.as_bytes(), LONGEST_LINE))
        .collect();
    lines.reverse();
    lines
}
