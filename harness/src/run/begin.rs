//! How a run begins: what is known of it, its directory, and the first line of its journal.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};

use crate::log::{
    Journal, Member, Nextest, Place, Recorder, Resumed, RunDirectory, what_killed_the_latest,
};
use crate::model::case::Case;
use crate::model::event::{Event, KernelEnd, LeftBehind, Part, PartEnd, SCHEMA_VERSION};
use crate::model::facts::EarlyEnd;
use crate::model::host::Host;
use crate::model::name::CaseName;
use crate::model::outcome::Outcome;
use crate::model::state::State;
use crate::model::time::now_ms;
use crate::options::Options;
use crate::plan::Discovered;
use crate::show::Display;

/// Where results go by default, and what is to be said of that.
pub(super) struct Results {
    pub(super) directory: PathBuf,
    pub(super) note: Option<String>,
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
    /// The cases of a resumed run that are there no more.
    pub(super) gone: Vec<Outcome>,
    /// How many cases must have an outcome in the end of this part.
    pub(super) owed: usize,
}

/// `kvm-tests` in Cargo's target directory, found from where this program lies; else `kvm-tests-results` in the working
/// directory.
pub(super) fn default_results() -> anyhow::Result<Results> {
    let elsewhere = |note: Option<String>| -> anyhow::Result<Results> {
        let here = std::env::current_dir().context("find the current directory")?;
        let directory = here.join("kvm-tests-results");
        Ok(Results { directory, note })
    };
    let exe = std::env::current_exe().unwrap_or_default();
    // Cargo marks its target directory as a cache.
    let mut above = exe.ancestors();
    let target = above.find(|directory| directory.join("CACHEDIR.TAG").is_file());
    let Some(target) = target else {
        return elsewhere(None);
    };
    let directory = target.join("kvm-tests");
    let parent = if directory.is_dir() {
        &directory
    } else {
        target
    };
    if rustix::fs::access(parent, rustix::fs::Access::WRITE_OK).is_ok() {
        return Ok(Results {
            directory,
            note: None,
        });
    }
    elsewhere(Some(format!(
        "  results      not in {}: it belongs to another user",
        directory.display()
    )))
}

/// The whole name of the only case that `options` ask for, as nextest does.
pub(super) fn only_case(options: &Options) -> Option<&str> {
    match options.filters.as_slice() {
        [only] if options.exact && !options.list => Some(only),
        _ => None,
    }
}

/// What is known of this process's share of the run, but for its name.
pub(super) fn part(
    options: &Options,
    discovered: &Discovered,
    host: Host,
    shuffle_seed: Option<u64>,
    command_line: &[OsString],
    nextest: Option<&Nextest>,
) -> anyhow::Result<Part> {
    let of_nextest = nextest.and_then(|_| Nextest::command_line());
    Ok(Part {
        id: String::new(),
        schema_version: SCHEMA_VERSION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        command_line: of_nextest.unwrap_or_else(|| command_line.to_vec()),
        options: options.given.clone(),
        directory: std::env::current_dir().context("find the current directory")?,
        started_ms: now_ms(),
        pid: std::process::id(),
        host,
        selftests: discovered.selftest_sources(),
        selftests_commit: None,
        workers: workers(options)?,
        shuffle_seed,
        nextest_run_id: nextest.map(|nextest| nextest.run_id.clone()),
        resumes: options.resume.is_some(),
        notes_on_known: discovered.notes_on_known(),
    })
}

fn workers(options: &Options) -> anyhow::Result<usize> {
    if let Some(threads) = options.test_threads {
        return Ok(threads.get());
    }
    match std::env::var("RUST_TEST_THREADS") {
        Ok(threads) => match threads.parse() {
            Ok(0) | Err(_) => {
                bail!("RUST_TEST_THREADS is `{threads}`, should be a positive integer")
            }
            Ok(threads) => Ok(threads),
        },
        Err(_) => Ok(num_cpus::get()),
    }
}

/// Makes the run's directory, or finds that of the run that it goes on with or belongs to, and writes the first line of its
/// journal: from then on it is known what it owes.
pub(super) fn begin(
    options: &Options,
    results: &Results,
    mut part: Part,
    cases: &[Case],
    nextest: Option<Nextest>,
    resumed: Option<Resumed>,
) -> anyhow::Result<Begun> {
    let place = place(options, results);
    let mut notes: Vec<String> = results.note.iter().cloned().collect();
    let (mut member, mut state, mut gone) = (None, State::default(), Vec::new());
    let held = match (resumed, nextest) {
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
            let killed = match options.output {
                Some(_) => None,
                None => what_killed_the_latest(&results.directory),
            };
            notes.extend(killed.into_iter().flatten());
            RunDirectory::create(&place, &part)?
        }
    };
    let directory = held.root().to_owned();
    part.id = id_of(&part, Journal::count_in(&directory)?);
    let first = Event::PartStarted {
        part: Box::new(part.clone()),
        cases: owed(cases, &gone),
    };
    let journal = Journal::begin(&directory, &part.id, &first)?;
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
        owed: cases.len() + gone.len(),
        gone,
    })
}

fn place(options: &Options, results: &Results) -> Place {
    match &options.output {
        Some(path) => Place::At {
            path: path.clone(),
            overwrite: options.overwrite,
        },
        None => Place::In(results.directory.clone()),
    }
}

/// The names of all cases that must have an outcome in the end.
fn owed(cases: &[Case], gone: &[Outcome]) -> Vec<CaseName> {
    let cases = cases.iter().map(|case| case.name.clone());
    cases.chain(gone.iter().map(Outcome::case_name)).collect()
}

/// A name that sorts in the order of the parts, and is unique also among those of other hosts.
fn id_of(part: &Part, before: usize) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '.';
    let host = part.host.hostname.replace(|c| !is_plain(c), "_");
    let number = before + 1;
    format!("{number:05}-{host}-{}-{}", part.started_ms, part.pid)
}

impl Begun {
    /// Whether it is one of the processes of a run of nextest.
    pub(super) fn is_nextest(&self) -> bool {
        self.member.is_some()
    }

    /// The recorder of what happens from now on.
    pub(super) fn recorder(
        &mut self,
        cases: &Arc<[Case]>,
        display: Arc<Display>,
    ) -> anyhow::Result<Arc<Recorder>> {
        let journal = self.journal.take().context("it has begun already")?;
        let state = std::mem::take(&mut self.state);
        let recorder = Recorder::new(Arc::clone(cases), journal, state, display);
        Ok(Arc::new(recorder.context("open the journal again")?))
    }
}

/// How the part ended.
pub(super) fn part_ended(
    started: Instant,
    ended_early: Option<EarlyEnd>,
    kernel: KernelEnd,
    left_behind: Vec<LeftBehind>,
    not_restored: Vec<String>,
) -> Event {
    let (interrupted_by, ended_early) = match ended_early {
        Some(EarlyEnd::Signal(signal)) => (Some(signal), None),
        why => (None, why.map(|why| why.to_string())),
    };
    Event::PartEnded(Box::new(PartEnd {
        at_ms: now_ms(),
        duration_s: started.elapsed().as_secs_f64(),
        interrupted_by,
        ended_early,
        kernel,
        left_behind,
        not_restored,
    }))
}
