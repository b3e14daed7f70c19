//! `kvm-tests merge`: parts of whatever hosts, environments and resumed runs become one run. It is a directory with the
//! journals of all parts, so that whatever reads a run reads this one.
//!
//! A part is known by its name, and of two copies the one that tells more is taken. So it makes no difference in which order
//! parts come, how often, or merged with which others before.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, bail};

use super::directory::{Destination, RunDirectory};
use super::hosts::labels;
use super::journal::{CONSOLES, JOURNALS, LOGS, PLAN_JSON, line_of};
use super::plan_file::read_plan;
use super::read::{Opened, fold, opened};
use crate::model::case::name::CaseName;
use crate::model::event::{Event, Part};
use crate::model::file;
use crate::model::state::State;

/// The parts that were found, each once, by the names of their journals.
#[derive(Debug, Default)]
pub struct Parts {
    sources: BTreeMap<OsString, Source>,
    /// What all parts together owe, as lines of a journal, by the names of these.
    plans: BTreeMap<OsString, Vec<u8>>,
    /// What could not be read, in words.
    pub problems: Vec<String>,
}

/// A part in a directory.
#[derive(Debug)]
struct Source {
    journal: PathBuf,
    /// Where its cases' outputs are.
    outputs: PathBuf,
    part: Part,
    cases: Vec<CaseName>,
}

impl Parts {
    /// Those in these directories of runs. What cannot be read is told in [`Self::problems`].
    pub fn find(directories: &[PathBuf]) -> Self {
        let mut parts = Self::default();
        for directory in directories {
            if let Err(error) = parts.add(directory) {
                let error = error.context(format!("left out: {}", directory.display()));
                parts.problems.push(format!("{error:#}"));
            }
        }
        for Source { part, journal, .. } in parts.sources.values() {
            let plan = part.plan.as_ref().map(|id| name_of_plan(id));
            if plan.is_some_and(|plan| !parts.plans.contains_key(&plan)) {
                let journal = journal.display();
                let lost = "its plan is lost, so that nobody knows what other parts owe";
                let why = format!("not complete: {journal}: {lost}");
                parts.problems.push(why);
            }
        }
        parts
    }

    fn add(&mut self, directory: &Path) -> anyhow::Result<()> {
        let opened = opened(directory)?;
        let plan = directory.join(PLAN_JSON);
        if plan.symlink_metadata().is_ok() {
            match read_plan(&plan) {
                Ok(planned) => {
                    let name = name_of_plan(&planned.id());
                    let line = line_of(&Event::Planned(Box::new(planned)));
                    self.plans.insert(name, line);
                }
                Err(error) => self.problems.push(format!("left out: {error:#}")),
            }
        }
        for Opened { path, first, label } in opened {
            let name = path.file_name().unwrap_or_default().to_owned();
            match first {
                Ok(Event::PartStarted { part, cases }) => {
                    let source = Source {
                        outputs: label.map_or(directory.to_owned(), |label| directory.join(label)),
                        journal: path,
                        part: *part,
                        cases,
                    };
                    self.add_part(name, source)?;
                }
                Ok(event) => drop(self.plans.insert(name, line_of(&event))),
                Err(error) => {
                    let error = error.context(format!("left out: {}", path.display()));
                    self.problems.push(format!("{error:#}"));
                }
            }
        }
        Ok(())
    }

    /// Of two copies of a part the one is taken that tells more.
    fn add_part(&mut self, name: OsString, source: Source) -> anyhow::Result<()> {
        if let Some(known) = self.sources.get(&name) {
            if told(&known.journal)? >= told(&source.journal)? {
                return Ok(());
            }
        }
        self.sources.insert(name, source);
        Ok(())
    }

    /// Says in what the parts differ that those of one run should have alike: the kernel, and on machines of a kind the
    /// selftests.
    pub fn differences(&self) -> Vec<String> {
        let mut alike: BTreeMap<String, BTreeMap<&str, &Source>> = BTreeMap::new();
        for source in self.sources.values() {
            let (part, host) = (&source.part, &source.part.host);
            let kernels = alike.entry("kernels".to_owned()).or_default();
            kernels.entry(&host.kernel).or_insert(source);
            if let Some(commit) = &part.selftests_commit {
                let selftests = alike.entry(format!("selftests for {}", host.machine));
                selftests.or_default().entry(commit).or_insert(source);
            }
        }
        alike.retain(|_, values| values.len() > 1);
        let line = |(what, values): (String, BTreeMap<&str, &Source>)| {
            let value = |(value, source): (&str, &Source)| {
                format!("{value} in {}", source.outputs.display())
            };
            let values: Vec<_> = values.into_iter().map(value).collect();
            format!("{what}: {}", values.join(", "))
        };
        alike.into_iter().map(line).collect()
    }

    /// Makes one run of them in `directory`, and says what it came to. Outputs that cannot be copied are told in
    /// [`Self::problems`].
    ///
    /// # Errors
    /// There is no part, or something cannot be written.
    pub fn write(&mut self, directory: &Path) -> anyhow::Result<State> {
        let Some(first) = self.sources.values().next() else {
            bail!("there is no run to merge");
        };
        let place = Destination::At {
            path: directory.to_owned(),
            overwrite: false,
        };
        let made = RunDirectory::create(&place, &first.part)?;
        let root = made.root();
        for (name, source) in &self.sources {
            let path = root.join(JOURNALS).join(name);
            let copied = file::open(&source.journal)
                .and_then(|mut from| io::copy(&mut from, &mut file::create_new(&path)?));
            copied.with_context(|| format!("copy {}", source.journal.display()))?;
        }
        for (name, line) in &self.plans {
            let path = root.join(JOURNALS).join(name);
            let written = file::replace(&path, |file| file.write_all(line));
            written.with_context(|| format!("write {}", path.display()))?;
        }
        // The outputs are many, and the journals long.
        let (outputs, state) = thread::scope(|scope| {
            let outputs = scope.spawn(|| self.outputs(root));
            let state = fold(root);
            (outputs.join(), state)
        });
        let outputs = outputs.unwrap_or_else(|panic| resume_unwind(panic))?;
        self.problems.extend(outputs.problems);
        let mut state = state?;
        state.close();
        Ok(state)
    }

    /// Puts what the cases of all sources have printed into the directory `root`.
    fn outputs(&self, root: &Path) -> anyhow::Result<Outputs> {
        let sources = self.sources.values();
        let parts = sources.map(|source| (&source.part, source.cases.as_slice()));
        let labels = labels(&parts.collect::<Vec<_>>());
        let mut outputs = Outputs::default();
        // What a later part of a run has done again comes before what it did again.
        for (source, label) in self.sources.values().zip(labels).rev() {
            let to = label.map_or(root.to_owned(), |label| root.join(label));
            file::make_directories(&to).with_context(|| format!("make {}", to.display()))?;
            outputs.copy(source, &to);
            // What its place printed stands beside all hosts.
            let run = source.journal.ancestors().nth(2);
            if let Some(run) = run.filter(|_| source.part.place.is_some()) {
                outputs.put_once(run.join(CONSOLES), root.join(CONSOLES));
            }
        }
        Ok(outputs)
    }
}

/// The name of the journal that has a plan.
fn name_of_plan(id: &str) -> OsString {
    format!("plan-{id}.jsonl").into()
}

/// How much a journal tells: how many of its lines can be read; and what else tells two apart, so that it makes no difference
/// which is seen first.
fn told(journal: &Path) -> anyhow::Result<(usize, Vec<u8>)> {
    let text = file::read(journal).with_context(|| format!("read {}", journal.display()))?;
    let lines = text.split(|&byte| byte == b'\n');
    let readable = lines.filter(|line| serde_json::from_slice::<Event>(line).is_ok());
    Ok((readable.count(), text))
}

/// The outputs that have been copied.
#[derive(Default)]
struct Outputs {
    /// The files and directories that are there: from where, and to where.
    done: HashSet<(PathBuf, PathBuf)>,
    /// What could not be copied.
    problems: Vec<String>,
}

impl Outputs {
    /// Copies what a part's cases and their suites printed, and its host's logs.
    fn copy(&mut self, source: &Source, to: &Path) {
        let from = &source.outputs;
        let cases = source.cases.iter();
        let tops = cases.filter_map(|case| case.segments().next());
        let tops = tops.map(|top| PathBuf::from(top.into_owned()));
        for place in LOGS.iter().map(PathBuf::from).chain(tops) {
            self.put_once(from.join(&place), to.join(&place));
        }
    }

    fn put_once(&mut self, from: PathBuf, to: PathBuf) {
        let ends = (from, to);
        if !self.done.contains(&ends) {
            self.put(&ends.0, &ends.1);
            self.done.insert(ends);
        }
    }

    /// Puts a file, or all files in a directory and below it, somewhere else. A case may have put links in the way: those to
    /// files are left alone, one in the place of a directory is told, and none is followed.
    fn put(&mut self, from: &Path, to: &Path) {
        let put = match from.symlink_metadata() {
            Ok(found) if found.is_dir() => self.put_all(from, to),
            Ok(found) if found.is_file() => put_file(from, to),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            _ => file::open(from).map(drop),
        };
        if let Err(error) = put {
            let path = from.display();
            self.problems.push(format!("left out: {path}: {error}"));
        }
    }

    fn put_all(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        file::make_directories(to)?;
        for entry in fs::read_dir(from)? {
            let (entry, path) = entry.map(|entry| (entry.file_type(), entry.path()))?;
            if entry?.is_file() || path.is_dir() {
                self.put(&path, &to.join(path.file_name().unwrap_or_default()));
            }
        }
        Ok(())
    }
}

/// Puts a file somewhere else, with a number behind its name where another one is there.
fn put_file(from: &Path, to: &Path) -> io::Result<()> {
    let numbered = (1_u32..).map(|number| {
        let mut path = to.as_os_str().to_owned();
        path.push(format!(".{number}"));
        PathBuf::from(path)
    });
    for path in std::iter::once(to.to_owned()).chain(numbered) {
        match fs::hard_link(from, &path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if file::is_at(&file::open(from)?, &path) || file::read(from)? == file::read(&path)?
                {
                    return Ok(());
                }
            }
            // Another file system.
            Err(_) => {
                return io::copy(&mut file::open(from)?, &mut file::create_new(&path)?).map(drop);
            }
        }
    }
    Ok(())
}
