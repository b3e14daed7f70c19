//! What a selftest's exit and output add up to.

use std::io;

use rustix::io::Errno;
use signal_hook::low_level::signal_name;

use crate::evidence::Evidence;
use crate::model::case::Command;
use crate::model::outcome::{Assertion, Exit, Status, SubtestResult};

/// What upstream's kselftest.h calls `KSFT_SKIP`.
const SKIP: i32 = 4;

/// What upstream's `test_assert()` exits with (lib/assert.c), except on `EACCES`: then it is [`SKIP`].
const ASSERTION: i32 = 254;

/// How many failed sub-tests a reason names.
const NAMED: usize = 10;

/// A case's status and what a developer wants to know first about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The status.
    pub status: Status,
    /// Why it is no pass: a first line that stands alone, and more lines where there is more to say.
    pub reason: Option<String>,
}

/// Judges a case by the `exit` of its `command` and what it printed.
///
/// An exit code is believed when it tells of a failure. Passing and skipping must not be contradicted by the output.
pub fn derive(exit: Exit, evidence: &Evidence, command: &Command) -> Verdict {
    let complaints = complaints(exit, evidence);
    let (status, reason) = match exit {
        Exit::Interrupted => (Status::NoRun, "interrupted".to_owned()),
        Exit::Timeout => (Status::TimedOut, timeout(evidence, complaints)),
        Exit::Code(126 | 127) if matches!(command, Command::Shell(_)) && complaints.is_empty() => (
            Status::NoRun,
            last_words(evidence).map_or_else(|| words(exit), str::to_owned),
        ),
        Exit::Code(0) if complaints.is_empty() => match skip_of_all(evidence) {
            Some(reason) => (Status::Skipped, reason),
            None => {
                return Verdict {
                    status: Status::Passed,
                    reason: None,
                };
            }
        },
        Exit::Code(SKIP) if complaints.is_empty() => (Status::Skipped, skip(evidence)),
        Exit::Code(_) | Exit::Signal { .. } => {
            (Status::Failed, failure(exit, evidence, complaints))
        }
    };
    Verdict {
        status,
        reason: Some(reason),
    }
}

/// What in the output tells of a failure, the most telling first.
fn complaints(exit: Exit, evidence: &Evidence) -> Vec<String> {
    let ktap = &evidence.ktap;
    let mut lines = Vec::new();
    if let Some(assertion) = &evidence.assertion {
        lines.extend(describe(assertion));
    }
    if let Some(reason) = &ktap.bail_out {
        lines.push(format!("Bail out! {reason}").trim_end().to_owned());
    }
    if ktap.counts.not_ok > 0 {
        lines.extend(failed_subtests(evidence));
    }
    if let Some(line) = &evidence.usage {
        lines.push(match exit {
            Exit::Code(code) => format!("printed its usage and exited with {code}: {line}"),
            Exit::Signal { .. } | Exit::Timeout | Exit::Interrupted => {
                format!("printed its usage: {line}")
            }
        });
    }
    // A test that skips half-way is no liar for what it planned; a process that was killed needs no such hint.
    if let (Some(shortfall), Exit::Code(code)) = (ktap.shortfall, exit)
        && code != SKIP
    {
        lines.push(format!(
            "planned {} sub-tests, reported {}",
            shortfall.planned, shortfall.reported
        ));
    }
    lines
}

fn describe(assertion: &Assertion) -> Vec<String> {
    let Assertion {
        file,
        line,
        expression,
        message,
        errno,
    } = assertion;
    let place = if file.is_empty() {
        String::new()
    } else {
        format!("{file}:{line}: ")
    };
    let mut lines = Vec::new();
    // TEST_FAIL() is an assertion of `false`, which tells nothing.
    let mut message = message.lines();
    match message.clone().next() {
        Some(first) if expression == "false" => {
            message.next();
            lines.push(format!("{place}{first}"));
        }
        _ if expression.is_empty() => lines.push(format!("{place}an assertion failed")),
        _ => lines.push(format!("{place}{expression}")),
    }
    lines.extend(message.map(str::to_owned));
    if let Some(errno) = errno.filter(|&errno| errno != 0) {
        // `Permission denied (os error 13)`
        let text = io::Error::from_raw_os_error(errno).to_string();
        lines.push(format!(
            "errno {errno}: {}",
            text.split(" (os error").next().unwrap_or(&text)
        ));
    }
    lines
}

fn failed_subtests(evidence: &Evidence) -> Vec<String> {
    let ktap = &evidence.ktap;
    let failed: Vec<_> = ktap.failed().collect();
    let kept = ktap
        .subtests
        .iter()
        .filter(|subtest| subtest.result == SubtestResult::NotOk)
        .count();
    let names: Vec<_> = failed
        .iter()
        .take(NAMED)
        .map(|subtest| subtest.name.as_str())
        .collect();
    let more = failed.len() as u64 - names.len() as u64 + (ktap.counts.not_ok - kept as u64);
    let mut first = format!("not ok: {}", names.join(", "));
    if more > 0 {
        first.push_str(&format!(", and {more} more"));
    }
    let reasons = failed.iter().take(NAMED).filter_map(|subtest| {
        let reason = subtest.reason.as_ref()?;
        Some(format!("{}: {reason}", subtest.name))
    });
    std::iter::once(first)
        .chain(reasons)
        .chain(evidence.diagnostics.iter().cloned())
        .collect()
}

fn failure(exit: Exit, evidence: &Evidence, mut complaints: Vec<String>) -> String {
    if complaints.is_empty() {
        return with_last_words(words(exit), evidence);
    }
    let has_assertion = evidence.assertion.is_some();
    let denied = evidence
        .assertion
        .as_ref()
        .is_some_and(|assertion| assertion.errno == Some(Errno::ACCESS.raw_os_error()));
    match exit {
        Exit::Code(SKIP) if denied => complaints.push(
            "exit code 4 (skip) is what TEST_ASSERT makes of errno EACCES, but it is a failed assertion"
                .to_owned(),
        ),
        Exit::Code(ASSERTION) if has_assertion => {}
        Exit::Code(1) if evidence.ktap.counts.not_ok > 0 => {}
        Exit::Code(_) if evidence.usage.is_some() => {}
        Exit::Code(_) | Exit::Signal { .. } | Exit::Timeout | Exit::Interrupted => {
            complaints.push(words(exit));
        }
    }
    complaints.join("\n")
}

fn timeout(evidence: &Evidence, complaints: Vec<String>) -> String {
    let first = match &evidence.ktap.running {
        Some(subtest) => format!("did not end in its time, in sub-test {subtest}"),
        None => "did not end in its time".to_owned(),
    };
    if complaints.is_empty() {
        return with_last_words(first, evidence);
    }
    std::iter::once(first)
        .chain(complaints)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Why a test skipped everything although it exited with 0.
fn skip_of_all(evidence: &Evidence) -> Option<String> {
    let ktap = &evidence.ktap;
    if ktap.counts.total() == 0 {
        let reason = ktap.skip.clone()?;
        return Some(if reason.is_empty() {
            "planned no sub-tests (1..0)".to_owned()
        } else {
            reason
        });
    }
    (ktap.counts.skip == ktap.counts.total()).then(|| {
        commonest_reason(evidence)
            .unwrap_or_else(|| format!("all {} sub-tests were skipped", ktap.counts.skip))
    })
}

fn commonest_reason(evidence: &Evidence) -> Option<String> {
    let mut reasons: Vec<&str> = evidence
        .ktap
        .subtests
        .iter()
        .filter_map(|subtest| subtest.reason.as_deref())
        .collect();
    reasons.sort_unstable();
    reasons
        .chunk_by(|a, b| a == b)
        .max_by_key(|same| same.len())
        .map(|same| same[0].to_owned())
}

/// Why a test exited with [`SKIP`]. What `ksft_exit_skip()` prints after a plan is the last sub-test.
fn skip(evidence: &Evidence) -> String {
    let ktap = &evidence.ktap;
    let skipped = ktap
        .subtests
        .iter()
        .rfind(|subtest| subtest.result == SubtestResult::Skip);
    [
        &ktap.skip,
        &skipped.and_then(|subtest| subtest.reason.clone()),
        &evidence.last_stdout,
        &evidence.last_stderr,
    ]
    .into_iter()
    .flatten()
    .find(|reason| !reason.is_empty())
    .cloned()
    .unwrap_or_else(|| "exit code 4 (skip), without a reason".to_owned())
}

fn with_last_words(what: String, evidence: &Evidence) -> String {
    match last_words(evidence) {
        Some(line) => format!("{what}; last output: {line}"),
        None => what,
    }
}

fn last_words(evidence: &Evidence) -> Option<&str> {
    evidence
        .last_stderr
        .as_deref()
        .or(evidence.last_stdout.as_deref())
}

/// An exit in words.
pub fn words(exit: Exit) -> String {
    match exit {
        Exit::Code(0) => "exit code 0 all the same".to_owned(),
        Exit::Code(SKIP) => "exit code 4 (skip) all the same".to_owned(),
        Exit::Code(ASSERTION) => "exit code 254 (failed assertion)".to_owned(),
        Exit::Code(code) => match code.checked_sub(128).and_then(signal_name) {
            Some(name) => format!("exit code {code} (a shell's word for {name})"),
            None => format!("exit code {code}"),
        },
        Exit::Signal {
            signal,
            core_dumped,
        } => {
            let name =
                signal_name(signal).map_or_else(|| format!("signal {signal}"), str::to_owned);
            format!(
                "killed by {name}{}",
                if core_dumped { " (core dumped)" } else { "" }
            )
        }
        Exit::Timeout => "did not end in its time".to_owned(),
        Exit::Interrupted => "interrupted".to_owned(),
    }
}
