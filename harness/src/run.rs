//! A run, from the command line to the exit status: plan, host, schedule, conclude.

mod begin;
mod cases;
mod conclude;
mod earlier;
mod live;
mod narrowed;
mod placed;
mod recorded;

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail, ensure};

use crate::commands;
use crate::embedded::Embedded;
use crate::environment::{self, Environments};
use crate::exec::{Signals, Traces, end_with_input};
use crate::fleet;
use crate::kernel_log::{self, KernelLog};
use crate::log::{History, Resumed, read, write_plan};
use crate::model::case::Case;
use crate::model::event::{Event, PartEnd, Sink};
use crate::model::host::{Host, Root};
use crate::model::planned::Planned;
use crate::model::text::one_line;
use crate::options::Options;
use crate::plan::{self, Discovered, Selection};
use crate::show;
use crate::supervise::Supervisors;
use begin::{Begun, Ready};
use cases::RunningCases;
use conclude::RunEnd;
use earlier::Earlier;
pub use earlier::UNTESTABLE;
use live::Live;

/// It could not start: usage, configuration, or nothing matches the filter.
pub const EXIT_NOT_STARTED: u8 = 2;

/// Runs, or lists, what `options` ask for.
///
/// # Errors
/// It could not start, or not keep its results.
pub fn run(
    options: &Options,
    embedded: &Embedded,
    command_line: &[OsString],
) -> anyhow::Result<ExitCode> {
    // First, so that asking what runs ends nothing, whenever it comes.
    let signals = Signals::catch()?;
    let mut resumed = options.resume.as_deref().map(Resumed::open).transpose()?;
    let (options, planned) = recorded::options(options, resumed.as_ref())?;
    let root = Root::from_env();
    let host = probe(&root);
    let discovered = plan::discover(&options, embedded, &host, &Environments::new(root.clone()))?;
    let selection = Selection::new(&options);
    if options.list {
        return list(&discovered, selection, &options);
    }
    let places = fleet::places(&options, embedded, &discovered)?;
    let (mut cases, filtered_out) = select(&options, &discovered, &selection)?;
    let results = begin::default_results(options.stream)?;
    let asked = (&discovered, &selection);
    let earlier = Earlier::choose(&options, &results.directory, asked, &mut cases)?;
    let planned = narrowed::narrow(&options, planned, &discovered, &mut cases)?;
    if let Some(said) = only_said(&options, &root, &discovered, planned.as_ref(), &cases) {
        return said;
    }
    if let Some(resumed) = &mut resumed {
        resumed.retain(&mut cases, &discovered.directories)?;
    }
    let nextest = begin::nextest(&options, &mut cases)?;
    let history = History::load(&results.directory, &host.hostname);
    let seed = sort(&options, &history, &mut cases);
    let baseline = options.baseline.as_deref().map(read).transpose()?;
    let part = begin::part(&options, &discovered, host, seed, command_line, &nextest)?;
    let owed = begin::Owed {
        planned,
        cases: &cases,
        nextest,
        resumed,
    };
    let begun = begin::begin(&options, &results, part, owed)?;
    let run = Ready {
        options: &options,
        root,
        discovered,
        selection,
        cases: cases.into(),
        filtered_out: filtered_out + earlier.as_ref().map_or(0, Earlier::left_out),
        history,
        earlier,
        started: Instant::now(),
    };
    let (ended, begun) = match places.as_slice() {
        [] => execute(&run, begun, signals)?,
        places => placed::execute(&run, begun, signals, places)?,
    };
    conclude::conclude(&run, ended, &begun, baseline)
}

/// The cases that are asked for, and the number of all others.
fn select(
    options: &Options,
    discovered: &Discovered,
    selection: &Selection,
) -> anyhow::Result<(Vec<Case>, usize)> {
    let (mut cases, mut others) = discovered.select(selection, options.iterations);
    if options.bench && !options.test {
        // There are none.
        others += std::mem::take(&mut cases).len();
    } else if cases.is_empty() && options.resume.is_none() {
        bail!("{}", discovered.nothing_matches(selection));
    }
    let unknown = &discovered.unknown_names;
    ensure!(unknown.is_empty(), "{}", unknown.join("\n"));
    Ok((cases, others))
}

/// What is said where nothing is to run.
fn only_said(
    options: &Options,
    root: &Root,
    discovered: &Discovered,
    planned: Option<&Planned>,
    cases: &[Case],
) -> Option<anyhow::Result<ExitCode>> {
    match (&options.plan_only, planned) {
        (Some(path), Some(planned)) => Some(write_plan(planned, path).map(|()| ExitCode::SUCCESS)),
        _ if options.dry_run => Some(commands::dry_run(root, &discovered.environments(), cases)),
        _ => None,
    }
}

/// Sorts the cases as they are to start; returns the seed, where that is random.
fn sort(options: &Options, history: &History, cases: &mut [Case]) -> Option<u64> {
    let seed = plan::seed(options);
    let expected = |listed: &str| history.expected(listed);
    plan::sort(cases, seed, expected, options.timeout());
    seed
}

fn probe(root: &Root) -> Host {
    Host {
        taint: kernel_log::taint(root),
        ..environment::probe(root)
    }
}

fn list(
    discovered: &Discovered,
    selection: Selection,
    options: &Options,
) -> anyhow::Result<ExitCode> {
    for line in &discovered.changed {
        eprintln!("changed: {line}");
    }
    let selection = &selection.within(options.shard.clone());
    let out = show::destination(options.logfile.as_deref()).context("create the logfile")?;
    let out = io::BufWriter::new(out);
    for note in discovered.notes_on_known() {
        eprintln!("{}", one_line(&note));
    }
    match plan::list(discovered, selection, options.format(), out) {
        Ok(0) if !selection.is_all() => eprintln!("{}", discovered.nothing_matches(selection)),
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            return Err(error).context("print the list");
        }
        _ => discovered
            .unknown_names
            .iter()
            .for_each(|line| eprintln!("{line}")),
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs the cases; whatever runs beside them has ended, too, when this returns.
fn execute(run: &Ready<'_>, mut begun: Begun, signals: Signals) -> anyhow::Result<(RunEnd, Begun)> {
    let supervisors = Arc::new(Supervisors::new());
    let ignored_splats = &run.discovered.ignored_splats;
    let kernel_log = Arc::new(KernelLog::open(&run.root, &begun.directory, ignored_splats));
    let display = Arc::new(live::display(run, &begun, &supervisors)?);
    let header = live::header(run, &begun, &kernel_log);
    // The last words of a place that dies are not to be these.
    let header = header.iter().filter(|_| !run.options.stream);
    header.for_each(|line| display.say(line));
    display.begin();
    let recorder = begun.recorder(&run.cases, Arc::clone(&display), run.options.stream)?;
    if run.options.stream {
        end_with_input(&supervisors).context("wait for the end of the input")?;
    }
    let live = Live::start(run, &recorder, &display, &supervisors, signals)?;
    let before = (!begun.is_nextest()).then(Traces::read);
    let strays = Arc::clone(&recorder);
    kernel_log
        .follow(move |splat| strays.record(Event::Splat(Box::new(splat))))
        .context("start to follow the kernel's log")?;

    let ran = RunningCases {
        run,
        begun: &begun,
        recorder: &recorder,
        supervisors: &supervisors,
        kernel_log: &kernel_log,
    }
    .all();
    // Putting the host back may have upset the kernel, too.
    let kernel = kernel_log.close();
    live.stop();
    let ended_early = supervisors.ended_early();
    let left_behind = before.map_or_else(Vec::new, |before| {
        recorder.with_state(|state| Traces::read().since(&before, &state.outcomes))
    });
    let end = PartEnd {
        duration_s: run.started.elapsed().as_secs_f64(),
        kernel,
        left_behind,
        not_restored: ran.not_restored,
        ..PartEnd::now(&begun.part)
    };
    let end = end.because_of(ended_early);
    recorder.record(Event::PartEnded(Box::new(end)));
    ran.trials?;
    let ended = RunEnd::of(recorder, display, &begun)?;
    Ok((ended, begun))
}
