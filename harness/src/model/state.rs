//! What a journal adds up to: the fold of its events. The live display, the summary, the reports, `--resume` and `compare`
//! all read a state.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::case::name::CaseName;
use super::event::{Event, Part, PartEnd, SCHEMA_VERSION, Span};
use super::outcome::{Counts, Outcome, OutcomeKind, Splat, Step};
use super::planned::Planned;

/// A run, as far as it has come. run.json holds one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct State {
    /// [`SCHEMA_VERSION`] of what wrote it.
    pub schema_version: u32,
    /// The processes that had a share in it, in the order in which they began.
    pub parts: Vec<Share>,
    /// How many cases all parts together are to run.
    pub selected: usize,
    /// How many outcomes there are of each status; known failures, and passes of what is known to fail, by themselves.
    #[serde(skip_deserializing)]
    #[schemars(with = "BTreeMap<String, usize>")]
    counts: Counts,
    /// What became of each case: one outcome a case, in the order of their ends; in the end also of those that have not run.
    pub outcomes: Vec<Outcome>,
    /// The times in environments, in the order in which they began.
    pub environments: Vec<Span>,
    /// The splats of the kernel that could not be shown to be a case's own.
    pub splats: Vec<Splat>,
    /// Whether all parts came to their end, however that was.
    pub finished: bool,
    #[serde(skip)]
    progress: Progress,
}

/// A part of a run, and its end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Share {
    /// What was known when it began.
    pub part: Part,
    /// How it ended; `None` where it has not, or was killed.
    pub end: Option<PartEnd>,
}

/// What has a run fail whose cases do not.
#[derive(Debug)]
pub struct Trouble<'a> {
    /// The host, in a run of several.
    pub host: Option<&'a str>,
    /// What it is of, and of which kind: `kernel`, `splat`.
    pub kind: [&'static str; 2],
    /// It in words, perhaps of several lines.
    pub what: String,
}

impl<'a> Trouble<'a> {
    fn new(host: Option<&'a str>, kind: [&'static str; 2], what: String) -> Self {
        Self { host, kind, what }
    }
}

impl Share {
    fn has_ended_at_place(&self) -> bool {
        let end = self.end.as_ref();
        self.part.place.is_some() && end.is_some_and(|end| end.died.is_none())
    }
}

/// A step that is running.
#[derive(Debug, Clone, PartialEq)]
pub struct Running {
    /// The step.
    pub step: Step,
    /// Its process ID.
    pub pid: i32,
    /// The worker that runs it.
    pub worker: usize,
    /// When it was started, in milliseconds since the epoch.
    pub since_ms: u64,
}

/// What is known of a run while it goes on.
#[derive(Debug, Clone, Default, PartialEq)]
struct Progress {
    /// What all parts together owe.
    plans: Vec<Planned>,
    /// The cases that are to run, in their order.
    planned: Vec<CaseName>,
    /// Where each case's outcome stands.
    places: HashMap<String, usize>,
    /// The cases that may have started and have not ended.
    starting: BTreeSet<String>,
    /// The steps that run at this moment, by their cases.
    running: BTreeMap<String, Running>,
    /// The cases of which a step has run, and which have not ended.
    begun: BTreeMap<String, Running>,
    /// The cases that may have run when an earlier part died.
    suspects: BTreeSet<String>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            parts: Vec::new(),
            selected: 0,
            counts: Counts::default(),
            outcomes: Vec::new(),
            environments: Vec::new(),
            splats: Vec::new(),
            finished: false,
            progress: Progress::default(),
        }
    }
}

impl State {
    /// The state after these events.
    #[cfg(test)]
    pub fn of<'a>(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut state = Self::default();
        events.into_iter().for_each(|event| state.apply(event));
        state
    }

    /// Takes note of what has happened.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Planned(planned) => self.progress.plans.push((**planned).clone()),
            Event::PartStarted { part, cases } => self.begin(part, cases),
            Event::EnvironmentEntered(span) => self.environments.push((**span).clone()),
            Event::EnvironmentLeft(span) => {
                self.environments.retain(|entered| !entered.is(span));
                self.environments.push((**span).clone());
            }
            Event::Starting { cases } => self.may_start(cases),
            Event::StepStarted {
                case,
                step,
                pid,
                worker,
                at_ms,
            } => {
                let running = Running {
                    step: *step,
                    pid: *pid,
                    worker: *worker,
                    since_ms: *at_ms,
                };
                self.progress.begun.insert(case.clone(), running.clone());
                self.progress.running.insert(case.clone(), running);
            }
            Event::StepEnded { case, .. } => drop(self.progress.running.remove(case)),
            Event::Finished(outcome) => self.finish((**outcome).clone()),
            Event::Repeated(outcome) => {
                if let Some(repetition) = outcome.repetitions.last() {
                    self.forget(&repetition.name);
                }
                self.finish((**outcome).clone());
            }
            Event::Splat(splat) => self.splats.push((**splat).clone()),
            Event::PartEnded(end) => {
                let is_it = |share: &&mut Share| {
                    share.end.is_none() && (end.part.is_empty() || share.part.id == end.part)
                };
                if let Some(share) = self.parts.iter_mut().rfind(is_it) {
                    share.end = Some((**end).clone());
                }
                self.finished = self.latest().iter().all(|share| share.end.is_some());
            }
        }
    }

    /// The event names cases ahead of their turn. One that could not be run may have its outcome by then, and keeps it.
    fn may_start(&mut self, cases: &[String]) {
        let Progress {
            starting, places, ..
        } = &mut self.progress;
        let still_to_come = cases.iter().filter(|name| !places.contains_key(*name));
        starting.extend(still_to_come.cloned());
    }

    fn begin(&mut self, part: &Part, cases: &[CaseName]) {
        self.parts.push(Share {
            part: part.clone(),
            end: None,
        });
        self.finished = false;
        if part.resumes {
            self.run_again(&part.run, cases);
        }
        self.progress.planned.extend(cases.iter().cloned());
        self.selected = self.progress.planned.len();
    }

    /// What is known of `cases` is void: they run again. What came before in the same run may have been on another host.
    fn run_again(&mut self, run: &str, cases: &[CaseName]) {
        let of_run = self.parts.iter().filter(|share| share.part.run == run);
        let hosts: BTreeSet<_> = of_run.map(|share| &share.part.label).collect();
        let on = |host: &Option<String>, case: &CaseName| {
            let host = host.clone();
            CaseName {
                host,
                ..case.clone()
            }
            .to_string()
        };
        let on_all = |case| hosts.iter().map(move |host| on(host, case));
        let again: BTreeSet<String> = cases.iter().flat_map(on_all).collect();
        let Progress {
            starting,
            begun,
            running,
            ..
        } = &mut self.progress;
        let may_have_run = |name: &&String| starting.contains(*name) || begun.contains_key(*name);
        let suspects: Vec<_> = again.iter().filter(may_have_run).cloned().collect();
        again.iter().for_each(|name| {
            starting.remove(name);
            begun.remove(name);
            running.remove(name);
        });
        let is_again = |case: &CaseName| again.contains(&case.to_string());
        self.progress.planned.retain(|case| !is_again(case));
        let suspected = self.outcomes.iter().filter(|outcome| outcome.suspect);
        let suspected: Vec<_> = suspected.map(|outcome| outcome.name.clone()).collect();
        self.progress.suspects.extend(suspects);
        self.progress.suspects.extend(suspected);
        self.outcomes
            .retain(|outcome| !again.contains(&outcome.name));
        self.index();
    }

    /// Whether it has failed, whatever became of its cases.
    pub fn has_ended_badly(&self) -> bool {
        !self.beside().is_empty()
    }

    /// What has it fail, whatever became of its cases: splats of nobody's, a kernel log that is not complete, a host that is
    /// not as before.
    pub fn beside(&self) -> Vec<Trouble<'_>> {
        let splats = self.splats.iter().map(|splat| {
            let (title, when, lines) = (&splat.title, splat.when(), splat.lines.join("\n"));
            let what = format!("{title}\n{when}\n{lines}");
            Trouble::new(splat.host.as_deref(), ["kernel", "splat"], what)
        });
        let mut found: Vec<_> = splats.collect();
        for share in &self.parts {
            let (part, Some(end)) = (&share.part, &share.end) else {
                continue;
            };
            let host = part.label.as_deref();
            let unseen = "a kernel splat that only the taint mask tells of";
            let unseen = end
                .kernel
                .has_unseen(part.host.taint)
                .then(|| unseen.to_owned());
            let problem = end.kernel.problem.iter();
            let problem = problem.map(|why| format!("the kernel's log is not complete: {why}"));
            let is_lost = end.kernel.stray > 0 && self.splats.is_empty();
            let lost = is_lost.then(|| "a kernel splat that is not in the journal".to_owned());
            let log = problem.chain(unseen).chain(lost);
            found.extend(log.map(|what| Trouble::new(host, ["kernel", "log"], what)));
        }
        // A later part may have put the host back.
        for share in self.latest() {
            let left = share.end.iter().flat_map(|end| &end.not_restored);
            let left = left.map(|what| format!("the host is not as it was {what}"));
            let host = share.part.label.as_deref();
            found.extend(left.map(|what| Trouble::new(host, ["host", "restored"], what)));
        }
        found
    }

    /// The parts that no later one has gone on after.
    pub fn latest(&self) -> Vec<&Share> {
        let mut gone_on = HashSet::new();
        let mut latest: Vec<_> = self.parts.iter().rev().collect();
        latest.retain(|share| {
            let run = share.part.run.as_str();
            // At places the parts of a run go side by side: one that has ended is not gone on with.
            let is_latest = !gone_on.contains(run) || share.has_ended_at_place();
            if share.part.resumes {
                gone_on.insert(run);
            }
            is_latest
        });
        latest.reverse();
        latest
    }

    /// Nothing of this name runs any more.
    fn forget(&mut self, name: &str) {
        self.progress.starting.remove(name);
        self.progress.running.remove(name);
        self.progress.begun.remove(name);
    }

    fn finish(&mut self, outcome: Outcome) {
        self.forget(&outcome.name);
        self.counts.add(outcome.kind());
        match self.progress.places.get(&outcome.name) {
            // It has run again, in a later part.
            Some(&place) => {
                let before = std::mem::replace(&mut self.outcomes[place], outcome);
                self.counts.remove(before.kind());
            }
            None => {
                let place = self.outcomes.len();
                self.progress.places.insert(outcome.name.clone(), place);
                self.outcomes.push(outcome);
            }
        }
    }

    /// Gives every case that should have run, and of which nothing else is known, the outcome `NO_RUN`: for a run that is
    /// over, or was killed.
    pub fn close(&mut self) {
        let planned = std::mem::take(&mut self.progress.planned);
        let mut seen = BTreeSet::new();
        for case in planned.iter().filter(|case| seen.insert(*case)) {
            let name = case.to_string();
            let (reason, suspect) = if self.progress.begun.contains_key(&name) {
                ("the run ended while this was running", true)
            } else if self.progress.starting.contains(&name) {
                ("the run ended when this was about to run, or ran", true)
            } else if self.progress.places.contains_key(&name) {
                continue;
            } else if self.finished {
                ("no outcome of it was kept", false)
            } else {
                ("the run ended before this was started", false)
            };
            let suspect = suspect || self.progress.suspects.contains(&name);
            let running = self.progress.begun.get(&name);
            let started_ms = running.map_or(self.started_ms(), |running| running.since_ms);
            let outcome = Outcome {
                pid: running.map(|running| running.pid),
                suspect,
                ..Outcome::no_run(case, started_ms, reason)
            };
            self.finish(outcome);
        }
        drop(seen);
        self.progress.planned = planned;
        self.close_plans();
        self.selected = self.outcomes.len();
        self.environments.sort_by_key(|span| span.entering_ms);
    }

    /// The same for the cases of plans that were in no part.
    fn close_plans(&mut self) {
        if self.progress.plans.is_empty() {
            return;
        }
        // Whichever host brought it.
        let brought: HashSet<_> = self.outcomes.iter().map(Outcome::name_there).collect();
        let owed = self.progress.plans.iter().flat_map(|plan| &plan.cases);
        let missing: BTreeSet<_> = owed
            .filter(|case| !brought.contains(&*case.to_string()))
            .collect();
        let reason = "the plan has it, and no part brought it";
        let no_run = |case| Outcome::no_run(case, self.started_ms(), reason);
        let outcomes: Vec<_> = missing.into_iter().map(no_run).collect();
        outcomes
            .into_iter()
            .for_each(|outcome| self.finish(outcome));
    }

    /// The state of a run.json, once it has been read.
    #[must_use]
    pub fn indexed(mut self) -> Self {
        self.index();
        self
    }

    fn index(&mut self) {
        let names = self.outcomes.iter().map(|outcome| outcome.name.clone());
        self.progress.places = names.zip(0..).collect();
        self.counts = Counts::of_all(self.outcomes.iter().map(Outcome::kind));
    }

    /// The part that began first. A state that was made from a run has one.
    pub fn first(&self) -> Option<&Part> {
        self.parts.first().map(|share| &share.part)
    }

    /// The part that began last.
    pub fn last(&self) -> Option<&Share> {
        self.parts.last()
    }

    /// When the run began, in milliseconds since the epoch; 0 where that is not known.
    pub fn started_ms(&self) -> u64 {
        self.first().map_or(0, |part| part.started_ms)
    }

    /// How long it took, in seconds; of a run that was resumed, its last part, and of several the longest. `None` where it
    /// did not come to its end.
    pub fn duration_s(&self) -> Option<f64> {
        let ends = self.latest().into_iter().map(|share| share.end.as_ref());
        let ends: Vec<_> = ends.collect::<Option<_>>()?;
        let is_nextest = self.first()?.nextest_run_id.is_some();
        if is_nextest {
            let last = ends.iter().map(|end| end.at_ms).max()?;
            let all_ms = last.saturating_sub(self.started_ms());
            return Some(std::time::Duration::from_millis(all_ms).as_secs_f64());
        }
        let durations = ends.iter().map(|end| end.duration_s);
        durations.max_by(f64::total_cmp)
    }

    /// The signal that interrupted it and that it did not go on after, where one did.
    pub fn interrupted_by(&self) -> Option<i32> {
        self.ends().find_map(|end| end.interrupted_by)
    }

    /// The ends of those parts that no later one has gone on after.
    fn ends(&self) -> impl Iterator<Item = &PartEnd> {
        let latest = self.latest().into_iter();
        latest.filter_map(|share| share.end.as_ref())
    }

    /// What the hosts are called, in the order in which they began; `None` alone, where there is one.
    pub fn hosts(&self) -> Vec<Option<&str>> {
        let mut seen = HashSet::new();
        let labels = self.parts.iter().map(|share| share.part.label.as_deref());
        labels.filter(|label| seen.insert(*label)).collect()
    }

    /// Whether several runs were merged into it.
    pub fn is_merged(&self) -> bool {
        let mut runs = self.parts.iter().map(|share| &share.part.run);
        let first = runs.next();
        runs.any(|run| Some(run) != first)
    }

    /// The part that began first on this host.
    pub fn first_on(&self, host: Option<&str>) -> Option<&Part> {
        let mut parts = self.parts.iter().map(|share| &share.part);
        parts.find(|part| part.label.as_deref() == host)
    }

    /// Why it ended early and did not go on, where no signal did that.
    pub fn ended_early(&self) -> Option<&str> {
        self.ends().find_map(|end| end.ended_early.as_deref())
    }

    /// How many cases have ended, by kind.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The outcome of a case, by its whole name.
    pub fn outcome(&self, name: &str) -> Option<&Outcome> {
        Some(&self.outcomes[*self.progress.places.get(name)?])
    }

    /// The outcomes of this kind.
    pub fn of_kind(&self, kind: impl Into<OutcomeKind>) -> impl Iterator<Item = &Outcome> {
        let (outcomes, kind) = (self.outcomes.iter(), kind.into());
        outcomes.filter(move |outcome| outcome.kind() == kind)
    }

    /// The steps that run at this moment, by their cases, those that began first in front.
    pub fn running(&self) -> Vec<(&str, &Running)> {
        let running = self.progress.running.iter();
        let mut running: Vec<_> = running.map(|(name, one)| (name.as_str(), one)).collect();
        running.sort_by_key(|(_, one)| one.since_ms);
        running
    }

    /// Whether the case of this name has begun, or may have, and has not ended.
    pub fn may_be_running(&self, name: &str) -> bool {
        self.progress.starting.contains(name) || self.progress.begun.contains_key(name)
    }

    /// The last time that the host was in the environment of this name.
    pub fn last_span(&self, host: Option<&str>, environment: &str) -> Option<&Span> {
        let mut spans = self.environments.iter();
        spans.rfind(|span| span.environment == environment && span.host.as_deref() == host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::outcome::{Exit, Status};

    fn name(variant: &str) -> CaseName {
        CaseName::new("s", variant)
    }

    fn begins(variants: &[&str], resumes: bool) -> Event {
        let part = Part {
            resumes,
            ..Part::default()
        };
        Event::PartStarted {
            part: Box::new(part),
            cases: variants.iter().map(|variant| name(variant)).collect(),
        }
    }

    fn starting(variants: &[&str]) -> Event {
        let cases = variants.iter().map(|variant| name(variant).to_string());
        Event::Starting {
            cases: cases.collect(),
        }
    }

    fn starts(variant: &str, step: Step) -> Event {
        Event::StepStarted {
            case: name(variant).to_string(),
            step,
            pid: 7,
            worker: 0,
            at_ms: 5,
        }
    }

    fn ends(variant: &str, step: Step) -> Event {
        Event::StepEnded {
            case: name(variant).to_string(),
            step,
            exit: Exit::Code(0),
            at_ms: 6,
        }
    }

    fn finishes(variant: &str, status: Status) -> Event {
        Event::Finished(Box::new(Outcome {
            status,
            reason: None,
            ..Outcome::no_run(&name(variant), 0, "")
        }))
    }

    fn closed(events: &[Event]) -> Vec<(String, Status, Option<String>, bool)> {
        let mut state = State::of(events);
        state.close();
        let row = |one: &Outcome| {
            let variant = one.variant.clone();
            (variant, one.status, one.reason.clone(), one.suspect)
        };
        state.outcomes.iter().map(row).collect()
    }

    #[test]
    fn whatever_became_of_the_runner_each_case_has_one_outcome() {
        let events = [
            begins(&["a", "b", "c", "d", "e"], false),
            starting(&["a", "b", "c", "d"]),
            starts("a", Step::Selftest),
            ends("a", Step::Selftest),
            finishes("a", Status::Passed),
            // Between two steps no process runs, and the case has begun all the same.
            starts("b", Step::Setup),
            ends("b", Step::Setup),
            starts("c", Step::Selftest),
        ];
        let no_run = |variant: &str, reason: &str, suspect| {
            let reason = Some(reason.to_owned());
            (variant.to_owned(), Status::NoRun, reason, suspect)
        };
        let running = "the run ended while this was running";
        assert_eq!(
            closed(&events),
            [
                ("a".to_owned(), Status::Passed, None, false),
                no_run("b", running, true),
                no_run("c", running, true),
                no_run(
                    "d",
                    "the run ended when this was about to run, or ran",
                    true
                ),
                no_run("e", "the run ended before this was started", false),
            ]
        );
    }

    #[test]
    fn a_case_that_is_named_after_its_end_keeps_its_outcome() {
        let events = [
            begins(&["a", "b"], false),
            finishes("b", Status::Failed),
            starting(&["a", "b"]),
            finishes("a", Status::Passed),
        ];
        let statuses: Vec<_> = closed(&events).into_iter().map(|row| row.1).collect();
        assert_eq!(statuses, [Status::Failed, Status::Passed]);
    }

    #[test]
    fn a_part_that_goes_on_voids_what_was_known_of_its_cases_and_remembers_suspects() {
        let events = [
            begins(&["a", "b", "c"], false),
            starting(&["a", "b"]),
            finishes("a", Status::Passed),
            starts("b", Step::Selftest),
            begins(&["b", "c"], true),
        ];
        let state = State::of(&events);
        assert!(state.running().is_empty() && !state.finished);
        assert_eq!(state.counts(), Counts::of_all([Status::Passed]));
        let rows = closed(&events);
        let suspects: Vec<_> = rows.iter().map(|row| (row.0.as_str(), row.3)).collect();
        assert_eq!(suspects, [("a", false), ("b", true), ("c", false)]);
    }

    #[test]
    fn the_running_step_and_its_pid_are_known() {
        let mut state = State::of(&[begins(&["a"], false), starts("a", Step::Teardown)]);
        let running = state.running();
        assert_eq!((running[0].0, running[0].1.step), ("s::a", Step::Teardown));
        state.apply(&ends("a", Step::Teardown));
        assert!(state.running().is_empty());
    }

    #[test]
    fn a_state_that_was_written_and_read_is_the_same() {
        let mut state = State::of(&[begins(&["a"], false), finishes("a", Status::Failed)]);
        state.close();
        let text = serde_json::to_vec(&state).unwrap();
        let read = serde_json::from_slice::<State>(&text).unwrap().indexed();
        assert_eq!(read.outcome("s::a"), state.outcome("s::a"));
        assert_eq!(read.counts(), state.counts());
    }
}
