//! A comparison in words: for a terminal, for a mail, and for a cover letter.
//!
//! In mails, what a test or a host said stands in indented blocks, where nothing of it has a meaning to Markdown. There are no
//! headings: Git takes a line that begins with `#` out of what is edited.

use std::collections::BTreeSet;

use serde::Serialize;

use super::case::{CaseChange, ChangeKind, Tally};
use super::comparison::{Comparison, Head};
use super::difference::{Subject, flat};
use crate::model::event::Part;
use crate::model::outcome::Status;
use crate::model::time::utc;

/// How wide lines are on a terminal and in mails.
const TERMINAL: usize = 100;
const MAIL: usize = 75;

/// How many lines of a failure's reason are shown; run.json has them all.
const REASON: usize = 4;

/// What happened to cases, the worst first, and the heading over it.
const KINDS: [(ChangeKind, &str); 8] = [
    (ChangeKind::NewFailure, "New failures"),
    (
        ChangeKind::DifferentFailure,
        "Different failures under the same name",
    ),
    (ChangeKind::FailsMoreOften, "Failing more often"),
    (ChangeKind::NewlySkipped, "Newly skipped"),
    (ChangeKind::Vanished, "Vanished"),
    (ChangeKind::Fixed, "Fixed"),
    (ChangeKind::NewlyRun, "Newly run"),
    (ChangeKind::Appeared, "Appeared"),
];

/// The heading over what is wrong with the new run beside its cases.
const TROUBLE: &str = "New trouble beside the cases";

/// For a terminal: without escape sequences, short where little changed.
pub(super) fn terminal(comparison: &Comparison<'_>) -> String {
    let mut text = block(&runs(comparison, TERMINAL), "");
    for (heading, lines) in sections(comparison, true, TERMINAL - 2) {
        text += &format!("\n{}\n{}", heading.to_uppercase(), block(&lines, "  "));
    }
    format!("{text}\n{}\n", verdict(comparison))
}

/// For a mail.
pub(super) fn markdown(comparison: &Comparison<'_>) -> String {
    let runs = block(&runs(comparison, MAIL - 4), "    ");
    let head = format!("KVM selftests, two runs compared:\n\n{runs}");
    mail(head, comparison, true)
}

/// For a cover letter: where it was tested, how many passed before and after, and what changed.
pub(super) fn cover(comparison: &Comparison<'_>) -> String {
    let (old, new) = (&comparison.old, &comparison.new);
    let mut head = Vec::new();
    if let Some(part) = new.part {
        let (host, unknown) = (&part.host, "commit unknown");
        let kernel = host.kernel_commit().unwrap_or(unknown);
        let selftests = part.selftests_commit.as_deref().unwrap_or(unknown);
        let tested = [
            format!("Linux {} ({kernel})", host.kernel),
            format!("selftests ({selftests})"),
            format!("{} with microcode {}", host.cpu_model, host.microcode),
            format!("booted with {}", host.command_line),
        ];
        head = wrapped("Tested-on: ", 4, &flat(&tested.join(", ")), MAIL);
    }
    let outcomes = new.state.outcomes.iter();
    let environments = outcomes.map(|one| one.environment.as_deref().unwrap_or("host"));
    let environments: BTreeSet<_> = environments.collect();
    let environments = Vec::from_iter(environments).join(", ");
    head.extend(wrapped("Environments: ", 4, &flat(&environments), MAIL));
    head.extend([
        format!("Before: {}", old.counts),
        format!("After:  {}", new.counts),
    ]);
    mail(block(&head, ""), comparison, false)
}

fn mail(head: String, comparison: &Comparison<'_>, with_same: bool) -> String {
    let mut text = head;
    for (heading, lines) in sections(comparison, with_same, MAIL - 4) {
        text += &format!("\n{heading}:\n\n{}", block(&lines, "    "));
    }
    format!("{text}\n{}\n", verdict(comparison))
}

fn block(lines: &[String], indent: &str) -> String {
    let lines = lines.iter().map(|line| format!("{indent}{line}\n"));
    lines.collect()
}

/// The runs, each in a line, and in what they differ.
fn runs(comparison: &Comparison<'_>, width: usize) -> Vec<String> {
    let mut lines = wrapped("old  ", 5, &run(&comparison.old), width);
    lines.extend(wrapped("new  ", 5, &run(&comparison.new), width));
    let subjects = [
        (Subject::Host, "same host"),
        (Subject::Kernel, "same kernel"),
        (Subject::Parameters, "same module parameters"),
        (Subject::Selftests, "selftests from the same place"),
        (Subject::Runner, "same runner"),
    ];
    let told = subjects.into_iter().flat_map(|(subject, same)| {
        let differences = comparison.differences.iter();
        let differences = differences.filter(|one| one.subject == subject);
        let told = differences.map(|one| format!("{} {} -> {}", one.what, one.old, one.new));
        let told: Vec<_> = told.collect();
        if told.is_empty() {
            vec![same.to_owned()]
        } else {
            told
        }
    });
    let told = told.collect::<Vec<_>>().join(", ");
    lines.extend(wrapped("     ", 5, &told, width));
    lines
}

/// A run: where it is, kernel, host, when, how many cases, and whether it came to its end.
fn run(head: &Head<'_>) -> String {
    let mut text = format!("{}: ", head.path);
    if let Some(Part { host, .. }) = head.part {
        text += &format!("Linux {} on {} ", host.kernel, host.hostname);
        text += &format!("({}, {}), ", host.machine, host.cpu_vendor);
        text += &format!("{} CPUs, ", host.cpus);
    }
    let (started, cases) = (utc(head.state.started_ms()), head.counts.total());
    text += &format!("{started}, {cases} cases");
    match head.interrupted_by {
        Some(signal) => text += &format!(", interrupted by signal {signal}"),
        None if head.finished => {}
        None => text += ", ended before its time",
    }
    flat(&text)
}

/// What there is to say of cases, the worst first, each under its heading; `with_same` names the failures that are the same.
fn sections(
    comparison: &Comparison<'_>,
    with_same: bool,
    width: usize,
) -> Vec<(String, Vec<String>)> {
    let mut sections = Vec::from(KINDS.map(|(kind, heading)| {
        let changes = comparison.of_kind(kind);
        let lines = changes.flat_map(|change| change_lines(change, width));
        (heading.to_owned(), lines.collect::<Vec<_>>())
    }));
    let slower = comparison.slower.iter().flat_map(|pace| {
        let told = format!(
            "{}: {:.1} s, was {:.1} s",
            flat(&pace.name),
            pace.new_s,
            pace.old_s
        );
        wrapped("", 4, &told, width)
    });
    let heading = format!("Slower by a factor of {} or more", comparison.slower_factor);
    sections.insert(5, (heading, slower.collect()));
    let trouble = comparison.trouble.iter();
    let trouble = trouble.flat_map(|line| wrapped("", 4, &flat(line), width));
    sections.insert(0, (TROUBLE.to_owned(), trouble.collect()));
    let same = comparison
        .of_kind(ChangeKind::SameFailure)
        .filter(|_| with_same);
    let same = same.map(head).collect::<Vec<_>>().join(", ");
    let left_out = &comparison.not_compared;
    let left_out = [(left_out.old_only, "old"), (left_out.new_only, "new")];
    let left_out = left_out.into_iter().filter(|(count, _)| *count > 0);
    let left_out = left_out.map(|(count, run)| format!("{count} selected in the {run} run only"));
    let left_out = left_out.collect::<Vec<_>>().join(", ");
    for (heading, text) in [
        ("The same failures in both", same),
        ("Not compared", left_out),
    ] {
        sections.push((heading.to_owned(), wrapped("", 0, &text, width)));
    }
    sections.retain(|(_, lines)| lines.iter().any(|line| !line.is_empty()));
    sections
}

/// Whether it got worse, and by what, in a sentence.
pub(super) fn verdict(comparison: &Comparison<'_>) -> String {
    let is_worse = |kind| comparison.of_kind(kind).any(|change| change.worse);
    let worse = KINDS.iter().filter(|(kind, _)| is_worse(*kind));
    // In a sentence the name goes without saying.
    let reasons = worse.map(|(_, heading)| heading.replace(" under the same name", ""));
    let trouble = (!comparison.trouble.is_empty()).then(|| TROUBLE.to_owned());
    let reasons = trouble.into_iter().chain(reasons);
    let mut reasons: Vec<_> = reasons.map(|reason| reason.to_lowercase()).collect();
    if comparison.slower_is_worse && !comparison.slower.is_empty() {
        reasons.push("slower".to_owned());
    }
    let mut changes = comparison.changes.iter();
    match reasons.is_empty() {
        false => format!("It got WORSE: {}.", reasons.join(", ")),
        true if changes.all(|change| change.kind == ChangeKind::SameFailure) => {
            "Nothing changed.".into()
        }
        true => "Nothing got worse.".into(),
    }
}

fn change_lines(change: &CaseChange<'_>, width: usize) -> Vec<String> {
    let (old, new) = (change.old.as_ref(), change.new.as_ref());
    let told = |tally: Option<&Tally<'_>>| tally.map_or_else(String::new, words_with_reason);
    let reasons = |label: &str, tally: Option<&Tally<'_>>| {
        tally.map_or_else(Vec::new, |tally| reasons(label, tally, width))
    };
    let head = head(change);
    let (head, reasons) = match change.kind {
        ChangeKind::NewFailure | ChangeKind::FailsMoreOften | ChangeKind::NewlySkipped => {
            (head, reasons("  ", new))
        }
        ChangeKind::DifferentFailure => (
            head,
            [reasons("  old: ", old), reasons("  new: ", new)].concat(),
        ),
        ChangeKind::Appeared => (format!("{head}: {}", told(new)), Vec::new()),
        ChangeKind::Vanished
        | ChangeKind::Fixed
        | ChangeKind::NewlyRun
        | ChangeKind::SameFailure
        | ChangeKind::Unchanged => (format!("{head}: was {}", told(old)), Vec::new()),
    };
    let mut lines = wrapped("", 4, &head, width);
    lines.extend(reasons);
    lines
}

/// The case's name, with what became of its iterations where it has any, and what it was where that is not told otherwise.
fn head(change: &CaseChange<'_>) -> String {
    let (old, new) = (change.old.as_ref(), change.new.as_ref());
    let mut both = [old, new].into_iter().flatten();
    let has_iterations = both.any(|tally| tally.counts.total() > 1);
    let mut told = Vec::from_iter(new.filter(|_| has_iterations).map(words));
    match (change.kind, old) {
        (ChangeKind::NewFailure, None) => told.push("not there before".to_owned()),
        (
            ChangeKind::NewFailure | ChangeKind::FailsMoreOften | ChangeKind::NewlySkipped,
            Some(old),
        ) => {
            told.push(format!("was {}", words(old)));
        }
        (ChangeKind::SameFailure, Some(old)) if has_iterations => {
            told.push(format!("was {}", words(old)))
        }
        _ => {}
    }
    match told.is_empty() {
        true => flat(&change.name),
        false => format!("{} ({})", flat(&change.name), told.join(", ")),
    }
}

/// What became of a case in a word; of iterations, how many failed.
fn words(tally: &Tally<'_>) -> String {
    let (counts, total) = (tally.counts, tally.counts.total());
    if total == 1 {
        return counts.to_string().replace("1 ", "");
    }
    if counts.of(Status::Skipped) == total {
        return format!("all {total} SKIPPED");
    }
    let mut words = format!("{} of {total} failed", tally.failed());
    for status in [Status::Skipped, Status::NoRun] {
        if counts.of(status) > 0 {
            words += &format!(", {} {}", counts.of(status), status.as_str());
        }
    }
    words
}

/// The same, with the first line of the reason.
fn words_with_reason(tally: &Tally<'_>) -> String {
    let failure = tally.failures.first().map(|failure| failure.reason);
    let reason = failure.or(tally.skip_reason).unwrap_or_default();
    let first = reason.lines().next();
    let first = first.map_or_else(String::new, |line| format!(": {}", flat(line)));
    words(tally) + &first
}

/// Why a case failed, each failure with the beginning of its reason, or else why it was skipped.
fn reasons(label: &str, tally: &Tally<'_>, width: usize) -> Vec<String> {
    let hang = label.len() + 2;
    if let (true, Some(reason)) = (tally.failures.is_empty(), tally.skip_reason) {
        let first = reason.lines().next().unwrap_or_default();
        return wrapped(label, hang, &flat(first), width);
    }
    let mut lines = Vec::new();
    for failure in &tally.failures {
        let count = match tally.counts.total() {
            1 => String::new(),
            _ => format!("{} x ", failure.count),
        };
        let told = failure.reason.lines().map(flat);
        let mut told = told.filter(|line| !line.is_empty()).take(REASON);
        let first = told.next().unwrap_or_else(|| "no reason given".to_owned());
        let first = format!("{count}{}: {first}", failure.signature.status.as_str());
        lines.extend(wrapped(label, hang + 2, &first, width));
        lines.extend(told.flat_map(|line| wrapped(&" ".repeat(hang), hang + 2, &line, width)));
    }
    lines
}

/// Breaks `text` between words into lines of `width` columns; the first begins with `label`, the others with `hang`
/// spaces. A word that is longer stays whole: names and paths are there to be copied.
fn wrapped(label: &str, hang: usize, text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let (mut line, mut columns, mut space) = (label.to_owned(), label.chars().count(), "");
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if !space.is_empty() && columns + 1 + length > width {
            lines.push(std::mem::replace(&mut line, " ".repeat(hang)));
            (columns, space) = (hang, "");
        }
        line.push_str(space);
        line.push_str(word);
        columns += space.len() + length;
        space = " ";
    }
    lines.push(line.trim_end().to_owned());
    lines
}

/// A result of a check.
#[derive(Debug, Serialize)]
pub(super) struct CheckResult {
    tool: &'static str,
    /// `pass`, `warn` or `fail`.
    status: &'static str,
    summary: String,
    url: Option<String>,
    details: String,
}

/// One result: it fails where something got worse, and warns where something fails as it did before.
pub(super) fn results(comparison: &Comparison<'_>) -> [CheckResult; 1] {
    let fails = comparison.of_kind(ChangeKind::SameFailure).next().is_some();
    let status = match (comparison.is_worse(), fails) {
        (true, _) => "fail",
        (false, true) => "warn",
        (false, false) => "pass",
    };
    [CheckResult {
        tool: "kvm-tests",
        status,
        summary: verdict(comparison),
        url: None,
        details: cover(comparison),
    }]
}
