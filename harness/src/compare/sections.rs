//! What changed, in words: the lines that the text for a terminal and the Markdown have in common.

use crate::compare::change::{Change, Kind};
use crate::compare::difference::{Difference, Subject};
use crate::compare::layout::wrapped;
use crate::compare::tally::Tally;
use crate::compare::{Comparison, Run, flat};
use crate::exec::verdict;
use crate::model::outcome::Status;

/// How many lines of a failure's reason are shown; run.json has them all.
const REASON_LINES: usize = 4;

/// Lines under a heading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// What they are: `New failures`.
    pub heading: String,
    /// The lines, wrapped.
    pub lines: Vec<String>,
}

/// How much is said of failures that are the same in both runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Same {
    /// Their names.
    Named,
    /// How they fail, too.
    Told,
}

/// All that happened to cases, the worst first, in lines of `width` columns. A section without lines is left out.
pub fn of(comparison: &Comparison<'_>, same: Same, width: usize) -> Vec<Section> {
    let section = |kind: Kind, heading: &str| {
        let lines = comparison
            .of_kind(kind)
            .flat_map(|change| lines_of(change, width));
        Section {
            heading: heading.to_owned(),
            lines: lines.collect(),
        }
    };
    let mut sections = vec![
        section(Kind::NewFailure, "New failures"),
        section(
            Kind::DifferentFailure,
            "Different failures under the same name",
        ),
        section(Kind::FailsMoreOften, "Failing more often"),
        section(Kind::NewlySkipped, "Newly skipped"),
        section(Kind::Vanished, "Vanished"),
        Section {
            heading: format!("Slower by a factor of {} or more", comparison.factor()),
            lines: slower(comparison, width),
        },
        section(Kind::Fixed, "Fixed"),
        section(Kind::NewlyRun, "Newly run"),
        section(Kind::Appeared, "Appeared"),
    ];
    sections.push(match same {
        Same::Told => section(Kind::SameFailure, "The same failures in both"),
        Same::Named => Section {
            heading: "The same failures in both".to_owned(),
            lines: names_of_same(comparison, width),
        },
    });
    sections.retain(|section| !section.lines.is_empty());
    sections
}

/// The run in a line: kernel, host, when, how many cases, and whether it came to its end.
pub fn of_run(run: &Run) -> String {
    let (record, host) = (&run.record, &run.record.run.host);
    let started = i64::try_from(record.run.started_ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let started = started.map_or_else(String::new, |time| {
        time.strftime(", %Y-%m-%d %H:%M UTC").to_string()
    });
    let (count, selected) = (record.outcomes.len(), record.run.selected);
    let count = if count == selected {
        count.to_string()
    } else {
        format!("{count} of {selected}")
    };
    let end = match record.interrupted_by {
        Some(signal) => {
            format!(
                ", {}",
                verdict::words(crate::model::outcome::Exit::Signal {
                    signal,
                    core_dumped: false
                })
            )
        }
        None if record.finished => String::new(),
        None => ", ended before its time".to_owned(),
    };
    flat(&format!(
        "Linux {} on {} ({}, {}), {} CPUs{started}, {count} cases{end}",
        host.kernel, host.hostname, host.machine, host.cpu_vendor, host.cpus
    ))
}

/// In what the runs differ, and in what they do not: `same host, kernel 6.12.1 -> 6.12.2, kvm_amd.npt Y -> N`.
pub fn of_differences(differences: &[Difference]) -> String {
    let subjects = [
        (Subject::Host, "same host"),
        (Subject::Kernel, "same kernel"),
        (Subject::Parameters, "same module parameters"),
        (Subject::Selftests, "selftests from the same place"),
        (Subject::Runner, ""),
    ];
    let mut parts = Vec::new();
    for (subject, same) in subjects {
        let before = parts.len();
        let of_subject = differences
            .iter()
            .filter(|difference| difference.subject == subject);
        parts.extend(
            of_subject.map(|Difference { what, old, new, .. }| format!("{what} {old} -> {new}")),
        );
        if parts.len() == before && !same.is_empty() {
            parts.push(same.to_owned());
        }
    }
    parts.join(", ")
}

/// Whether it got worse, and by what, in a sentence.
pub fn verdict(comparison: &Comparison<'_>) -> String {
    let worse = |kind: Kind, what: &'static str| {
        comparison
            .of_kind(kind)
            .any(Change::is_worse)
            .then_some(what)
    };
    let reasons = [
        worse(Kind::NewFailure, "new failures"),
        worse(Kind::DifferentFailure, "different failures"),
        worse(Kind::FailsMoreOften, "failures more often"),
        worse(Kind::NewlySkipped, "newly skipped"),
        worse(Kind::Vanished, "vanished"),
        (comparison.slower.is_some() && !comparison.slower().is_empty()).then_some("slower"),
    ];
    let reasons: Vec<_> = reasons.into_iter().flatten().collect();
    if !reasons.is_empty() {
        return format!("It got WORSE: {}.", reasons.join(", "));
    }
    let is_as_before =
        |change: &Change<'_>| matches!(change.kind, Kind::SameFailure | Kind::Unchanged);
    if comparison.changes.iter().all(is_as_before) {
        "Nothing changed."
    } else {
        "Nothing got worse."
    }
    .to_owned()
}

fn lines_of(change: &Change<'_>, width: usize) -> Vec<String> {
    let name = flat(change.name);
    let was = change
        .old
        .as_ref()
        .map_or("not there before".to_owned(), |old| {
            format!("was {}", words(old))
        });
    let head = |text: &str| entry(&format!("{name} ({text})"), width);
    match (change.kind, &change.old, &change.new) {
        (Kind::DifferentFailure, Some(old), Some(new)) => {
            let mut lines = vec![name];
            lines.extend(failures("  old: ", old, width));
            lines.extend(failures("  new: ", new, width));
            lines
        }
        (Kind::SameFailure, Some(old), Some(new)) => {
            let mut lines = head_of_same(&name, old, new, width);
            lines.extend(failures("  ", new, width));
            lines
        }
        (Kind::NewFailure | Kind::FailsMoreOften, _, Some(new)) => {
            let mut lines = if new.total() > 1 {
                head(&format!("{}, {was}", words(new)))
            } else {
                head(&was)
            };
            lines.extend(failures("  ", new, width));
            lines
        }
        (Kind::NewlySkipped, _, Some(new)) => {
            let reason = new
                .outcomes
                .iter()
                .find(|outcome| outcome.status == Status::Skipped);
            let reason = reason
                .and_then(|outcome| outcome.reason.as_deref())
                .unwrap_or("no reason given");
            let mut lines = if new.total() > 1 {
                head(&format!("{}, {was}", words(new)))
            } else {
                head(&was)
            };
            lines.extend(wrapped("  ", 4, &first_line(reason), width));
            lines
        }
        (Kind::Fixed, Some(old), Some(new)) => {
            let now = if new.total() > 1 {
                format!(" ({})", words(new))
            } else {
                String::new()
            };
            entry(&format!("{name}{now}: was {}", told(old)), width)
        }
        (Kind::Vanished, Some(old), _) => entry(&format!("{name}: was {}", told(old)), width),
        (Kind::NewlyRun, Some(old), Some(new)) => entry(
            &format!("{name} ({}): was {}", words(new), told(old)),
            width,
        ),
        (_, _, Some(new)) => entry(&format!("{name}: {}", told(new)), width),
        (_, _, None) => vec![name],
    }
}

/// A line that begins with a case's name, and hangs below it.
fn entry(text: &str, width: usize) -> Vec<String> {
    wrapped("", 4, text, width)
}

fn head_of_same(name: &str, old: &Tally<'_>, new: &Tally<'_>, width: usize) -> Vec<String> {
    match (old.total(), new.total()) {
        (1, 1) => vec![name.to_owned()],
        _ => entry(
            &format!("{name} ({}, was {})", words(new), words(old)),
            width,
        ),
    }
}

fn names_of_same(comparison: &Comparison<'_>, width: usize) -> Vec<String> {
    let names = comparison.of_kind(Kind::SameFailure).filter_map(|change| {
        let (old, new) = (change.old.as_ref()?, change.new.as_ref()?);
        Some(head_of_same(&flat(change.name), old, new, usize::MAX).concat())
    });
    let names: Vec<_> = names.collect();
    if names.is_empty() {
        Vec::new()
    } else {
        wrapped("", 0, &names.join(", "), width)
    }
}

fn slower(comparison: &Comparison<'_>, width: usize) -> Vec<String> {
    let paces = comparison.slower().into_iter().flat_map(|pace| {
        let name = flat(pace.name);
        entry(
            &format!("{name}: {:.1} s, was {:.1} s", pace.new_s, pace.old_s),
            width,
        )
    });
    paces.collect()
}

/// What became of a case in a word; of iterations, how many failed.
fn words(tally: &Tally<'_>) -> String {
    let total = tally.total();
    match &tally.outcomes[..] {
        [outcome] => return outcome.status.as_str().to_owned(),
        _ if tally.count(Status::Skipped) == total => return format!("all {total} SKIPPED"),
        _ => {}
    }
    let failed = tally.failed();
    let others = [Status::Skipped, Status::NoRun]
        .into_iter()
        .filter(|&status| tally.count(status) > 0);
    let others: Vec<_> = others
        .map(|status| format!(", {} {}", tally.count(status), status.as_str()))
        .collect();
    format!("{failed} of {total} failed{}", others.concat())
}

/// The same, with the first line of the reason.
fn told(tally: &Tally<'_>) -> String {
    let failures = tally.failures();
    let telling = failures
        .first()
        .map(|failure| failure.first)
        .or(tally.outcomes.first().copied());
    match telling.and_then(|outcome| outcome.reason.as_deref()) {
        Some(reason) => format!("{}: {}", words(tally), first_line(reason)),
        None => words(tally),
    }
}

/// Each failure of a case: its status and the beginning of its reason.
fn failures(label: &str, tally: &Tally<'_>, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let indent = " ".repeat(label.len() + 2);
    for failure in tally.failures() {
        let reason = failure.first.reason.as_deref().unwrap_or("no reason given");
        let count = if tally.total() > 1 {
            format!("{} x ", failure.count)
        } else {
            String::new()
        };
        let status = failure.signature.status.as_str();
        lines.extend(wrapped(
            label,
            indent.len() + 2,
            &format!("{count}{status}: {}", first_line(reason)),
            width,
        ));
        let more = reason
            .lines()
            .skip(1)
            .map(flat)
            .filter(|line| !line.is_empty())
            .take(REASON_LINES - 1);
        lines.extend(more.flat_map(|line| wrapped(&indent, indent.len() + 2, &line, width)));
    }
    lines
}

fn first_line(reason: &str) -> String {
    flat(reason.lines().next().unwrap_or_default())
}
