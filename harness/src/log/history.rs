//! How long cases took in earlier runs, kept beside the results: for the order, the expected end and what is slower
//! than it used to be. Nothing else depends on it, so that it may be lost at any time.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::log::no_links;
use crate::log::results::new_directory;
use crate::model::event::{Event, Observer};
use crate::model::name::listed;
use crate::model::outcome::Status;

/// The file in the directory that keeps the results of runs.
const FILE: &str = "durations.jsonl";

/// When the file has more than these bytes for each case that it knows, it is written anew with a line for each, which
/// takes about a tenth of that.
const BYTES_A_CASE: usize = 1024;

/// A file smaller than this is left alone.
const SMALL: usize = 64 << 10;

/// A line of the file; the last one of a case and a host counts.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    /// Durations of another host tell nothing about this one.
    host: String,
    name: String,
    status: Status,
    duration_s: f64,
}

/// The durations of earlier runs on this host, and those of this run.
#[derive(Debug, Default)]
pub struct History {
    directory: PathBuf,
    host: String,
    earlier: HashMap<String, (Status, Duration)>,
    /// The lines that this run adds to the file.
    of_this_run: Mutex<Vec<u8>>,
}

impl History {
    /// What `directory` knows about `host`; nothing, where it has no such file, or one that says nothing.
    pub fn load(directory: &Path, host: &str) -> Self {
        // Bytes: a line that is no text must not take the others with it.
        let text = fs::read(directory.join(FILE)).unwrap_or_default();
        let lines = lines_of(&text).filter(|line| line.host == host);
        let earlier = lines.filter_map(|line| {
            Some((
                line.name,
                (
                    line.status,
                    Duration::try_from_secs_f64(line.duration_s).ok()?,
                ),
            ))
        });
        Self {
            directory: directory.to_owned(),
            host: host.to_owned(),
            earlier: earlier.collect(),
            of_this_run: Mutex::default(),
        }
    }

    /// How long the case of this name (without its iteration) took when it last ran; a skip tells nothing about that.
    pub fn duration_of(&self, name: &str) -> Option<Duration> {
        self.earlier
            .get(name)
            .filter(|(status, _)| *status != Status::Skipped)
            .map(|(_, duration)| *duration)
    }

    /// How long it will take if it does what it last did.
    pub fn expected(&self, name: &str) -> Option<Duration> {
        self.earlier.get(name).map(|(_, duration)| *duration)
    }

    /// Adds the durations of this run to the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self) -> io::Result<()> {
        let lines = std::mem::take(&mut *self.lock());
        if lines.is_empty() {
            return Ok(());
        }
        let path = self.directory.join(FILE);
        new_directory(&self.directory)?;
        // Not of the file itself, which may be replaced while somebody waits for it.
        let lock = File::open(&self.directory)?;
        flock(&lock, FlockOperation::LockExclusive)?;
        let mut file = no_links::private().append(true).open(&path)?;
        // A line that was cut off when the disk was full must not take the next one with it.
        file.write_all(b"\n")?;
        file.write_all(&lines)?;
        self.compact(&path)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.of_this_run
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the file anew where it has grown far beyond what it says.
    fn compact(&self, path: &Path) -> io::Result<()> {
        let length = usize::try_from(fs::metadata(path)?.len()).unwrap_or(usize::MAX);
        if length <= (BYTES_A_CASE * self.earlier.len()).max(SMALL) {
            return Ok(());
        }
        let text = fs::read(path)?;
        let newest: HashMap<_, _> = lines_of(&text)
            .map(|line| ((line.host.clone(), line.name.clone()), line))
            .collect();
        let unfinished = self.directory.join(".durations.unfinished");
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = BufWriter::new(
            no_links::private()
                .write(true)
                .create_new(true)
                .open(&unfinished)?,
        );
        newest
            .values()
            .try_for_each(|line| file.write_all(&text_of(line)))?;
        file.flush()?;
        fs::rename(&unfinished, path)
    }
}

fn lines_of(text: &[u8]) -> impl Iterator<Item = Line> + '_ {
    text.split(|&byte| byte == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
}

fn text_of(line: &Line) -> Vec<u8> {
    // Texts and numbers always have a form in JSON.
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    text
}

impl Observer for History {
    fn notify(&self, event: Event<'_>) {
        let Event::Finished(outcome) = event else {
            return;
        };
        // What never ran, or was cut short, says nothing.
        if outcome.exit.is_none() || outcome.status == Status::NoRun {
            return;
        }
        let line = Line {
            host: self.host.clone(),
            name: listed(&outcome.name).to_owned(),
            status: outcome.status,
            duration_s: outcome.duration_s,
        };
        self.lock().extend(text_of(&line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn save(directory: &Path, host: &str, name: &str, duration_s: f64, status: Status) {
        let history = History::load(directory, host);
        let line = Line {
            host: host.to_owned(),
            name: name.to_owned(),
            status,
            duration_s,
        };
        history.lock().extend(text_of(&line));
        history.save().unwrap();
    }

    #[test]
    fn the_last_duration_on_this_host_counts_and_a_skip_is_none() {
        let directory = tempfile::tempdir().unwrap();
        for (host, duration_s, status) in [
            ("here", 1.0, Status::Passed),
            ("here", 2.0, Status::Failed),
            ("there", 3.0, Status::Passed),
        ] {
            save(directory.path(), host, "a::b", duration_s, status);
        }
        save(directory.path(), "here", "a::skipped", 4.0, Status::Skipped);
        let history = History::load(directory.path(), "here");
        assert_eq!(history.duration_of("a::b"), Some(Duration::from_secs(2)));
        assert_eq!(history.duration_of("a::skipped"), None);
        assert_eq!(history.expected("a::skipped"), Some(Duration::from_secs(4)));
        assert_eq!(history.expected("a::unknown"), None);
    }

    #[test]
    fn garbage_in_the_file_loses_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        save(directory.path(), "here", "a::b", 1.0, Status::Passed);
        let path = directory.path().join(FILE);
        let mut text = fs::read(&path).unwrap();
        text.extend_from_slice(
            b"\xff\0{\"host\":\"here\",\"name\":\"a::b\",\"status\":\"PASSED\",\"duration_s\":-1}",
        );
        fs::write(&path, text).unwrap();
        save(directory.path(), "here", "a::c", 2.0, Status::Passed);
        let history = History::load(directory.path(), "here");
        assert_eq!(history.expected("a::b"), Some(Duration::from_secs(1)));
        assert_eq!(history.expected("a::c"), Some(Duration::from_secs(2)));
    }

    #[test]
    fn the_file_does_not_grow_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        for round in 0..1000 {
            save(
                directory.path(),
                "here",
                "a::b",
                f64::from(round),
                Status::Passed,
            );
        }
        let length = fs::metadata(directory.path().join(FILE)).unwrap().len();
        assert!(length < 2 * SMALL as u64, "{length}");
        let history = History::load(directory.path(), "here");
        assert_eq!(history.expected("a::b"), Some(Duration::from_secs(999)));
    }
}
