//! The two streams that people and programs read, and the live display below them.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::fs::fstat;
use rustix::termios::tcgetwinsize;

use crate::show::options::Format;

/// Where everything is written.
pub(super) struct Screen {
    out: Box<dyn Write + Send>,
    pub(super) err: Box<dyn Write + Send>,
    live: Option<ProgressBar>,
    /// The standard output and the standard error go to the same place.
    pub(super) is_joined: bool,
    /// Libtest's lines go to a terminal.
    pub(super) is_terminal: bool,
    /// Ours stand among those of TAP.
    is_in_tap: bool,
    is_utf8: bool,
    /// What could not be written any more.
    is_broken: bool,
    error: Option<io::Error>,
}

/// Where libtest's lines go: the standard output, or the file of `--logfile`.
///
/// # Errors
/// The file cannot be made.
pub fn destination(logfile: Option<&Path>) -> io::Result<Box<dyn Write + Send>> {
    let Some(path) = logfile else {
        return Ok(Box::new(io::stdout()));
    };
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o644);
    Ok(Box::new(options.open(path)?))
}

impl Screen {
    /// One to which nothing has been written.
    ///
    /// # Errors
    /// The logfile cannot be made.
    pub(super) fn new(format: Format, logfile: Option<&Path>) -> io::Result<Self> {
        let identity = [identity(io::stdout()), identity(io::stderr())];
        let is_joined = logfile.is_none() && identity[0].is_some() && identity[0] == identity[1];
        let style = ProgressStyle::with_template("{msg}").map_err(io::Error::other)?;
        let live = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let live = live.with_style(style);
        // It is hidden where there is no terminal, or one that cannot clear a line. It would also clear the line of
        // characters that is the terse format.
        let live = (!live.is_hidden() && format != Format::Terse).then_some(live);
        Ok(Self {
            out: destination(logfile)?,
            err: Box::new(io::stderr()),
            live,
            is_joined,
            is_terminal: logfile.is_none() && io::stdout().is_terminal(),
            is_in_tap: is_joined && format == Format::Ktap,
            is_utf8: is_utf8(),
            is_broken: false,
            error: None,
        })
    }

    /// Writes to the standard output, or the logfile, as long as somebody reads it.
    pub(super) fn write(&mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
        if self.is_broken {
            return;
        }
        let out = &mut self.out;
        let write = || write(out).and_then(|()| out.flush());
        let written = above(self.live.as_ref(), write);
        self.is_broken = written.is_err();
        self.error = written.err();
    }

    /// Prints `text` as it is.
    pub(super) fn print(&mut self, text: &str) {
        self.write(|out| out.write_all(text.as_bytes()));
    }

    /// Prints `text` of ours.
    pub(super) fn print_own(&mut self, text: &str) {
        self.print(&self.own(text));
    }

    /// Says lines of ours on the standard error.
    pub(super) fn say(&mut self, lines: &str) {
        // In one write(2), so that no other process writes into the line, and its reader is woken once.
        let text = self.own(lines) + "\n";
        let err = &mut self.err;
        // Where nobody reads any more there is nothing left to say it to; the run's directory has it all.
        above(self.live.as_ref(), || drop(err.write_all(text.as_bytes())));
    }

    /// `text` of ours as this terminal can show it, and such that no reader of TAP takes it for a result.
    fn own(&self, text: &str) -> String {
        let text = match self.is_utf8 {
            true => text.to_owned(),
            false => text
                .replace('…', "...")
                .replace('✗', "FAILED")
                .replace('✓', "ok"),
        };
        match self.is_in_tap {
            true => format!("# {}", text.replace('\n', "\n# ")),
            false => text,
        }
    }

    /// Whether there is a live display.
    pub(super) fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// Draws the live display anew; `text` makes it for so many columns and rows.
    pub(super) fn draw(&self, text: impl FnOnce(usize, usize) -> String) {
        if let Some(live) = &self.live {
            let (columns, rows) = size_of(io::stderr()).unwrap_or((80, 24));
            let text = self.own(&text(self.room(columns), rows));
            live.set_message(within(&text, columns));
        }
    }

    /// Goes back to the live display's last line, which has no room left, from where the echo of so many characters and of
    /// Enter has moved the cursor.
    pub(super) fn move_up(&mut self, characters: usize) {
        if self.is_live() {
            let (columns, _) = size_of(io::stderr()).unwrap_or((80, 24));
            let rows = 1 + characters.div_ceil(columns);
            drop(write!(self.err, "\x1b[{rows}A"));
        }
    }

    /// Takes the live display away.
    pub(super) fn end_live(&mut self) {
        if let Some(live) = self.live.take() {
            live.finish_and_clear();
        }
    }

    /// How wide the terminal is that libtest's lines go to; without one there is no limit.
    pub(super) fn columns(&self) -> usize {
        let size = size_of(io::stdout()).filter(|_| self.is_terminal);
        size.map_or(usize::MAX, |(columns, _)| self.room(columns))
    }

    /// How many of these columns a line of ours has before it is shown: its `…` may take three.
    fn room(&self, columns: usize) -> usize {
        columns.saturating_sub(if self.is_utf8 { 0 } else { 2 })
    }

    /// Why the standard output takes no more, the first time that this is asked.
    pub(super) fn error(&mut self) -> Option<io::Error> {
        self.error.take()
    }
}

/// Prints with the live display out of the way.
fn above<T>(live: Option<&ProgressBar>, print: impl FnOnce() -> T) -> T {
    match live {
        Some(live) => live.suspend(print),
        None => print(),
    }
}

/// Lines of at most so many columns: in ASCII, where two places of one are cut, it has more than was made room for, and a
/// line that goes on in the next row would not be cleared.
fn within(text: &str, columns: usize) -> String {
    let lines = text.lines();
    let lines = lines.map(|line| line.chars().take(columns).collect::<String>());
    lines.collect::<Vec<_>>().join("\n")
}

/// What tells one file from another.
fn identity(stream: impl AsFd) -> Option<(u64, u64)> {
    let stat = fstat(stream).ok()?;
    Some((stat.st_dev, stat.st_ino))
}

/// The columns and rows of a terminal, where it tells them.
fn size_of(terminal: impl AsFd) -> Option<(usize, usize)> {
    let size = tcgetwinsize(terminal).ok()?;
    let is_told = size.ws_col > 0 && size.ws_row > 0;
    is_told.then(|| (size.ws_col.into(), size.ws_row.into()))
}

/// Whether the locale's characters are UTF-8; where no locale is chosen they are ASCII (POSIX, 8.2).
fn is_utf8() -> bool {
    let names = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter();
    let mut values = names
        .filter_map(std::env::var_os)
        .filter(|value| !value.is_empty());
    let locale = values.next().unwrap_or_default();
    let locale = locale.to_string_lossy().to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

/// Prints to standard output. A reader that went away has said that it wants no more: that is no error.
///
/// # Errors
/// It cannot be printed.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("print"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_of_the_live_display_has_more_columns_than_the_terminal() {
        assert_eq!(within("a...: la...\nab", 10), "a...: la..\nab");
        assert_eq!(within("é✗\n", 1), "é");
    }
}
