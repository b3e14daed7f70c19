//! `junit.xml`: a run as continuous integration reads it.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write};

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};
use quick_xml::writer::ElementWriter;
use signal_hook::low_level::signal_name;

use super::reported::{Reported, account, name_in_suite};
use crate::model::outcome::{Counts, Exit, Outcome, OutcomeKind, Status, Step};
use crate::model::text::{printable, printable_within};
use crate::model::time::timestamp;

/// The most of one text of a case (its failure's reason, an output), in bytes.
const TEXT: usize = 16 << 10;

/// The least. Outputs that would be shorter are left out.
const LEAST: usize = 256;

/// The most of all texts of failures together, and of all those of other cases, in bytes.
const TEXTS: usize = 512 << 10;

type Attribute = (&'static str, String);

/// Writes the run as JUnit.
///
/// # Errors
/// It cannot be written.
pub(super) fn write(run: &Reported<'_>, out: &mut dyn Write) -> io::Result<()> {
    let outcomes = run.outcomes();
    let mut suites: BTreeMap<(Option<&str>, Option<&str>), Vec<&Outcome>> = BTreeMap::new();
    for outcome in outcomes.clone() {
        let suite = suites.entry((outcome.host.as_deref(), outcome.environment.as_deref()));
        suite.or_default().push(outcome);
    }
    let counts = Counts::of_all(outcomes.map(Outcome::kind));
    let mut attributes = about("kvm-tests".to_owned(), counts, run.part.started_ms);
    attributes.extend(run.state.duration_s().map(time));
    let mut told = HashSet::new();
    let mut xml = Writer::new_with_indent(out, b' ', 0);
    xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    element(&mut xml, "testsuites", attributes).write_inner_content(|xml| {
        for ((host, environment), outcomes) in &mut suites {
            outcomes.sort_by_key(|outcome| (&outcome.suite, &outcome.variant, outcome.iteration));
            // Those of a host stand in its first suite alone.
            let is_first = told.insert(*host);
            let mut facts = if is_first {
                run.facts(*host)
            } else {
                Vec::new()
            };
            facts.extend(environment.map_or_else(Vec::new, |name| run.facts_in(*host, name)));
            suite(xml, run, outcomes, &facts, counts)?;
        }
        Ok(())
    })?;
    xml.into_inner().write_all(b"\n")
}

/// The cases of an environment; `counts` are those of the run.
fn suite(
    xml: &mut Writer<impl Write>,
    run: &Reported<'_>,
    outcomes: &[&Outcome],
    facts: &[(String, String)],
    counts: Counts,
) -> io::Result<()> {
    let of_suite = Counts::of_all(outcomes.iter().map(|outcome| outcome.kind()));
    let began = outcomes.iter().map(|outcome| outcome.started_ms).min();
    let mut attributes = about(package(outcomes[0]), of_suite, began.unwrap_or_default());
    attributes.push(time(
        outcomes.iter().map(|outcome| outcome.duration_s).sum(),
    ));
    let part = run.part_on(outcomes[0].host.as_deref());
    attributes.push(("hostname", text(&part.host.hostname)));
    element(xml, "testsuite", attributes).write_inner_content(|xml| {
        if !facts.is_empty() {
            element(xml, "properties", []).write_inner_content(|xml| {
                facts.iter().try_for_each(|(name, value)| {
                    let attributes = [("name", text(name)), ("value", text(value))];
                    element(xml, "property", attributes).write_empty().map(drop)
                })
            })?;
        }
        outcomes
            .iter()
            .try_for_each(|outcome| case(xml, run, outcome, counts))
    })?;
    Ok(())
}

fn case(
    xml: &mut Writer<impl Write>,
    run: &Reported<'_>,
    outcome: &Outcome,
    counts: Counts,
) -> io::Result<()> {
    let limit = limit(outcome, counts);
    let attributes = [
        ("name", text(&name_in_suite(outcome))),
        (
            "classname",
            format!("{}.{}", package(outcome), text(&outcome.suite)),
        ),
        time(outcome.duration_s),
    ];
    let outputs = [("system-out", "stdout"), ("system-err", "stderr")];
    let outputs = outputs.map(|(name, stream)| match limit {
        LEAST.. => (name, run.output(outcome, Step::Selftest, stream, limit)),
        _ => (name, None),
    });
    let case = element(xml, "testcase", attributes);
    let has_passed = matches!(outcome.kind(), OutcomeKind::Passed | OutcomeKind::Xpass);
    if has_passed && outputs.iter().all(|(_, output)| output.is_none()) {
        return case.write_empty().map(drop);
    }
    let write = |xml: &mut Writer<_>| {
        not_passed(xml, outcome, limit.max(LEAST))?;
        for (name, output) in outputs {
            if let Some(output) = output {
                element(xml, name, []).write_text_content(BytesText::new(&output))?;
            }
        }
        Ok(())
    };
    case.write_inner_content(write).map(drop)
}

/// What tells that a case did not pass, in texts of at most `limit` bytes.
fn not_passed(xml: &mut Writer<impl Write>, outcome: &Outcome, limit: usize) -> io::Result<()> {
    let within = |text: &str| printable_within(text.as_bytes(), limit);
    let message = ("message", within(&outcome.message()));
    // What kind of failure it is: the signal that a process died of, or else the status.
    let kind = match (outcome.kind(), outcome.exit) {
        (OutcomeKind::Passed | OutcomeKind::Xpass, _) => return Ok(()),
        (OutcomeKind::Skipped | OutcomeKind::Known, _) => {
            return element(xml, "skipped", [message]).write_empty().map(drop);
        }
        (OutcomeKind::Failed, Some(Exit::Signal { signal, .. })) => signal_name(signal),
        (OutcomeKind::Failed | OutcomeKind::TimedOut | OutcomeKind::NoRun, _) => None,
    };
    let kind = kind.unwrap_or(outcome.status.as_str()).to_owned();
    let account = [
        Some(within(&account(outcome))),
        outcome.reproduce_line(within),
    ];
    let account = Vec::from_iter(account.into_iter().flatten()).join("\n");
    let failure = element(xml, "failure", [message, ("type", kind)]);
    failure
        .write_text_content(BytesText::new(&account))
        .map(drop)
}

/// How long a text of a case may be in a run of so many: a failure has a reason and two outputs, any other two outputs.
fn limit(outcome: &Outcome, counts: Counts) -> usize {
    let texts = match outcome.kind().is_failure() {
        true => 3 * counts.failures(),
        false => 2 * (counts.total() - counts.failures()),
    };
    TEXT.min(TEXTS / texts)
}

/// The package of a case's class, which has its environment's cases: `kvm.shadow_mmu`; of the host as it is, `kvm`. In a run
/// of several hosts the host stands between, `kvm.amd1.shadow_mmu`: readers know a case by its class and name alone.
fn package(outcome: &Outcome) -> String {
    let host = outcome.host.as_ref().map(|host| host.replace('.', "_"));
    let names = host.iter().chain(&outcome.environment);
    let names: String = names.map(|name| format!(".{}", text(name))).collect();
    format!("kvm{names}")
}

fn about(name: String, counts: Counts, started_ms: u64) -> Vec<Attribute> {
    let mut attributes = vec![
        ("name", name),
        ("tests", counts.total().to_string()),
        ("failures", counts.failures().to_string()),
        ("errors", "0".to_owned()),
        (
            "skipped",
            (counts.of(Status::Skipped) + counts.of(OutcomeKind::Known)).to_string(),
        ),
    ];
    attributes.extend(timestamp(started_ms).map(|time| ("timestamp", time.to_string())));
    attributes
}

fn time(seconds: f64) -> Attribute {
    ("time", format!("{:.3}", seconds.clamp(0.0, 1e9)))
}

/// Harmless and well-formed, whatever it was.
fn text(text: &str) -> String {
    printable(text.as_bytes())
}

fn element<'x, W: Write>(
    xml: &'x mut Writer<W>,
    name: &'static str,
    attributes: impl IntoIterator<Item = Attribute>,
) -> ElementWriter<'x, W> {
    let element = xml.create_element(name);
    let with = |element: ElementWriter<'x, W>, (name, value): Attribute| {
        element.with_attribute((name, value.as_str()))
    };
    attributes.into_iter().fold(element, with)
}
