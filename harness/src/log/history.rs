//! How long cases took in earlier runs, kept beside the results: for the order, the expected end and what is slower than it
//! used to be. Nothing else depends on it, so that it may be lost at any time.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::file;
use crate::model::outcome::{Outcome, Status};

/// The file in the directory that keeps the results of runs.
const FILE: &str = "durations.jsonl";

/// A line of the file; the last one of a case and a host counts.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Took {
    /// Durations of another host tell nothing about this one.
    host: String,
    name: String,
    status: Status,
    duration_s: f64,
}

/// The durations of earlier runs on this host.
#[derive(Debug, Default)]
pub struct History {
    path: PathBuf,
    host: String,
    earlier: HashMap<String, (Status, Duration)>,
}

impl History {
    /// What `directory` knows about `host`; nothing, where it has no such file, or one that says nothing.
    pub fn load(directory: &Path, host: &str) -> Self {
        let path = directory.join(FILE);
        let mut earlier = HashMap::new();
        for line in lines_of(&path).into_iter().filter(|line| line.host == host) {
            if let Ok(duration) = Duration::try_from_secs_f64(line.duration_s) {
                earlier.insert(line.name, (line.status, duration));
            }
        }
        Self {
            path,
            host: host.to_owned(),
            earlier,
        }
    }

    /// How long the case of this name (without its iteration) took when it last ran; a skip tells nothing about that.
    pub fn last(&self, name: &str) -> Option<Duration> {
        let (status, duration) = self.earlier.get(name)?;
        (*status != Status::Skipped).then_some(*duration)
    }

    /// How long it will take if it does what it last did.
    pub fn expected(&self, name: &str) -> Option<Duration> {
        self.earlier.get(name).map(|(_, duration)| *duration)
    }

    /// Adds the durations of this run's outcomes to the file, in one step. Of two runs that end together, one may be lost.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, outcomes: &[Outcome]) -> io::Result<()> {
        let mut lines = BTreeMap::new();
        let ours = outcomes.iter().filter_map(|outcome| self.line(outcome));
        for line in lines_of(&self.path).into_iter().chain(ours) {
            lines.insert((line.host.clone(), line.name.clone()), line);
        }
        self.path.parent().map_or(Ok(()), file::make_directories)?;
        file::replace(&self.path, |file| {
            lines.values().try_for_each(|line| {
                serde_json::to_writer(&mut *file, line)?;
                file.write_all(b"\n")
            })
        })
    }

    fn line(&self, outcome: &Outcome) -> Option<Took> {
        // What never ran, or was cut short, says nothing.
        let has_run = outcome.exit.is_some() && outcome.status != Status::NoRun;
        has_run.then(|| Took {
            host: self.host.clone(),
            name: outcome.listed_there().to_owned(),
            status: outcome.status,
            duration_s: outcome.duration_s,
        })
    }
}

/// The lines that can be read: one that is no text must not take the others with it.
fn lines_of(path: &Path) -> Vec<Took> {
    let text = file::read(path).unwrap_or_default();
    let lines = text.split(|&byte| byte == b'\n');
    lines
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::case::name::CaseName;
    use crate::model::outcome::Exit;

    fn save(directory: &Path, host: &str, variant: &str, duration_s: f64, status: Status) {
        let outcome = Outcome {
            status,
            duration_s,
            exit: Some(Exit::Code(0)),
            ..Outcome::no_run(&CaseName::new("a", variant), 0, "")
        };
        History::load(directory, host).save(&[outcome]).unwrap();
    }

    #[test]
    fn the_last_duration_on_this_host_counts_and_a_skip_is_none() {
        let directory = tempfile::tempdir().unwrap();
        save(directory.path(), "here", "b", 1.0, Status::Passed);
        save(directory.path(), "here", "b", 2.0, Status::Failed);
        save(directory.path(), "there", "b", 3.0, Status::Passed);
        save(directory.path(), "here", "skipped", 4.0, Status::Skipped);
        let history = History::load(directory.path(), "here");
        assert_eq!(history.last("a::b"), Some(Duration::from_secs(2)));
        assert_eq!(history.last("a::skipped"), None);
        assert_eq!(history.expected("a::skipped"), Some(Duration::from_secs(4)));
        assert_eq!(history.expected("a::unknown"), None);
    }

    #[test]
    fn garbage_in_the_file_loses_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        save(directory.path(), "here", "b", 1.0, Status::Passed);
        let path = directory.path().join(FILE);
        let mut text = std::fs::read(&path).unwrap();
        text.extend_from_slice(
            b"\xff\0{\"host\":\"here\",\"name\":\"a::b\",\"status\":\"PASSED\",\"duration_s\":-1}",
        );
        std::fs::write(&path, text).unwrap();
        save(directory.path(), "here", "c", 2.0, Status::Passed);
        let history = History::load(directory.path(), "here");
        assert_eq!(history.expected("a::b"), Some(Duration::from_secs(1)));
        assert_eq!(history.expected("a::c"), Some(Duration::from_secs(2)));
    }
}
