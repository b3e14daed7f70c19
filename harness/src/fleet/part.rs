//! A part of a run at a place: what comes from there goes to its journal and its files here, as if it had happened here.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail, ensure};

use super::place::Place;
use crate::log::{CONSOLES, Journal, Recorder};
use crate::model::case::name::CaseName;
use crate::model::event::stream::{Heard, Message};
use crate::model::event::{Event, Part, Sink};
use crate::model::file;
use crate::supervise::Supervisors;

/// The log of a place's kernel.
const KERNEL_LOG: &str = "kernel.log";

/// What this side says of a part, whatever the other one does.
pub(super) struct Assigned<'a> {
    /// Its number in the run.
    pub(super) number: usize,
    /// The part of the program that gives it out.
    pub(super) own: &'a Part,
    /// The run that it goes on with; `None` for a new one.
    pub(super) run: Option<String>,
    /// The cases that it is to run.
    pub(super) cases: HashSet<CaseName>,
    /// They may have cost a host before.
    pub(super) is_suspect: bool,
}

/// Takes in what a place tells.
pub(super) struct Incoming<'a> {
    pub(super) recorder: &'a Recorder,
    pub(super) place: &'a Place,
    assigned: Assigned<'a>,
    pub(super) supervisors: &'a Supervisors,
    root: &'a Path,
    /// Where files may come to.
    directories: HashSet<PathBuf>,
    /// Once it has begun.
    pub(super) part: Option<(Part, Journal)>,
    pub(super) has_ended: bool,
    is_damaged: bool,
}

impl<'a> Incoming<'a> {
    pub(super) fn new(
        recorder: &'a Recorder,
        place: &'a Place,
        assigned: Assigned<'a>,
        supervisors: &'a Supervisors,
        root: &'a Path,
    ) -> Self {
        let mut directories = HashSet::new();
        for case in &assigned.cases {
            directories.extend(case.place().ancestors().map(Path::to_owned));
        }
        directories.remove(Path::new(""));
        Self {
            recorder,
            place,
            supervisors,
            root,
            directories,
            assigned,
            part: None,
            has_ended: false,
            is_damaged: false,
        }
    }

    /// Takes in what was read. What is damaged is told once, and never taken for a result.
    pub(super) fn hear(&mut self, heard: Heard, console: &mut Console) {
        let taken = match heard {
            Heard::Message(message, bytes) => self.take(message, &bytes),
            Heard::Damage => Err(anyhow!("lines are missing or damaged")),
            Heard::Noise(noise) => {
                let mut line = noise;
                line.extend((!line.ends_with(b"\n")).then_some(b'\n'));
                console.file.write_all(&line).context("keep what it prints")
            }
        };
        if let Some(error) = taken
            .err()
            .filter(|_| !std::mem::replace(&mut self.is_damaged, true))
        {
            let name = &self.place.name;
            self.recorder.say(&format!(
                "DAMAGED on the way from {name}, and left out: {error:#}"
            ));
        }
    }

    fn take(&mut self, message: Message, bytes: &[u8]) -> anyhow::Result<()> {
        match message {
            Message::Event(Event::PartStarted { part, cases }) => self.begin(*part, cases),
            Message::Event(event) => {
                ensure!(self.part.is_some(), "it has not begun");
                let event = self.checked(event)?;
                self.record(event);
                Ok(())
            }
            Message::File { path, at } => {
                let doing = || format!("keep {}", path.display());
                self.keep(&path, at, bytes).with_context(doing)
            }
            Message::Beat => Ok(()),
            Message::End => {
                self.has_ended = true;
                Ok(())
            }
        }
    }

    fn begin(&mut self, part: Part, cases: Vec<CaseName>) -> anyhow::Result<()> {
        ensure!(self.part.is_none(), "it has begun twice");
        let told: HashSet<_> = cases.iter().cloned().collect();
        ensure!(
            told == self.assigned.cases,
            "it has begun with other cases than those that it was given"
        );
        let Assigned {
            number, own, run, ..
        } = &self.assigned;
        let part = Part {
            command_line: own.command_line.clone(),
            options: own.options.clone(),
            directory: own.directory.clone(),
            plan: own.plan.clone(),
            place: Some(self.place.name.clone()),
            label: self.place.label.clone(),
            run: run.as_ref().unwrap_or(&part.id).clone(),
            resumes: run.is_some(),
            ..part
        };
        // Another one may be called alike on its own host.
        let id = part.id.split_once('-').map_or("", |(_, rest)| rest);
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        ensure!(id.chars().all(is_plain), "its name is no name of a file");
        let first = Event::PartStarted {
            part: Box::new(part.clone()),
            cases,
        };
        let journal = Journal::begin(self.root, &format!("{number:05}-{id}"), &first)?;
        self.recorder.show(first, self.label());
        self.part = Some((part, journal));
        Ok(())
    }

    /// What it may tell.
    fn checked(&self, mut event: Event) -> anyhow::Result<Event> {
        match &mut event {
            Event::Finished(outcome) | Event::Repeated(outcome) => {
                let name = outcome.case_name();
                let is_ours =
                    self.assigned.cases.contains(&name) && outcome.name == name.to_string();
                ensure!(is_ours, "`{}` is none of its cases", outcome.name);
                outcome.suspect |= self.assigned.is_suspect;
            }
            // It was asked to end, and not why.
            Event::PartEnded(end) => {
                **end = end.clone().because_of(self.supervisors.ended_early());
            }
            Event::PartStarted { .. } | Event::Planned(_) => bail!("it is not for a place to say"),
            Event::EnvironmentEntered(_)
            | Event::EnvironmentLeft(_)
            | Event::Starting { .. }
            | Event::StepStarted { .. }
            | Event::StepEnded { .. }
            | Event::Splat(_) => {}
        }
        Ok(event)
    }

    /// Takes note of an event of the part.
    pub(super) fn record(&mut self, event: Event) {
        if let Some((_, journal)) = &mut self.part {
            self.recorder
                .record_in(journal, event, self.place.label.as_deref());
        }
    }

    fn label(&self) -> Option<&str> {
        self.place.label.as_deref()
    }

    /// Repetitions have theirs below that of their case.
    fn may_have(&self, directory: &Path) -> bool {
        let mut nearest = directory.ancestors().take(2);
        nearest.any(|directory| self.directories.contains(directory))
    }

    /// Keeps a piece of a file.
    fn keep(&self, path: &Path, at: u64, bytes: &[u8]) -> anyhow::Result<()> {
        let place = match path.parent() {
            _ if path == Path::new(KERNEL_LOG) => log_of(self.place, KERNEL_LOG),
            Some(parent) if self.may_have(parent) => match self.label() {
                Some(label) => Path::new(label).join(path),
                None => path.to_owned(),
            },
            _ => bail!("it has no place here"),
        };
        file::make_below(self.root, place.parent().unwrap_or(&place))?;
        let path = self.root.join(place);
        let is_log = path.starts_with(self.root.join(CONSOLES));
        if at == 0 && !is_log && path.symlink_metadata().is_ok() {
            // An earlier part of the same suite may have left one.
            fs::remove_file(&path)?;
        }
        let mut file = file::append(&path)?;
        ensure!(
            is_log || file.metadata()?.len() == at,
            "a piece of it is missing"
        );
        Ok(file.write_all(bytes)?)
    }
}

/// A log of a place, below the run's directory.
pub(super) fn log_of(place: &Place, name: &str) -> PathBuf {
    Path::new(CONSOLES).join(format!("{}.{name}", place.name))
}

/// What a place prints beside frames.
pub(super) struct Console {
    /// The place's name.
    pub(super) place: String,
    /// Below the run's directory.
    pub(super) path: PathBuf,
    pub(super) file: File,
    /// How long it was when the part began.
    begin: u64,
}

impl Console {
    pub(super) fn open(root: &Path, place: &Place) -> io::Result<Self> {
        let path = log_of(place, "console.log");
        file::make_below(root, Path::new(CONSOLES))?;
        let file = file::append(&root.join(&path))?;
        let begin = file.metadata()?.len();
        let place = place.name.clone();
        Ok(Self {
            place,
            path,
            file,
            begin,
        })
    }

    /// What it has printed since the part began, and how many lines there were before.
    pub(super) fn printed(&self, root: &Path) -> (Vec<u8>, usize) {
        let mut before = file::read(&root.join(&self.path)).unwrap_or_default();
        let begin = usize::try_from(self.begin).unwrap_or(usize::MAX);
        let printed = before.split_off(begin.min(before.len()));
        (printed, memchr::memchr_iter(b'\n', &before).count())
    }
}
