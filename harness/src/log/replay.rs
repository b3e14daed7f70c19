//! A run as its journal tells it: one outcome for each case, whatever became of the runner or the host.

use std::collections::{HashMap, HashSet};
use std::io::BufRead;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::kernel_log::splat::Splat;
use crate::log::record::{Record, check_version};
use crate::model::entry::{Entry, RunInfo};
use crate::model::name::CaseName;
use crate::model::outcome::{LeftBehind, Outcome, Status};
use crate::model::stay::Stay;

/// What the lines of a journal add up to.
#[derive(Debug, Default)]
pub struct Replay {
    run: Option<RunInfo>,
    resumed: Vec<RunInfo>,
    planned: Vec<CaseName>,
    /// Those that may have been started and have not ended, as far as is known.
    open: HashMap<String, Option<Outcome>>,
    /// In the order of their ends.
    ended: Vec<Outcome>,
    stays: Vec<Stay>,
    splats: Vec<Splat>,
    /// How many processes joined the first one, in a run of nextest.
    joined: usize,
    /// How many processes came and have not said that they left.
    present: usize,
    end: End,
}

/// What those who left had to say.
#[derive(Debug, Default)]
struct End {
    at_ms: u64,
    duration_s: f64,
    interrupted_by: Option<i32>,
    taint: Option<u64>,
    kernel_records_lost: u64,
    left_behind: Vec<LeftBehind>,
}

impl Replay {
    /// Reads a journal. A line that cannot be read says nothing: the last one may have been cut off with its writer or the
    /// disk's space, and a crash of the host can leave zeros where the file system had no time to write.
    ///
    /// # Errors
    /// The file cannot be read, or its run was begun by a newer version.
    pub fn of(journal: impl BufRead) -> anyhow::Result<Self> {
        let mut replay = Self::default();
        for line in journal.split(b'\n') {
            let line = line?;
            let line = line.trim_ascii_start();
            let text = &line[line.iter().take_while(|&&byte| byte == 0).count()..];
            match Entry::parse(text) {
                Ok(entry) => replay.take(entry)?,
                Err(error) if replay.run.is_none() => check_beginning(text, error)?,
                Err(_) => {}
            }
        }
        Ok(replay)
    }

    fn take(&mut self, entry: Entry) -> anyhow::Result<()> {
        match entry {
            Entry::RunStarted { run, cases } => {
                check_version(run.schema_version)?;
                self.run.get_or_insert(*run);
                self.ended.reserve_exact(cases.len());
                self.planned.extend(cases);
                self.present += 1;
            }
            Entry::RunJoined { cases, .. } => {
                self.planned.extend(cases);
                self.joined += 1;
                self.present += 1;
            }
            Entry::RunResumed { run } => {
                self.resumed.push(*run);
                // Whoever was there is there no more.
                self.present = 1;
                self.end.interrupted_by = None;
            }
            Entry::EnvironmentEntered { stay } => self.stays.push(*stay),
            Entry::EnvironmentLeft { stay } => {
                self.stays.retain(|entered| !entered.is(&stay));
                self.stays.push(*stay);
            }
            Entry::Starting { names } => {
                self.open.extend(names.into_iter().map(|name| (name, None)));
            }
            Entry::Started { outcome } => {
                drop(self.open.insert(outcome.name.clone(), Some(*outcome)))
            }
            Entry::Finished { outcome } => self.finish(*outcome),
            Entry::Splat { splat } => self.splats.push(*splat),
            Entry::RunFinished {
                at_ms,
                duration_s,
                interrupted_by,
                taint,
                kernel_records_lost,
                left_behind,
            } => {
                self.present = self.present.saturating_sub(1);
                self.end.at_ms = self.end.at_ms.max(at_ms);
                self.end.duration_s = duration_s;
                self.end.interrupted_by = self.end.interrupted_by.or(interrupted_by);
                self.end.taint = taint;
                self.end.kernel_records_lost += kernel_records_lost;
                self.end.left_behind.extend(left_behind);
            }
        }
        Ok(())
    }

    fn finish(&mut self, outcome: Outcome) {
        self.open.remove(&outcome.name);
        self.ended.push(outcome);
    }

    /// The whole run, with every case that has no outcome as `NO_RUN`; `begun` says how it began, where its own first line
    /// is lost. `None` where nothing does.
    pub fn record(mut self, begun: Option<RunInfo>) -> Option<Record> {
        let mut run = self.run.take().or(begun)?;
        let finished = self.present == 0;
        // Where each case is that has ended, the last time where it has more than once.
        let places: HashMap<&str, usize> = self
            .ended
            .iter()
            .map(|outcome| outcome.name.as_str())
            .zip(0..)
            .collect();
        let mut planned = Vec::new();
        let mut seen = HashSet::new();
        for case in &self.planned {
            if !seen.insert(case) {
                continue;
            }
            let name = case.to_string();
            match (self.open.remove(&name), places.contains_key(name.as_str())) {
                (Some(Some(started)), _) => planned.push(was_running(started)),
                (Some(None), _) => planned.push(may_have_run(Outcome::of(case, run.started_ms))),
                (None, false) => {
                    planned.push(has_not_run(Outcome::of(case, run.started_ms), finished))
                }
                (None, true) => {}
            }
        }
        // Of the others, what nothing is known of but a name cannot be told: no suite, no variant.
        let unplanned = std::mem::take(&mut self.open).into_values().flatten();
        let mut without: Vec<Outcome> = unplanned.map(was_running).collect();
        without.sort_by(|a, b| a.name.cmp(&b.name));
        without.append(&mut planned);
        // A case that was run again and did not end has lost the outcome that it had.
        let again: HashSet<&str> = without
            .iter()
            .map(|outcome| outcome.name.as_str())
            .collect();
        let is_last = |(place, outcome): (usize, &Outcome)| {
            let name = outcome.name.as_str();
            places.get(name) == Some(&place) && !again.contains(name)
        };
        let mut are_last = self
            .ended
            .iter()
            .enumerate()
            .map(is_last)
            .collect::<Vec<_>>()
            .into_iter();
        let mut outcomes = self.ended;
        outcomes.retain(|_| are_last.next() == Some(true));
        outcomes.append(&mut without);
        self.stays.sort_by_key(|stay| stay.entering_ms);
        let End {
            at_ms,
            duration_s,
            interrupted_by,
            taint,
            kernel_records_lost,
            left_behind,
        } = self.end;
        let duration_s = if self.joined > 0 {
            run.selected = seen.len();
            Duration::from_millis(at_ms.saturating_sub(run.started_ms)).as_secs_f64()
        } else {
            duration_s
        };
        Some(Record {
            schema_version: run.schema_version,
            run,
            resumed: self.resumed,
            outcomes,
            stays: self.stays,
            splats: self.splats,
            taint,
            kernel_records_lost,
            finished,
            duration_s: finished.then_some(duration_s),
            interrupted_by,
            left_behind,
        })
    }
}

fn was_running(mut outcome: Outcome) -> Outcome {
    outcome.set(
        Status::NoRun,
        "the run ended while this was running".to_owned(),
    );
    outcome.suspect = true;
    outcome
}

fn may_have_run(mut outcome: Outcome) -> Outcome {
    outcome.set(
        Status::NoRun,
        "the run ended when this was about to run, or ran".to_owned(),
    );
    outcome.suspect = true;
    outcome
}

fn has_not_run(mut outcome: Outcome, finished: bool) -> Outcome {
    let reason = match finished {
        true => "no outcome of it was kept",
        false => "the run ended before this was started",
    };
    outcome.set(Status::NoRun, reason.to_owned());
    outcome
}

/// Where a journal begins with what this version cannot read, a newer one may have written it.
fn check_beginning(line: &[u8], error: serde_json::Error) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Begin<'a> {
        #[serde(borrow)]
        run: &'a RawValue,
    }
    #[derive(Deserialize)]
    struct Version {
        schema_version: u32,
    }
    let Ok(Begin { run }) = serde_json::from_slice(line) else {
        return Ok(());
    };
    let Ok(Version { schema_version }) = serde_json::from_str(run.get()) else {
        return Ok(());
    };
    check_version(schema_version)?;
    Err(error.into())
}
