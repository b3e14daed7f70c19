//! What cases printed and what lists say, as text that may be shown anywhere.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use crate::model::file;
use crate::model::outcome::{Outcome, Step};
use crate::model::text::{printable_end, printable_within};

/// The streams of a step.
pub(super) const STREAMS: &[&str] = &["stdout", "stderr"];

/// The longest line that is shown, in bytes; the rest of it goes on a line of its own.
const LONGEST_LINE: u64 = 4096;

/// How many of the last lines of a stream are shown of a case that runs.
const LAST_LINES: usize = 3;

/// Where those are looked for: this many bytes at the end of the file.
const LOOKED_AT: usize = 4096;

/// How much of such a line is shown, in bytes.
const LONGEST_LAST_LINE: usize = 240;

/// Copies what `outcome`'s selftest printed to `stream`: line by line, printable, each behind `prefix`; before the first one
/// is `heading`. Where nothing was printed there is nothing.
///
/// # Errors
/// `out` cannot be written. That the file cannot be read is a line of its own.
pub(super) fn copy_lines(
    outcome: &Outcome,
    results: &Path,
    stream: &str,
    (heading, prefix): (&str, &str),
    out: &mut dyn Write,
) -> io::Result<()> {
    let Some(place) = place_of(outcome, stream) else {
        return Ok(());
    };
    let mut lines = match file::open_beneath(results, &place) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return writeln!(out, "{heading}{prefix}(cannot be read: {error})"),
        Ok(file) => BufReader::new(file),
    };
    let (mut line, mut heading) = (Vec::new(), heading);
    loop {
        line.clear();
        let mut one = lines.by_ref().take(LONGEST_LINE);
        match one.read_until(b'\n', &mut line) {
            Ok(0) => return Ok(()),
            Err(error) => return writeln!(out, "{heading}{prefix}(cannot be read: {error})"),
            Ok(_) => {}
        }
        // A byte may be spelled out in four.
        let text = printable_within(line.trim_ascii_end(), LONGEST_LINE as usize * 4);
        writeln!(out, "{heading}{prefix}{text}")?;
        heading = "";
    }
}

/// The printable end of what `outcome`'s selftest printed to `stream`, at most `limit` bytes; empty where there is nothing.
pub(super) fn end_of(outcome: &Outcome, results: &Path, stream: &str, limit: usize) -> String {
    let place = place_of(outcome, stream);
    place.map_or_else(String::new, |place| end(results, &place, limit))
}

/// The last lines of what `step` of the case `name` has printed so far, as far as they have something in them.
pub(super) fn last_lines(results: &Path, name: &str, step: Step) -> Vec<String> {
    let place: PathBuf = name.split("::").collect();
    let mut lines = Vec::new();
    for stream in STREAMS {
        let end = end(results, &place.join(file_of(step, stream)), LOOKED_AT);
        let said: Vec<_> = end.lines().filter(|line| !line.trim().is_empty()).collect();
        for line in &said[said.len().saturating_sub(LAST_LINES)..] {
            let line = printable_within(line.as_bytes(), LONGEST_LAST_LINE);
            lines.push(format!("    {stream}: {line}"));
        }
    }
    lines
}

/// The first `columns` characters of `line`, the last one `…` where something is cut.
pub(super) fn cut(line: &str, columns: usize) -> String {
    if line.chars().count() <= columns {
        return line.to_owned();
    }
    let kept = line.chars().take(columns.saturating_sub(1));
    kept.chain(['…']).collect()
}

/// The first `most` of these lines, and how many more there are.
pub(super) fn first(mut lines: Vec<String>, most: usize) -> Vec<String> {
    let more = lines.len().saturating_sub(most);
    lines.truncate(most);
    lines.extend((more > 0).then(|| format!("and {more} more")));
    lines
}

fn end(results: &Path, place: &Path, limit: usize) -> String {
    match file::read_end(results, place, limit) {
        Ok((bytes, skipped)) => printable_end(&bytes, skipped > 0, limit),
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => format!("(cannot be read: {error})"),
    }
}

fn place_of(outcome: &Outcome, stream: &str) -> Option<PathBuf> {
    let place = outcome.output.as_ref()?;
    Some(place.join(file_of(Step::Selftest, stream)))
}

fn file_of(step: Step, stream: &str) -> String {
    format!("{}.{stream}", step.file_stem())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_longer_is_cut() {
        assert_eq!(
            [cut("abc", 3), cut("abcd", 3), cut("é✗", 1)],
            ["abc", "ab…", "…"]
        );
        assert_eq!([cut("", 0), cut("a", 0)], ["", "…"]);
        let lines = || ["a", "b"].map(str::to_owned).to_vec();
        assert_eq!(
            [first(lines(), 1), first(lines(), 2)].concat(),
            ["a", "and 1 more", "a", "b"]
        );
    }
}
