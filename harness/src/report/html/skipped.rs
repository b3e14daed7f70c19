//! Why cases were skipped, the commonest reason first.

use maud::{Markup, html};

use super::page::Page;
use super::text::{plural, text};
use crate::model::outcome::Outcome;

/// Up to so many names stand beside their reason; more are folded.
const NAMED: usize = 12;

/// The table of reasons.
pub(super) fn section(page: &Page<'_>) -> Markup {
    let cases: usize = page.skips.iter().map(|(_, outcomes)| outcomes.len()).sum();
    html! {
        section #skipped {
            h2 { "Skipped " span.soft { (cases) } }
            @if page.skips.is_empty() { p { "Nothing was skipped." } }
            @else {
                table.reasons {
                    thead {
                        tr {
                            th.number scope="col" { "cases" }
                            th scope="col" { "reason" }
                            th scope="col" { "names" }
                        }
                    }
                    tbody {
                        @for ((reason, outcomes), number) in page.skips.iter().zip(1..) {
                            tr id={ "s" (number) } {
                                td.number { (outcomes.len()) }
                                th scope="row" { (text(reason)) }
                                td { (names(outcomes)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn names(outcomes: &[&Outcome]) -> Markup {
    let names: Vec<_> = outcomes.iter().map(|outcome| text(&outcome.name)).collect();
    html! {
        @if names.len() <= NAMED { (names.join(", ")) }
        @else {
            details {
                summary { (plural(names.len(), "case")) }
                (names.join(", "))
            }
        }
    }
}
