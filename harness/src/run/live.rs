//! What runs beside the cases of a run: the display, and those who ask or interrupt.

use std::collections::HashMap;
use std::io;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context;

use super::begin::{Begun, Ready};
use super::earlier::Earlier;
use crate::environment::{self, HostLock};
use crate::exec::{self, LIMITS, Signals, Watch};
use crate::kernel_log::KernelLog;
use crate::log::Recorder;
use crate::model::facts::EarlyEnd;
use crate::show::{Display, Expected, Keyboard, Setup, Wish, header_of};
use crate::supervise::Supervisors;

/// How often the display is drawn anew.
const REDRAW: Duration = Duration::from_millis(500);

/// The display of a run, which interrupts it where nobody reads any more.
pub(super) fn display(
    run: &Ready<'_>,
    begun: &Begun,
    supervisors: &Arc<Supervisors>,
) -> anyhow::Result<Display> {
    let options = run.options;
    let supervisors = Arc::clone(supervisors);
    let expected = run.cases.iter().map(|case| {
        let listed = case.name.listed();
        let expected = Expected {
            title: case.kselftest_name(),
            weight: case.slots(),
            expected: run.history.expected(&listed),
            last: run.history.last(&listed),
            timeout: case.timeout.unwrap_or(options.timeout()),
        };
        (case.name.to_string(), expected)
    });
    let setup = Setup {
        format: options.format(),
        is_stream: options.stream,
        levels: options.shown(),
        color: options.color,
        logfile: options.logfile.clone(),
        log: options.kselftest.log.clone(),
        results: begun.directory.clone(),
        total: begun.owed,
        filtered_out: run.filtered_out,
        shuffle_seed: begun.part.shuffle_seed,
        begun: run.started,
        expected: expected.collect::<HashMap<_, _>>(),
        workers: begun.part.workers,
        closed: Box::new(move |error: &io::Error| {
            supervisors.interrupt(exec::signal_for(error));
        }),
    };
    Display::new(setup).context("create the logfile")
}

/// What is said before anything runs.
pub(super) fn header(run: &Ready<'_>, begun: &Begun, kernel_log: &KernelLog) -> Vec<String> {
    let mut lines = header_of(&begun.part);
    let problem = match kernel_log.problem() {
        Some(why) => Some(format!("not followed, its splats fail no case: {why}")),
        None => environment::clear_warn_once(&run.root)
            .map(|why| format!("what warned once in this boot may not warn again: {why}")),
    };
    let lock = HostLock::new(&run.root).limit();
    lines.extend(rows(of_cases(run)));
    lines.extend(rows([
        ("environment", run.discovered.describe_environments()),
        ("stand-in", Vec::from_iter(run.root.announcement())),
        ("lock", Vec::from_iter(lock)),
        ("kernel log", Vec::from_iter(problem)),
        ("results", vec![begun.directory.display().to_string()]),
    ]));
    lines.extend(begun.notes.iter().cloned());
    lines
}

/// What is said of the cases, wherever they are executed.
pub(super) fn of_cases(run: &Ready<'_>) -> [(&'static str, Vec<String>); 5] {
    let earlier = run.earlier.iter().map(Earlier::describe);
    [
        ("selftests", run.discovered.sources.clone()),
        ("changed", run.discovered.changed.clone()),
        ("left out", run.discovered.describe_left_out()),
        ("run again", earlier.collect()),
        ("known", Vec::from_iter(run.discovered.describe_known())),
    ]
}

/// Lines, each of those that belong together with the same name before it.
pub(super) fn rows<const N: usize>(
    described: [(&'static str, Vec<String>); N],
) -> impl Iterator<Item = String> {
    described.into_iter().flat_map(|(name, lines)| {
        let lines = lines.into_iter();
        lines.map(move |line| format!("  {name:<12} {line}"))
    })
}

fn answer(wish: Wish, recorder: &Weak<Recorder>, display: &Display) {
    if let Some(recorder) = recorder.upgrade() {
        recorder.with_state(|state| display.answer(state, wish));
    }
}

/// The threads beside the cases.
pub(super) struct Live {
    stop: Sender<()>,
    ticking: JoinHandle<()>,
    watch: Watch,
    keyboard: Option<Keyboard>,
}

impl Live {
    pub(super) fn start(
        run: &Ready<'_>,
        recorder: &Arc<Recorder>,
        display: &Arc<Display>,
        supervisors: &Arc<Supervisors>,
        signals: Signals,
    ) -> anyhow::Result<Self> {
        let (weak, ours) = (Arc::downgrade(recorder), Arc::clone(display));
        let (limit, started) = (run.options.time_limit, run.started);
        let timed = Arc::clone(supervisors);
        let (stop, stopped) = mpsc::channel::<()>();
        let ticking = thread::Builder::new().spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(REDRAW) {
                let is_up = limit.filter(|limit| started.elapsed() >= *limit);
                if is_up.is_some_and(|limit| timed.end_early(EarlyEnd::TimeLimit(limit))) {
                    ours.say("its time is up (--time-limit): stopping what runs");
                }
                if let Some(recorder) = weak.upgrade() {
                    recorder.with_state(|state| ours.tick(state));
                }
            }
        });
        let ticking = ticking.with_context(|| format!("start a thread: {LIMITS}"))?;
        let says = Arc::clone(display);
        // Weak: what they hold must not keep the recorder from being taken apart in the end.
        let (asked, told) = (Arc::downgrade(recorder), Arc::clone(display));
        let watch = signals.watch(
            Arc::clone(supervisors),
            move |line| says.say(line),
            move || answer(Wish::All, &asked, &told),
        )?;
        let (asked, told) = (Arc::downgrade(recorder), Arc::clone(display));
        let ends = Arc::clone(supervisors);
        let on_line = move |line: &str| {
            told.typed(line);
            match Wish::of(line) {
                Wish::End(pid) if ends.end_task(pid) => told.say(&format!("ending process {pid}")),
                Wish::End(pid) => told.say(&format!(
                    "no case runs as process {pid}: r and Enter show what runs"
                )),
                wish => answer(wish, &asked, &told),
            }
        };
        let keyboard = Keyboard::watch(on_line).context("watch the terminal")?;
        Ok(Self {
            stop,
            ticking,
            watch,
            keyboard,
        })
    }

    /// Ends them all.
    pub(super) fn stop(self) {
        drop(self.stop);
        // Had one panicked, its message is on the terminal.
        drop(self.ticking.join());
        if let Some(keyboard) = self.keyboard {
            keyboard.stop();
        }
        self.watch.stop();
    }
}
