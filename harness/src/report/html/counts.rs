//! How many cases had which status, in each environment.

use maud::{Markup, html};

use super::STATUSES;
use super::page::Page;
use super::text::{class, text};
use crate::model::outcome::{Outcome, Status};

/// The table of counts: a row for each environment, and one for all where there are several.
pub(super) fn table(page: &Page<'_>) -> Markup {
    let outcomes = &page.record.outcomes;
    html! {
        table.counts {
            caption { "Cases by status" }
            thead {
                tr {
                    th scope="col" { "environment" }
                    @for status in STATUSES { th.(class(status)) scope="col" { (status.as_str()) } }
                    th scope="col" { "all" }
                    th.share scope="col" { "share" }
                }
            }
            tbody {
                @for &environment in &page.environments {
                    (row(
                        environment.unwrap_or("host"),
                        &count(outcomes.iter().filter(|outcome| outcome.environment.as_deref() == environment)),
                    ))
                }
            }
            @if page.environments.len() != 1 {
                tfoot { (row("all", &count(outcomes))) }
            }
        }
    }
}

fn row(name: &str, counts: &[(Status, usize)]) -> Markup {
    let total: usize = counts.iter().map(|(_, count)| count).sum();
    html! {
        tr {
            th scope="row" { (text(name)) }
            @for &(status, count) in counts {
                td.number.(class(status)).none[count == 0] { (count) }
            }
            td.number { (total) }
            td.share {
                div.share aria-hidden="true" {
                    @for &(status, count) in counts {
                        @if count > 0 { span.(class(status)) style=(format!("flex-grow:{count}")) {} }
                    }
                }
            }
        }
    }
}

fn count<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> [(Status, usize); STATUSES.len()] {
    let mut counts = STATUSES.map(|status| (status, 0));
    for outcome in outcomes {
        for (_, count) in counts
            .iter_mut()
            .filter(|(status, _)| *status == outcome.status)
        {
            *count += 1;
        }
    }
    counts
}
