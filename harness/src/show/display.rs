//! What is told of a run, when, and where.

use std::collections::{HashMap, HashSet};
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::model::case::KVM;
use crate::model::event::Event;
use crate::model::outcome::{Counts, Outcome, OutcomeKind, Status, Step};
use crate::model::state::State;
use crate::model::text::one_line;
use crate::model::time::now_ms;
use crate::show::failures::failure;
use crate::show::keys::Wish;
use crate::show::ktap_stream;
use crate::show::libtest::Libtest;
use crate::show::options::{Color, Format, Level, Levels};
use crate::show::output::copy_lines;
use crate::show::progress::Snapshot;
use crate::show::remaining::{Expected, Heartbeat, Remaining};
use crate::show::screen::Screen;
use crate::show::stream::Telling;
use crate::show::summary::{Summary, slower};

/// What a display is made for.
pub struct Setup {
    /// `--format`
    pub format: Format,
    /// `--stream`: all is told to another program, and nothing to people.
    pub is_stream: bool,
    /// `--report`
    pub levels: Levels,
    /// `--color`
    pub color: Color,
    /// `--logfile`: libtest's lines go there instead of the standard output.
    pub logfile: Option<PathBuf>,
    /// Where `--format ktap` has what the cases print: in a file or, where it is a directory, in files there.
    pub log: Option<PathBuf>,
    /// The run's directory.
    pub results: PathBuf,
    /// How many cases this process is to run, or to call ignored.
    pub total: usize,
    /// How many cases the filters left out.
    pub filtered_out: usize,
    /// The seed of the order, where it was shuffled.
    pub shuffle_seed: Option<u64>,
    /// When it began.
    pub begun: Instant,
    /// What is known of each of these cases, by its whole name.
    pub expected: HashMap<String, Expected>,
    /// How many cases run side by side at most.
    pub workers: usize,
    /// Told once that the standard output takes no more, because nobody reads it, most of all.
    pub closed: Box<dyn Fn(&io::Error) + Send + Sync>,
}

/// Where people and programs read how a run goes: the only one that writes to the terminal.
pub struct Display {
    setup: Setup,
    libtest: Libtest,
    seen: Mutex<(Screen, Seen)>,
}

/// What of the run has been seen so far, as far as that is no part of its state.
#[derive(Default)]
struct Seen {
    remaining: Remaining,
    /// The cases that run.
    started: HashSet<String>,
    ended: Counts,
    /// How many ends were shown.
    shown: usize,
    /// What is known to be flaky and has failed: it is told when no repetition can make another failure of it any more.
    held: Vec<Outcome>,
    /// The failures that libtest tells again at the end.
    failures: Vec<String>,
    slower: Vec<String>,
    /// What has been told and is not told again: why cases did not run, and what was waited for.
    told: HashSet<String>,
    heartbeat: Heartbeat,
    /// What is waited for, and since when.
    waiting: Option<(String, Instant)>,
    /// Where everything is told to the program at the other end, and nothing to anybody else.
    stream: Option<Telling>,
}

impl Display {
    /// One that has shown nothing.
    ///
    /// # Errors
    /// The logfile cannot be made.
    pub fn new(mut setup: Setup) -> io::Result<Self> {
        // A stream has no live display either.
        let format = if setup.is_stream {
            Format::Terse
        } else {
            setup.format
        };
        let screen = Screen::new(format, setup.logfile.as_deref())?;
        let names = setup.expected.keys().map(|name| name.chars().count());
        let libtest = Libtest {
            format: setup.format,
            is_coloured: setup.color.is_on(screen.is_terminal),
            is_joined: screen.is_joined,
            name_width: names.max().unwrap_or(0),
            results: setup.results.clone(),
            shows_passed: !setup.levels.of(Status::Passed).streams().is_empty(),
        };
        let seen = Seen {
            stream: setup.is_stream.then(|| Telling::new(&setup.results)),
            remaining: Remaining {
                cases: std::mem::take(&mut setup.expected),
                workers: setup.workers,
            },
            ..Seen::default()
        };
        Ok(Self {
            setup,
            libtest,
            seen: Mutex::new((screen, seen)),
        })
    }

    /// Says a line of our own.
    pub fn say(&self, line: &str) {
        self.with(|screen, _| screen.say(&one_line(line)));
    }

    /// The cases begin now.
    pub fn begin(&self) {
        if self.setup.is_stream {
            return;
        }
        let (total, seed) = (self.setup.total, self.setup.shuffle_seed);
        let text = match self.setup.format {
            Format::Ktap => ktap_stream::begin(total),
            _ => self.libtest.title(total, seed),
        };
        self.with(|screen, _| screen.print(&text));
    }

    /// Something has happened, and the run's state has taken note of it.
    pub fn see(&self, _state: &State, event: &Event) {
        self.with(|screen, seen| match event {
            _ if seen.stream.is_some() => seen.stream.iter_mut().for_each(|stream| {
                screen.write(|out| stream.event(event, out));
            }),
            Event::StepStarted { case, step, .. } if *step <= Step::Selftest => {
                self.started(screen, seen, case);
            }
            Event::Finished(outcome) if outcome.is_flaky() => seen.held.push((**outcome).clone()),
            Event::Finished(outcome) => self.ended(screen, seen, outcome),
            Event::Repeated(outcome) => {
                let mut held = seen.held.iter_mut();
                let held = held.find(|held| held.name == outcome.name);
                held.into_iter().for_each(|held| held.clone_from(outcome));
                let repetition = outcome.repetitions.last();
                let line =
                    repetition.map(|one| format!("AGAIN {}", failure(one).trim_end_matches(": ")));
                line.iter().for_each(|line| screen.say(line));
            }
            Event::Splat(splat) => {
                let title = one_line(&splat.title);
                screen.say(&format!(
                    "KERNEL SPLAT {}: {title}",
                    one_line(&splat.when())
                ));
            }
            _ => {}
        });
    }

    /// Some time has passed: draws the live display anew, or says what still runs where there is none.
    pub fn tick(&self, state: &State) {
        self.with(|screen, seen| {
            if let Some(stream) = &mut seen.stream {
                return screen.write(|out| stream.tick(out));
            }
            let snapshot = self.snapshot(seen, state);
            screen.draw(|columns, rows| snapshot.live(columns, rows));
            let (line, now, oldest) = (
                snapshot.still_running(),
                snapshot.elapsed,
                snapshot.oldest(),
            );
            if !screen.is_live() && seen.heartbeat.is_due(now, seen.shown, oldest) {
                screen.say(&line);
            }
        });
    }

    /// This line was typed on the terminal: its echo has moved the cursor away from the live display.
    pub fn typed(&self, line: &str) {
        self.with(|screen, _| screen.move_up(line.chars().count()));
    }

    /// Somebody asks for something.
    pub fn answer(&self, state: &State, wish: Wish) {
        self.with(|screen, seen| {
            let snapshot = self.snapshot(seen, state);
            screen.say(&snapshot.answer(wish, &self.setup.results));
        });
    }

    /// Something is waited for, as this message says; `None` when it is no longer.
    pub fn waiting(&self, message: Option<&str>) {
        self.with(|screen, seen| {
            let same = seen
                .waiting
                .take()
                .filter(|(same, _)| Some(same.as_str()) == message);
            let new = || message.map(|message| (message.to_owned(), Instant::now()));
            seen.waiting = same.or_else(new);
            let message = message.filter(|_| !screen.is_live());
            let message = message.filter(|message| seen.told.insert((*message).to_owned()));
            message
                .into_iter()
                .for_each(|message| screen.say(&one_line(message)));
        });
    }

    /// The run has ended: what libtest says then, and what it came to. The live display is gone.
    pub fn end(&self, state: &State) {
        self.with(|screen, seen| {
            if let Some(stream) = &mut seen.stream {
                return screen.write(|out| stream.end(out));
            }
            screen.end_live();
            for outcome in std::mem::take(&mut seen.held) {
                self.ended(screen, seen, &outcome);
            }
            // Where it was interrupted, libtest would not get to them.
            let is_told_below = screen.is_joined || state.interrupted_by().is_some();
            let failures = seen.failures.iter().filter(|_| !is_told_below);
            let failures: Vec<_> = failures.filter_map(|name| state.outcome(name)).collect();
            let (filtered_out, time) = (self.setup.filtered_out, self.setup.begun.elapsed());
            let has_failed = state.counts().failures() > 0 || state.has_ended_badly();
            let counts = (seen.ended, has_failed);
            screen.print(&match self.setup.format {
                Format::Ktap => ktap_stream::end(seen.ended, &state.splats),
                _ => self.libtest.end(counts, &failures, filtered_out, time),
            });
            let summary = Summary {
                state,
                results: &self.setup.results,
                slower: &seen.slower,
                has_details: screen.is_joined || !self.ends_on_stdout(),
                columns: screen.columns(),
            };
            self.print_on(screen, &summary.render());
        });
    }

    /// Prints lines where the run's end is told.
    pub fn print(&self, text: &str) {
        self.with(|screen, _| self.print_on(screen, text));
    }

    fn print_on(&self, screen: &mut Screen, text: &str) {
        match self.ends_on_stdout() {
            true => screen.print_own(text),
            false => screen.say(text.trim_end_matches('\n')),
        }
    }

    fn is_for_people(&self) -> bool {
        matches!(self.setup.format, Format::Pretty | Format::Terse)
    }

    fn ends_on_stdout(&self) -> bool {
        self.is_for_people() && self.setup.logfile.is_none()
    }

    /// Does something, and passes on in the end that the standard output takes no more, where that has just come out.
    fn with(&self, act: impl FnOnce(&mut Screen, &mut Seen)) {
        let mut held = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (screen, seen) = &mut *held;
        act(screen, seen);
        let Some(error) = screen.error() else {
            return;
        };
        if error.kind() != ErrorKind::BrokenPipe {
            screen.say(&format!("cannot print the results: {error}"));
        }
        drop(held);
        (self.setup.closed)(&error);
    }

    /// A step of a case has started; its first one is the case's start.
    fn started(&self, screen: &mut Screen, seen: &mut Seen, case: &str) {
        // A repetition is no test of libtest's.
        let is_case = seen.remaining.cases.contains_key(case);
        if !is_case || !seen.started.insert(case.to_owned()) {
            return;
        }
        match (self.setup.format, seen.remaining.cases.get(case)) {
            (Format::Json, _) => screen.print(&Libtest::started(case)),
            (Format::Ktap, Some(case)) if self.is_alone() => {
                screen.print(&ktap_stream::heading(case, self.setup.log.as_deref()));
            }
            _ => {}
        }
    }

    /// Whether no other case's lines can come between those of a case.
    fn is_alone(&self) -> bool {
        self.setup.workers == 1
    }

    /// A case has ended.
    fn ended(&self, screen: &mut Screen, seen: &mut Seen, outcome: &Outcome) {
        let was_started = seen.started.remove(&outcome.name);
        let expected = seen.remaining.cases.remove(outcome.name_there());
        let expected = expected.unwrap_or_else(|| Expected {
            title: format!("{KVM}: {}", outcome.name),
            ..Expected::default()
        });
        seen.ended.add(outcome.kind());
        match self.setup.format {
            Format::Json | Format::Terse => {
                if self.setup.format == Format::Json && !was_started {
                    screen.print(&Libtest::started(&outcome.name));
                }
                screen.print(&self.libtest.ended(outcome));
            }
            Format::Ktap => {
                let block = ktap_stream::Block {
                    number: seen.ended.total(),
                    outcome,
                    case: &expected,
                    results: &self.setup.results,
                    log: self.setup.log.as_deref(),
                    is_begun: was_started && self.is_alone() && outcome.repetitions.is_empty(),
                };
                screen.write(|out| block.write(out));
            }
            Format::Pretty => {}
        }
        let slow = expected
            .was_faster(outcome)
            .map(|last| slower(outcome, last));
        seen.slower.extend(slow.clone());
        if !self.is_news(seen, outcome, was_started) {
            return;
        }
        if outcome.kind().is_failure() {
            seen.failures.push(outcome.name.clone());
        }
        if self.setup.levels.of(outcome.status) != Level::Off {
            seen.shown += 1;
            self.show(screen, outcome);
            slow.iter()
                .for_each(|line| screen.say(&format!("SLOWER {line}")));
            if outcome.kind() == OutcomeKind::Xpass {
                screen.say(&failure(outcome));
            }
        }
    }

    /// Whether there is something to tell people of a case that has ended, beside the counts. What was known to be skipped is
    /// told where that is asked for, and why cases did not run only once.
    fn is_news(&self, seen: &mut Seen, outcome: &Outcome, was_started: bool) -> bool {
        match outcome.status {
            Status::NoRun => seen.told.insert(outcome.first_line().to_owned()),
            Status::Skipped => was_started || self.setup.levels.asked(Status::Skipped).is_some(),
            Status::Passed | Status::Failed | Status::TimedOut => true,
        }
    }

    /// Shows people a case that has ended, and what it printed, as far as `--report` wants it.
    fn show(&self, screen: &mut Screen, outcome: &Outcome) {
        let (name, results) = (one_line(&outcome.name), &self.setup.results);
        let streams = self.setup.levels.of(outcome.status).streams().iter();
        for stream in streams.filter(|_| self.is_for_people()) {
            let heading = format!("---- {name} {stream} ----\n");
            let frame = (heading.as_str(), "");
            screen.write(|_| copy_lines(outcome, results, stream, frame, &mut io::stdout()));
        }
        let is_pretty = self.setup.format == Format::Pretty;
        let has_reason = self.setup.format == Format::Ktap || is_pretty && screen.is_joined;
        if outcome.kind().is_failure() && !has_reason {
            screen.say(&failure(outcome));
        }
        if is_pretty {
            screen.print_own(&self.libtest.ended(outcome));
        }
    }

    fn snapshot<'a>(&self, seen: &'a Seen, state: &'a State) -> Snapshot<'a> {
        let waiting = seen.waiting.as_ref();
        Snapshot {
            state,
            remaining: &seen.remaining,
            elapsed: self.setup.begun.elapsed(),
            now_ms: now_ms(),
            waiting: waiting.map(|(what, since)| (what.as_str(), since.elapsed())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::show::stage::{finished, outcome, state, step};

    const CASES: [&str; 4] = ["a::a", "a::b", "a::c", "long::name"];

    /// A display that prints to `out` and says to `err`, and how often it was told that `out` takes no more.
    fn display(
        format: Format,
        rules: &[&str],
        out: &Path,
        err: &Path,
    ) -> (Display, Arc<AtomicUsize>) {
        let rules: Vec<_> = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        let closed = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&closed);
        let expected = CASES.map(|name| {
            let title = format!("kvm: {name}");
            let expected = Expected {
                title,
                ..Expected::default()
            };
            (name.to_owned(), expected)
        });
        let display = Display::new(Setup {
            format,
            is_stream: false,
            levels: Levels::new(&rules),
            color: Color::Never,
            logfile: Some(out.to_owned()),
            log: None,
            results: PathBuf::from("/r"),
            total: CASES.len(),
            filtered_out: 0,
            shuffle_seed: None,
            begun: Instant::now(),
            expected: expected.into(),
            workers: 1,
            closed: Box::new(move |_| {
                counted.fetch_add(1, Ordering::SeqCst);
            }),
        });
        let mut display = display.unwrap();
        let (screen, _) = display.seen.get_mut().unwrap();
        screen.err = Box::new(File::create(err).unwrap());
        (display, closed)
    }

    fn show(display: &Display, events: &[Event]) {
        display.begin();
        for count in 1..=events.len() {
            display.see(&state(&CASES, &events[..count]), &events[count - 1]);
        }
        display.end(&state(&CASES, events));
    }

    /// What is printed of these events, but for the time that it took, and what is said.
    fn shown(format: Format, rules: &[&str], events: &[Event]) -> [String; 2] {
        let directory = tempfile::tempdir().unwrap();
        let paths = ["out", "err"].map(|name| directory.path().join(name));
        let (display, closed) = display(format, rules, &paths[0], &paths[1]);
        show(&display, events);
        assert_eq!(closed.load(Ordering::SeqCst), 0);
        let text = paths.map(|path| fs::read_to_string(path).unwrap());
        text.map(|text| match text.split_once("; finished in ") {
            Some((before, after)) => {
                let time_end = after.find('\n').unwrap();
                format!("{before}; finished{}", &after[time_end..])
            }
            None => text,
        })
    }

    fn printed(format: Format, rules: &[&str], events: &[Event]) -> String {
        let [out, _] = shown(format, rules, events);
        out
    }

    fn four() -> Vec<Event> {
        vec![
            finished(outcome("a::a", Status::Skipped, "no moon")),
            step("a::b", Step::Precheck, 7, 0),
            finished(outcome("a::b", Status::Skipped, "no sun")),
            finished(outcome("a::c", Status::NoRun, "nx: not root")),
            finished(outcome("long::name", Status::NoRun, "nx: not root")),
        ]
    }

    #[test]
    fn what_was_known_to_be_skipped_is_told_where_asked_for_and_why_cases_did_not_run_once() {
        let end = "
failures:

---- a::c ----
NO_RUN: nx: not root
reproduce: cd /s && /s/a_test


failures:
    a::c

test result: FAILED. 0 passed; 2 failed; 2 ignored; 0 measured; 0 filtered out; finished

";
        let lines = "test a::b       ... ignored (no sun)\ntest a::c       ... FAILED\n";
        let begin = "\nrunning 4 tests\n";
        let expected = format!("{begin}{lines}{end}");
        assert_eq!(printed(Format::Pretty, &[], &four()), expected);
        let known = "test a::a       ... ignored (no moon)\n";
        let expected = format!("{begin}{known}{lines}{end}");
        assert_eq!(printed(Format::Pretty, &["skip=status"], &four()), expected);
        // The end names a failure all the same.
        assert_eq!(
            printed(Format::Pretty, &["all=off"], &four()),
            format!("{begin}{end}")
        );
        let expected = format!("{begin}iiFF{end}");
        assert_eq!(printed(Format::Terse, &["all=off"], &four()), expected);
    }

    #[test]
    fn json_and_tap_tell_of_every_case_whatever_is_shown() {
        let json = printed(Format::Json, &["all=off"], &four());
        let events = json.lines().map(|line| {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            let name = event["name"].as_str().unwrap_or_default();
            format!("{name} {}", event["event"].as_str().unwrap())
        });
        let expected = [
            " started",
            "a::a started",
            "a::a ignored",
            "a::b started",
            "a::b ignored",
            "a::c started",
            "a::c failed",
            "long::name started",
            "long::name failed",
            " failed",
        ];
        assert_eq!(events.collect::<Vec<_>>(), expected);
        let tap = printed(Format::Ktap, &["all=off"], &four());
        let results: Vec<_> = tap.lines().filter(|line| line.contains("ok ")).collect();
        let expected = [
            "ok 1 selftests: kvm: a::a # SKIP",
            "ok 2 selftests: kvm: a::b # SKIP",
            "not ok 3 selftests: kvm: a::c # ERROR nx: not root",
            "not ok 4 selftests: kvm: long::name # ERROR nx: not root",
        ];
        assert_eq!(results, expected);
    }

    #[test]
    fn what_only_we_say_goes_to_the_standard_error() {
        let mut slow = outcome("a::a", Status::Failed, "a.c:7: no\nmore");
        slow.duration_s = 9.0;
        let directory = tempfile::tempdir().unwrap();
        let paths = ["out", "err"].map(|name| directory.path().join(name));
        let (mut display, _) = display(Format::Pretty, &[], &paths[0], &paths[1]);
        let (_, seen) = display.seen.get_mut().unwrap();
        let known = seen.remaining.cases.get_mut("a::a").unwrap();
        known.last = Some(Duration::from_secs(1));
        display.say("two\nlines");
        display.waiting(Some("waiting for pid 9"));
        display.waiting(Some("waiting for pid 9"));
        display.waiting(None);
        show(
            &display,
            &[
                finished(slow),
                finished(outcome("a::b", Status::Passed, "")),
            ],
        );
        display.print("\nand more\n");
        let expected = r"two\nlines
waiting for pid 9
FAILED a::a: a.c:7: no
SLOWER a::a: 9.0 s, last time 1.0 s
1 PASSED, 1 FAILED of 2 cases

FAILED
  a::a: a.c:7: no
    more
    output:    /r/a/a
    reproduce: cd /s && /s/a_test

SLOWER THAN BEFORE
  a::a: 9.0 s, last time 1.0 s

results: /r

and more
";
        assert_eq!(fs::read_to_string(&paths[1]).unwrap(), expected);
    }

    #[test]
    fn that_the_output_takes_no_more_is_passed_on_once() {
        let (display, closed) = display(
            Format::Pretty,
            &[],
            "/dev/full".as_ref(),
            "/dev/null".as_ref(),
        );
        show(&display, &four());
        assert_eq!(closed.load(Ordering::SeqCst), 1);
    }
}
