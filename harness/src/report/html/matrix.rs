//! The cases by the environments that they ran in.

use std::collections::{BTreeMap, HashMap};
use std::io;

use maud::{Markup, PreEscaped, html};

use super::page::{Page, worst};
use super::text::{class, duration, plural, text};
use crate::model::outcome::{Outcome, Status};

/// How many rows a block has at most. Browsers lay out the blocks in sight only, which they cannot do with rows of one table.
const BLOCK: usize = 50;

/// The widths of the columns in a block, in `rem`.
const NAME: usize = 19;
const CELL: usize = 9;

/// A case in every environment that it ran in.
type Row<'a> = (&'a str, HashMap<Option<&'a str>, &'a Outcome>);

/// Writes the section, block by block.
pub(super) fn write(
    page: &Page<'_>,
    put: &mut impl FnMut(Markup) -> io::Result<()>,
) -> io::Result<()> {
    let rows = rows(page);
    let width = NAME + CELL * page.environments.len();
    put(PreEscaped("\n<section id=\"matrix\">".to_owned()))?;
    put(html! {
        h2 { "Matrix " span.soft { (plural(rows.len(), "case")) " by " (plural(page.environments.len(), "environment")) } }
        (filters(&rows))
    })?;
    put(PreEscaped(format!(
        "<div class=\"blocks\" style=\"--width:{width}rem\">"
    )))?;
    // Blocks stand side by side where there is room: all of a height.
    let height = rows
        .len()
        .div_ceil(rows.len().div_ceil(BLOCK).max(1))
        .max(1);
    for block in rows.chunks(height) {
        put(table(page, block))?;
    }
    put(PreEscaped("</div></section>".to_owned()))
}

/// The rows, by the names that the cases have on every environment.
fn rows<'a>(page: &Page<'a>) -> Vec<Row<'a>> {
    let mut rows: BTreeMap<&str, HashMap<_, _>> = BTreeMap::new();
    for outcome in &page.record.outcomes {
        let environment = outcome.environment.as_deref();
        let name = environment
            .and_then(|environment| outcome.name.strip_prefix(environment)?.strip_prefix("::"))
            .unwrap_or(&outcome.name);
        rows.entry(name).or_default().insert(environment, outcome);
    }
    rows.into_iter().collect()
}

/// What a row is shown as: it counts as the worst that happened in it.
fn kind(row: &Row<'_>) -> &'static str {
    match worst(row.1.values().map(|outcome| outcome.status)) {
        None | Some(Status::Passed) => "all-passed",
        Some(Status::Skipped) => "some-skipped",
        Some(Status::Failed | Status::TimedOut | Status::NoRun) => "some-failed",
    }
}

/// Boxes that hide rows; the style does it, with `:has()`.
fn filters(rows: &[Row<'_>]) -> Markup {
    let kinds = [
        ("some-failed", "with a failure"),
        ("some-skipped", "with a skip and no failure"),
        ("all-passed", "that passed"),
    ];
    html! {
        p.filters {
            "Show cases "
            @for (name, words) in kinds {
                label {
                    input type="checkbox" id={ "show-" (name) } checked;
                    (words) " " span.soft { (rows.iter().filter(|row| kind(row) == name).count()) }
                }
            }
        }
    }
}

fn table(page: &Page<'_>, rows: &[Row<'_>]) -> Markup {
    html! {
        div.block style=(format!("--rows:{}", rows.len() + 1)) {
            table.matrix {
                thead {
                    tr {
                        th scope="col" { "case" }
                        @for environment in &page.environments {
                            th scope="col" { (text(environment.unwrap_or("host"))) }
                        }
                    }
                }
                tbody {
                    @for row in rows {
                        tr.(kind(row)) {
                            th scope="row" { (name(row.0)) }
                            @for environment in &page.environments { (cell(page, row.1.get(environment).copied())) }
                        }
                    }
                }
            }
        }
    }
}

/// A name in two tones.
fn name(name: &str) -> Markup {
    let (suite, variant) = name.split_once("::").unwrap_or((name, ""));
    html! { (text(suite)) span.soft { "::" (text(variant)) } }
}

fn cell(page: &Page<'_>, outcome: Option<&Outcome>) -> Markup {
    let Some(outcome) = outcome else {
        return html! { td.absent { "not run" } };
    };
    let word = outcome.status.as_str();
    html! {
        td.(class(outcome.status)) {
            @match page.anchor(outcome) {
                Some(anchor) => a href={ "#" (anchor) } { (word) },
                None => (word),
            }
            @if outcome.status != Status::Skipped { " " span.soft { (duration(outcome.duration_s)) } }
        }
    }
}
