//! How a run begins: what is known of it, its directory, and the first line of its journal.

use std::ffi::OsString;
use std::fs::{self, DirEntry};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use tempfile::TempDir;

use super::earlier::Earlier;
use crate::exec::without_run;
use crate::log::{
    Destination, History, Journal, MOST_NAMED, Member, Nextest, PLAN_JSON, Recorder, Resumed,
    RunDirectory, is_in_use, is_run, what_killed_the_latest, write_plan,
};
use crate::model::case::Case;
use crate::model::case::name::CaseName;
use crate::model::event::{Event, Part, SCHEMA_VERSION};
use crate::model::facts::Obstacle;
use crate::model::host::{Host, Root};
use crate::model::outcome::Outcome;
use crate::model::planned::Planned;
use crate::model::state::State;
use crate::model::time::now_ms;
use crate::options::Options;
use crate::plan::{Discovered, Selection};
use crate::show::Display;

/// What the names of temporary directories begin with in which the results of a stream are.
const SCRATCH: &str = "kvm-tests-stream-";

/// Where results go by default, and what is to be said of that.
pub(super) struct Results {
    pub(super) directory: PathBuf,
    pub(super) note: Option<String>,
    /// What is removed in the end: the results of a stream are kept where it goes.
    _scratch: Option<TempDir>,
}

/// A run that has begun: its first line is on the disk.
pub(super) struct Begun {
    pub(super) part: Part,
    pub(super) directory: PathBuf,
    /// What is to be said before it goes.
    pub(super) notes: Vec<String>,
    /// Held until the end: by it others know that the run goes on.
    _held: RunDirectory,
    pub(super) member: Option<Member>,
    journal: Option<Journal>,
    state: State,
    /// The first line, which the display is still to be told.
    first: Event,
    /// The cases of a resumed run that are there no more.
    pub(super) gone: Vec<Outcome>,
    /// How many cases must have an outcome in the end of this part.
    pub(super) owed: usize,
}

/// `kvm-tests` in Cargo's target directory, found from where this program lies; else `kvm-tests-results` in the working
/// directory. Those of a stream are in a temporary one.
pub(super) fn default_results(is_stream: bool) -> anyhow::Result<Results> {
    if is_stream {
        remove_dead_scratch();
        let scratch = tempfile::Builder::new().prefix(SCRATCH).tempdir();
        let scratch = scratch.context("make a temporary directory (TMPDIR)")?;
        return Ok(Results {
            directory: scratch.path().to_owned(),
            note: None,
            _scratch: Some(scratch),
        });
    }
    let exe = std::env::current_exe().unwrap_or_default();
    // Cargo marks its target directory as a cache.
    let mut above = exe.ancestors();
    let target = above.find(|directory| directory.join("CACHEDIR.TAG").is_file());
    let mut directory = target.map(|target| target.join("kvm-tests"));
    let is_ours = |directory: &PathBuf| {
        let mut there = directory.ancestors().filter(|path| path.is_dir());
        let nearest = there.next().unwrap_or(directory);
        rustix::fs::access(nearest, rustix::fs::Access::WRITE_OK).is_ok()
    };
    let foreign = directory.take_if(|directory| !is_ours(directory));
    let note = foreign.map(|directory| {
        let directory = directory.display();
        format!("  results      not in {directory}: it belongs to another user")
    });
    let directory = match directory {
        Some(directory) => directory,
        None => {
            let here = std::env::current_dir().context("find the current directory")?;
            here.join("kvm-tests-results")
        }
    };
    Ok(Results {
        directory,
        note,
        _scratch: None,
    })
}

/// Removes the temporary directories of programs that were killed: there is a run in them, and nobody is in it any more.
fn remove_dead_scratch() {
    let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
    let is_dead = |run: DirEntry| is_run(&run.path()) && !is_in_use(&run.path());
    for entry in entries(&std::env::temp_dir()) {
        let name = entry.file_name();
        let is_scratch = name.as_encoded_bytes().starts_with(SCRATCH.as_bytes());
        // Of a link this is what it is itself. Nobody else can change what is in a directory of ours.
        let is_ours = entry
            .metadata()
            .is_ok_and(|found| found.is_dir() && found.uid() == rustix::process::getuid().as_raw());
        if is_scratch && is_ours && entries(&entry.path()).any(is_dead) {
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}

/// The run of nextest that this process belongs to, where it does; its cases are numbered then.
pub(super) fn nextest(options: &Options, cases: &mut [Case]) -> anyhow::Result<Option<Nextest>> {
    // It asks for one case, by the whole name.
    let only = match options.filters.as_slice() {
        [only] if options.exact && !options.list => Some(only.as_str()),
        _ => None,
    };
    let nextest = Nextest::of(only)?;
    nextest
        .iter()
        .for_each(|run| run.number(cases, options.iterations));
    Ok(nextest)
}

/// What is known of this process's share of the run, but for its name.
pub(super) fn part(
    options: &Options,
    discovered: &Discovered,
    host: Host,
    shuffle_seed: Option<u64>,
    command_line: &[OsString],
    nextest: &Option<Nextest>,
) -> anyhow::Result<Part> {
    let of_nextest = nextest.as_ref().and_then(|_| Nextest::command_line());
    Ok(Part {
        schema_version: SCHEMA_VERSION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        command_line: of_nextest.unwrap_or_else(|| command_line.to_vec()),
        nextest_run_id: nextest.as_ref().map(|run| run.run_id.clone()),
        options: options.given.clone(),
        directory: std::env::current_dir().context("find the current directory")?,
        started_ms: now_ms(),
        pid: std::process::id(),
        host,
        selftests: discovered.directories.clone(),
        selftests_commit: discovered.selftests_commit(),
        workers: workers(options)?,
        shuffle_seed,
        resumes: options.resume.is_some(),
        notes_on_known: discovered.notes_on_known(),
        shard: options.shard.as_ref().map(ToString::to_string),
        ..Part::default()
    })
}

fn workers(options: &Options) -> anyhow::Result<usize> {
    if let Some(threads) = options.test_threads {
        return Ok(threads.get());
    }
    let Ok(threads) = std::env::var("RUST_TEST_THREADS") else {
        return Ok(num_cpus::get());
    };
    match threads.parse() {
        Ok(0) | Err(_) => bail!("RUST_TEST_THREADS is `{threads}`, should be a positive integer"),
        Ok(threads) => Ok(threads),
    }
}

/// What is to run.
pub(super) struct Owed<'a> {
    /// The plan that it is a part of, where it is a part.
    pub(super) planned: Option<Planned>,
    /// In this process.
    pub(super) cases: &'a [Case],
    /// The run of nextest that it belongs to.
    pub(super) nextest: Option<Nextest>,
    /// The run that it goes on with.
    pub(super) resumed: Option<Resumed>,
}

/// Makes the run's directory, or finds that of the run that it goes on with or belongs to, and writes the first line of its
/// journal: from then on it is known what it owes.
pub(super) fn begin(
    options: &Options,
    results: &Results,
    mut part: Part,
    owed: Owed<'_>,
) -> anyhow::Result<Begun> {
    let (planned, cases) = (owed.planned, owed.cases);
    let place = place(options, results);
    let mut notes: Vec<String> = results.note.iter().cloned().collect();
    let (mut member, mut state, mut gone) = (None, State::default(), Vec::new());
    let held = match (owed.resumed, owed.nextest) {
        (Some(resumed), _) => {
            resumed.begin()?;
            notes.extend(resumed.describe(&part, cases.len()));
            (state, gone) = (resumed.state, resumed.gone);
            resumed.directory
        }
        (None, Some(nextest)) => {
            let beside = options.output.as_deref().and_then(Path::parent);
            let parent = beside.unwrap_or(&results.directory);
            let create = || RunDirectory::create(&place, &part);
            let (directory, joined) = nextest.enter(parent, create)?;
            member = Some(joined);
            directory
        }
        (None, None) => {
            if options.output.is_none() {
                let killed = what_killed_the_latest(&results.directory);
                notes.extend(killed.into_iter().flatten());
            }
            RunDirectory::create(&place, &part)?
        }
    };
    let directory = held.root().to_owned();
    let names = all_names(cases, &gone);
    let (id, first) = first_line(options, &mut part, &held, &state, planned, names)?;
    let journal = Journal::begin(&directory, &id, &first)?;
    state.apply(&first);
    held.begun();
    member.iter().for_each(Member::entered);
    Ok(Begun {
        part,
        directory,
        notes,
        _held: held,
        member,
        journal: Some(journal),
        state,
        first,
        owed: cases.len() + gone.len(),
        gone,
    })
}

/// Names the part, the run that it belongs to, and the plan, which is kept beside the run's other files. Returns the name and
/// the first line of the journal: at places that is the plan, as each of them has a part of its own.
fn first_line(
    options: &Options,
    part: &mut Part,
    directory: &RunDirectory,
    state: &State,
    planned: Option<Planned>,
    cases: Vec<CaseName>,
) -> anyhow::Result<(String, Event)> {
    part.id = id_of(part, Journal::count_in(directory.root())?);
    let first = state.first().map(|first| first.run.clone());
    let run = part.nextest_run_id.clone().or(first);
    part.run = run.unwrap_or_else(|| part.id.clone());
    if let Some(planned) = planned {
        let id = planned.id();
        part.plan = Some(id.clone());
        write_plan(&planned, &directory.root().join(PLAN_JSON))?;
        if options.has_places() {
            return Ok((format!("plan-{id}"), Event::Planned(Box::new(planned))));
        }
    }
    let part = Box::new(part.clone());
    Ok((part.id.clone(), Event::PartStarted { part, cases }))
}

fn place(options: &Options, results: &Results) -> Destination {
    match &options.output {
        Some(path) => Destination::At {
            path: path.clone(),
            overwrite: options.overwrite,
        },
        None => Destination::In(results.directory.clone()),
    }
}

/// The names of all cases that must have an outcome in the end.
fn all_names(cases: &[Case], gone: &[Outcome]) -> Vec<CaseName> {
    let cases = cases.iter().map(|case| case.name.clone());
    cases.chain(gone.iter().map(Outcome::case_name)).collect()
}

/// A name that sorts in the order of the parts, and is unique also among those of other hosts.
fn id_of(part: &Part, before: usize) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '.';
    let host = part.host.hostname.replace(|c| !is_plain(c), "_");
    let number = before + 1;
    // Guests that boot at the same time may be alike in all but this.
    let boot = part.host.boot_id.split('-').next().unwrap_or_default();
    format!("{number:05}-{host}-{boot}-{}-{}", part.started_ms, part.pid)
}

impl Begun {
    /// Whether it is one of the processes of a run of nextest.
    pub(super) fn is_nextest(&self) -> bool {
        self.member.is_some()
    }

    /// The plan, where it is for places.
    pub(super) fn planned(&self) -> Option<&Planned> {
        match &self.first {
            Event::Planned(planned) => Some(planned),
            _ => None,
        }
    }

    /// The recorder of what happens from now on.
    pub(super) fn recorder(
        &mut self,
        cases: &Arc<[Case]>,
        display: Arc<Display>,
        is_stream: bool,
    ) -> anyhow::Result<Arc<Recorder>> {
        let journal = self.journal.take().context("it has begun already")?;
        let state = std::mem::take(&mut self.state);
        display.see(&state, &self.first);
        // Whoever listens elsewhere is to suspect as few as possible.
        let most = if is_stream { 1 } else { MOST_NAMED };
        let recorder = Recorder::new(Arc::clone(cases), journal, state, display, most);
        Ok(Arc::new(recorder.context("open the journal again")?))
    }
}

/// What is to run, and with what.
pub(super) struct Ready<'a> {
    pub(super) options: &'a Options,
    pub(super) root: Root,
    pub(super) discovered: Discovered,
    pub(super) selection: Selection,
    pub(super) cases: Arc<[Case]>,
    pub(super) filtered_out: usize,
    pub(super) history: History,
    pub(super) earlier: Option<Earlier>,
    pub(super) started: Instant,
}

impl Ready<'_> {
    /// Whether it is run, rather than told to be ignored.
    pub(super) fn is_executed(&self, case: &Case) -> bool {
        case.ignored.is_none() || (self.selection.runs_ignored() && case.crash().is_none())
    }

    /// The outcomes of those that are told to be ignored.
    pub(super) fn not_executed(&self) -> impl Iterator<Item = Outcome> {
        let cases = self.cases.iter().filter(|case| !self.is_executed(case));
        cases.map(|case| {
            let why = case.ignored.clone().unwrap_or_default();
            without_run(case, Obstacle::Ignored(why))
        })
    }
}
