//! How a run stands while it goes on: what has ended, what runs, what is waited for, and how long it may still take.

use std::path::Path;
use std::time::Duration;

use crate::model::outcome::{Status, Step};
use crate::model::state::{Running, State};
use crate::model::text::one_line;
use crate::model::time::roughly;
use crate::show::failures::failure;
use crate::show::keys::Wish;
use crate::show::output::{cut, first, last_lines};
use crate::show::remaining::{Remaining, age};
use crate::show::summary::skipped;

/// How many running cases one line names.
const NAMED: usize = 6;

/// How many running cases, and how many failures, an answer has.
const ANSWERED: usize = 32;

/// The columns that a name has at least.
const NARROWEST: usize = 12;

/// How a run stands at one moment.
pub(super) struct Snapshot<'a> {
    pub(super) state: &'a State,
    pub(super) remaining: &'a Remaining,
    /// Since this process began.
    pub(super) elapsed: Duration,
    pub(super) now_ms: u64,
    /// What is waited for, and for how long by now.
    pub(super) waiting: Option<(&'a str, Duration)>,
}

impl Snapshot<'_> {
    /// The live display, of at most so many columns and rows: a line for each case that runs, as far as they fit, and one for
    /// the counts.
    pub(super) fn live(&self, columns: usize, rows: usize) -> String {
        let running = self.state.running();
        let cases = running
            .iter()
            .map(|(name, one)| self.case(name, one, columns.saturating_sub(2)));
        // Beside these there may be three more lines, and the cursor's.
        let lines = first(cases.collect(), rows.saturating_sub(4)).into_iter();
        let lines = lines.map(|line| format!("  {line}"));
        let lines = lines.chain(self.waiting()).chain([self.counts(&running)]);
        let lines: Vec<_> = lines.map(|line| cut(&line, columns)).collect();
        lines.join("\n")
    }

    /// The same in one line, for where nothing can be drawn anew.
    pub(super) fn still_running(&self) -> String {
        let running = self.state.running();
        let cases = running
            .iter()
            .map(|(name, one)| self.case(name, one, usize::MAX));
        let mut parts = first(cases.collect(), NAMED);
        parts.extend(self.waiting());
        if parts.is_empty() {
            parts.push("no case at this moment".to_owned());
        }
        format!(
            "still running: {}; {}",
            parts.join("; "),
            self.counts(&running)
        )
    }

    /// What was asked for, in several lines, with the ends of what is printed to files in `results`.
    pub(super) fn answer(&self, wish: Wish, results: &Path) -> String {
        let lines = match wish {
            Wish::All => [self.standing(), self.running(results), self.failures()].concat(),
            Wish::Failures => self.failures(),
            Wish::Skips => skipped(self.state, usize::MAX),
            Wish::Running => self.running(results),
            Wish::Help | Wish::End(_) => vec![Wish::HELP.to_owned()],
        };
        match lines.is_empty() {
            true => "none so far".to_owned(),
            false => lines.join("\n"),
        }
    }

    fn standing(&self) -> Vec<String> {
        let (counts, elapsed) = (self.state.counts(), self.elapsed.as_secs());
        let (ended, total) = (counts.total(), self.state.selected);
        let counts = if ended == 0 {
            String::new()
        } else {
            format!(": {counts}")
        };
        let mut lines = vec![format!(
            "{ended} of {total} cases have ended after {elapsed} s{counts}"
        )];
        let left = self.left(&self.state.running()).into_iter();
        lines.extend(left.map(|left| format!("{left}, as long as it took last time")));
        lines.extend(self.waiting());
        lines
    }

    fn running(&self, results: &Path) -> Vec<String> {
        let running = self.state.running();
        let mut lines = vec![match running.is_empty() && self.waiting.is_none() {
            true => "RUNNING: no case at this moment".to_owned(),
            false => "RUNNING".to_owned(),
        }];
        for (name, one) in running.iter().take(ANSWERED) {
            lines.push(format!("  {}", self.case(name, one, usize::MAX)));
            lines.extend(last_lines(results, name, one.step));
        }
        let more = running.len().saturating_sub(ANSWERED);
        lines.extend((more > 0).then(|| format!("  and {more} more")));
        lines
    }

    fn failures(&self) -> Vec<String> {
        let failures = self.state.outcomes.iter();
        let failures: Vec<_> = failures.filter(|one| one.kind().is_failure()).collect();
        let heading = failures.first().map(|_| "FAILED SO FAR".to_owned());
        let earlier = failures.len().saturating_sub(ANSWERED);
        let told = (earlier > 0).then(|| format!("  {earlier} earlier ones"));
        let latest = failures.iter().skip(earlier);
        let latest = latest.map(|outcome| format!("  {}", failure(outcome)));
        heading.into_iter().chain(told).chain(latest).collect()
    }

    /// A case that runs, with its step where that is not the selftest: its name is cut where the line would have more columns.
    fn case(&self, name: &str, one: &Running, columns: usize) -> String {
        let (name, age) = (one_line(name), age(one, self.now_ms));
        let (step, last) = match one.step {
            Step::Selftest => (String::new(), self.remaining.compared(&name, age)),
            step => (format!(" [{}]", step.as_str()), String::new()),
        };
        let (seconds, pid, worker) = (age.as_secs(), one.pid, one.worker);
        let rest = format!("{step}: {seconds} s{last}, pid {pid}, worker {worker}");
        let room = columns.saturating_sub(rest.len()).max(NARROWEST);
        cut(&name, room) + &rest
    }

    fn waiting(&self) -> Option<String> {
        let (what, since) = self.waiting?;
        Some(format!("{} ({} s)", one_line(what), since.as_secs()))
    }

    fn counts(&self, running: &[(&str, &Running)]) -> String {
        let (counts, total) = (self.state.counts(), self.state.selected);
        let of = [
            (counts.failures(), "failed"),
            (counts.of(Status::Skipped), "skipped"),
        ];
        let of = of.iter().filter(|(count, _)| *count > 0);
        let of = of.map(|(count, what)| format!("{count} {what}"));
        let ended = format!("{} of {total} have ended", counts.total());
        let elapsed = format!("{} s", self.elapsed.as_secs());
        let parts = [ended].into_iter().chain(self.left(running));
        let parts = parts.chain(of).chain([elapsed]);
        parts.collect::<Vec<_>>().join(", ")
    }

    fn left(&self, running: &[(&str, &Running)]) -> Option<String> {
        let left = self.remaining.time(running, self.now_ms)?;
        Some(format!("about {} left", roughly(left)))
    }

    /// The age of the oldest step that runs.
    pub(super) fn oldest(&self) -> Duration {
        let running = self.state.running();
        running
            .first()
            .map_or(Duration::ZERO, |(_, one)| age(one, self.now_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::Event;
    use crate::show::remaining::Expected;
    use crate::show::stage::{BEGIN_MS, finished, outcome, state, step};

    /// Shows a run 40 s after its beginning, of which case `s::b` took 10 s last time.
    fn shown(
        events: &[Event],
        waiting: Option<&str>,
        show: impl Fn(Snapshot<'_>) -> String,
    ) -> String {
        let last = Some(Duration::from_secs(10));
        let expected = Expected {
            last,
            expected: last,
            ..Expected::default()
        };
        let remaining = Remaining {
            cases: [("s::b".to_owned(), expected)].into(),
            workers: 1,
        };
        show(Snapshot {
            state: &state(
                &["s::a", "s::b", "s::c", "s::d", "long_name_of_a_suite::d"],
                events,
            ),
            remaining: &remaining,
            elapsed: Duration::from_secs(40),
            now_ms: BEGIN_MS + 40_000,
            waiting: waiting.map(|what| (what, Duration::from_secs(34))),
        })
    }

    fn three_run() -> Vec<Event> {
        vec![
            finished(outcome("s::a", Status::Failed, "a.c:1: no\nmore")),
            finished(outcome("s::c", Status::Skipped, "no moon")),
            step("s::b", Step::Selftest, 4711, 36),
            step("long_name_of_a_suite::d", Step::Setup, 4712, 37),
            step("s::d", Step::Selftest, 4713, 39),
        ]
    }

    #[test]
    fn the_live_display_has_a_line_for_each_case_that_runs_and_one_for_the_counts() {
        let live = |columns, rows, waiting| {
            shown(&three_run(), waiting, |snapshot| {
                snapshot.live(columns, rows)
            })
        };
        let expected = "  s::b: 4 s, last time 10 s, pid 4711, worker 0
  long_name_of_a_suite::d [set-up]: 3 s, pid 4712, worker 0
  s::d: 1 s, pid 4713, worker 0
2 of 5 have ended, about 6 s left, 1 failed, 1 skipped, 40 s";
        assert_eq!(live(80, 20, None), expected);
        let expected = "  s::b: 4 s, last time 10 s, pid 4711, worker 0
  long_name_o… [set-up]: 3 s, pid 4712, worker 0
  and 1 more
waiting for pid 9 (34 s)
2 of 5 have ended, about 6 s left, 1 failed, 1 …";
        assert_eq!(live(48, 6, Some("waiting for pid 9")), expected);
        let expected = "  s::b: 4 s, last t…\n  long_name_o… [set…\n  s::d: 1 s, pid 47…\n2 of 5 have ended, …";
        assert_eq!(live(20, 20, None), expected);
        assert_eq!(live(5, 5, None), "  s:…\n  an…\n2 of…");
        assert_eq!(live(1, 0, None), "…\n…");
    }

    #[test]
    fn the_same_is_said_in_one_line() {
        let said =
            |events: &[Event], waiting| shown(events, waiting, |snapshot| snapshot.still_running());
        let expected = "still running: s::b: 4 s, last time 10 s, pid 4711, worker 0; \
                        long_name_of_a_suite::d [set-up]: 3 s, pid 4712, worker 0; s::d: 1 s, pid 4713, worker 0; \
                        2 of 5 have ended, about 6 s left, 1 failed, 1 skipped, 40 s";
        assert_eq!(said(&three_run(), None), expected);
        let expected =
            "still running: waiting for pid 9 (34 s); 0 of 5 have ended, about 10 s left, 40 s";
        assert_eq!(said(&[], Some("waiting for pid 9")), expected);
        let expected =
            "still running: no case at this moment; 0 of 5 have ended, about 10 s left, 40 s";
        assert_eq!(said(&[], None), expected);
    }

    #[test]
    fn who_asks_is_told_what_runs_with_its_last_lines_and_what_failed() {
        let results = tempfile::tempdir().unwrap();
        let place = results.path().join("long_name_of_a_suite/d");
        std::fs::create_dir_all(&place).unwrap();
        let printed = b"first\nsecond\nthird\n\xff\x1b[31mfourth\0\n\n";
        std::fs::write(place.join("setup.stdout"), printed).unwrap();
        std::fs::write(place.join("setup.stderr"), "to stderr\n").unwrap();
        let answer = |events: &[Event], waiting| {
            shown(events, waiting, |snapshot| {
                snapshot.answer(Wish::All, results.path())
            })
        };
        let expected = r"2 of 5 cases have ended after 40 s: 1 SKIPPED, 1 FAILED
about 6 s left, as long as it took last time
RUNNING
  s::b: 4 s, last time 10 s, pid 4711, worker 0
  long_name_of_a_suite::d [set-up]: 3 s, pid 4712, worker 0
    stdout: second
    stdout: third
    stdout: \xfffourth\x00
    stderr: to stderr
  s::d: 1 s, pid 4713, worker 0
FAILED SO FAR
  FAILED s::a: a.c:1: no";
        assert_eq!(answer(&three_run(), None), expected);
        let expected = "0 of 5 cases have ended after 40 s
about 10 s left, as long as it took last time
RUNNING: no case at this moment";
        assert_eq!(answer(&[], None), expected);
    }

    #[test]
    fn a_case_that_takes_far_longer_than_last_time_is_called_slow() {
        let events = [step("s::b", Step::Selftest, 4711, 0)];
        let live = shown(&events, None, |snapshot| snapshot.live(80, 20));
        let expected =
            "  s::b: 40 s, SLOW: last time 10 s, pid 4711, worker 0\n0 of 5 have ended, 40 s";
        assert_eq!(live, expected);
    }
}
