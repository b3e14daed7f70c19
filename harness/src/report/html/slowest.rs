//! The cases that took longest, against the run before.

use maud::{Markup, html};

use super::badge;
use super::page::Page;
use super::text::{duration, text};
use crate::model::outcome::Outcome;

/// How many are shown.
const SHOWN: usize = 25;

/// Slower by less than this, as a factor and in seconds, is what runs vary by.
const FACTOR: f64 = 1.5;
const SECONDS: f64 = 1.0;

/// The table of the slowest cases.
pub(super) fn section(page: &Page<'_>) -> Markup {
    let mut slowest: Vec<&Outcome> = page.record.outcomes.iter().collect();
    slowest.sort_by(|a, b| b.duration_s.total_cmp(&a.duration_s));
    slowest.truncate(SHOWN);
    let longest = slowest
        .first()
        .map_or(0.0, |outcome| outcome.duration_s)
        .max(f64::MIN_POSITIVE);
    html! {
        section #slowest {
            h2 { "Slowest" }
            @if page.previous.is_none() { p.soft { "There is no earlier run to compare with." } }
            table.slowest {
                thead {
                    tr {
                        th scope="col" { "case" }
                        th scope="col" { "status" }
                        th.number scope="col" { "duration" }
                        th.share scope="col" { span.hidden { "as a bar" } }
                        th.number scope="col" { "CPU" }
                        @if page.previous.is_some() {
                            th.number scope="col" { "before" }
                            th.number scope="col" { "change" }
                        }
                    }
                }
                tbody {
                    @for outcome in slowest {
                        tr {
                            th scope="row" { (text(&outcome.name)) }
                            td { (badge(outcome.status)) }
                            td.number { (duration(outcome.duration_s)) }
                            td.share {
                                div.bar aria-hidden="true"
                                    style=(format!("width:{:.2}%", outcome.duration_s / longest * 100.0)) {}
                            }
                            td.number { (duration(outcome.user_s + outcome.system_s)) }
                            @if page.previous.is_some() { (change(outcome, page.before(outcome))) }
                        }
                    }
                }
            }
        }
    }
}

fn change(outcome: &Outcome, before: Option<&Outcome>) -> Markup {
    let Some(before) = before.filter(|before| before.duration_s > 0.0) else {
        return html! { td.number { "–" } td { "new" } };
    };
    let factor = outcome.duration_s / before.duration_s;
    let slower = factor >= FACTOR && outcome.duration_s - before.duration_s >= SECONDS;
    html! {
        td.number { (duration(before.duration_s)) }
        td.number.slower[slower] { (format!("× {factor:.2}")) @if slower { " slower" } }
    }
}
