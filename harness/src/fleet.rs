//! Places: parts of a run are executed elsewhere, by this same program, and told here as they happen.

use std::fs;
use std::io;
use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::Context;

use crate::exec::without_run;
use crate::log::{Recorder, line_of};
use crate::model::case::{Case, quoted};
use crate::model::event::stream::MessageReader;
use crate::model::event::{Event, Part, PartEnd, Sink};
use crate::model::facts::{EarlyEnd, Obstacle};
use crate::model::planned::Planned;
use crate::supervise::Supervisors;
use agenda::{Agenda, Item, LOOK, items};
use death::{Death, with_last_lines};
use link::{Link, Received};
use part::{Assigned, Console, Incoming};

mod agenda;
mod death;
mod link;
mod part;
mod place;

pub use place::{Place, places};

/// A place that has begun says something every few seconds. After this long without a word it is taken for dead.
const SILENCE: Duration = Duration::from_secs(60);

/// In such pieces this program is copied to a place.
const BLOCK: usize = 64 << 10;

/// A run at places.
pub struct Fleet<'a> {
    /// The cases of the plan.
    pub cases: &'a [Case],
    /// The plan.
    pub planned: &'a Planned,
    /// What is known of the program that gives them out.
    pub own: &'a Part,
    /// The files of suites and environments beside those of the program, and of known failures.
    pub config: &'a [PathBuf],
    pub known: &'a [PathBuf],
    /// The directory of the run.
    pub root: &'a Path,
    /// Where everything is noted.
    pub recorder: &'a Recorder,
    /// By them it is known that the run was interrupted.
    pub supervisors: &'a Supervisors,
    /// This program is copied to the places.
    pub copy: bool,
    /// Once so many cases have failed, wherever that was, the run ends.
    pub max_fail: Option<NonZeroU32>,
}

impl Fleet<'_> {
    /// Has the places run all cases; `seconds` is how long one may take.
    pub fn run(&self, places: &[Place], seconds: impl Fn(&Case) -> f64) {
        let agenda = Agenda::new(items(self.cases, places.len(), seconds), places.len());
        thread::scope(|scope| {
            for (number, place) in places.iter().enumerate() {
                let agenda = &agenda;
                scope.spawn(move || {
                    let work = || self.work(agenda, number, place);
                    // A panic of ours must not have the others wait for what this place had.
                    let ended = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
                        agenda.give_back(None, Vec::new());
                        Some(format!("{}: the runner panicked", place.name))
                    });
                    if let Some(why) = ended {
                        agenda.retire(why);
                    }
                });
            }
        });
        self.close(&agenda);
    }

    fn goes_on(&self) -> bool {
        if let Some(most) = self.max_fail {
            let failed = self.recorder.with_state(|state| state.counts().failures());
            let why = EarlyEnd::Failures(u32::try_from(failed).unwrap_or(u32::MAX));
            if failed >= most.get() as usize && self.supervisors.end_early(why) {
                self.recorder.say(&format!("{why}: ending all places"));
            }
        }
        self.supervisors.ended_early().is_none()
    }

    /// Gives one item after another to a place. Returns why the place is of no use any more, where that is so.
    fn work(&self, agenda: &Agenda, number: usize, place: &Place) -> Option<String> {
        while let Some((item, part)) = agenda.take(number, || self.goes_on()) {
            let useless = match self.execute(place, &item, part) {
                Ok(tried) => self.settle(agenda, number, place, &item, tried),
                Err(error) => {
                    agenda.give_back(Some(item), Vec::new());
                    Some(format!("{error:#}"))
                }
            };
            if let Some(why) = useless.filter(|_| self.goes_on()) {
                let why = format!("{}: {why}", place.name);
                self.recorder.say(&format!("PLACE LOST: {why}"));
                return Some(why);
            }
        }
        None
    }

    /// Executes an item at a place, as this part, to whatever end.
    fn execute<'s>(
        &'s self,
        place: &'s Place,
        item: &Item,
        part: usize,
    ) -> anyhow::Result<(Incoming<'s>, Death)> {
        let cases = item.cases.iter().map(|&case| self.cases[case].name.clone());
        let planned = Planned {
            cases: cases.collect(),
            ..self.planned.clone()
        };
        let assigned = Assigned {
            number: part,
            own: self.own,
            run: item.run.clone(),
            cases: planned.cases.iter().cloned().collect(),
            is_suspect: item.is_suspect,
        };
        let program = self.copied(place).context("read this program")?;
        let command = place.command_for(&self.command_there(place, program.len() / BLOCK));
        let input = [program, line_of(&Event::Planned(Box::new(planned)))].concat();
        let mut console = Console::open(self.root, place)?;
        let mut incoming =
            Incoming::new(self.recorder, place, assigned, self.supervisors, self.root);
        let mut link = Link::start(&command, input, &console.file)?;
        let mut reader = MessageReader::default();
        let mut bytes = vec![0; 64 << 10];
        let mut is_silent = false;
        while !(is_silent || incoming.has_ended && link.let_end()) {
            match link.receive(&mut bytes, LOOK) {
                Received::Bytes(length) => {
                    reader.read(&bytes[..length], &mut |heard| {
                        incoming.hear(heard, &mut console)
                    });
                }
                Received::Nothing => {
                    is_silent = incoming.part.is_some() && link.silence() >= SILENCE
                }
                Received::End => break,
            }
            if !self.goes_on() {
                link.end_in_order(incoming.part.is_some(), self.supervisors.is_hurried());
            } else if incoming.part.is_none() {
                self.wait_for(&mut link, &console);
            }
        }
        reader.read(b"", &mut |heard| incoming.hear(heard, &mut console));
        let silence = is_silent.then(|| {
            link.kill();
            format!("it has said nothing for {} s", SILENCE.as_secs())
        });
        let ended = link.end();
        let death = Death::of(&console, self.root, &silence.unwrap_or(ended));
        Ok((incoming, death))
    }

    /// Says now and then that a place has not begun. It may have to boot, so it is not given up.
    fn wait_for(&self, link: &mut Link, console: &Console) {
        if let Some(age) = link.is_overdue() {
            let what = format!("it has not begun for {} s", age.as_secs());
            let told = with_last_lines(&what, console, self.root, 1);
            self.recorder
                .say(&format!("waiting for {}: {told}", console.place));
        }
    }

    /// This program as it is sent to a place: in whole blocks, so that what reads it there reads nothing behind it.
    fn copied(&self, place: &Place) -> io::Result<Vec<u8>> {
        if !self.copy || place.program.is_some() {
            return Ok(Vec::new());
        }
        let mut program = fs::read("/proc/self/exe")?;
        program.resize(program.len().next_multiple_of(BLOCK), 0);
        Ok(program)
    }

    /// This program at a place, as the shell there understands it; first it takes so many blocks of it from its input. The file
    /// has no name any more before it is there, so that nothing is left whatever happens.
    fn command_there(&self, place: &Place, blocks: usize) -> String {
        let own = self.own;
        let before_options = own.command_line.len().saturating_sub(own.options.len());
        let role = own.command_line[..before_options].iter().skip(1);
        let selftests = match place.selftests.as_slice() {
            [] => &own.selftests,
            there => there,
        };
        // Where a path is relative, that is to this directory.
        let paths = |option: &'static str, paths: &'_ [PathBuf]| {
            let path = |path| format!("{option} {}", quoted(own.directory.join(path).as_os_str()));
            paths.iter().map(path).collect::<Vec<_>>()
        };
        let words = [
            role.map(|word| quoted(word)).collect(),
            vec!["--plan - --stream".to_owned()],
            paths("--selftests", selftests),
            paths("--config", self.config),
            paths("--known", self.known),
        ]
        .concat();
        let words = words.join(" ");
        match &place.program {
            Some(program) => format!("exec {program} {words}"),
            None if blocks > 0 => format!(
                "t=$(mktemp) && chmod 700 \"$t\" && exec 8>\"$t\" 9<\"$t\" && rm \"$t\" && \
                 dd bs={BLOCK} count={blocks} iflag=fullblock status=none >&8 && exec 8>&- && exec /proc/self/fd/9 {words}"
            ),
            None => {
                let here = quoted(std::env::current_exe().unwrap_or_default().as_os_str());
                format!("p={here}; [ -x \"$p\" ] || p=kvm-tests; exec \"$p\" {words}")
            }
        }
    }

    /// Sees what a try came to, and what is to be tried again. Returns why the place is of no use, where that is so.
    fn settle(
        &self,
        agenda: &Agenda,
        number: usize,
        place: &Place,
        item: &Item,
        (mut incoming, death): (Incoming<'_>, Death),
    ) -> Option<String> {
        let Some((part, _)) = &incoming.part else {
            agenda.give_back(Some(item.clone()), Vec::new());
            return Some(format!("cannot start: {}", death.why));
        };
        let run = part.run.clone();
        let left = death::left(self.recorder, self.cases, item, place.label.as_deref());
        if incoming.has_ended {
            let lost = || Obstacle::Failed("what became of it was lost on the way".to_owned());
            let lost_cases = left.rest.into_iter().chain(left.suspects);
            lost_cases.for_each(|case| self.conclude(&mut incoming, case, lost()));
            agenda.give_back(None, Vec::new());
            return None;
        }
        death.record(&mut incoming, &left, self.cases);
        if !self.goes_on() {
            agenda.give_back(None, Vec::new());
            return None;
        }
        if item.is_suspect {
            for &case in &left.suspects {
                self.conclude(&mut incoming, case, Obstacle::HostDied(death.why.clone()));
            }
        }
        let again = |cases: Vec<usize>, is_suspect| Item {
            cases,
            run: Some(run.clone()),
            label: place.label.clone(),
            avoid: Some(number),
            is_suspect,
        };
        let is_fruitless = left.rest.len() == item.cases.len();
        let rest = Some(left.rest).filter(|rest| !rest.is_empty());
        let suspects = left.suspects.into_iter().filter(|_| !item.is_suspect);
        let suspects = suspects.map(|case| again(vec![case], true)).collect();
        agenda.give_back(rest.map(|rest| again(rest, item.is_suspect)), suspects);
        is_fruitless.then(|| format!("died before it ran a case: {}", death.why))
    }

    /// A case that a place has not told the end of has this outcome.
    fn conclude(&self, incoming: &mut Incoming<'_>, case: usize, why: Obstacle) {
        let outcome = without_run(&self.cases[case], why);
        incoming.record(Event::Finished(Box::new(outcome)));
    }

    /// What nobody has run gets its outcome.
    fn close(&self, agenda: &Agenda) {
        let (left, gone) = agenda.left();
        for item in left {
            for case in item.cases {
                let why = match self.goes_on() {
                    true => Obstacle::Failed(format!("no place is left to run it: {gone}")),
                    false => Obstacle::Interrupted,
                };
                let mut outcome = without_run(&self.cases[case], why);
                item.label.iter().for_each(|label| outcome.put_on(label));
                self.recorder.record(Event::Finished(Box::new(outcome)));
            }
        }
        let early = self.supervisors.ended_early();
        let knows = self.recorder.with_state(|state| {
            let is_told = state.interrupted_by().is_some() || state.ended_early().is_some();
            !state.parts.is_empty() && (early.is_none() || is_told)
        });
        if !knows {
            // No place has said so.
            let part = Box::new(self.own.clone());
            self.recorder.record(Event::PartStarted {
                part,
                cases: Vec::new(),
            });
            let end = PartEnd::now(self.own).because_of(early);
            self.recorder.record(Event::PartEnded(Box::new(end)));
        }
    }
}
