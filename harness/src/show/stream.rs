//! `--stream`: every event as it happens, and the files of each case when it has ended, for the program at the other end.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::model::event::Event;
use crate::model::event::stream::{Message, MessageWriter};
use crate::model::file;

/// After this long without a word it is said that nothing has happened.
const QUIET: Duration = Duration::from_secs(5);

/// How much of a file is read at a time.
const PIECE: usize = 64 << 10;

/// The log of the kernel that the cases ran on.
const KERNEL_LOG: &str = "kernel.log";

/// What is told.
pub(super) struct Telling {
    writer: MessageWriter,
    results: PathBuf,
    /// The files that have been sent.
    sent: HashSet<PathBuf>,
    last: Instant,
}

impl Telling {
    /// That of a run whose results are in a directory.
    pub(super) fn new(results: &Path) -> Self {
        Self {
            writer: MessageWriter::default(),
            results: results.to_owned(),
            sent: HashSet::new(),
            last: Instant::now(),
        }
    }

    /// What has happened; before a case's end, what it printed.
    pub(super) fn event(&mut self, event: &Event, out: &mut dyn Write) -> io::Result<()> {
        let ended = match event {
            Event::Finished(outcome) => Some(&**outcome),
            Event::Repeated(outcome) => outcome.repetitions.last(),
            _ => None,
        };
        // A repetition has a place of its own.
        let place = ended.map(|outcome| outcome.name.split("::").collect::<PathBuf>());
        for place in place.iter().flat_map(|place| place.ancestors()) {
            self.directory(place, out)?;
        }
        self.tell(&Message::Event(event.clone()), b"", out)
    }

    /// Says that this is still there, where nothing else has.
    pub(super) fn tick(&mut self, out: &mut dyn Write) -> io::Result<()> {
        match self.last.elapsed() >= QUIET {
            true => self.tell(&Message::Beat, b"", out),
            false => Ok(()),
        }
    }

    /// Nothing happens any more.
    pub(super) fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.file(Path::new(KERNEL_LOG), out)?;
        self.tell(&Message::End, b"", out)
    }

    fn tell(&mut self, message: &Message, bytes: &[u8], out: &mut dyn Write) -> io::Result<()> {
        self.last = Instant::now();
        out.write_all(&self.writer.lines(message, bytes))
    }

    /// The outputs of steps in a directory: the case's own, and those of its suite.
    fn directory(&mut self, place: &Path, out: &mut dyn Write) -> io::Result<()> {
        if place.as_os_str().is_empty() {
            return Ok(());
        }
        // A case that printed nothing may have none.
        let entries = fs::read_dir(self.results.join(place));
        let mut paths: Vec<_> = entries
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| place.join(entry.file_name()))
            .collect();
        paths.sort();
        paths.iter().try_for_each(|path| self.file(path, out))
    }

    /// A regular file, once.
    fn file(&mut self, path: &Path, out: &mut dyn Write) -> io::Result<()> {
        let opened = file::open_beneath(&self.results, path);
        let Some(mut file) = opened.ok().filter(|_| self.sent.insert(path.to_owned())) else {
            return Ok(());
        };
        let mut at = 0;
        let mut piece = vec![0; PIECE];
        loop {
            // Of what cannot be read any more, there is no more.
            let length = file.read(&mut piece).unwrap_or(0);
            if length > 0 || at == 0 {
                let path = path.to_owned();
                self.tell(&Message::File { path, at }, &piece[..length], out)?;
            }
            if length == 0 {
                return Ok(());
            }
            at += length as u64;
        }
    }
}
