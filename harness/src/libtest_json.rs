//! `--format json`: libtest's JSON, written as it happens.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use libtest_mimic::Conclusion;
use serde_json::{Map, Value, json};

use crate::event::{Event, Observer};
use crate::outcome::{Outcome, Status};
use crate::printable::printable;
use crate::tail::{STDERR, STDOUT, tail_of};

/// The most of a case's output that one event carries, in bytes: readers of libtest's JSON hold it in memory.
const OUTPUT_LIMIT: usize = 56 * 1024;

/// The writer of libtest's JSON.
pub struct LibtestJson {
    out: Mutex<Box<dyn Write + Send>>,
    results: PathBuf,
    shows_passed: bool,
    closed: Box<dyn Fn() + Send + Sync>,
}

impl LibtestJson {
    /// Writes to `out`, with the output that is kept in `results`; that of passed cases too if `shows_passed`.
    /// A reader that goes away is told to `closed`.
    pub fn new(
        out: Box<dyn Write + Send>,
        results: &Path,
        shows_passed: bool,
        closed: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self { out: Mutex::new(out), results: results.to_owned(), shows_passed, closed: Box::new(closed) }
    }

    /// The run begins, with this many cases.
    pub fn begin(&self, count: usize, shuffle_seed: Option<u64>) {
        let mut line = json!({"type": "suite", "event": "started", "test_count": count});
        if let Some(seed) = shuffle_seed {
            line["shuffle_seed"] = seed.into();
        }
        self.write(&line);
    }

    /// A case is ignored, for this reason.
    pub fn ignored(&self, name: &str, reason: &str) {
        self.started(name);
        self.write(&json!({"type": "test", "name": name, "event": "ignored", "message": printable(reason.as_bytes())}));
    }

    fn started(&self, name: &str) {
        self.write(&json!({"type": "test", "event": "started", "name": name}));
    }

    /// The run has ended.
    pub fn end(&self, conclusion: &Conclusion, seconds: f64) {
        self.write(&json!({
            "type": "suite",
            "event": if conclusion.has_failed() { "failed" } else { "ok" },
            "passed": conclusion.num_passed,
            "failed": conclusion.num_failed,
            "ignored": conclusion.num_ignored,
            "measured": 0,
            "filtered_out": conclusion.num_filtered_out,
            "exec_time": seconds,
        }));
    }

    fn finished(&self, outcome: &Outcome) {
        let mut line = Map::new();
        let mut put = |key: &str, value: Value| line.insert(key.to_owned(), value);
        put("type", "test".into());
        put("name", outcome.name.as_str().into());
        let event = match outcome.status {
            Status::Passed => "ok",
            Status::Skipped => "ignored",
            Status::Failed | Status::TimedOut | Status::NoRun => "failed",
        };
        put("event", event.into());
        let reason = printable(outcome.reason.as_deref().unwrap_or_default().as_bytes());
        match outcome.status {
            Status::Skipped => drop(put("message", reason.into())),
            Status::Passed if !self.shows_passed => drop(put("exec_time", outcome.duration_s.into())),
            Status::Passed => {
                put("exec_time", outcome.duration_s.into());
                put("stdout", self.output(outcome).into());
            }
            Status::Failed | Status::TimedOut | Status::NoRun => {
                put("exec_time", outcome.duration_s.into());
                let heading =
                    format!("{}: {reason}\nreproduce: {}\n", outcome.status.as_str(), outcome.reproduce);
                put("stdout", (heading + &self.output(outcome)).into());
                if outcome.status == Status::TimedOut {
                    put("reason", "time limit exceeded".into());
                }
            }
        }
        self.write(&Value::Object(line));
    }

    fn output(&self, outcome: &Outcome) -> String {
        let show = |name: &str| match tail_of(outcome, &self.results, name, OUTPUT_LIMIT / 2) {
            text if text.is_empty() => text,
            text => format!("--- {name}\n{text}\n"),
        };
        show(STDOUT) + &show(STDERR)
    }

    fn write(&self, line: &Value) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
            (self.closed)();
        }
    }
}

impl Observer for LibtestJson {
    fn notify(&self, event: Event<'_>) {
        match event {
            Event::Started(outcome) => self.started(&outcome.name),
            Event::Finished(outcome) => {
                if outcome.pid.is_none() {
                    self.started(&outcome.name);
                }
                self.finished(outcome);
            }
        }
    }
}
