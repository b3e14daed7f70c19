//! The terminal: the one place that writes to it while cases run.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::{Format, Options};
use crate::kernel_log::end::when;
use crate::model::event::{Event, Observer};
use crate::model::outcome::Status;
use crate::model::printable::printable;
use crate::show::heartbeat::Heartbeat;
use crate::show::pace::{Pace, roughly};
use crate::show::running::{Process, Running, Snapshot};
use crate::show::shown::Shown;
use crate::show::summary::slower;

/// How often we look whether there is something to say, where there is no live line.
const LOOK: Duration = Duration::from_secs(1);

/// How often the live line is drawn anew.
const REDRAW: Duration = Duration::from_millis(500);

/// How many running cases a line names.
const NAMED: usize = 6;

/// Where people read: the standard error, with a live line at its end where it is a terminal.
#[derive(Debug)]
pub struct Console {
    live: Option<ProgressBar>,
    running: Arc<Running>,
    pace: Arc<Pace>,
    shown: Shown,
    total: usize,
}

impl Console {
    /// A console for `total` cases, which shows what `options` want.
    pub fn new(running: Arc<Running>, pace: Arc<Pace>, options: &Options, total: usize) -> Self {
        let style = ProgressStyle::with_template("[{elapsed}] {wide_msg}");
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        // It is hidden where there is no terminal, or one that cannot clear a line. It would also clear what has no end yet:
        // the line of characters that is the terse format.
        let live = (!bar.is_hidden() && options.format() != Format::Terse).then_some(bar);
        Self {
            live,
            running,
            pace,
            shown: options.shown(),
            total,
        }
    }

    /// Prints a line to the standard error.
    pub fn say(&self, line: &str) {
        // In one write(2), so that no other process writes into the line, and its reader is woken once.
        let line = format!("{line}\n");
        self.above_the_live_line(|| {
            // Where nobody reads any more there is nothing left to say it to; the results directory has it all.
            drop(io::stderr().write_all(line.as_bytes()));
        });
    }

    /// Keeps the user informed until the table of running cases is closed.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(self: &Arc<Self>) -> io::Result<JoinHandle<()>> {
        let console = Arc::clone(self);
        thread::Builder::new().spawn(move || match &console.live {
            Some(bar) => console.draw(bar),
            None => console.beat(),
        })
    }

    /// Whether there is a live line.
    pub fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// Prints with the live line out of the way.
    pub fn above_the_live_line<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.live {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    fn draw(&self, bar: &ProgressBar) {
        let mut open = true;
        while open {
            open = self.running.is_open_after(REDRAW);
            let snapshot = self.running.snapshot();
            // This draws it, also where only the time has changed.
            bar.set_message(self.live_message(&snapshot));
        }
        bar.finish_and_clear();
    }

    fn beat(&self) {
        let mut heartbeat = Heartbeat::new(Instant::now());
        while self.running.is_open_after(LOOK) {
            let snapshot = self.running.snapshot();
            let longest = snapshot.cases.first().map(|(_, process)| process.since);
            if heartbeat.is_due(Instant::now(), self.shown_ends(&snapshot), longest) {
                self.say(&self.still_running(&snapshot));
            }
        }
    }

    fn live_message(&self, snapshot: &Snapshot) -> String {
        let ended = snapshot.ended;
        let (passed, skipped, total) = (
            ended.of(Status::Passed),
            ended.of(Status::Skipped),
            self.total,
        );
        let failures = failures(snapshot);
        let left = self.left(snapshot);
        let running = if snapshot.cases.is_empty() {
            String::new()
        } else {
            format!(": {}", self.list(snapshot))
        };
        format!(
            "{}/{total} ({passed} passed, {skipped} skipped{failures}{left}){running}",
            ended.total()
        )
    }

    fn still_running(&self, snapshot: &Snapshot) -> String {
        let none = || "no case at this moment".to_owned();
        let running = if snapshot.cases.is_empty() {
            none()
        } else {
            self.list(snapshot)
        };
        let (ended, total) = (snapshot.ended.total(), self.total);
        let (failures, left) = (failures(snapshot), self.left(snapshot));
        format!("still running: {running}; {ended} of {total} have ended{failures}{left}")
    }

    fn left(&self, snapshot: &Snapshot) -> String {
        let left = self.pace.left(snapshot, Instant::now());
        left.map(|left| format!(", about {} left", roughly(left)))
            .unwrap_or_default()
    }

    /// The cases that run, the longest first.
    fn list(&self, snapshot: &Snapshot) -> String {
        let show = |(name, process): &(String, Process)| {
            format!(
                "{name} (pid {}, {})",
                process.pid,
                self.pace.compared(name, process.since.elapsed())
            )
        };
        let mut shown: Vec<_> = snapshot.cases.iter().take(NAMED).map(show).collect();
        if snapshot.cases.len() > NAMED {
            shown.push(format!("and {} more", snapshot.cases.len() - NAMED));
        }
        shown.join(", ")
    }

    /// How many ends of cases the user has seen.
    fn shown_ends(&self, snapshot: &Snapshot) -> usize {
        let shown = Status::ALL
            .iter()
            .filter(|status| !self.shown.hides(**status));
        shown.map(|status| snapshot.ended.of(*status)).sum()
    }
}

impl Observer for Console {
    fn notify(&self, event: Event<'_>) {
        let outcome = match event {
            Event::Finished(outcome) => outcome,
            Event::Splat(splat) => {
                return self.say(&format!("KERNEL SPLAT {}: {}", when(splat), splat.title));
            }
            Event::Entered(_) | Event::Left(_) | Event::Starting(_) | Event::Started(_) => return,
        };
        if self.shown.hides(outcome.status) {
            return;
        }
        if outcome.status.is_failure() {
            let reason = outcome.reason.as_deref().unwrap_or_default();
            let first_line = printable(reason.lines().next().unwrap_or_default().as_bytes());
            self.say(&format!(
                "{} {}: {first_line}",
                outcome.status.as_str(),
                outcome.name
            ));
        }
        if let Some(last) = self.pace.was_faster_than(outcome) {
            self.say(&format!("SLOWER {}", slower(outcome, last)));
        }
    }
}

fn failures(snapshot: &Snapshot) -> String {
    match snapshot.ended.failures() {
        0 => String::new(),
        count => format!(", {count} failed"),
    }
}

/// Where libtest-mimic's lines go: the standard output, or the file of `--logfile`.
///
/// # Errors
/// The file cannot be made.
pub fn destination(logfile: Option<&std::path::Path>) -> io::Result<Box<dyn Write + Send>> {
    Ok(match logfile {
        Some(path) => Box::new(
            OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o644)
                .open(path)?,
        ),
        None => Box::new(io::stdout()),
    })
}
