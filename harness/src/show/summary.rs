//! What is said before a run's first case, and what it came to.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::Duration;

use rustix::process::geteuid;

use crate::model::case::quoted;
use crate::model::event::{LeftBehind, Part, PartEnd};
use crate::model::host::{self, size};
use crate::model::outcome::{Leak, Outcome, OutcomeKind, Status};
use crate::model::state::State;
use crate::model::text::{named, one_line};
use crate::show::failures::entries;
use crate::show::output::{cut, first};

/// How many lines a list has.
const SHOWN: usize = 12;

/// How many failures of a status are shown; of a run that was interrupted far fewer.
const SHOWN_FAILURES: usize = 100;
const SHOWN_OF_INTERRUPTED: usize = 4;

/// How many lines the details of all failures may take together: beyond that there is one line for each.
const DETAILS: usize = 30;

/// How many names a line has.
const NAMED: usize = 4;

/// What helps against a reason for skipping, by a part of it.
const REMEDIES: &[(&str, &str)] = &[("free hugepages of 2M", "--environment hugetlb")];

/// The first lines of a run, about its host.
pub fn header_of(part: &Part) -> Vec<String> {
    let host = &part.host;
    let modules: Vec<_> = host.modules.keys().map(String::as_str).collect();
    let kvm = match (&host.kvm_problem, modules.is_empty()) {
        (Some(problem), _) => problem.clone(),
        (None, true) => "there".to_owned(),
        (None, false) => format!("there ({})", modules.join(", ")),
    };
    let (version, kernel, machine, vendor) =
        (&part.version, &host.kernel, &host.machine, &host.cpu_vendor);
    let (cpus, memory) = (host.cpus, size(host.memory));
    let hardware = format!("{machine} ({vendor}), {cpus} CPUs, {memory} of memory");
    let mut lines = vec![
        format!("kvm-tests {version}: Linux {kernel} on {hardware}"),
        format!("  /dev/kvm     {kvm}"),
    ];
    if !geteuid().is_root() {
        let cannot = "environments cannot be applied, nor what a case leaves running as another user be ended";
        lines.push(format!("  not root     {cannot}"));
    }
    let seed = part.shuffle_seed;
    lines.extend(seed.map(|seed| format!("  order        shuffled (--shuffle-seed {seed})")));
    if io::stdin().is_terminal() {
        let pid = part.pid;
        lines.push(format!(
            "  Enter        shows what runs, as SIGUSR1 to {pid} does; ? and Enter: what else"
        ));
    }
    lines
}

/// A case that has become slow, and how long it took `last` time.
pub(super) fn slower(outcome: &Outcome, last: Duration) -> String {
    let (name, now) = (one_line(&outcome.name), outcome.duration_s);
    format!("{name}: {now:.1} s, last time {:.1} s", last.as_secs_f64())
}

/// The end of a run.
pub(super) struct Summary<'a> {
    pub(super) state: &'a State,
    pub(super) results: &'a Path,
    /// What was far faster last time.
    pub(super) slower: &'a [String],
    /// Whether failures are shown with all that there is to say.
    pub(super) has_details: bool,
    /// How wide the terminal is: the reasons for skipping are not wider.
    pub(super) columns: usize,
}

impl Summary<'_> {
    /// It as text, of several lines.
    pub(super) fn render(&self) -> String {
        let counts = self.state.counts();
        let is_interrupted = self.state.interrupted_by().is_some();
        let mut lines = vec![format!("{counts} of {} cases", counts.total())];
        let ended_early = self.state.ended_early();
        lines.extend(ended_early.map(|why| format!("ENDED EARLY: {why}")));
        if counts.of(Status::Skipped) == counts.total() && counts.total() > 0 {
            let nothing = "NOTHING WAS TESTED: every case was skipped. The commonest reasons:";
            lines.extend(["", nothing].map(str::to_owned));
        }
        if !is_interrupted {
            section(&mut lines, "SKIPPED", skipped(self.state, self.columns));
        }
        self.add_known(&mut lines);
        self.add_failures(&mut lines, is_interrupted);
        let slower = first(self.slower.to_vec(), SHOWN);
        section(&mut lines, "SLOWER THAN BEFORE", slower);
        let heading = "SUSPECTS: they ran, or may have, when this run died before";
        let suspects = self.those(|one| one.suspect.then(|| one.status.as_str().to_owned()));
        section(&mut lines, heading, suspects);
        let heading = "LEFT RUNNING by its case, and killed where nothing else is said";
        let left_running = self.those(|one| (!one.leaks.is_empty()).then(|| leaks(&one.leaks)));
        section(&mut lines, heading, left_running);
        let latest = self.state.latest();
        let ended = latest
            .iter()
            .filter_map(|share| Some((&share.part, share.end.as_ref()?)));
        ended
            .clone()
            .for_each(|(part, end)| add_left_behind(&mut lines, part, end));
        let died = self.state.parts.iter().filter_map(|share| {
            let (place, how) = (
                share.part.place.as_ref()?,
                share.end.as_ref()?.died.as_ref()?,
            );
            Some(one_line(&format!("{place}: {how}")))
        });
        section(&mut lines, "PLACES THAT DIED", first(died.collect(), SHOWN));
        let stray = ended.clone().map(|(_, end)| end.kernel.stray).sum();
        self.add_splats(&mut lines, stray);
        ended.for_each(|(part, end)| add_host(&mut lines, part, end));
        lines.push(String::new());
        let is_early = is_interrupted || ended_early.is_some();
        let part = self.state.first().filter(|_| is_early);
        lines.extend(part.and_then(|part| go_on(part, self.results)));
        lines.push(format!(
            "results: {}",
            one_line(&self.results.to_string_lossy())
        ));
        lines.join("\n") + "\n"
    }

    /// Those cases of which there is something to tell.
    fn those(&self, tell: impl Fn(&Outcome) -> Option<String>) -> Vec<String> {
        let outcomes = self.state.outcomes.iter();
        let told =
            outcomes.filter_map(|one| Some(format!("{}: {}", one_line(&one.name), tell(one)?)));
        first(told.collect(), SHOWN)
    }

    /// The known failures that came, and those that did not; and what is wrong with the entries.
    fn add_known(&self, lines: &mut Vec<String>) {
        let last = self.state.last().map(|share| &share.part);
        let notes = last.iter().flat_map(|part| &part.notes_on_known);
        let of_kind = |kind| {
            let outcomes = self.state.of_kind(kind);
            let told = outcomes.map(|one| {
                let known = one.known.as_deref();
                let link = known.and_then(|known| known.link.as_deref());
                let link = link.map_or_else(String::new, |link| format!(" ({link})"));
                let rate = one.rate();
                let rate = rate.map_or_else(String::new, |rate| format!(", {rate}"));
                one_line(&format!("{}: {}{rate}{link}", one.name, one.message()))
            });
            first(told.collect(), SHOWN_FAILURES)
        };
        let heading = "KNOWN failures, which do not fail the run";
        section(lines, heading, of_kind(OutcomeKind::Known));
        let heading = "XPASS: known to fail, and passed";
        section(lines, heading, of_kind(OutcomeKind::Xpass));
        let heading = "KNOWN FAILURES THAT DO NOT HOLD";
        let notes = notes.map(|note| one_line(note)).collect();
        section(lines, heading, first(notes, SHOWN));
    }

    fn add_failures(&self, lines: &mut Vec<String>, is_interrupted: bool) {
        let statuses = [Status::NoRun, Status::TimedOut, Status::Failed];
        let entries = statuses.map(|status| entries(self.state, status, self.results));
        let details: usize = entries.iter().flatten().map(|entry| entry.len() - 1).sum();
        let fits = details <= DETAILS;
        let (most, taken) = match is_interrupted {
            true => (SHOWN_OF_INTERRUPTED, 1),
            false if fits && self.has_details => (SHOWN_FAILURES, usize::MAX),
            false => (SHOWN_FAILURES, 1),
        };
        for (status, entries) in statuses.into_iter().zip(entries) {
            let entries = entries.iter();
            let entries = entries.map(|lines| lines[..lines.len().min(taken)].join("\n    "));
            section(lines, status.as_str(), first(entries.collect(), most));
        }
        if self.has_details && !fits && !is_interrupted {
            lines.push("  (all of each, its output and how to repeat it: report.html)".to_owned());
        }
    }

    /// The splats that are no case's own, of `all` that there were.
    fn add_splats(&self, lines: &mut Vec<String>, all: usize) {
        let stray = &self.state.splats;
        let heading = "KERNEL SPLATS that are no case's own (kernel.log has all of their lines)";
        let splats = stray
            .iter()
            .flat_map(|one| [one_line(&one.title), format!("  {}", one_line(&one.when()))]);
        let more = all.saturating_sub(stray.len());
        let more = (more > 0).then(|| format!("and {more} more"));
        section(lines, heading, splats.chain(more).collect());
    }
}

/// The reasons for skipping, the commonest first, with the cases, in so many columns.
pub(super) fn skipped(state: &State, columns: usize) -> Vec<String> {
    let mut by_reason = BTreeMap::<&str, Vec<&str>>::new();
    for outcome in state.of_kind(Status::Skipped) {
        let cases = by_reason.entry(outcome.first_line()).or_default();
        cases.push(&outcome.name);
    }
    let mut reasons: Vec<_> = by_reason.into_iter().collect();
    reasons.sort_by_key(|(_, cases)| Reverse(cases.len()));
    let others = reasons.split_off(reasons.len().min(SHOWN));
    let others: usize = others.iter().map(|(_, cases)| cases.len()).sum();
    let lines = reasons.into_iter().map(|(reason, cases)| {
        let remedy = REMEDIES.iter().find(|(part, _)| reason.contains(part));
        let remedy = remedy.map_or_else(String::new, |(_, remedy)| format!(": {remedy}"));
        let (count, reason) = (cases.len(), one_line(reason));
        format!("{count:>3} x {reason}{remedy}: {}", named(&cases, NAMED))
    });
    let rest = format!("{others:>3} x other reasons (run.json has them all)");
    let lines = lines.chain((others > 0).then_some(rest));
    lines
        .map(|line| cut(&line, columns.saturating_sub(2)))
        .collect()
}

/// What outlived a part and appeared on its host meanwhile.
fn add_left_behind(lines: &mut Vec<String>, part: &Part, end: &PartEnd) {
    let host = part.label.as_deref().unwrap_or("this host");
    let heading = format!("LEFT BEHIND on {host}, or made by others while the run went on");
    let left = end.left_behind.iter().map(left_behind);
    section(lines, &heading, first(left.collect(), SHOWN));
}

/// What became of a host.
fn add_host(lines: &mut Vec<String>, part: &Part, end: &PartEnd) {
    let kernel = &end.kernel;
    let (before, after) = (part.host.taint, kernel.taint);
    let host = part.label.as_ref();
    let host = host.map_or_else(String::new, |host| format!("{host}: "));
    let mut note = |text: String| lines.extend([String::new(), host.clone() + &text]);
    if kernel.has_unseen(before) {
        let unseen = "was not seen in the kernel's log: only the taint mask tells of it";
        note(format!("KERNEL SPLAT that {unseen}"));
    }
    if kernel.ignored > 0 {
        let ignored = kernel.ignored;
        note(format!(
            "kernel splats ignored (kernel_log_ignore): {ignored}"
        ));
    }
    if kernel.lost > 0 {
        let why = "were overwritten before they were read, and splats may be among them";
        let (lost, remedy) = (kernel.lost, "a larger log_buf_len= helps");
        note(format!(
            "KERNEL LOG NOT COMPLETE: {lost} records or more {why} ({remedy})"
        ));
    }
    if let Some(problem) = &kernel.problem {
        note(format!("KERNEL LOG NOT COMPLETE: {}", one_line(problem)));
    }
    for problem in &end.not_restored {
        note(format!("THIS HOST IS NOT AS IT WAS {}", one_line(problem)));
    }
    if before != after {
        let [shown, now] = [before, after].map(host::show_taint);
        note(format!("KERNEL TAINT before: {shown}; after: {now}"));
        let meanings = host::taint_meanings(after & !before);
        lines.extend(meanings.map(|meaning| format!("  {meaning}")));
    }
}

/// What a run came to that others have run.
pub fn summary(state: &State, results: &Path) -> String {
    let summary = Summary {
        state,
        results,
        slower: &[],
        has_details: true,
        columns: usize::MAX,
    };
    summary.render()
}

/// Adds a heading with lines; nothing where there are none.
fn section(lines: &mut Vec<String>, heading: &str, items: Vec<String>) {
    if !items.is_empty() {
        lines.extend([String::new(), heading.to_owned()]);
        lines.extend(items.into_iter().map(|item| format!("  {item}")));
    }
}

/// What outlived a case.
fn leaks(leaks: &[Leak]) -> String {
    named(&Vec::from_iter(leaks.iter().map(Leak::describe)), NAMED)
}

/// What appeared on the host during the run.
fn left_behind(left: &LeftBehind) -> String {
    let what = one_line(&left.what);
    let Some(made_ms) = left.made_ms else {
        return what;
    };
    let seconds = made_ms / 1000;
    let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
    let at = format!("{hours:02}:{minutes:02}:{:02}Z", seconds % 60);
    match left.cases.as_slice() {
        [] => format!("{what}: made at {at}, while no case ran"),
        cases => format!("{what}: made at {at}, when {} ran", named(cases, NAMED)),
    }
}

/// How to go on with an interrupted run; nextest's cannot.
fn go_on(part: &Part, results: &Path) -> Option<String> {
    let own = part.command_line.len().saturating_sub(part.options.len());
    let words = part.command_line[..own].iter();
    let words: Vec<_> = words.map(|word| quoted(word)).collect();
    let program = match words.as_slice() {
        // The test target, which Cargo starts.
        [_] => "cargo test --".to_owned(),
        words => words.join(" "),
    };
    let results = quoted(results.as_os_str());
    let line = format!("go on with: {program} --resume {results}");
    let can = part.nextest_run_id.is_none() && part.place.is_none();
    can.then(|| one_line(&line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::{Event, KernelEnd};
    use crate::model::outcome::{Exit, Splat};
    use crate::show::stage::{end, finished, outcome, part, state};

    /// The summary of a run that came to its end, or was interrupted, with these outcomes.
    fn summary(outcomes: &[Outcome], interrupted_by: Option<i32>, has_details: bool) -> String {
        let mut events: Vec<_> = outcomes.iter().cloned().map(finished).collect();
        let end = end(interrupted_by, KernelEnd::default());
        events.push(Event::PartEnded(Box::new(end)));
        let names: Vec<_> = outcomes.iter().map(|one| one.name.as_str()).collect();
        let summary = Summary {
            state: &state(&names, &events),
            results: Path::new("/r"),
            slower: &[],
            has_details,
            columns: 80,
        };
        summary.render()
    }

    #[test]
    fn each_failure_stands_there_once_with_what_there_is_to_say() {
        let outcomes = [
            outcome("a_test::default", Status::Passed, ""),
            outcome("b_test::default", Status::Skipped, "no moon"),
            outcome("c_test::default", Status::Failed, "a.c:7: wanted 2\ngot 3"),
            outcome("d_test::default", Status::TimedOut, "timeout of 1 s"),
        ];
        let expected = "1 PASSED, 1 SKIPPED, 1 FAILED, 1 TIMED_OUT of 4 cases

SKIPPED
    1 x no moon: b_test::default

TIMED_OUT
  d_test::default: timeout of 1 s
    output:    /r/d_test/default
    reproduce: cd /s && /s/a_test

FAILED
  c_test::default: a.c:7: wanted 2
    got 3
    output:    /r/c_test/default
    reproduce: cd /s && /s/a_test

results: /r
";
        assert_eq!(summary(&outcomes, None, true), expected);
        // Where libtest's lines stand elsewhere, they have the rest.
        let end = "\n\nTIMED_OUT\n  d_test::default: timeout of 1 s\n\nFAILED\n  c_test::default: a.c:7: wanted 2\n\nresults: /r\n";
        let without = summary(&outcomes, None, false);
        assert!(without.ends_with(end), "{without}");
    }

    #[test]
    fn the_same_failure_in_several_environments_and_iterations_is_one_entry() {
        let mut outcomes = Vec::new();
        for environment in ["", "shadow::", "apicv::", "nx::", "tdp::", "pmu::"] {
            let mut add = |name: &str, status, reason: &str| {
                outcomes.push(outcome(&format!("{environment}{name}"), status, reason));
            };
            match environment {
                "shadow::" => add("state::default", Status::Failed, "state.c:261: got 17"),
                _ => add("state::default", Status::Passed, ""),
            }
            match environment {
                "nx::" => add("clock::default", Status::Skipped, "no clock"),
                "tdp::" => add("clock::default", Status::Failed, "c.c:2: late"),
                "pmu::" => add("clock::default", Status::Passed, ""),
                _ => add("clock::default", Status::Failed, "c.c:1: early"),
            }
            // The same but for a number.
            let reason = format!("a.c:1: never {}", environment.len());
            add("all::default", Status::Failed, &reason);
        }
        for iteration in 1..=4 {
            let status = if iteration % 2 == 0 {
                Status::Failed
            } else {
                Status::Passed
            };
            let name = format!("flaky::default::iteration_{iteration}");
            outcomes.push(Outcome {
                name,
                iteration: Some(iteration),
                ..outcome("flaky::default", status, "f.c:9: flip")
            });
        }
        let summary = summary(&outcomes, None, false);
        let failed = summary.split_once("\nFAILED\n").unwrap().1;
        let expected = "  all::default  all 6 ✗: a.c:1: never 0
  clock::default  host, apicv, shadow ✗, 1 other ✓, 1 other skipped, 1 other otherwise: c.c:1: early
  clock::default  tdp ✗, 1 other ✓, 1 other skipped, 3 others otherwise: c.c:2: late
  flaky::default  host 2 of 4 ✗: f.c:9: flip
  state::default  shadow ✗, 5 others ✓: state.c:261: got 17

results: /r
";
        assert_eq!(failed, expected);
    }

    #[test]
    fn many_failures_have_a_line_each_and_the_whole_fits_on_a_screen() {
        let mut outcomes = Vec::new();
        for number in 0..25 {
            let name = format!("fails_{number:02}::default");
            outcomes.push(outcome(&name, Status::Failed, "a.c:7: wanted 2\ngot 3"));
            let reason = format!("Requirement not met: kvm_has_cap(KVM_CAP_NUMBER_{number})");
            for variant in ["default", "other", "third", "fourth", "fifth"] {
                let name = format!("skipped_{number}_test::{variant}");
                outcomes.push(outcome(&name, Status::Skipped, &reason));
            }
        }
        let summary = summary(&outcomes, None, true);
        assert!(
            summary.lines().all(|line| line.chars().count() <= 80),
            "{summary}"
        );
        assert!(summary.lines().count() < 50, "{summary}");
        assert!(
            summary.contains("\n   65 x other reasons (run.json has them all)\n"),
            "{summary}"
        );
        assert_eq!(summary.matches(": a.c:7: wanted 2\n").count(), 25);
        let end = "  (all of each, its output and how to repeat it: report.html)\n\nresults: /r\n";
        assert!(summary.ends_with(end), "{summary}");
    }

    #[test]
    fn of_an_interrupted_run_there_is_what_ran_and_how_to_go_on() {
        let mut outcomes = vec![
            Outcome {
                exit: Some(Exit::Interrupted),
                ..outcome("hangs::default", Status::NoRun, "interrupted")
            },
            outcome("skips::default", Status::Skipped, "no moon"),
        ];
        for number in 0..40 {
            let status = if number < 6 {
                Status::Failed
            } else {
                Status::Passed
            };
            outcomes.push(outcome(&format!("ran::v{number}"), status, "exit code 1"));
        }
        for number in 0..152 {
            let reason = "interrupted before it started";
            outcomes.push(outcome(&format!("waits::v{number}"), Status::NoRun, reason));
        }
        let expected = "34 PASSED, 1 SKIPPED, 6 FAILED, 153 NO_RUN of 194 cases

NO_RUN
  153 did not run: interrupted (while these ran: hangs::default)

FAILED
  ran::v0: exit code 1
  ran::v1: exit code 1
  ran::v2: exit code 1
  ran::v3: exit code 1
  and 2 more

go on with: ./kvm-tests run --resume /r
results: /r
";
        assert_eq!(summary(&outcomes, Some(2), true), expected);
        outcomes.drain(2..);
        let expected = "1 SKIPPED, 1 NO_RUN of 2 cases

NO_RUN
  hangs::default: interrupted

go on with: ./kvm-tests run --resume /r
results: /r
";
        assert_eq!(summary(&outcomes, Some(2), true), expected);
    }

    #[test]
    fn cargo_goes_on_with_what_it_began_and_nextest_with_nothing() {
        let told = |part: &Part| go_on(part, "/a run".as_ref());
        let mut part = part(&["/target/debug/deps/kvm-1234", "dirty", "-q"], 2);
        let expected = "go on with: cargo test -- --resume '/a run'";
        assert_eq!(told(&part).as_deref(), Some(expected));
        part.nextest_run_id = Some("1".to_owned());
        assert_eq!(told(&part), None);
    }

    #[test]
    fn a_run_that_tested_nothing_says_so_and_what_helps() {
        let reason = "requires 256 free hugepages of 2M (there are 0)";
        let outcomes = ["a::b", "a::c"].map(|name| outcome(name, Status::Skipped, reason));
        let expected = "2 SKIPPED of 2 cases

NOTHING WAS TESTED: every case was skipped. The commonest reasons:

SKIPPED
    2 x requires 256 free hugepages of 2M (there are 0): --environment hugetlb:…

results: /r
";
        assert_eq!(summary(&outcomes, None, true), expected);
    }

    #[test]
    fn many_that_could_not_run_for_one_reason_are_one_line() {
        let names = ["a::a", "a::b", "a::c", "a::d", "a::e"];
        let outcomes = names.map(|name| outcome(name, Status::NoRun, "nx: not root"));
        let line = "\nNO_RUN\n  5 did not run: nx: not root: a::a, a::b, a::c, a::d and 1 more\n";
        let told = summary(&outcomes, None, true);
        assert!(told.contains(line), "{told}");
    }

    #[test]
    fn what_became_of_the_host_comes_last_and_nothing_forges_a_line() {
        let mut leaves = outcome("a::b", Status::Failed, "left a process");
        leaves.leaks = [("sleep\nFAILED x\x1b[", false), ("stuck", true)]
            .map(|(command, unkillable)| Leak {
                pid: 9,
                command: command.to_owned(),
                unkillable,
            })
            .to_vec();
        leaves.suspect = true;
        let splat = Splat {
            host: None,
            name: "WARNING".to_owned(),
            title: "WARNING: at x.c:1".to_owned(),
            at_us: 0,
            lines: Vec::new(),
            while_running: vec!["a::b".to_owned()],
        };
        let kernel = KernelEnd {
            stray: 3,
            ignored: 2,
            lost: 5,
            problem: Some("read /dev/kmsg: bad\x1b[1m".to_owned()),
            taint: 512,
            ..KernelEnd::default()
        };
        let mut end = end(None, kernel);
        let made = |what: &str, made_ms, cases: &[&str]| LeftBehind {
            what: what.to_owned(),
            made_ms,
            cases: cases.iter().map(ToString::to_string).collect(),
        };
        end.left_behind = vec![
            made("/dev/shm/\nx", Some(3_661_000), &["a::b", "a::c"]),
            made("/dev/shm/y", Some(3_661_000), &[]),
            made("a mount", None, &[]),
        ];
        end.not_restored = vec!["kvm: ept".to_owned()];
        let ended = Event::PartEnded(Box::new(end));
        let events = [finished(leaves), Event::Splat(Box::new(splat)), ended];
        let summary = Summary {
            state: &state(&["a::b"], &events),
            results: Path::new("/r\n"),
            slower: &["a::b: 9.0 s, last time 1.0 s".to_owned()],
            has_details: false,
            columns: usize::MAX,
        };
        let expected = r"1 FAILED of 1 cases

FAILED
  a::b: left a process

SLOWER THAN BEFORE
  a::b: 9.0 s, last time 1.0 s

SUSPECTS: they ran, or may have, when this run died before
  a::b: FAILED

LEFT RUNNING by its case, and killed where nothing else is said
  a::b: sleep\nFAILED x (pid 9), stuck (pid 9; even SIGKILL did not end it)

LEFT BEHIND on this host, or made by others while the run went on
  /dev/shm/\nx: made at 01:01:01Z, when a::b, a::c ran
  /dev/shm/y: made at 01:01:01Z, while no case ran
  a mount

KERNEL SPLATS that are no case's own (kernel.log has all of their lines)
  WARNING: at x.c:1
    while this ran: a::b
  and 2 more

kernel splats ignored (kernel_log_ignore): 2

KERNEL LOG NOT COMPLETE: 5 records or more were overwritten before they were read, and splats may be among them (a larger log_buf_len= helps)

KERNEL LOG NOT COMPLETE: read /dev/kmsg: bad

THIS HOST IS NOT AS IT WAS kvm: ept

KERNEL TAINT before: no; after: 512 (W)
  W: the kernel warned

results: /r\n
";
        assert_eq!(summary.render(), expected);
    }

    #[test]
    fn a_taint_of_which_the_log_said_nothing_is_told() {
        let kernel = KernelEnd {
            taint: 512,
            ..KernelEnd::default()
        };
        let ended = Event::PartEnded(Box::new(end(None, kernel)));
        let summary = Summary {
            state: &state(&[], &[ended]),
            results: Path::new("/r"),
            slower: &[],
            has_details: false,
            columns: 80,
        };
        let unseen = "\nKERNEL SPLAT that was not seen in the kernel's log: only the taint mask tells of it\n";
        let told = summary.render();
        assert!(told.contains(unseen), "{told}");
    }

    #[test]
    fn the_header_tells_the_host() {
        let mut part = part(&["kvm"], 0);
        part.host.kernel = "6.12.1".to_owned();
        part.host.machine = "x86_64".to_owned();
        part.host.cpu_vendor = "AuthenticAMD".to_owned();
        (part.host.cpus, part.host.memory) = (2, 3 << 29);
        part.host.modules = [("kvm".to_owned(), BTreeMap::new())].into();
        part.shuffle_seed = Some(7);
        let lines = header_of(&part);
        let host = "kvm-tests 0.1.0: Linux 6.12.1 on x86_64 (AuthenticAMD), 2 CPUs, 1.5G of memory";
        assert_eq!(lines[..2], [host, "  /dev/kvm     there (kvm)"]);
        assert!(lines.contains(&"  order        shuffled (--shuffle-seed 7)".to_owned()));
    }
}
