//! Every failure, with what one needs to look into it.

use std::io;

use maud::{Markup, PreEscaped, html};

use super::badge;
use super::kernel;
use super::output;
use super::page::Page;
use super::text::{duration, moment, plural, text};
use crate::log::no_links;
use crate::model::host::size;
use crate::model::outcome::{Exit, Leak, Outcome, Subtest, SubtestResult};

/// Up to so many failures are open at once; of more, the list is what one wants to see first.
const OPEN: usize = 3;

/// How many failed sub-tests, and how many leaks, a failure names.
const NAMED: usize = 100;

/// Writes the section, failure by failure: their outputs are never in memory together.
pub(super) fn write(
    page: &Page<'_>,
    put: &mut impl FnMut(Markup) -> io::Result<()>,
) -> io::Result<()> {
    put(PreEscaped("\n<section id=\"failures\">".to_owned()))?;
    put(html! {
        h2 { "Failures " span.soft { (page.failures.len()) } }
        @if page.failures.is_empty() { p { "Nothing failed." } }
    })?;
    let run = no_links::directory(page.directory)?;
    let quoted = output::share(page.failures.len());
    for outcome in &page.failures {
        put(failure(
            page,
            outcome,
            &output::quote(&run, outcome, quoted),
        ))?;
    }
    put(PreEscaped("</section>".to_owned()))
}

fn failure(page: &Page<'_>, outcome: &Outcome, output: &Markup) -> Markup {
    let reason = outcome.reason.as_deref().unwrap_or("no reason given");
    let (first, rest) = reason.split_once('\n').unwrap_or((reason, ""));
    html! {
        details.failure open[page.failures.len() <= OPEN] {
            summary {
                (badge(outcome.status)) " "
                strong { (text(&outcome.name)) } " "
                span.soft.number { (duration(outcome.duration_s)) } " "
                span {
                    @if page.is_new_failure(outcome) { span.new { "NEW" } " " }
                    (text(first))
                }
            }
            // A link into a closed `details` opens it, one to the `details` itself does not.
            div id=[page.anchor(outcome)] {
                @if !rest.is_empty() { pre { (text(rest)) } }
                (assertion(outcome, reason))
                (subtests(&outcome.subtests))
                (kernel::of_case(&outcome.splats))
                (leaks(&outcome.leaks))
                p.facts { (facts(page, outcome)) }
                h3 { "Reproduce" }
                pre.command { code { (text(&outcome.reproduce)) } }
                (output)
            }
        }
    }
}

/// The assertion, where the reason does not have it already.
fn assertion(outcome: &Outcome, reason: &str) -> Markup {
    let told = |place: &str| reason.contains(place);
    let Some(assertion) = &outcome.assertion else {
        return html! {};
    };
    let place = format!(
        "{}:{}: {}",
        assertion.file, assertion.line, assertion.expression
    );
    html! {
        @if !told(&place) {
            h3 { "Assertion" }
            pre { (text(&place)) "\n" (text(&assertion.message)) }
        }
    }
}

fn subtests(subtests: &[Subtest]) -> Markup {
    let of = |result| {
        subtests
            .iter()
            .filter(move |subtest| subtest.result == result)
    };
    let failed = of(SubtestResult::NotOk).count();
    html! {
        @if !subtests.is_empty() {
            h3 { "Sub-tests" }
            p {
                (failed) " of " (subtests.len()) " failed, "
                (of(SubtestResult::Skip).count()) " skipped, "
                (of(SubtestResult::Todo).count()) " expected to fail"
            }
            ul.subtests {
                @for subtest in of(SubtestResult::NotOk).take(NAMED) {
                    li {
                        code { (text(&subtest.name)) }
                        @if let Some(reason) = &subtest.reason { " " (text(reason)) }
                    }
                }
                @if failed > NAMED { li { "and " (failed - NAMED) " more" } }
            }
        }
    }
}

fn leaks(leaks: &[Leak]) -> Markup {
    html! {
        @if !leaks.is_empty() {
            h3 { (plural(leaks.len(), "process")) " left behind" }
            ul {
                @for leak in leaks.iter().take(NAMED) {
                    li {
                        code { (text(&leak.command)) } " (pid " (leak.pid) ")"
                        @if leak.unkillable { ", which even SIGKILL did not end" }
                    }
                }
                @if leaks.len() > NAMED { li { "and " (leaks.len() - NAMED) " more" } }
            }
        }
    }
}

fn facts(page: &Page<'_>, outcome: &Outcome) -> String {
    let mut facts = Vec::new();
    if let Some(exit) = outcome.exit {
        facts.push(words(exit));
    }
    if let Some(before) = page.before(outcome) {
        facts.push(format!("{} in the run before", before.status.as_str()));
    }
    facts.push(format!("started {}", moment(outcome.started_ms)));
    if let Some(pid) = outcome.pid {
        facts.push(format!("worker {}, pid {pid}", outcome.worker));
        let (user, system) = (duration(outcome.user_s), duration(outcome.system_s));
        facts.push(format!("CPU time {user} user, {system} system"));
        facts.push(format!("at most {} resident", size(outcome.max_rss)));
    }
    facts.join(" · ")
}

fn words(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exit code {code}"),
        Exit::Signal {
            signal,
            core_dumped,
        } => {
            let name = signal_hook::low_level::signal_name(signal).unwrap_or("a signal");
            format!(
                "ended by {name} ({signal}){}",
                if core_dumped { ", core dumped" } else { "" }
            )
        }
        Exit::Timeout => "killed at its time limit".to_owned(),
        Exit::Interrupted => "killed as the run was interrupted".to_owned(),
    }
}
