//! `report.html`: a whole run on one page, for people. It needs no other file, no network and no JavaScript.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use maud::{Markup, PreEscaped, html};

use super::reported::Reported;
use crate::log;
use crate::model::outcome::signature::grouped;
use crate::model::outcome::{Counts, Outcome, OutcomeKind, Splat, Status};
use crate::model::state::State;
use crate::model::text::{plural, printable_within};
use crate::model::time::roughly;

mod cases;
mod timeline;

/// No script runs but the page's own, which is known by its hash, and nothing is fetched, whatever else should fail.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; \
                      script-src 'sha256-O9hTumuDF5mq6H5xDXkzHrvvQR+CCcEa+iSvn/3M0cE='";

const STYLE: &str = include_str!("html/style.css");

/// Finds text in cases. All else works without it.
const SCRIPT: &str = include_str!("html/find.js");

/// A host, where there are several, and an environment, where it is not the host as it was.
type Column<'a> = (Option<&'a str>, Option<&'a str>);

/// A page about a run.
struct Page<'a> {
    run: &'a Reported<'a>,
    /// The last run before this one that had the same cases.
    earlier: Option<&'a (State, PathBuf)>,
    /// The host as it was, and then the environments as they came; so for each host, where there are several.
    columns: Vec<Column<'a>>,
    /// What became of each case in all environments and iterations, by suite and variant: sorted by column.
    cases: BTreeMap<(&'a str, &'a str), Vec<&'a Outcome>>,
    /// Failures that are one; what is new comes first.
    failures: Vec<Vec<&'a Outcome>>,
    /// The element that says more about a failure, by the case's name.
    anchors: HashMap<&'a str, String>,
}

/// Writes the page. Durations and failures are held against those of the run before, if there is one.
///
/// # Errors
/// `out` cannot be written. Outputs that cannot be read are left out, and the page says so.
pub(super) fn write(run: &Reported<'_>, out: &mut dyn Write) -> io::Result<()> {
    let earlier = log::before(run.directory, run.state);
    write_after(earlier.as_ref(), run, out)
}

fn write_after(
    earlier: Option<&(State, PathBuf)>,
    run: &Reported<'_>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let page = Page::new(run, earlier);
    let mut put = |markup: Markup| out.write_all(markup.into_string().as_bytes());
    put(PreEscaped("<!DOCTYPE html>\n<html lang=\"en\">".to_owned()))?;
    put(page.head())?;
    put(PreEscaped("\n<body>".to_owned()))?;
    put(page.header())?;
    put(page.kernel())?;
    // One by one: all that they quote is never in memory together.
    put(page.failures_head())?;
    for (failure, number) in page.failures.iter().zip(1..) {
        put(page.failure(failure, number))?;
    }
    put(page.matrix())?;
    put(page.timeline())?;
    put(page.slowest())?;
    put(page.skipped())?;
    put(html! { script { (PreEscaped(SCRIPT)) } })?;
    put(PreEscaped("</body></html>\n".to_owned()))
}

impl<'a> Page<'a> {
    fn new(run: &'a Reported<'a>, earlier: Option<&'a (State, PathBuf)>) -> Self {
        let outcomes = &run.state.outcomes;
        let failed = outcomes.iter().filter(|one| one.status.is_failure());
        let mut page = Self {
            run,
            earlier,
            columns: Vec::new(),
            cases: BTreeMap::new(),
            failures: Vec::new(),
            anchors: HashMap::new(),
        };
        let mut seen = HashSet::new();
        for outcome in outcomes {
            let column = column(outcome);
            if seen.insert(column) {
                page.columns.push(column);
            }
            let name = (outcome.suite.as_str(), outcome.variant.as_str());
            page.cases.entry(name).or_default().push(outcome);
        }
        for outcomes in page.cases.values_mut() {
            outcomes.sort_by_key(|outcome| column(outcome));
        }
        page.columns
            .sort_by_key(|(host, environment)| (*host, environment.is_some()));
        let mut failures = grouped(failed);
        failures.sort_by_key(|group| {
            let is_known = group[0].kind() == OutcomeKind::Known;
            (
                is_known,
                !page.is_new(group),
                group[0].status,
                &group[0].suite,
            )
        });
        for (failure, number) in failures.iter().zip(1..) {
            let names = failure.iter().map(|outcome| outcome.name.as_str());
            let anchors = names.map(|name| (name, format!("f{number}")));
            page.anchors.extend(anchors);
        }
        page.failures = failures;
        page
    }

    /// The name of the run before.
    fn name_of_earlier(&self) -> Option<String> {
        let (_, directory) = self.earlier?;
        Some(text(&directory.file_name()?.to_string_lossy()))
    }

    /// What became of the same case in the run before.
    fn before(&self, outcome: &Outcome) -> Option<&'a Outcome> {
        self.earlier?.0.outcome(&outcome.name)
    }

    /// Whether the run before had one of these cases without a failure, or not at all.
    fn is_new(&self, failure: &[&Outcome]) -> bool {
        let had = |one: &&Outcome| self.before(one).is_some_and(|was| was.status.is_failure());
        self.earlier.is_some() && !failure.iter().all(had)
    }

    fn head(&self) -> Markup {
        let (counts, kernel) = (self.run.state.counts(), &self.run.part.host.kernel);
        html! {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title {
                    (counts.failures()) " failed of " (counts.total()) ": KVM selftests on "
                    (self.place()) ", " (text(kernel))
                }
                style { (PreEscaped(STYLE)) }
            }
        }
    }

    /// The top of the page: what ran, where, and what it came to.
    fn header(&self) -> Markup {
        html! {
            h1 { "KVM selftests on " (self.place()) ", " code { (text(&self.run.part.host.kernel)) } }
            (self.warnings())
            div.top {
                (self.counts())
                div { @for host in self.run.state.hosts() { (self.host(host)) } }
            }
            nav aria-label="Sections" {
                a href="#failures" { "Failures " span.soft { (self.failures.len()) } }
                @for (id, name) in [("matrix", "Matrix"), ("timeline", "Time line"), ("slowest", "Slowest"), ("skipped", "Skipped")] {
                    a href={ "#" (id) } { (name) }
                }
            }
        }
    }

    /// The name of the host, or how many there are.
    fn place(&self) -> String {
        match self.run.state.hosts().len() {
            0 | 1 => text(&self.run.part.host.hostname),
            count => plural(count, "host"),
        }
    }

    /// What there is to know of a host.
    fn host(&self, host: Option<&str>) -> Markup {
        let facts = self.run.facts(host).into_iter();
        let (modules, facts): (Vec<_>, Vec<_>) =
            facts.partition(|(name, _)| name.starts_with("module."));
        let list = |facts: &[(String, String)]| {
            html! {
                dl.facts { @for (name, value) in facts { dt { (text(name)) } dd { (text(value)) } } }
            }
        };
        let all = html! { (list(&facts)) details { summary { "Parameters of modules" } (list(&modules)) } };
        html! {
            @match host {
                Some(host) => details { summary { (text(host)) } (all) },
                None => (all),
            }
        }
    }

    fn warnings(&self) -> Markup {
        let state = self.run.state;
        let parts = state.parts.iter();
        let ends = parts.clone().filter_map(|share| share.end.as_ref());
        let problems = parts.filter_map(|share| share.part.host.kvm_problem.as_ref());
        let problems: BTreeSet<_> = problems.collect();
        html! {
            @for problem in problems { p.warning { (text(problem)) } }
            @if let Some(signal) = state.interrupted_by() { p.warning { "This run was interrupted by signal " (signal) "." } }
            @if let Some(why) = state.ended_early() { p.warning { "This run ended early: " (text(why)) "." } }
            @else if !state.finished { p.warning { "This run did not come to its end." } }
            @if state.counts().of(Status::Skipped) == state.outcomes.len() {
                p.warning { "Nothing was tested: no case was run, or every one was skipped." }
            }
            @for end in ends {
                @if end.kernel.lost > 0 {
                    p.warning { (end.kernel.lost) " records or more of the kernel's log were overwritten before they were read." }
                }
                @for line in end.kernel.problem.iter().chain(&end.not_restored) { p.warning { (text(line)) } }
                @for left in &end.left_behind { p.warning { "Left behind: " (text(&left.what)) } }
            }
        }
    }

    /// How many cases had which status, in each environment and in all.
    fn counts(&self) -> Markup {
        let outcomes = &self.run.state.outcomes;
        let row = |name: &str, counts: Counts| {
            html! {
                tr {
                    th scope="row" { (text(name)) }
                    @for kind in self.kinds() {
                        td.number.(class(kind)).none[counts.of(kind) == 0] { (counts.of(kind)) }
                    }
                }
            }
        };
        html! {
            table.counts {
                thead { tr {
                    th scope="col" { "environment" }
                    @for kind in self.kinds() { th.(class(kind)) scope="col" { (kind.as_str()) } }
                } }
                @for at in &self.columns {
                    @let inside = outcomes.iter().filter(|outcome| column(outcome) == *at);
                    (row(&heading(*at), Counts::of_all(inside.map(Outcome::kind))))
                }
                (row("all", self.run.state.counts()))
            }
        }
    }

    /// The kinds of outcomes that are told apart: those of known failures only where there are any.
    fn kinds(&self) -> impl Iterator<Item = OutcomeKind> {
        let counts = self.run.state.counts();
        let is_status = |kind| Status::ALL.into_iter().any(|status| kind == status.into());
        let kinds = OutcomeKind::ALL.into_iter();
        kinds.filter(move |kind| is_status(*kind) || counts.of(*kind) > 0)
    }

    /// The splats that could not be shown to be a case's own.
    fn kernel(&self) -> Markup {
        html! {
            @for splat in &self.run.state.splats {
                h2 { "Kernel: " (text(&splat.title)) }
                p { (text(&splat.when())) }
                (lines(splat))
            }
        }
    }

    /// Why cases were skipped, the commonest reason first.
    fn skipped(&self) -> Markup {
        let mut reasons: BTreeMap<&str, Vec<&Outcome>> = BTreeMap::new();
        for outcome in self.run.state.of_kind(Status::Skipped) {
            let reason = reasons.entry(outcome.first_line());
            reason.or_default().push(outcome);
        }
        let mut reasons: Vec<_> = reasons.into_iter().collect();
        reasons.sort_by_key(|(_, outcomes)| usize::MAX - outcomes.len());
        html! {
            h2 #skipped { "Skipped " span.soft { (self.run.state.counts().of(Status::Skipped)) } }
            @for (reason, outcomes) in reasons {
                details {
                    summary { (outcomes.len()) " × " (text(if reason.is_empty() { "no reason given" } else { reason })) }
                    ul.names { @for outcome in outcomes { li { code { (text(&outcome.name)) } } } }
                }
            }
        }
    }
}

fn lines(splat: &Splat) -> Markup {
    html! { pre { (text(&splat.lines.join("\n"))) } }
}

fn column(outcome: &Outcome) -> Column<'_> {
    (outcome.host.as_deref(), outcome.environment.as_deref())
}

/// What a column is called.
fn heading((host, environment): Column<'_>) -> String {
    let environment = environment.unwrap_or(if host.is_some() { "" } else { "host" });
    let host = host.unwrap_or_default();
    format!("{host} {environment}").trim().to_owned()
}

/// Untrusted text. maud escapes what would be markup; what markup cannot hold, or what would turn the text around it, is
/// spelled out here.
fn text(untrusted: &str) -> String {
    printable_within(untrusted.as_bytes(), usize::MAX)
}

/// The style's class for a kind of outcomes.
fn class(kind: OutcomeKind) -> String {
    kind.as_str().to_lowercase()
}

/// The sign for a kind of outcomes.
fn glyph(kind: OutcomeKind) -> &'static str {
    ["✓", "!", "–", "k", "✗", "T", "?"][kind as usize]
}

/// `0.05 s`, `12.40 s`, `3 min`.
fn duration(seconds: f64) -> String {
    match Duration::try_from_secs_f64(seconds) {
        Ok(long) if seconds >= 90.0 => roughly(long),
        _ => format!("{seconds:.2} s"),
    }
}
