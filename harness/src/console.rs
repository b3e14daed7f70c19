//! The terminal: the one place that writes to it while cases run.

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::event::{Event, Observer};
use crate::running::{Running, Snapshot};

/// How long nothing must have ended before the first heartbeat.
const FIRST_HEARTBEAT: Duration = Duration::from_secs(10);

/// The longest time between two heartbeats; each waits twice as long as the one before.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);

/// How often the live line is drawn anew.
const REDRAW: Duration = Duration::from_millis(500);

/// How many running cases a line names.
const NAMED: usize = 6;

/// Where people read: the standard error, with a live line at its end where it is a terminal.
#[derive(Debug)]
pub struct Console {
    live: Option<ProgressBar>,
    running: Arc<Running>,
}

impl Console {
    /// A console for `total` cases.
    pub fn new(running: Arc<Running>, total: usize) -> Self {
        let live = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("[{elapsed}] {pos}/{len}{wide_msg}");
            let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { live, running }
    }

    /// Prints a line to the standard error.
    pub fn say(&self, line: &str) {
        self.above_the_live_line(|| {
            // Where nobody reads any more there is nothing left to say it to; the results directory has it all.
            drop(writeln!(io::stderr(), "{line}"));
        });
    }

    /// Keeps the user informed until the table of running cases is closed.
    pub fn start(self: &Arc<Self>) -> JoinHandle<()> {
        let console = Arc::clone(self);
        thread::spawn(move || match &console.live {
            Some(bar) => console.draw(bar),
            None => console.beat(),
        })
    }

    /// Copies what libtest-mimic prints from `lines` to `out` until its end.
    ///
    /// A reader that went away (`| head`) is told to `closed`, and the rest is read and dropped: libtest-mimic
    /// panics where it cannot print.
    pub fn forward(&self, mut lines: impl Read, mut out: impl Write, closed: impl Fn()) -> io::Result<()> {
        let mut buffer = [0; 8192];
        let mut result = Ok(());
        loop {
            let length = match lines.read(&mut buffer) {
                Ok(0) => return result,
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if result.is_ok() {
                result =
                    self.above_the_live_line(|| out.write_all(&buffer[..length]).and_then(|()| out.flush()));
                if result.is_err() {
                    closed();
                }
            }
        }
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
            open = self.running.wait_for_an_end(usize::MAX, REDRAW);
            let snapshot = self.running.snapshot();
            bar.set_position(snapshot.ended.total() as u64);
            bar.set_message(live_message(&snapshot));
            bar.tick();
        }
        bar.finish_and_clear();
    }

    fn beat(&self) {
        let mut ended = 0;
        let mut silence = FIRST_HEARTBEAT;
        while self.running.wait_for_an_end(ended, silence) {
            let snapshot = self.running.snapshot();
            if snapshot.ended.total() > ended {
                ended = snapshot.ended.total();
                silence = FIRST_HEARTBEAT;
            } else if !snapshot.cases.is_empty() {
                self.say(&format!("still running: {}", list(&snapshot)));
                silence = (silence * 2).min(LONGEST_SILENCE);
            }
        }
    }
}

impl Observer for Console {
    fn notify(&self, event: Event<'_>) {
        if let Event::Finished(outcome) = event
            && outcome.status.is_failure()
        {
            let reason = outcome.reason.as_deref().unwrap_or_default();
            let first_line = reason.lines().next().unwrap_or_default();
            self.say(&format!("{} {}: {first_line}", outcome.status.as_str(), outcome.name));
        }
    }
}

fn live_message(snapshot: &Snapshot) -> String {
    let ended = snapshot.ended;
    let failures = ended.failed + ended.timed_out + ended.no_run;
    let failures = if failures > 0 { format!(", {failures} failed") } else { String::new() };
    let running = if snapshot.cases.is_empty() { String::new() } else { format!(": {}", list(snapshot)) };
    format!(" ({} passed, {} skipped{failures}){running}", ended.passed, ended.skipped)
}

fn list(snapshot: &Snapshot) -> String {
    let now = Instant::now();
    let show = |(name, process): &(String, crate::running::Process)| {
        format!("{name} (pid {}, {} s)", process.pid, now.duration_since(process.since).as_secs())
    };
    let mut shown: Vec<_> = snapshot.cases.iter().take(NAMED).map(show).collect();
    if snapshot.cases.len() > NAMED {
        shown.push(format!("and {} more", snapshot.cases.len() - NAMED));
    }
    shown.join(", ")
}

/// Where libtest-mimic's lines go: the standard output, or the file of `--logfile`.
///
/// # Errors
/// The file cannot be made.
pub fn destination(logfile: Option<&std::path::Path>) -> io::Result<Box<dyn Write + Send>> {
    Ok(match logfile {
        Some(path) => Box::new(File::create(path)?),
        None => Box::new(io::stdout()),
    })
}
