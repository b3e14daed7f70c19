//! Cases on the page: the failures, the matrix of cases by environments, and the slowest.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};

use super::{Column, Page, class, column, duration, glyph, heading, lines, text};
use crate::model::host::size;
use crate::model::outcome::{Counts, Outcome, OutcomeKind, Status, Step, Subtest, SubtestResult};
use crate::model::text::plural;
use crate::model::time::{is_slower, of_seconds, utc};

/// Up to so many failures are open at once; of more, the list is what one wants to see first.
const OPEN: usize = 3;

/// How many of anything a failure names.
const NAMED: usize = 100;

/// How many rows without a failure that read the same are folded into one.
const ALIKE: usize = 3;

/// How many of the slowest cases are shown.
const SLOWEST: usize = 25;

/// How much of all outputs together is quoted, in bytes, and the most and the least of one file.
const QUOTED: usize = 2 << 20;
const MOST: usize = 8 << 10;
const LEAST: usize = 512;

/// What rows are sorted and folded by: those with a failure come first, each alone under its name; of the others those with
/// the same statuses are together, of which each is the worst in its environment, and `None` where the case did not run.
type Alike<'a> = (Reverse<bool>, Option<Name<'a>>, Vec<Option<OutcomeKind>>);

/// A case's suite and variant.
type Name<'a> = (&'a str, &'a str);

impl Page<'_> {
    /// What stands before the failures.
    pub(super) fn failures_head(&self) -> Markup {
        html! {
            h2 #failures { "Failures " span.soft { (self.failures.len()) } }
            @if let Some(run) = self.name_of_earlier() {
                p.soft { "NEW is what did not fail in the run " (run) ", the last one of the same cases before this." }
            }
        }
    }

    /// A failure, with what one needs to look into it. All cases that failed so are named.
    pub(super) fn failure(&self, failure: &[&Outcome], number: usize) -> Markup {
        let outcome = failure[0];
        let reason = outcome.reason.as_deref().unwrap_or("no reason given");
        let (first, rest) = reason.split_once('\n').unwrap_or((reason, ""));
        html! {
            details.failure.case.{ "worst-" (class(outcome.kind())) } open[self.failures.len() <= OPEN] {
                summary {
                    span.badge.(class(outcome.kind())) { (outcome.kind().as_str()) } " "
                    strong { (text(&outcome.suite)) span.soft { "::" (text(&outcome.variant)) } } " "
                    span { @if self.is_new(failure) { span.new { "NEW" } " " } (text(first)) " " span.where { (self.places(failure)) } }
                }
                // A link into a closed `details` opens it, one to the `details` itself does not.
                div id={ "f" (number) } {
                    @if let Some(known) = &outcome.known {
                        p { (text(&known.to_string())) " " (text(known.link.as_deref().unwrap_or_default())) }
                    }
                    @if !rest.is_empty() { pre { (text(rest)) } }
                    (subtests(&outcome.subtests))
                    @for splat in &outcome.splats { (lines(splat)) }
                    @for leak in outcome.leaks.iter().take(NAMED) {
                        p { "left behind: " code { (text(&leak.command)) } " (pid " (leak.pid) ")" }
                    }
                    @for one in failure.iter().take(NAMED) { p.facts { (text(&one.name)) ": " (self.facts(one)) } }
                    @if !outcome.reproduce.is_empty() { pre.command { (text(&outcome.reproduce)) } }
                    (self.outputs(outcome))
                }
            }
        }
    }

    /// In which environments it failed so, and what became of the same case otherwise.
    fn places(&self, failure: &[&Outcome]) -> String {
        let is_elsewhere = |one: &&&Outcome| one.host.is_some() || one.environment.is_some();
        let places = failure.iter().filter(is_elsewhere);
        let mut places: Vec<_> = places.map(|one| heading(column(one))).collect();
        places.dedup();
        if places.len() > 3 {
            let what = if failure[0].host.is_some() {
                "places"
            } else {
                "environments"
            };
            places = vec![format!("{} {what}", places.len())];
        }
        let name = (failure[0].suite.as_str(), failure[0].variant.as_str());
        let others = self.cases[&name].iter();
        let others = others.filter(|other| failure.iter().all(|one| one.name != other.name));
        let counts = Counts::of_all(others.map(|other| other.kind()));
        for kind in counts.there() {
            places.push(format!("{} others {}", counts.of(kind), glyph(kind)));
        }
        text(&places.join(", "))
    }

    fn facts(&self, outcome: &Outcome) -> String {
        let before = self.before(outcome).map(|before| before.status.as_str());
        let before = before.map(|before| format!(" ({before} before)"));
        let [took, user, system] =
            [outcome.duration_s, outcome.user_s, outcome.system_s].map(duration);
        format!(
            "{took} from {} on{}, worker {}, pid {}, CPU time {user} user and {system} system, at most {} resident",
            utc(outcome.started_ms),
            before.unwrap_or_default(),
            outcome.worker,
            outcome.pid.unwrap_or_default(),
            size(outcome.max_rss)
        )
    }

    /// The ends of what its steps printed, in the order in which they tell why it failed.
    fn outputs(&self, outcome: &Outcome) -> Markup {
        let limit = (QUOTED / 2 / self.failures.len().max(1)).clamp(LEAST, MOST);
        html! {
            @for step in [Step::Selftest, Step::Precheck, Step::Setup, Step::Teardown] {
                @for stream in ["stderr", "stdout", "threads"] {
                    @if let Some(end) = self.run.output(outcome, step, stream, limit) {
                        h3 { (stream) " of the " (step.as_str()) }
                        // It can be scrolled, so it must be reachable with the keyboard.
                        pre.output tabindex="0" { "\n" (end) }
                    }
                }
            }
        }
    }

    /// The cases by the environments that they ran in. Those with a failure come first; the others are folded where they
    /// read the same.
    pub(super) fn matrix(&self) -> Markup {
        let mut blocks: BTreeMap<Alike<'_>, Vec<Name<'_>>> = BTreeMap::new();
        let mut counts = Counts::default();
        for &name in self.cases.keys() {
            let cells = self.columns.iter().map(|at| self.inside(name, *at));
            let statuses = cells.map(|cell| cell.iter().map(|one| one.kind()).max());
            let statuses: Vec<_> = statuses.collect();
            counts.add(worst(&statuses));
            let is_failure = worst(&statuses).is_failure();
            let alone = is_failure.then_some(name);
            let rows = blocks.entry((Reverse(is_failure), alone, statuses));
            rows.or_default().push(name);
        }
        html! {
            h2 #matrix {
                "Matrix " span.soft { (plural(self.cases.len(), "case")) " by " (self.breadth()) }
            }
            p.filters {
                @for kind in self.kinds() {
                    label.(class(kind)) {
                        input type="checkbox" id={ "show-" (class(kind)) } checked;
                        b { (glyph(kind)) } " " (kind.as_str()) " " (counts.of(kind))
                    }
                }
                input #find type="search" hidden placeholder="find in cases" aria-label="find in cases";
            }
            div.scroll tabindex="0" {
                table.matrix {
                    thead { tr {
                        th scope="col" { "case" }
                        @for at in &self.columns { th scope="col" { span { (text(&heading(*at))) } } }
                    } }
                    @for ((.., statuses), names) in &blocks { (self.block(statuses, names)) }
                }
            }
        }
    }

    /// How many columns there are.
    fn breadth(&self) -> String {
        let environments: BTreeSet<_> = self.columns.iter().map(|(_, name)| name).collect();
        let environments = plural(environments.len(), "environment");
        match self.run.state.hosts().len() {
            0 | 1 => environments,
            hosts => format!("{}, {environments}", plural(hosts, "host")),
        }
    }

    /// The iterations of a case in a column.
    fn inside<'a>(&'a self, name: Name<'a>, at: Column<'a>) -> &'a [&'a Outcome] {
        let all = self.cases[&name].as_slice();
        let begin = all.partition_point(|one| column(one) < at);
        let end = all.partition_point(|one| column(one) <= at);
        &all[begin..end]
    }

    /// Rows with the same statuses.
    fn block(&self, statuses: &[Option<OutcomeKind>], names: &[Name<'_>]) -> Markup {
        let worst = format!("worst-{}", class(worst(statuses)));
        html! {
            tbody.fold[names.len() >= ALIKE] {
                @if names.len() >= ALIKE {
                    tr.(worst) {
                        th scope="row" { label { input type="checkbox"; (plural(names.len(), "case")) } }
                        @for status in statuses { td.(status.map_or_else(String::new, class)) { (status.map_or("", glyph)) } }
                    }
                }
                @for &(suite, variant) in names {
                    tr.case.(worst) {
                        th scope="row" { span { (text(suite)) span.soft { "::" (text(variant)) } } }
                        @for at in &self.columns { (self.cell(self.inside((suite, variant), *at))) }
                    }
                }
            }
        }
    }

    fn cell(&self, outcomes: &[&Outcome]) -> Markup {
        let Some(worst) = outcomes.iter().max_by_key(|outcome| outcome.kind()) else {
            return html! { td {} };
        };
        let title = match outcomes {
            [skipped] if skipped.status == Status::Skipped => text(skipped.first_line()),
            [one] => format!("{} {}", one.kind().as_str(), duration(one.duration_s)),
            _ => Counts::of_all(outcomes.iter().map(|outcome| outcome.kind())).to_string(),
        };
        let sign = glyph(worst.kind());
        html! {
            td.(class(worst.kind())) title=(title) {
                @match self.anchors.get(worst.name.as_str()) {
                    Some(anchor) => a href={ "#" (anchor) } { (sign) },
                    None => (sign),
                }
            }
        }
    }

    /// The cases that took longest, against the run before.
    pub(super) fn slowest(&self) -> Markup {
        let mut slowest: Vec<&Outcome> = self.run.state.outcomes.iter().collect();
        slowest.sort_by(|a, b| b.duration_s.total_cmp(&a.duration_s));
        slowest.truncate(SLOWEST);
        let seconds = |outcome: &Outcome| of_seconds(outcome.duration_s);
        html! {
            h2 #slowest { "Slowest" }
            @match self.name_of_earlier() {
                Some(run) => p.soft { "Before is in the run " (run) ", the last one of the same cases before this." },
                None => p.soft { "There is no earlier run of the same cases to compare with." },
            }
            table.slowest {
                thead { tr { th { "case" } th.number { "took" } th.number { "before" } } }
                @for outcome in slowest {
                    @let before = self.before(outcome);
                    @let slower = before.is_some_and(|before| is_slower(seconds(before), seconds(outcome)));
                    tr {
                        th scope="row" { span { (text(&outcome.name)) } }
                        td.number.(class(outcome.kind())) { (duration(outcome.duration_s)) }
                        td.number.slower[slower] {
                            (before.map_or_else(String::new, |before| duration(before.duration_s))) @if slower { ", slower" }
                        }
                    }
                }
            }
        }
    }
}

fn worst(statuses: &[Option<OutcomeKind>]) -> OutcomeKind {
    let statuses = statuses.iter().flatten().copied();
    statuses.max().unwrap_or(OutcomeKind::Passed)
}

/// The sub-tests that failed, of how many.
fn subtests(subtests: &[Subtest]) -> Markup {
    let failed = subtests
        .iter()
        .filter(|subtest| subtest.result == SubtestResult::NotOk);
    html! {
        @if !subtests.is_empty() {
            p { (failed.clone().count()) " of " (plural(subtests.len(), "sub-test")) " failed" }
            ul { @for subtest in failed.take(NAMED) { li { code { (text(&subtest.name)) } } } }
        }
    }
}
