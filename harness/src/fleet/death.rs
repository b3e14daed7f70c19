//! The death of a place: what its console says of it, and which cases may have brought it about.

use std::path::Path;

use super::agenda::Item;
use super::part::{Console, Incoming};
use crate::kernel_log::last_splat;
use crate::log::Recorder;
use crate::model::case::Case;
use crate::model::case::name::on_host;
use crate::model::event::{Event, PartEnd, Sink};
use crate::model::outcome::{Exit, Splat, Step};
use crate::model::text::printable_within;

/// How many of the last lines are told of a place that has no other explanation.
const LAST: usize = 3;

/// How much of a line is told.
const LINE: usize = 200;

/// How a place died, or why it did not start.
pub(super) struct Death {
    /// In words.
    pub(super) why: String,
    splat: Option<Splat>,
}

impl Death {
    /// What there is to say of a place whose command has ended so.
    pub(super) fn of(console: &Console, root: &Path, how: &str) -> Self {
        let (printed, lines_before) = console.printed(root);
        if let Some((line, splat)) = last_splat(&printed) {
            let line = line + lines_before;
            let why = format!("{} ({}:{line})", splat.title, console.path.display());
            return Self {
                why,
                splat: Some(splat),
            };
        }
        let why = with_last_lines(how, console, root, LAST);
        Self { why, splat: None }
    }

    /// Notes it in the journal of the part that died, and tells it.
    pub(super) fn record(&self, incoming: &mut Incoming<'_>, left: &Left, cases: &[Case]) {
        let Some((part, _)) = &incoming.part else {
            return;
        };
        let mut end = PartEnd::now(part).because_of(incoming.supervisors.ended_early());
        let name = |case: &usize| cases[*case].name.to_string();
        for (case, step) in &left.running {
            incoming.record(Event::StepEnded {
                case: name(case),
                step: *step,
                exit: Exit::Interrupted,
                at_ms: end.at_ms,
            });
        }
        let while_running: Vec<_> = left.suspects.iter().map(name).collect();
        let ran = match while_running.as_slice() {
            [] => "while no case ran".to_owned(),
            cases => format!("while this ran: {}", cases.join(", ")),
        };
        if let Some(splat) = self.splat.clone() {
            end.kernel.stray = 1;
            let splat = Splat {
                while_running,
                ..splat
            };
            incoming.record(Event::Splat(Box::new(splat)));
        }
        end.died = Some(self.why.clone());
        incoming.record(Event::PartEnded(Box::new(end)));
        let (place, why) = (&incoming.place.name, &self.why);
        let line = format!("PLACE DIED: {place}, {ran}: {why}");
        incoming.recorder.say(&line);
    }
}

/// `what`, with the last lines that a place has printed.
pub(super) fn with_last_lines(what: &str, console: &Console, root: &Path, count: usize) -> String {
    let printed = console.printed(root).0;
    let lines = printed
        .split(|&byte| byte == b'\n')
        .map(|line| printable_within(line.trim_ascii(), LINE));
    let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
    match lines[lines.len().saturating_sub(count)..].join(" / ") {
        last if last.is_empty() => what.to_owned(),
        last => format!("{what}: {last} ({})", console.path.display()),
    }
}

/// What of an item has no outcome.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// The cases that ran, or were about to.
    pub(super) suspects: Vec<usize>,
    /// Of these, the steps that ran.
    running: Vec<(usize, Step)>,
    /// The other cases.
    pub(super) rest: Vec<usize>,
}

/// What of an item has no outcome on the host that is called so.
pub(super) fn left(recorder: &Recorder, cases: &[Case], item: &Item, host: Option<&str>) -> Left {
    recorder.with_state(|state| {
        let mut left = Left::default();
        for &case in &item.cases {
            let name = cases[case].name.to_string();
            let name = host.map_or(name.clone(), |host| on_host(host, &name));
            match state.outcome(&name) {
                Some(_) => {}
                None if state.may_be_running(&name) => left.suspects.push(case),
                None => left.rest.push(case),
            }
            let running = state.running().into_iter();
            let step = running.filter(|(running, _)| *running == name);
            left.running.extend(step.map(|(_, one)| (case, one.step)));
        }
        left
    })
}
