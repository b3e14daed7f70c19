//! `--format json`: libtest's JSON, written as it happens.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use libtest_mimic::Conclusion;
use serde_json::{Map, Value, json};

use crate::model::event::{Event, Observer};
use crate::model::outcome::{Outcome, Status};
use crate::model::printable::{printable, printable_within};
use crate::show::tail::{STDERR, STDOUT, tail_of};

/// The most that one event has, in bytes of JSON: readers hold it in memory, and a case may print gigabytes.
const EVENT_LIMIT: usize = 60 * 1024;

/// The most of the command that repeats a case, in bytes; run.json has the whole.
const REPRODUCE_LIMIT: usize = 8 * 1024;

/// What an event has beside its case's name and what is shown as `stdout`, in bytes, with something to spare.
const MEMBERS: usize = 512;

/// The writer of libtest's JSON.
pub struct LibtestJson {
    out: Mutex<Box<dyn Write + Send>>,
    results: OwnedFd,
    shows_passed: bool,
    closed: Box<dyn Fn(&io::Error) + Send + Sync>,
}

impl LibtestJson {
    /// Writes to `out`, with the output that is kept in `results`; that of passed cases too if `shows_passed`.
    /// A reader that goes away is told to `closed`.
    pub fn new(
        out: Box<dyn Write + Send>,
        results: OwnedFd,
        shows_passed: bool,
        closed: impl Fn(&io::Error) + Send + Sync + 'static,
    ) -> Self {
        Self {
            out: Mutex::new(out),
            results,
            shows_passed,
            closed: Box::new(closed),
        }
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
            Status::Passed if !self.shows_passed => {
                drop(put("exec_time", outcome.duration_s.into()))
            }
            Status::Passed => {
                put("exec_time", outcome.duration_s.into());
                put("stdout", self.output(outcome, String::new()).into());
            }
            Status::Failed | Status::TimedOut | Status::NoRun => {
                put("exec_time", outcome.duration_s.into());
                let reproduce = printable_within(outcome.reproduce.as_bytes(), REPRODUCE_LIMIT);
                let heading = format!(
                    "{}: {reason}\nreproduce: {reproduce}\n",
                    outcome.status.as_str()
                );
                put("stdout", self.output(outcome, heading).into());
                if outcome.status == Status::TimedOut {
                    put("reason", "time limit exceeded".into());
                }
            }
        }
        self.write(&Value::Object(line));
    }

    /// `text`, and behind it the ends of what the case printed, as far as the event has room.
    fn output(&self, outcome: &Outcome, mut text: String) -> String {
        let room = EVENT_LIMIT
            .saturating_sub(MEMBERS + encoded_length(&outcome.name) + encoded_length(&text));
        for name in [STDOUT, STDERR] {
            let end = tail_of(outcome, &self.results, name, room / 2);
            if !end.is_empty() {
                writeln!(text, "--- {name}\n{}", fitting_end(&end, room / 2))
                    .expect("write to a string");
            }
        }
        text
    }

    fn write(&self, line: &Value) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = writeln!(out, "{line}").and_then(|()| out.flush()) {
            (self.closed)(&error);
        }
    }
}

impl Observer for LibtestJson {
    fn notify(&self, event: Event<'_>) {
        match event {
            Event::Entered(_) | Event::Left(_) | Event::Starting(_) => {}
            Event::Started(outcome) => self.started(&outcome.name),
            Event::Finished(outcome) => {
                if outcome.pid.is_none() {
                    self.started(&outcome.name);
                }
                self.finished(outcome);
            }
            Event::Splat(_) => {}
        }
    }
}

/// How long `text` is in JSON.
fn encoded_length(text: &str) -> usize {
    text.chars().map(encoded_length_of).sum()
}

/// How long a character is in a string of JSON (RFC 8259, 7), as serde_json writes it.
fn encoded_length_of(character: char) -> usize {
    match character {
        '"' | '\\' | '\n' | '\t' | '\r' | '\x08' | '\x0c' => 2,
        '\0'..='\x1f' => 6,
        _ => character.len_utf8(),
    }
}

/// The end of `text` that takes at most `limit` bytes in JSON, with `…` before it where something was left out.
fn fitting_end(text: &str, limit: usize) -> Cow<'_, str> {
    let mut length = 0;
    let cut = text.char_indices().rev().find(|&(_, character)| {
        length += encoded_length_of(character);
        length > limit
    });
    match cut {
        None => text.into(),
        Some((at, character)) => format!("…{}", &text[at + character.len_utf8()..]).into(),
    }
}
