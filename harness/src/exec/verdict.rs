//! What the facts of a case add up to: the only judge of a status.

use std::io;
use std::sync::Arc;

use rustix::io::Errno;

use crate::model::case::{Case, Command};
use crate::model::facts::{EarlyEnd, Ended, Evidence, Facts, Ktap, Obstacle, StepEnd, ThreadState};
use crate::model::outcome::known::{Expectation, KnownFailure};
use crate::model::outcome::signature::{CORE_DUMP, LAST_OUTPUT, THREADS};
use crate::model::outcome::{Assertion, Exit, Outcome, Status, Step, Subtest, SubtestResult};
use crate::model::text::{plural, printable};

/// What upstream's kselftest.h calls `KSFT_SKIP`.
const SKIP: i32 = 4;

/// What upstream's `test_assert()` exits with (lib/assert.c), except on `EACCES`: then it is [`SKIP`].
const ASSERTION: i32 = 254;

/// How many failed sub-tests a reason names.
const NAMED: usize = 10;

/// How many kinds of threads it names: they are in its first line.
const THREADS_NAMED: usize = 4;

/// A case's status and what a developer wants to know first about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The status.
    pub status: Status,
    /// Why it is no pass: a first line that stands alone, and more lines where there is more to say.
    pub reason: Option<String>,
    /// The known failure that it is; of a pass, the one that it should have been.
    pub known: Option<Arc<KnownFailure>>,
    /// What is wrong beside its assertion, its sub-tests and the kernel's splats.
    pub beside: Vec<String>,
}

/// Judges a case by all that was seen of it.
///
/// The reasons are in this order: what the kernel complained of; what its steps came to; where the guest was; the core dump; output that was not
/// kept; what cannot be killed; its tear-down; its suite's tear-down.
pub fn judge(facts: &Facts, case: &Case) -> Verdict {
    let mut verdict = of_steps(facts, case);
    let printed = wrong_in_output(facts, &verdict);
    let mut beside = wrong_beside(facts, &verdict, printed.is_empty());
    for reason in also_wrong(facts, case) {
        // These say where, not what.
        let is_place = reason.starts_with(CORE_DUMP) || facts.guest_rip.as_ref() == Some(&reason);
        beside.extend((!is_place).then(|| reason.clone()));
        verdict.worsen(reason);
    }
    if !facts.splats.is_empty() {
        let splats = facts.splats.iter();
        let titles = splats.map(|splat| format!("kernel: {}", splat.title));
        let reasons: Vec<_> = titles.chain(verdict.reason).collect();
        verdict = Verdict::new(Status::Failed, reasons.join("\n"));
    }
    let splats = facts.splats.iter().map(|splat| splat.title.clone());
    let wrong = printed.into_iter().chain(beside.iter().cloned());
    let wrong: Vec<_> = wrong.chain(splats).collect();
    let known = held_against(&case.known, verdict, &wrong);
    Verdict { beside, ..known }
}

/// The verdict on a case of which these failures are `known`. A failure is known where all that is `wrong` is.
fn held_against(known: &[Arc<KnownFailure>], verdict: Verdict, wrong: &[String]) -> Verdict {
    let with = |expect| known.iter().find(move |known| known.expect == expect);
    let found = match verdict.status {
        Status::Failed | Status::TimedOut => {
            let known_of = |wrong: &String| known.iter().find(|known| known.has(wrong));
            let all: Option<Vec<_>> = wrong.iter().map(known_of).collect();
            all.and_then(|all| all.first().copied())
        }
        Status::Passed => with(Expectation::Fail),
        Status::Skipped => with(Expectation::Crash),
        Status::NoRun => None,
    };
    match found {
        Some(known) if known.strict && verdict.status == Status::Passed => {
            let reason = format!("XPASS: it passed, but is a {known} ({})", known.place);
            Verdict::new(Status::Failed, reason)
        }
        found => Verdict {
            known: found.cloned(),
            ..verdict
        },
    }
}

/// What is known of a case that failed and was run again: it stays what it was, and tells how often it failed. A known failure
/// that was another one then is known no more.
pub fn repeated(first: &Outcome) -> Outcome {
    let mut again = first.repetitions.iter();
    let is_other = |one: &&Outcome| one.kind().is_failure() && one.status != Status::NoRun;
    let other = again.find(|one| first.known.is_some() && is_other(one));
    let reason = other.unwrap_or(first).reason.clone();
    let rate = first
        .rate()
        .map(|rate| format!("{rate}: {}", reason.clone().unwrap_or_default()));
    Outcome {
        reason: rate.or(reason),
        known: first.known.clone().filter(|_| other.is_none()),
        ..first.clone()
    }
}

impl Verdict {
    fn new(status: Status, reason: impl Into<String>) -> Self {
        Self {
            status,
            reason: Some(reason.into()),
            known: None,
            beside: Vec::new(),
        }
    }

    fn no_run(reason: impl Into<String>) -> Self {
        Self::new(Status::NoRun, reason)
    }

    /// Something else went wrong: what was no failure becomes one, and what was one keeps its reason first.
    fn worsen(&mut self, reason: String) {
        match &mut self.reason {
            Some(reasons) if self.status.is_failure() => {
                reasons.push('\n');
                reasons.push_str(&reason);
            }
            _ => *self = Self::new(Status::Failed, reason),
        }
    }
}

/// What the steps come to, up to the selftest itself: the first that did not end well decides.
fn of_steps(facts: &Facts, case: &Case) -> Verdict {
    if let Some(obstacle) = &facts.obstacle {
        return of_obstacle(obstacle, facts.ended_early);
    }
    if let Some(ended) = ended_by_user(facts) {
        let complaints = complaints(ended.exit, &ended.evidence);
        let lines = [vec![ended.exit.to_string()], complaints].concat();
        return Verdict::new(Status::Failed, lines.join("\n"));
    }
    let no_run = |whose: &str, why| Verdict::no_run(format!("{whose} failed: {why}"));
    let of_suite = format!("the set-up of suite {}", case.name.suite);
    let mut verdicts = facts
        .steps
        .iter()
        .filter_map(|(step, end)| match (step, end) {
            (Step::SuiteSetup, end) => failure_of(end).map(|why| no_run(&of_suite, why)),
            (Step::Precheck, end) => of_precheck(end),
            (Step::Setup, end) => failure_of(end).map(|why| no_run("its set-up", why)),
            (Step::Selftest, Ok(ended)) => Some(of_selftest(ended, case, facts.ended_early)),
            (Step::Selftest, Err(why)) => Some(Verdict::no_run(why)),
            (Step::Teardown | Step::SuiteTeardown, _) => None,
        });
    (verdicts.next()).unwrap_or_else(|| Verdict::no_run("it was not run"))
}

/// The step that the user ended, up to the selftest itself. That of its suite is not this case's alone.
fn ended_by_user(facts: &Facts) -> Option<&Ended> {
    let own = [Step::Precheck, Step::Setup, Step::Selftest].into_iter();
    let mut ended = own.filter_map(|step| facts.step(step)?.as_ref().ok());
    ended.find(|ended| ended.exit == Exit::ByUser)
}

/// Why a selftest did not run to its end.
fn interrupted(ended_early: Option<EarlyEnd>) -> String {
    match ended_early {
        Some(why @ EarlyEnd::TimeLimit(_)) => format!("interrupted: {why}"),
        Some(EarlyEnd::Failures(_) | EarlyEnd::Signal(_)) | None => "interrupted".to_owned(),
    }
}

fn of_obstacle(obstacle: &Obstacle, ended_early: Option<EarlyEnd>) -> Verdict {
    match obstacle {
        Obstacle::Ignored(why) | Obstacle::Impossible(why) => Verdict::new(Status::Skipped, why),
        Obstacle::Missing(why) | Obstacle::Failed(why) => Verdict::no_run(why),
        Obstacle::HostDied(how) => {
            Verdict::new(Status::Failed, format!("its host died twice: {how}"))
        }
        Obstacle::Interrupted => Verdict::no_run(match ended_early {
            Some(why @ EarlyEnd::Failures(_)) => format!("not started: {why}"),
            Some(why @ EarlyEnd::TimeLimit(_)) => format!("interrupted before it started: {why}"),
            Some(EarlyEnd::Signal(_)) | None => "interrupted before it started".to_owned(),
        }),
    }
}

/// Why a step that is not the selftest did not end well, if it did not.
pub(super) fn failure_of(end: &StepEnd) -> Option<String> {
    let ended = match end {
        Ok(ended) => ended,
        Err(why) => return Some(why.clone()),
    };
    match (ended.exit, last_words(&ended.evidence)) {
        (Exit::Code(0), _) => {
            let why = "it left a process that cannot be killed";
            ended.leaves_unkillable().then(|| why.to_owned())
        }
        (exit, Some(words)) => Some(format!("{exit}: {words}")),
        (exit, None) => Some(exit.to_string()),
    }
}

/// `None` where the case may run.
fn of_precheck(end: &StepEnd) -> Option<Verdict> {
    let why = format!("its precheck: {}", failure_of(end)?);
    let Some(ended) = end.as_ref().ok().filter(|ended| is_answer(ended)) else {
        return Some(Verdict::no_run(why));
    };
    let evidence = &ended.evidence;
    let printed = [&evidence.last_stdout, &evidence.last_stderr];
    let printed = printed.into_iter().flatten().next();
    Some(Verdict::new(Status::Skipped, printed.unwrap_or(&why)))
}

/// Whether a precheck said no, and did not just fail to run.
fn is_answer(ended: &Ended) -> bool {
    let said = ended.evidence.last_stderr.as_deref();
    match ended.exit {
        // A shell says why it cannot execute something. dash's `command -v` ends so without a word.
        Exit::Code(126 | 127) => said.is_none(),
        Exit::Code(2) => !said.is_some_and(is_syntax_error),
        // Most above 128 are a shell's words for signals.
        Exit::Code(code) => matches!(code, 1..=128 | 255),
        Exit::Signal { .. } | Exit::Timeout | Exit::Interrupted | Exit::ByUser => false,
    }
}

/// `/bin/sh: 1: Syntax error: …` of dash, `sh: syntax error: …` of busybox, `sh: -c: line 1: …` of bash.
fn is_syntax_error(line: &str) -> bool {
    let is_shells = line.starts_with("/bin/sh: ") || line.starts_with("sh: ");
    is_shells && (line.contains("yntax error") || line.contains(": -c: line "))
}

/// Judges by the selftest's end and what it printed.
///
/// An exit code is believed when it tells of a failure. Passing and skipping must not be contradicted by the output.
fn of_selftest(ended: &Ended, case: &Case, ended_early: Option<EarlyEnd>) -> Verdict {
    let Ended { exit, evidence, .. } = ended;
    let complaints = complaints(*exit, evidence);
    let may_pass = complaints.is_empty();
    if let (Exit::Code(_), Some(option)) = (exit, &evidence.unknown_option) {
        // Another kernel's selftest of that name has it.
        let has_failed =
            evidence.assertion.is_some() || evidence.ktap.count(SubtestResult::NotOk) > 0;
        if case.shipped && !has_failed && case.command.has_option(option) {
            let reason = format!("this selftest has no option {option}");
            return Verdict::new(Status::Skipped, reason);
        }
    }
    match *exit {
        Exit::Interrupted => Verdict::no_run(interrupted(ended_early)),
        Exit::Timeout => Verdict::new(Status::TimedOut, timeout(ended, &complaints)),
        Exit::Code(126 | 127) if matches!(case.command, Command::Shell(_)) && may_pass => {
            Verdict::no_run(last_words(evidence).map_or_else(|| exit.to_string(), str::to_owned))
        }
        Exit::Code(0) if may_pass => {
            let reason = skip_of_all(evidence);
            let skipped = reason.as_ref().map(|_| Status::Skipped);
            let status = skipped.unwrap_or(Status::Passed);
            Verdict {
                reason,
                ..Verdict::new(status, "")
            }
        }
        Exit::Code(SKIP) if may_pass => Verdict::new(Status::Skipped, skip(evidence)),
        Exit::Code(_) | Exit::Signal { .. } | Exit::ByUser => {
            Verdict::new(Status::Failed, failure(*exit, evidence, complaints))
        }
    }
}

/// What in the output tells of a failure, the most telling first.
fn complaints(exit: Exit, evidence: &Evidence) -> Vec<String> {
    let ktap = &evidence.ktap;
    let mut lines: Vec<_> = evidence.assertion.iter().flat_map(assertion).collect();
    lines.extend(bail_out(ktap));
    if ktap.count(SubtestResult::NotOk) > 0 {
        lines.extend(subtests("not ok", SubtestResult::NotOk, ktap));
        lines.extend(evidence.diagnostics.iter().cloned());
    }
    if ktap.count(SubtestResult::Xpass) > 0 {
        lines.extend(subtests("passed unexpectedly", SubtestResult::Xpass, ktap));
    }
    lines.extend(contradictions(exit, evidence));
    lines
}

fn bail_out(ktap: &Ktap) -> Option<String> {
    let reason = ktap.bail_out.as_ref()?;
    Some(format!("Bail out! {reason}").trim_end().to_owned())
}

/// What in the output is no result of a test, and does not fit its results.
fn contradictions(exit: Exit, evidence: &Evidence) -> Vec<String> {
    let ktap = &evidence.ktap;
    let mut lines: Vec<_> = ktap.contradiction.iter().cloned().collect();
    if let Some(line) = &evidence.usage {
        let exited = match exit {
            Exit::Code(code) => format!(" and exited with {code}"),
            Exit::Signal { .. } | Exit::Timeout | Exit::Interrupted | Exit::ByUser => String::new(),
        };
        lines.push(format!("printed its usage{exited}: {line}"));
    }
    // A test that skips half-way is no liar for what it planned; a process that was killed needs no such hint.
    if matches!(exit, Exit::Code(code) if code != SKIP) {
        lines.extend(ktap.mismatch.clone());
    }
    lines
}

/// An assertion: where it is for who wrote the selftest, and its message, or else its expression.
fn assertion(assertion: &Assertion) -> Vec<String> {
    let own = match &*assertion.file {
        "" => String::new(),
        file => format!("{file}:{}", assertion.line),
    };
    let caller = assertion.caller.as_deref();
    let elsewhere = caller.map(|_| format!(" at {own}")).unwrap_or_default();
    // TEST_FAIL() is an assertion of `false`, which tells nothing.
    let tells = |text: &&str| !matches!(*text, "" | "false" | "0");
    let expression = Some(&*assertion.expression).filter(tells);
    let mut message = assertion.message.lines();
    let first = message.find(|line| !line.trim().is_empty());
    let head = first.or(expression).unwrap_or("an assertion failed").trim();
    let mut lines = vec![match caller.unwrap_or(&own) {
        "" => head.to_owned(),
        place => format!("{place}: {head}"),
    }];
    let asserted = first.and(expression).map(|text| format!(" {text}"));
    let asserted = asserted.unwrap_or_default() + &elsewhere;
    if !asserted.is_empty() {
        lines.push(format!("asserted{asserted}"));
    }
    lines.extend(message.map(str::to_owned));
    if let Some(errno) = assertion.errno.filter(|&errno| errno != 0) {
        let text = io::Error::from_raw_os_error(errno).to_string();
        let text = text.replace(&format!(" (os error {errno})"), "");
        lines.push(format!("errno {errno}: {text}"));
    }
    lines
}

/// The sub-tests that went so: their names, and their reasons.
fn subtests(what: &str, result: SubtestResult, ktap: &Ktap) -> Vec<String> {
    let of_kind = |subtest: &&Subtest| subtest.result == result;
    let kept = || ktap.subtests.iter().filter(of_kind);
    // Without those that failed only because one inside them did, which is right before.
    let mut inner = "";
    let told: Vec<&Subtest> = kept()
        .filter(|subtest| {
            let rest = inner.strip_prefix(&*subtest.name);
            inner = &subtest.name;
            !rest.is_some_and(|rest| rest.starts_with('/'))
        })
        .collect();
    let named = &told[..told.len().min(NAMED)];
    let names: Vec<_> = named.iter().map(|subtest| &*subtest.name).collect();
    let mut lines = vec![format!("{what}: {}", names.join(", "))];
    let more = (told.len() - named.len()) as u64 + (ktap.count(result) - kept().count() as u64);
    if more > 0 {
        lines[0].push_str(&format!(", and {more} more"));
    }
    let reasons = named.iter().filter_map(|subtest| {
        let reason = subtest.reason.as_ref()?;
        Some(format!("{}: {reason}", subtest.name))
    });
    lines.extend(reasons);
    lines
}

/// What of the selftest's output is wrong, each thing by itself, where it has failed by the `verdict` on its steps.
fn wrong_in_output(facts: &Facts, verdict: &Verdict) -> Vec<String> {
    let ended = facts.selftest().filter(|_| verdict.status.is_failure());
    let evidence = ended.map(|ended| &ended.evidence).into_iter();
    let assertion = evidence.clone().flat_map(|one| &one.assertion);
    let assertion = assertion.map(|one| self::assertion(one).join(" "));
    let subtests = evidence.flat_map(|one| &one.ktap.subtests);
    assertion
        .chain(subtests.filter_map(Subtest::wrong))
        .collect()
}

/// What else is: where nothing else `is_all`, the reason.
fn wrong_beside(facts: &Facts, verdict: &Verdict, is_all: bool) -> Vec<String> {
    if !verdict.status.is_failure() {
        return Vec::new();
    }
    let mut reason = verdict.reason.iter().cloned();
    let Some(Ended { exit, evidence, .. }) = facts.selftest() else {
        return reason.collect();
    };
    let ktap = &evidence.ktap;
    let mut wrong: Vec<_> = bail_out(ktap).into_iter().collect();
    let subtests = ktap.subtests.iter();
    let kept = |kind| subtests.clone().filter(|one| one.result == kind).count() as u64;
    let lost =
        [SubtestResult::NotOk, SubtestResult::Xpass].map(|kind| ktap.count(kind) - kept(kind));
    let lost = lost.iter().sum::<u64>();
    wrong.extend((lost > 0).then(|| format!("{lost} more sub-tests")));
    wrong.extend(contradictions(*exit, evidence));
    // A code adds nothing to what was printed before it.
    if (is_all && wrong.is_empty()) || !matches!(exit, Exit::Code(_)) {
        let first = |reason: String| reason.lines().next().map(str::to_owned);
        wrong.extend(match exit {
            Exit::Signal { .. } => Some(exit.to_string()),
            _ => reason.next().and_then(first),
        });
    }
    wrong
}

fn failure(exit: Exit, evidence: &Evidence, mut complaints: Vec<String>) -> String {
    if complaints.is_empty() {
        return with_last_words(exit.to_string(), evidence);
    }
    let assertion = evidence.assertion.as_ref();
    let denied = assertion.is_some_and(|it| it.errno == Some(Errno::ACCESS.raw_os_error()));
    match exit {
        Exit::Code(SKIP) if denied => complaints.push(
            "exit code 4 (skip) is what TEST_ASSERT makes of errno EACCES, but it is a failed assertion"
                .to_owned(),
        ),
        Exit::Code(ASSERTION) if assertion.is_some() => {}
        Exit::Code(1) if evidence.ktap.count(SubtestResult::NotOk) > 0 => {}
        Exit::Code(_) if evidence.usage.is_some() => {}
        Exit::Code(0 | SKIP) => complaints.push(format!("{exit} all the same")),
        Exit::Code(_)
        | Exit::Signal { .. }
        | Exit::Timeout
        | Exit::Interrupted
        | Exit::ByUser => {
            complaints.push(exit.to_string());
        }
    }
    complaints.join("\n")
}

fn timeout(ended: &Ended, complaints: &[String]) -> String {
    let evidence = &ended.evidence;
    let running = evidence.ktap.running.iter();
    let running: String = running
        .map(|name| format!(", in sub-test {name}"))
        .collect();
    let seconds = ended.timeout.as_secs();
    let threads = threads(&ended.threads);
    let first = format!(
        "timeout of {seconds} s: {}{running}{threads}",
        Exit::Timeout
    );
    let first = match complaints {
        [] => with_last_words(first, evidence),
        _ => first,
    };
    [&[first], complaints].concat().join("\n")
}

/// What the threads of a selftest did when its time was up: `; threads: main in pthread_join, 4 threads in KVM_RUN`.
fn threads(threads: &[ThreadState]) -> String {
    let mut alike: Vec<(String, Vec<String>)> = Vec::new();
    for ThreadState { name, doing, at } in threads {
        let at = at.as_ref().map(|at| format!(" at {at}"));
        let doing = printable(format!("{doing}{}", at.unwrap_or_default()).as_bytes());
        let name = printable(name.as_bytes());
        match alike.iter_mut().find(|(known, _)| *known == doing) {
            Some((_, names)) => names.push(name),
            None => alike.push((doing, vec![name])),
        }
    }
    let told = alike.iter().take(THREADS_NAMED);
    let mut told: Vec<_> = told
        .map(|(doing, names)| match &names[..] {
            [name] => format!("{name} {doing}"),
            names => format!("{} {doing}", plural(names.len(), "thread")),
        })
        .collect();
    told.extend((alike.len() > THREADS_NAMED).then(|| "others elsewhere".to_owned()));
    match told.is_empty() {
        true => String::new(),
        false => format!("{THREADS}{}", told.join(", ")),
    }
}

/// Why a test skipped everything although it exited with 0.
fn skip_of_all(evidence: &Evidence) -> Option<String> {
    let ktap = &evidence.ktap;
    let [passed, _, skipped, todo, _] = ktap.counts;
    match passed + todo + skipped {
        0 => match ktap.skip.as_deref()? {
            "" => Some("planned no sub-tests (1..0)".to_owned()),
            reason => Some(reason.to_owned()),
        },
        all if all == skipped => {
            let reason = commonest_reason(evidence);
            reason.or_else(|| Some(format!("all {all} sub-tests were skipped")))
        }
        _ => None,
    }
}

fn commonest_reason(evidence: &Evidence) -> Option<String> {
    let subtests = evidence.ktap.subtests.iter();
    let mut reasons: Vec<_> = subtests.filter_map(|one| one.reason.as_deref()).collect();
    reasons.sort_unstable();
    let alike = reasons.chunk_by(|a, b| a == b);
    let commonest = alike.max_by_key(|alike| alike.len())?;
    Some(commonest[0].to_owned())
}

/// Why a test exited with [`SKIP`]. What `ksft_exit_skip()` prints after a plan is the last sub-test.
fn skip(evidence: &Evidence) -> &str {
    let ktap = &evidence.ktap;
    let mut subtests = ktap.subtests.iter();
    let skipped = subtests.rfind(|subtest| subtest.result == SubtestResult::Skip);
    let reasons = [
        ktap.skip.as_deref(),
        skipped.and_then(|subtest| subtest.reason.as_deref()),
        evidence.last_stdout.as_deref(),
        evidence.last_stderr.as_deref(),
    ];
    let mut said = reasons.into_iter().flatten();
    let reason = said.find(|reason| !reason.is_empty());
    reason.unwrap_or("exit code 4 (skip), without a reason")
}

fn with_last_words(what: String, evidence: &Evidence) -> String {
    match last_words(evidence) {
        Some(line) => format!("{what}{LAST_OUTPUT}{line}"),
        None => what,
    }
}

fn last_words(evidence: &Evidence) -> Option<&str> {
    let (out, err) = (&evidence.last_stdout, &evidence.last_stderr);
    err.as_deref().or(out.as_deref())
}

/// What makes any case fail, whatever its selftest came to.
fn also_wrong(facts: &Facts, case: &Case) -> Vec<String> {
    let ended = || facts.steps.iter().filter_map(|(_, end)| end.as_ref().ok());
    let guest_rip = facts.guest_rip.iter().cloned();
    let core_dump = facts.core_dump.iter();
    let core_dump = core_dump.map(|place| format!("{CORE_DUMP}{place}"));
    let not_kept = ended().filter_map(|ended| ended.not_kept.clone());
    let leaks = ended().flat_map(|ended| &ended.leaks);
    let leaks = leaks.filter(|leak| leak.unkillable);
    let failed = |step, whose: &str| {
        let why = facts.step(step).and_then(failure_of)?;
        Some(format!("{whose} failed: {why}"))
    };
    let of_suite = format!("the tear-down of suite {}", case.name.suite);
    let tear_down = failed(Step::Teardown, "its tear-down");
    let suite_tear_down = failed(Step::SuiteTeardown, &of_suite);
    let tear_downs = [tear_down, suite_tear_down].into_iter().flatten();
    guest_rip
        .chain(core_dump)
        .chain(not_kept)
        .chain(leaks.map(|leak| format!("left {}", leak.describe())))
        .chain(tear_downs)
        .collect()
}

#[cfg(test)]
#[path = "../../tests/unit/outputs.rs"]
mod outputs;

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::evidence::OutputReader;
    use crate::model::case::name::CaseName;
    use crate::model::case::{Requires, Suite, Variant};
    use crate::model::outcome::{Leak, Printed, Splat};

    const ASSERT: &str = "\
==== Test Assertion Failure ====
  x86_64/a_test.c:12: r == 0
  pid=1 tid=1 errno=22 - Invalid argument
     1\t0x1: main at a_test.c:12
  told
more
";
    const DENIED: &str = "\
==== Test Assertion Failure ====
  lib/kvm_util.c:34: fd >= 0
  pid=1 tid=1 errno=13 - Permission denied
     1\t0x1: open_path_or_exit at kvm_util.c:34
     2\t0x2: main at x.c:138
  Failed to open '/dev/kvm'
";
    const DENIED_AT: &str = "x.c:138: Failed to open '/dev/kvm'";
    const TEST_FAIL: &str = "\
==== Test Assertion Failure ====
  a_test.c:5: false
  pid=1 tid=1 errno=0 - Success
  Unknown ucall
";
    const USAGE: &str = "Random seed: 0x6b8b4567\n\nusage: ./x [-h]\n -h: help\n";
    const GETOPT: &str = "./x: invalid option -- 'Z'\n";
    const SEED: &str = "Random seed: 0x6b8b4567\n";

    fn case(command: Command, shipped: bool) -> Case {
        let variant = Variant {
            suite: Arc::new(Suite::default()),
            command,
            directory: Path::new("/").into(),
            setup: None,
            teardown: None,
            precheck: None,
            timeout: None,
            requires: Requires::default(),
            weight: 1,
            collection: None,
            ignored_splats: Arc::new([]),
            env: Vec::new(),
            tags: Arc::new([]),
            shipped,
            iterations: 1,
            missing: None,
        };
        Case {
            name: CaseName::new("suite", "variant"),
            variant: Arc::new(variant),
            exclusive: false,
            environment_options: None,
            suspect: false,
            ignored: None,
            known: Vec::new(),
        }
    }

    pub(super) fn program() -> Case {
        let path = Path::new("/x").into();
        let args = Vec::new();
        case(Command::Program { path, args }, false)
    }

    /// The end of a process `x`.
    fn ended(exit: Exit, stdout: &str, stderr: &str) -> Ended {
        let mut reader = OutputReader::new("x".as_ref());
        reader.stdout(stdout.as_bytes());
        reader.stderr(stderr.as_bytes());
        with_evidence(exit, reader.finish())
    }

    pub(super) fn with_evidence(exit: Exit, evidence: Evidence) -> Ended {
        Ended {
            exit,
            pid: 7,
            started_ms: 0,
            duration: Duration::ZERO,
            timeout: Duration::from_secs(120),
            user_time: Duration::ZERO,
            system_time: Duration::ZERO,
            max_rss: 0,
            printed: [Printed::default(); 2],
            not_kept: None,
            evidence,
            leaks: Vec::new(),
            threads: Vec::new(),
        }
    }

    fn code(code: i32, stderr: &str) -> StepEnd {
        Ok(ended(Exit::Code(code), "", stderr))
    }

    /// What such steps come to.
    fn of(steps: impl Into<Vec<(Step, StepEnd)>>) -> (Status, String) {
        let facts = Facts {
            steps: steps.into(),
            ..Facts::default()
        };
        told(judge(&facts, &program()))
    }

    fn told(verdict: Verdict) -> (Status, String) {
        let Verdict { status, reason, .. } = verdict;
        assert_eq!(reason.is_none(), status == Status::Passed);
        (status, reason.unwrap_or_default())
    }

    fn of_program(exit: Exit, stdout: &str, stderr: &str) -> (Status, String) {
        of([(Step::Selftest, Ok(ended(exit, stdout, stderr)))])
    }

    /// Judges a program, and expects the status and the reason's first line.
    fn expect(exit: Exit, status: Status, rows: &[(&str, &str, &str)]) {
        for &(stdout, stderr, first) in rows {
            let (found, reason) = of_program(exit, stdout, stderr);
            let found = (found, reason.lines().next().unwrap_or_default());
            assert_eq!(found, (status, first), "{stdout}{stderr}");
        }
    }

    #[test]
    fn exit_code_0_is_a_pass_where_nothing_speaks_against_it() {
        for stdout in [
            "",
            SEED,
            "TAP version 13\n1..2\nok 1 a\nok 2 b # SKIP why\n",
            "1..2\nok 1 a\nnot ok 2 b # TODO later\n",
            "1..1\nok 1 a # XFAIL known\n",
            "1..2\nok\nok name\n",
            "1..1\nok 1 a\n1..0 # SKIP of the second program\n",
            "  not ok 1 indented prose\n  1..4\nMemory usage: 4\nUsage: 45 MB\n",
        ] {
            let found = of_program(Exit::Code(0), stdout, "a warning\n");
            assert_eq!(found, (Status::Passed, String::new()), "{stdout}");
        }
    }

    #[test]
    fn exit_code_0_that_the_output_contradicts_is_a_failure() {
        let getopt = "printed its usage and exited with 0: ./x: invalid option -- 'Z'";
        let usage = "printed its usage and exited with 0: usage: ./x [-h]";
        let planned = "planned 5 sub-tests, reported 3";
        let totals = "says that 4 sub-tests failed, and reported 0";
        expect(
            Exit::Code(0),
            Status::Failed,
            &[
                (USAGE, GETOPT, getopt),
                (USAGE, "", usage),
                ("1..2\nok 1 a\nnot ok 2 b\n", "", "not ok: b"),
                ("", "not ok 1 b\n", "not ok: b"),
                ("1..1\nok 1 a # XPASS x\n", "", "passed unexpectedly: a"),
                ("1..1\nok 1 a # TODO x\n", "", "passed unexpectedly: a"),
                (
                    "KTAP version 1\n1..1\n  not ok 1 b\nok 1 a\n",
                    "",
                    "not ok: a/b",
                ),
                ("1..5\nok 1\nok 2\nok 3\n", "", planned),
                ("1..1\nok 1\n# Totals: pass:1 fail:3 error:1\n", "", totals),
                ("", ASSERT, "x86_64/a_test.c:12: told"),
                (ASSERT, "", "x86_64/a_test.c:12: told"),
                ("1..1\nok 1 s.a # SKIP x\n", DENIED, DENIED_AT),
                ("Bail out! no memory\n", "", "Bail out! no memory"),
            ],
        );
    }

    #[test]
    fn skips_give_the_best_reason_there_is() {
        let not_met = "Random seed: 0x1\n1..0 # SKIP - Requirement not met: x\nhint\n";
        let sentence = "MCG_CMCI_P is not supported, skipping test\n\n";
        let half_way = "1..3\nok 1 a\nok 2 # SKIP no more\n# Totals: pass:1\n";
        expect(
            Exit::Code(4),
            Status::Skipped,
            &[
                (not_met, "", "Requirement not met: x"),
                (half_way, "", "no more"),
                (sentence, "x\n", sentence.trim_end()),
                (SEED, "no such device\n", "no such device"),
                (SEED, "", "exit code 4 (skip), without a reason"),
            ],
        );
        let none = "TAP version 13\n1..0\n# Starting 0 tests from 0 test cases.\n";
        let all = "1..3\nok 1 a # SKIP x\nok 2 b # SKIP y\nok 3 c # SKIP y\n";
        let by_children = "1..1\n1..0 # SKIP no kvm\nok 1 a # SKIP unknown\n";
        expect(
            Exit::Code(0),
            Status::Skipped,
            &[
                ("1..0 # SKIP why\n", "", "why"),
                (none, "", "planned no sub-tests (1..0)"),
                (all, "", "y"),
                (by_children, "", "no kvm"),
                ("1..1\nok 1 a # SKIP\n", "", "all 1 sub-tests were skipped"),
            ],
        );
    }

    #[test]
    fn exit_code_4_is_no_skip_where_something_failed() {
        let usage = "printed its usage and exited with 4: ./x: invalid option -- 'Z'";
        let denied = "Access denied - Exiting, skipping test\n";
        expect(
            Exit::Code(4),
            Status::Failed,
            &[
                (denied, DENIED, DENIED_AT),
                ("1..2\nnot ok 1 a\nok 2 # SKIP b\n", "", "not ok: a"),
                (USAGE, GETOPT, usage),
            ],
        );
        let reason = of_program(Exit::Code(4), denied, DENIED).1;
        let expected = "x.c:138: Failed to open '/dev/kvm'\nasserted fd >= 0 at lib/kvm_util.c:34\n\
            errno 13: Permission denied\n\
            exit code 4 (skip) is what TEST_ASSERT makes of errno EACCES, but it is a failed assertion";
        assert_eq!(reason, expected);
    }

    #[test]
    fn failures_begin_with_what_a_developer_looks_for() {
        let tee = "tee: Permission denied\n";
        let rows = [
            (254, SEED, ASSERT, "x86_64/a_test.c:12: told"),
            (254, SEED, TEST_FAIL, "a_test.c:5: Unknown ucall"),
            (
                254,
                "TAP version 13\n1..5\n",
                ASSERT,
                "x86_64/a_test.c:12: told",
            ),
            (254, SEED, "", "exit code 254 (failed assertion)"),
            (
                1,
                "out\n",
                tee,
                "exit code 1; last output: tee: Permission denied",
            ),
            (1, "1..0 # SKIP x\n", "", "exit code 1"),
            (
                127,
                "",
                "x: not found\n",
                "exit code 127; last output: x: not found",
            ),
            (139, "", "", "exit code 139 (a shell's word for SIGSEGV)"),
        ];
        for (code, stdout, stderr, first) in rows {
            expect(Exit::Code(code), Status::Failed, &[(stdout, stderr, first)]);
        }
        let killed = |signal, core_dumped| Exit::Signal {
            signal,
            core_dumped,
        };
        let last = "killed by SIGSEGV (core dumped); last output: last";
        let rows = [
            (killed(11, true), "last\n", "", last),
            (killed(9, false), "", "", "killed by SIGKILL"),
            (killed(77, false), "", "", "killed by signal 77"),
            (
                killed(11, true),
                "1..2\n",
                ASSERT,
                "x86_64/a_test.c:12: told",
            ),
        ];
        for (exit, stdout, stderr, first) in rows {
            expect(exit, Status::Failed, &[(stdout, stderr, first)]);
        }
    }

    #[test]
    fn a_failure_inside_a_sub_test_tells_of_both() {
        let stdout = "1..2\nnot ok 1 s.a\nok 2 s.b\n";
        let expected = "x86_64/a_test.c:12: told\nasserted r == 0\nmore\nerrno 22: Invalid argument\nnot ok: s.a";
        assert_eq!(of_program(Exit::Code(1), stdout, ASSERT).1, expected);
        let stderr = "# a.c:7:a:Expected 1 (1) == 2 (2)\n# a: Test failed\n";
        let expected = "not ok: s.a\na.c:7:a:Expected 1 (1) == 2 (2)";
        assert_eq!(of_program(Exit::Code(1), stdout, stderr).1, expected);
    }

    #[test]
    fn many_failed_sub_tests_are_named_in_part_and_counted_in_full() {
        let numbers = 1..=25_000;
        let stdout: String = numbers
            .map(|number| format!("not ok {number} t{number}\n"))
            .collect();
        let expected = "not ok: t1, t2, t3, t4, t5, t6, t7, t8, t9, t10, and 24990 more";
        assert_eq!(of_program(Exit::Code(1), &stdout, "").1, expected);
    }

    #[test]
    fn a_time_out_tells_where_it_hung() {
        let in_subtest = "timeout of 120 s: did not end in its time, in sub-test s.a";
        let with_output = "timeout of 120 s: did not end in its time; last output: two";
        expect(
            Exit::Timeout,
            Status::TimedOut,
            &[
                ("1..2\n#  RUN           s.a ...\n", "", in_subtest),
                ("one\ntwo\n", "", with_output),
                ("", ASSERT, "timeout of 120 s: did not end in its time"),
            ],
        );
        let reason = of_program(Exit::Timeout, "", ASSERT).1;
        assert_eq!(reason.lines().nth(1), Some("x86_64/a_test.c:12: told"));

        let thread = |(name, doing): (&str, &str)| ThreadState {
            name: name.to_owned(),
            doing: doing.to_owned(),
            at: (name == "main").then(|| "a_test.c:7".to_owned()),
        };
        let seen = [("main", "in pthread_join"), ("vcpu0", "in KVM_RUN")];
        let others = ["vcpu1", "a", "b", "c"].into_iter();
        let others = others.zip(["in KVM_RUN", "in read", "in futex", "stopped"]);
        let hung = Ended {
            threads: seen.into_iter().chain(others).map(thread).collect(),
            ..ended(Exit::Timeout, "two\n", "")
        };
        let told = "main in pthread_join at a_test.c:7, 2 threads in KVM_RUN, a in read, b in futex, others elsewhere";
        assert_eq!(
            of([(Step::Selftest, Ok(hung))]).1,
            format!("timeout of 120 s: did not end in its time; threads: {told}; last output: two")
        );
    }

    #[test]
    fn what_never_ran_is_no_run() {
        let no_run = |reason: &str| (Status::NoRun, reason.to_owned());
        let interrupted = of_program(Exit::Interrupted, "not ok 1 a\n", "");
        assert_eq!(interrupted, no_run("interrupted"));
        assert_eq!(of([(Step::Selftest, Err("no".into()))]), no_run("no"));
        assert_eq!(of([]), no_run("it was not run"));
        let of_shell = |code, stdout, stderr| {
            let end = Ok(ended(Exit::Code(code), stdout, stderr));
            let facts = Facts {
                steps: vec![(Step::Selftest, end)],
                ..Facts::default()
            };
            told(judge(&facts, &case(Command::Shell("./x".into()), false)))
        };
        let not_found = "/bin/sh: 1: ./x: not found";
        assert_eq!(of_shell(127, "", not_found), no_run(not_found));
        assert_eq!(of_shell(126, "", ""), no_run("exit code 126"));
        assert_eq!(of_shell(127, "not ok 1 a\n", "").0, Status::Failed);
    }

    #[test]
    fn an_obstacle_decides_whatever_ran_before_it() {
        for (obstacle, status, reason) in [
            (Obstacle::Ignored("a".into()), Status::Skipped, "a"),
            (Obstacle::Impossible("b".into()), Status::Skipped, "b"),
            (Obstacle::Missing("c".into()), Status::NoRun, "c"),
            (Obstacle::Failed("d".into()), Status::NoRun, "d"),
            (
                Obstacle::Interrupted,
                Status::NoRun,
                "interrupted before it started",
            ),
        ] {
            let facts = Facts {
                obstacle: Some(obstacle),
                steps: vec![(Step::Selftest, code(1, ""))],
                ..Facts::default()
            };
            assert_eq!(told(judge(&facts, &program())), (status, reason.to_owned()));
        }
    }

    #[test]
    fn a_precheck_skips_by_its_answer_and_not_by_its_mistakes() {
        let of_precheck = |end| of([(Step::Precheck, end), (Step::Teardown, code(0, ""))]);
        for (exit, stderr, reason) in [
            (1, "no moon\n", "no moon"),
            (3, "", "its precheck: exit code 3"),
            (127, "", "its precheck: exit code 127"),
            (
                2,
                "/bin/sh: 1: cannot open /x: No such file",
                "/bin/sh: 1: cannot open /x: No such file",
            ),
        ] {
            let expected = (Status::Skipped, reason.to_owned());
            assert_eq!(of_precheck(code(exit, stderr)), expected);
        }
        for (exit, stderr) in [
            (127, "/bin/sh: 1: tesst: not found"),
            (126, "/bin/sh: 1: ./x: Permission denied"),
            (2, "/bin/sh: 1: Syntax error: end of file unexpected"),
            (2, "sh: syntax error: unterminated quoted string"),
            (2, "/bin/sh: -c: line 1: `if )'"),
        ] {
            let expected = format!("its precheck: exit code {exit}: {stderr}");
            assert_eq!(of_precheck(code(exit, stderr)), (Status::NoRun, expected));
        }
        for (exit, words) in [
            (Exit::Timeout, "did not end in its time"),
            (Exit::Interrupted, "interrupted"),
            (
                Exit::Code(139),
                "exit code 139 (a shell's word for SIGSEGV)",
            ),
        ] {
            let expected = (Status::NoRun, format!("its precheck: {words}"));
            assert_eq!(of_precheck(Ok(ended(exit, "", ""))), expected);
        }
        let passed = [(Step::Precheck, code(0, "")), (Step::Selftest, code(0, ""))];
        assert_eq!(of(passed).0, Status::Passed);
    }

    #[test]
    fn set_ups_and_tear_downs_that_fail_fail_the_case() {
        let no_run = |reason: &str| (Status::NoRun, reason.to_owned());
        let no_moon = || code(3, "no moon\n");
        let of_suite = of([(Step::SuiteSetup, no_moon())]);
        let expected = "the set-up of suite suite failed: exit code 3: no moon";
        assert_eq!(of_suite, no_run(expected));
        let of_case = of([(Step::Setup, no_moon()), (Step::Teardown, no_moon())]);
        let expected = "its set-up failed: exit code 3: no moon\n\
            its tear-down failed: exit code 3: no moon";
        assert_eq!(of_case, no_run(expected));
        let broken = of([
            (Step::Selftest, code(4, "skipped")),
            (Step::SuiteTeardown, Err("broke".into())),
            (Step::Teardown, no_moon()),
        ]);
        let expected = "its tear-down failed: exit code 3: no moon\n\
            the tear-down of suite suite failed: broke";
        assert_eq!(broken, (Status::Failed, expected.to_owned()));
    }

    #[test]
    fn an_option_that_a_selftest_does_not_have_skips_a_shipped_variant_alone() {
        // One that passes no such option was told of another program's.
        for (args, shipped, said, status) in [
            (vec!["-vZ".into(), "2".into()], true, "", Status::Skipped),
            (vec!["-vZ".into(), "2".into()], false, "", Status::Failed),
            (vec!["-vZ".into(), "2".into()], true, ASSERT, Status::Failed),
            (vec!["--Zoo".into(), "Z".into()], true, "", Status::Failed),
            (vec![], true, "", Status::Failed),
        ] {
            let path = Path::new("/x").into();
            let case = case(Command::Program { path, args }, shipped);
            for code in [0, 1, 4, 254] {
                let stderr = format!("{GETOPT}{said}");
                let end = Ok(ended(Exit::Code(code), USAGE, &stderr));
                let facts = Facts {
                    steps: vec![(Step::Selftest, end)],
                    ..Facts::default()
                };
                let (found, reason) = told(judge(&facts, &case));
                let is_short = reason == "this selftest has no option -Z";
                let is_skipped = status == Status::Skipped;
                assert_eq!((found, is_short), (status, is_skipped), "{reason}");
            }
        }
    }

    #[test]
    fn all_that_is_wrong_is_told_in_one_order() {
        let leak = |command: &str, pid, unkillable| Leak {
            pid,
            command: command.to_owned(),
            unkillable,
        };
        let splat = Splat {
            host: None,
            name: "WARNING".into(),
            title: "WARNING: at x".into(),
            at_us: 0,
            lines: Vec::new(),
            while_running: Vec::new(),
        };
        let mut selftest = ended(Exit::Code(0), "", "");
        selftest.leaks.push(leak("killed", 8, false));
        let mut facts = Facts {
            steps: vec![(Step::Selftest, Ok(selftest.clone()))],
            ..Facts::default()
        };
        assert_eq!(judge(&facts, &program()).status, Status::Passed);

        facts.splats.push(splat);
        let with_splat = judge(&facts, &program());
        let expected = (Status::Failed, "kernel: WARNING: at x".to_owned());
        assert_eq!(told(with_splat), expected);

        let signal = 6;
        let core_dumped = true;
        selftest.exit = Exit::Signal {
            signal,
            core_dumped,
        };
        selftest
            .leaks
            .extend([leak("stuck\x1b[0m", 9, true), leak("", 0, true)]);
        selftest.not_kept = Some("the disk is full".into());
        facts.steps = vec![
            (Step::Selftest, Ok(selftest)),
            (Step::Teardown, code(1, "")),
            (Step::SuiteTeardown, code(2, "")),
        ];
        facts.core_dump = Some("/core".into());
        let (status, reason) = told(judge(&facts, &program()));
        let expected = "\
kernel: WARNING: at x
killed by SIGABRT (core dumped)
core dump: /core
the disk is full
left stuck (pid 9; even SIGKILL did not end it)
left a process that cannot be seen, and so not be killed
its tear-down failed: exit code 1
the tear-down of suite suite failed: exit code 2";
        assert_eq!((status, &*reason), (Status::Failed, expected));
    }
}
