//! The directory that keeps a run's results.

use std::borrow::Cow;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::fs::FlockOperation;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::environment::lock_file::try_lock;
use crate::host::Host;
use crate::kernel_log::splat::Splat;
use crate::name::CaseName;
use crate::outcome::Outcome;
use crate::shared_run::{self, Totals};

/// The version of run.json's and journal.jsonl's form; raised with every change that an older reader would get wrong.
pub const SCHEMA_VERSION: u32 = 1;

/// The file that names what ran, as it happened.
pub const JOURNAL: &str = "journal.jsonl";

/// The file that holds the whole run once it has ended.
pub const RUN_JSON: &str = "run.json";

/// What is known of a run before its first case starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunInfo {
    /// [`SCHEMA_VERSION`] of what wrote it.
    pub schema_version: u32,
    /// This program's version.
    pub version: String,
    /// The command line, argument by argument, with what is not UTF-8 replaced.
    pub command_line: Vec<String>,
    /// When the run began, in milliseconds since the epoch.
    pub started_ms: u64,
    /// The host as it was then.
    pub host: Host,
    /// Where the selftests came from.
    pub selftests: Vec<PathBuf>,
    /// How many cases ran side by side at most.
    pub workers: usize,
    /// The seed of the order, where it was shuffled.
    pub shuffle_seed: Option<u64>,
    /// How many cases the filters left. In a run of nextest, in the journal, for its first process alone.
    pub selected: usize,
    /// The ID of the run of nextest whose processes share this record.
    #[serde(default)]
    pub nextest_run_id: Option<String>,
}

/// A line of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Entry {
    /// The run began.
    RunStarted {
        /// What is known of it.
        run: Box<RunInfo>,
    },
    /// One more process of the same run of nextest has come.
    RunJoined {
        /// When, in milliseconds since the epoch.
        at_ms: u64,
        /// How many cases it is to run.
        selected: usize,
    },
    /// A case's process was started.
    Started {
        /// What is known of it by now.
        outcome: Box<Outcome>,
    },
    /// A case has ended, one way or another.
    Finished {
        /// What became of it.
        outcome: Box<Outcome>,
    },
    /// The kernel complained, and it could not be shown that a case made it do so.
    Splat {
        /// What it said.
        splat: Box<Splat>,
    },
    /// The run has ended; in a run of nextest, for one of its processes.
    RunFinished {
        /// When, in milliseconds since the epoch.
        at_ms: u64,
        /// How long it took, in seconds.
        duration_s: f64,
        /// The signal that interrupted it, where one did.
        interrupted_by: Option<i32>,
        /// The kernel's taint mask then; that of the host in the run's beginning was before it.
        #[serde(default)]
        taint: Option<u64>,
        /// How many records of the kernel's log were overwritten before they were read, at least.
        #[serde(default)]
        kernel_records_lost: u64,
    },
}

/// The results directory of a run that is under way.
#[derive(Debug)]
pub struct Results {
    root: PathBuf,
    journal: Mutex<JournalFile>,
    /// The journal, locked, where other processes have this directory as well.
    shared: Option<File>,
}

#[derive(Debug)]
struct JournalFile {
    file: File,
    /// A line was written in part, when the disk was full: the next one must not continue it.
    is_torn: bool,
}

impl Results {
    /// A new directory at `path`.
    ///
    /// # Errors
    /// `path` exists (and is left as it is), unless `overwrite`, which replaces the directory of an earlier run and
    /// nothing else; or it cannot be made.
    pub fn create_at(path: &Path, overwrite: bool) -> anyhow::Result<Self> {
        if overwrite && path.exists() {
            if !path.join(JOURNAL).is_file() {
                bail!("refuse to overwrite {}: it is not the directory of a run", path.display());
            }
            fs::remove_dir_all(path).with_context(|| format!("remove the earlier run {}", path.display()))?;
        }
        if let Some(parent) = path.parent() {
            new_directory(parent).with_context(|| format!("make the directory {}", parent.display()))?;
        }
        match directory_builder().create(path) {
            Ok(()) => Self::open(path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                bail!(
                    "{} exists already: choose another directory for --output, or add --overwrite",
                    path.display()
                )
            }
            Err(error) => Err(error).with_context(|| format!("make the directory {}", path.display())),
        }
    }

    /// A new directory in `parent`, named after the time, with `parent`/latest pointing at it.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create_in(parent: &Path) -> anyhow::Result<Self> {
        new_directory(parent).with_context(|| format!("make the directory {}", parent.display()))?;
        let time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H-%M-%SZ").to_string();
        let names = std::iter::once(time.clone()).chain((2..).map(|number| format!("{time}-{number}")));
        for name in names {
            let path = parent.join(&name);
            match directory_builder().create(&path) {
                Ok(()) => {
                    point_latest_at(parent, &name)
                        .with_context(|| format!("point {}/latest at {name}", parent.display()))?;
                    return Self::open(&path);
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("make the directory {}", path.display()));
                }
            }
        }
        unreachable!("the names do not end")
    }

    /// The directory of a run that was begun.
    ///
    /// # Errors
    /// It is not there, or its journal cannot be written.
    pub fn open(root: &Path) -> anyhow::Result<Self> {
        let root = root.canonicalize().with_context(|| format!("find the directory {}", root.display()))?;
        let journal = root.join(JOURNAL);
        let file = OpenOptions::new().append(true).create(true).mode(0o640).open(&journal);
        let file = file.with_context(|| format!("open {}", journal.display()))?;
        Ok(Self { root, journal: Mutex::new(JournalFile { file, is_torn: false }), shared: None })
    }

    /// Shares the directory with other processes, by a lock on the journal (see [`shared_run`]).
    pub fn share(&mut self, member: File) {
        self.shared = Some(member);
    }

    /// Whether other processes may have this directory as well.
    pub fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// Begins the run.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn begin(&self, info: &RunInfo) -> anyhow::Result<()> {
        self.record(&Entry::RunStarted { run: Box::new(info.clone()) })?;
        self.write_unfinished()
    }

    /// The directory's absolute path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the output of `case` belongs, relative to the root: every segment of its name is a directory.
    pub fn place_of(case: &CaseName) -> PathBuf {
        case.segments().map(Cow::into_owned).collect()
    }

    /// Makes the directory `place` (relative to the root).
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make(&self, place: &Path) -> io::Result<PathBuf> {
        let path = self.root.join(place);
        match directory_builder().create(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => new_directory(&path)?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            made => made?,
        }
        Ok(path)
    }

    /// Appends a line to the journal.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn record(&self, entry: &Entry) -> anyhow::Result<()> {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        let mut line = if journal.is_torn { vec![b'\n'] } else { Vec::new() };
        serde_json::to_writer(&mut line, entry).context("write a journal entry as JSON")?;
        line.push(b'\n');
        // One write(2) a line: what another process appends at the same time cannot fall into it.
        let written = journal.file.write_all(&line);
        journal.is_torn = written.is_err();
        written.with_context(|| format!("append to {}", self.root.join(JOURNAL).display()))
    }

    /// Ends the run: writes run.json from the journal. Answers whether the reports are due: not where other processes of
    /// the run are still there, of which the last one writes them.
    ///
    /// # Errors
    /// The journal cannot be read, or run.json not written.
    pub fn end(&self) -> anyhow::Result<bool> {
        let Some(member) = &self.shared else {
            self.write_run_json(|journal, file| gather(journal, None, file))?;
            return Ok(true);
        };
        // This gives up the shared lock in any case, so of two that end together one finds nobody.
        if !try_lock(member, FlockOperation::NonBlockingLockExclusive)? {
            return Ok(false);
        }
        let totals = Totals::read(shared_run::journal(&self.root)?)?;
        if totals.present > 0 {
            // A process was killed. The journal says what it ran, and readers look there for it.
            self.write_unfinished()?;
        } else {
            self.write_run_json(|journal, file| gather(journal, Some(&totals), file))?;
        }
        Ok(true)
    }

    /// Writes run.json as that of a run that goes on: how it began, and no more.
    ///
    /// # Errors
    /// The journal cannot be read, or run.json not written.
    pub fn write_unfinished(&self) -> anyhow::Result<()> {
        self.write_run_json(|journal, file| {
            let mut first = String::new();
            journal.read_line(&mut first)?;
            gather(&mut first.as_bytes(), None, file)
        })
    }

    /// Writes run.json in one step: readers see the old one or the new one.
    fn write_run_json(
        &self,
        write: impl FnOnce(&mut dyn BufRead, &mut dyn Write) -> io::Result<()>,
    ) -> anyhow::Result<()> {
        let path = self.root.join(RUN_JSON);
        let unfinished = self.root.join(".run.json.unfinished");
        let journal = File::open(self.root.join(JOURNAL)).context("open the journal")?;
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&unfinished);
        let mut file = BufWriter::new(file.with_context(|| format!("create {}", unfinished.display()))?);
        write(&mut BufReader::new(journal), &mut file)
            .and_then(|()| file.flush())
            .and_then(|()| fs::rename(&unfinished, &path))
            .with_context(|| format!("write {}", path.display()))
    }
}

/// The few members of a journal line that decide where it goes; the rest is passed on as it is.
#[derive(Deserialize)]
struct Line<'a> {
    event: &'a str,
    #[serde(borrow)]
    run: Option<&'a RawValue>,
    #[serde(borrow)]
    outcome: Option<&'a RawValue>,
    duration_s: Option<f64>,
    interrupted_by: Option<i32>,
    #[serde(borrow)]
    splat: Option<&'a RawValue>,
    taint: Option<u64>,
    kernel_records_lost: Option<u64>,
}

/// Writes the journal's lines as one JSON object, without holding more than a line of it; of a run that several processes
/// shared, with what they come to; and the few splats.
fn gather(journal: &mut dyn BufRead, totals: Option<&Totals>, file: &mut dyn Write) -> io::Result<()> {
    let mut text = String::new();
    let mut outcomes = 0;
    let mut began_ms = 0;
    let mut end = (None, None);
    let mut kernel = (None, 0);
    let mut splats = Vec::new();
    write!(file, "{{\"schema_version\":{SCHEMA_VERSION}")?;
    while journal.read_line(&mut text)? > 0 {
        // A line that was cut off by the end of the runner or of the disk says nothing.
        let Ok(line) = serde_json::from_str::<Line>(&text) else {
            text.clear();
            continue;
        };
        match (line.event, line.run, line.outcome) {
            ("run_started", Some(run), _) if outcomes == 0 => {
                let mut info: RunInfo = serde_json::from_str(run.get())?;
                began_ms = info.started_ms;
                info.selected += totals.map_or(0, |totals| totals.selected);
                let run = serde_json::to_string(&info)?;
                write!(file, ",\n\"run\":{run},\n\"outcomes\":[\n")?;
            }
            ("finished", _, Some(outcome)) => {
                write!(file, "{}{outcome}", if outcomes == 0 { "" } else { ",\n" })?;
                outcomes += 1;
            }
            ("run_finished", _, _) => {
                end = (line.duration_s, line.interrupted_by);
                kernel = (line.taint, line.kernel_records_lost.unwrap_or(0));
            }
            ("splat", _, _) => splats.extend(line.splat.map(|splat| splat.get().to_owned())),
            _ => {}
        }
        text.clear();
    }
    if let Some(totals) = totals {
        let duration = Duration::from_millis(totals.ended_ms.saturating_sub(began_ms));
        end = (Some(duration.as_secs_f64()), totals.interrupted_by);
    }
    let finished = end.0.is_some();
    let (duration_s, interrupted_by) = (serde_json::to_string(&end.0)?, serde_json::to_string(&end.1)?);
    let (taint, lost) = (serde_json::to_string(&kernel.0)?, kernel.1);
    writeln!(
        file,
        "\n],\n\"splats\":[{}],\"taint\":{taint},\"kernel_records_lost\":{lost},\n\
         \"finished\":{finished},\"duration_s\":{duration_s},\"interrupted_by\":{interrupted_by}}}",
        splats.join(",\n")
    )
}

fn directory_builder() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.mode(0o755);
    builder
}

fn new_directory(path: &Path) -> io::Result<()> {
    let mut builder = directory_builder();
    builder.recursive(true).create(path)
}

/// Points the link `latest` at `name`, in one step: it is never missing.
fn point_latest_at(parent: &Path, name: &str) -> io::Result<()> {
    let unfinished = parent.join(format!(".latest.{}", std::process::id()));
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(name, &unfinished)?;
    fs::rename(&unfinished, parent.join("latest"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_directory_that_exists_is_refused_and_left_as_it_is() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("mine");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("thesis"), "years").unwrap();
        for overwrite in [false, true] {
            assert!(Results::create_at(&path, overwrite).is_err());
            assert_eq!(fs::read(path.join("thesis")).unwrap(), b"years");
        }
    }

    #[test]
    fn the_run_of_the_same_second_gets_a_directory_of_its_own() {
        let parent = tempfile::tempdir().unwrap();
        let runs: Vec<_> =
            (0..3).map(|_| Results::create_in(parent.path()).unwrap().root().to_owned()).collect();
        assert!(runs[0] != runs[1] && runs[1] != runs[2]);
        assert_eq!(parent.path().join("latest").canonicalize().unwrap(), runs[2]);
    }
}
