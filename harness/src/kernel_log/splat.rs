//! Splats: what the kernel complains of, put together from the records of its log.

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cases::{CaseId, Cases, Owner};
use super::culprit;
use super::pattern::{self, Kind};
use super::record::Record;
use crate::model::printable::printable_within;

/// Where nothing is added to a splat for this long, in microseconds, it is at its end: many have no mark there.
pub const GAP_US: u64 = 1_000_000;

/// How many lines of a splat are kept of its beginning.
const HEAD: usize = 200;

/// How many lines are kept of its end.
const TAIL: usize = 50;

/// No splat goes on for more lines than this.
const LONGEST: usize = 5000;

/// No kernel writes more splats at once than this.
const MOST_OPEN: usize = 64;

/// What is kept of a line, in bytes.
const LINE: usize = 1000;

/// A complaint of the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Splat {
    /// What it is: `WARNING`, `KASAN`, `OOM kill`.
    pub name: String,
    /// The line that says so.
    pub title: String,
    /// When it began, in microseconds of the kernel's clock (nearly `CLOCK_MONOTONIC`).
    pub at_us: u64,
    /// All of its lines; of a very long one the beginning and the end.
    pub lines: Vec<String>,
    /// The cases that were running when it began, where it could not be shown to be that of one of them.
    pub while_running: Vec<String>,
}

/// Puts splats together.
#[derive(Debug, Default)]
pub struct Assembler {
    open: Vec<Open>,
}

/// A splat that has begun.
#[derive(Debug)]
struct Open {
    caller: Option<String>,
    kind: Kind,
    /// What it is has been said, not only that something comes.
    has_title: bool,
    /// It began with a mark, so another one begins with a mark only.
    is_marked: bool,
    splat: Splat,
    tail: VecDeque<String>,
    left_out: usize,
    count: usize,
    pid: Option<i32>,
    owner: Owner,
    last_us: u64,
    /// Its case has ended, and has taken it along.
    is_taken: bool,
}

impl Assembler {
    /// Takes note of a record, and returns the splats that have come to their end, with their owners.
    pub fn record(&mut self, record: &Record, cases: &Cases) -> Vec<(Owner, Splat)> {
        let has_ended = |open: &mut Open| record.time_us.saturating_sub(open.last_us) > GAP_US;
        let mut ended: Vec<_> = self.open.extract_if(.., has_ended).collect();
        // What is written to /dev/kmsg by others is no word of the kernel's.
        if record.is_the_kernels() {
            for line in record.text.lines() {
                ended.extend(self.line(
                    record,
                    &printable_within(line.trim_end().as_bytes(), LINE),
                    cases,
                ));
            }
        }
        finished(&ended)
    }

    /// Whether a splat has begun that has not ended.
    pub fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Ends all that have begun.
    pub fn close(&mut self) -> Vec<(Owner, Splat)> {
        finished(&std::mem::take(&mut self.open))
    }

    /// What has begun and is of this case, as far as it has come. What follows of it is dropped.
    pub fn take(&mut self, id: CaseId) -> Vec<Splat> {
        let of_case = self
            .open
            .iter_mut()
            .filter(|open| open.owner == Owner::Case(id) && !open.is_taken);
        let taken = of_case.map(|open| {
            open.is_taken = true;
            open.splat()
        });
        taken.collect()
    }

    fn line(&mut self, record: &Record, line: &str, cases: &Cases) -> Option<Open> {
        let found = pattern::find(line);
        let is_cut = pattern::is_cut(line);
        let index = self
            .open
            .iter()
            .position(|open| open.caller == record.caller);
        let is_new = match index.map(|index| &self.open[index]) {
            Some(open) if is_cut => open.has_title,
            Some(open) => {
                open.has_title && !open.is_marked && found.is_some_and(|(_, kind)| begins(kind))
            }
            None => is_cut || found.is_some(),
        };
        let too_many = (is_new && self.open.len() >= MOST_OPEN).then_some(0);
        let ended = index
            .filter(|_| is_new)
            .or(too_many)
            .map(|index| self.open.remove(index));
        let index = if is_new {
            self.open.push(Open::new(record, is_cut, cases));
            Some(self.open.len() - 1)
        } else {
            index.or_else(|| self.open.iter().rposition(|open| open.kind == Kind::Stall))
        };
        let Some(index) = index else { return ended };
        let open = &mut self.open[index];
        open.add(line, found, record.time_us);
        open.accuse(line, cases);
        let is_at_its_end = pattern::is_end(line, open.kind) || open.count >= LONGEST;
        // One that is new has just begun: it does not end with the line that ended another.
        if is_at_its_end && ended.is_none() {
            Some(self.open.remove(index))
        } else {
            ended
        }
    }
}

/// Whether a line of this kind begins another splat where one has begun.
fn begins(kind: Kind) -> bool {
    match kind {
        Kind::Report | Kind::Stall => true,
        Kind::Part | Kind::OutOfMemory => false,
    }
}

fn finished(ended: &[Open]) -> Vec<(Owner, Splat)> {
    ended
        .iter()
        .filter(|open| !open.is_taken)
        .map(|open| (open.owner, open.splat()))
        .collect()
}

impl Open {
    fn new(record: &Record, is_marked: bool, cases: &Cases) -> Self {
        let splat = Splat {
            name: "splat".to_owned(),
            title: String::new(),
            at_us: record.time_us,
            lines: Vec::new(),
            while_running: cases.names(),
        };
        Self {
            caller: record.caller.clone(),
            kind: Kind::Report,
            has_title: false,
            is_marked,
            splat,
            tail: VecDeque::new(),
            left_out: 0,
            count: 0,
            pid: None,
            owner: Owner::Nobody,
            last_us: record.time_us,
            is_taken: false,
        }
    }

    fn add(&mut self, line: &str, found: Option<(&'static str, Kind)>, time_us: u64) {
        self.last_us = time_us;
        self.count += 1;
        if let (false, Some((name, kind))) = (self.has_title, found) {
            (self.has_title, self.kind) = (true, kind);
            (self.splat.name, self.splat.title) = (name.to_owned(), line.to_owned());
        }
        if self.splat.lines.len() < HEAD {
            self.splat.lines.push(line.to_owned());
            return;
        }
        self.tail.push_back(line.to_owned());
        if self.tail.len() > TAIL {
            self.tail.pop_front();
            self.left_out += 1;
        }
    }

    /// Looks for whose it is: the first thread that it names decides; another line may tell that thread's name.
    fn accuse(&mut self, line: &str, cases: &Cases) {
        let culprit = match self.kind {
            Kind::OutOfMemory => culprit::victim(line),
            Kind::Report | Kind::Part | Kind::Stall => culprit::thread(line),
        };
        let Some(culprit) = culprit else { return };
        let is_known = self.owner != Owner::Nobody;
        if *self.pid.get_or_insert(culprit.pid) == culprit.pid && !is_known {
            self.owner = cases.owner(&culprit);
        }
    }

    fn splat(&self) -> Splat {
        let mut splat = self.splat.clone();
        if self.left_out > 0 {
            splat
                .lines
                .push(format!("({} lines left out)", self.left_out));
        }
        splat.lines.extend(self.tail.iter().cloned());
        if splat.title.is_empty() {
            splat.title = splat
                .lines
                .get(1)
                .or(splat.lines.first())
                .cloned()
                .unwrap_or_default();
        }
        if self.owner != Owner::Nobody {
            splat.while_running.clear();
        }
        splat
    }
}
