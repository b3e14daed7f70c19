//! The way of libtest-mimic's lines, from its pipe to where people read them.

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::cli::Format;
use crate::model::event::{Event, Observer};
use crate::model::outcome::Status;
use crate::show::console::Console;
use crate::show::shown::Shown;

/// Passes libtest-mimic's lines on, but for those of the cases that are not to be shown.
#[derive(Debug)]
pub struct Forward {
    console: Arc<Console>,
    shown: Shown,
    format: Format,
    /// The cases whose lines have not come yet and are to be left out.
    hidden: Mutex<HashSet<String>>,
}

impl Forward {
    /// Shows what `shown` wants, through `console`.
    pub fn new(console: Arc<Console>, shown: Shown, format: Format) -> Self {
        Self {
            console,
            shown,
            format,
            hidden: Mutex::default(),
        }
    }

    /// The case `name` is listed as ignored.
    pub fn ignored(&self, name: &str) {
        self.ended(name, Status::Skipped);
    }

    /// Copies `lines` to `out` until their end.
    ///
    /// A reader that went away (`| head`) is told to `closed`, and the rest is read and dropped: libtest-mimic
    /// panics where it cannot print.
    ///
    /// # Errors
    /// `lines` cannot be read, or `out` not be written.
    pub fn copy(
        &self,
        lines: impl Read,
        mut out: impl Write,
        closed: impl Fn(&io::Error),
    ) -> io::Result<()> {
        let mut lines = BufReader::new(lines);
        let mut result = Ok(());
        let mut cases_have_ended = false;
        let mut text = Vec::new();
        loop {
            text.clear();
            if self.read(&mut lines, &mut text)? == 0 {
                return result;
            }
            // What follows has messages in it, which may look like a case's line.
            cases_have_ended |= text == b"failures:\n";
            if result.is_ok() && (cases_have_ended || !self.leaves_out(&text)) {
                result = self
                    .console
                    .above_the_live_line(|| out.write_all(&text).and_then(|()| out.flush()));
                if let Err(error) = &result {
                    closed(error);
                }
            }
        }
    }

    /// Reads what is to be printed at once: whatever there is, unless the line must be whole to be left out, or to have
    /// the live line below it.
    fn read(&self, lines: &mut impl BufRead, text: &mut Vec<u8>) -> io::Result<usize> {
        let needs_whole_lines = self.console.is_live() || self.shown.hides_any();
        if self.format == Format::Pretty && needs_whole_lines {
            return lines.read_until(b'\n', text);
        }
        let available = loop {
            match lines.fill_buf() {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                filled => break filled?,
            }
        };
        text.extend_from_slice(available);
        let length = text.len();
        lines.consume(length);
        Ok(length)
    }

    /// Whether this is a case's line (`test NAME   ... ok`) that is to be left out.
    fn leaves_out(&self, line: &[u8]) -> bool {
        let name = line
            .strip_prefix(b"test ")
            .and_then(|rest| rest.split(|&byte| byte == b' ').next());
        let name = name.and_then(|name| std::str::from_utf8(name).ok());
        name.is_some_and(|name| self.hidden().remove(name))
    }

    fn ended(&self, name: &str, status: Status) {
        if self.shown.hides(status) {
            self.hidden().insert(name.to_owned());
        }
    }

    fn hidden(&self) -> MutexGuard<'_, HashSet<String>> {
        self.hidden.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Forward {
    fn notify(&self, event: Event<'_>) {
        // The case's thread is here before it tells libtest-mimic of its end.
        if let Event::Finished(outcome) = event {
            self.ended(&outcome.name, outcome.status);
        }
    }
}
