//! report.html: a whole run on one page, for people. It needs no other file, no network and no JavaScript.

use std::io::{self, Write};
use std::path::Path;

use maud::{Markup, PreEscaped, html};

use crate::log::record::Record;
use crate::model::outcome::Status;

use self::page::Page;
use self::text::{class, text};

mod counts;
mod failures;
mod host;
mod kernel;
mod matrix;
mod output;
mod page;
mod skipped;
mod slowest;
mod stays;
mod text;
mod timeline;

/// The report's file in the directory of its run.
pub const REPORT_HTML: &str = "report.html";

/// The statuses in the order in which they are counted and explained.
const STATUSES: [Status; 5] = [
    Status::Passed,
    Status::Skipped,
    Status::Failed,
    Status::TimedOut,
    Status::NoRun,
];

/// Writes the report of `record` to `out`. The outputs that it quotes lie in `directory`; durations are compared with
/// those of `previous`.
///
/// # Errors
/// `out` cannot be written. Outputs that cannot be read are left out, and the report says so.
pub fn write(
    record: &Record,
    directory: &Path,
    previous: Option<&Record>,
    out: &mut impl Write,
) -> io::Result<()> {
    let page = Page::new(record, directory, previous);
    let mut put = |markup: Markup| out.write_all(markup.into_string().as_bytes());
    put(PreEscaped("<!DOCTYPE html>\n<html lang=\"en\">".to_owned()))?;
    put(head(&page))?;
    put(PreEscaped("\n<body>".to_owned()))?;
    put(host::header(&page))?;
    put(PreEscaped("\n<main>".to_owned()))?;
    put(kernel::section(&page))?;
    failures::write(&page, &mut put)?;
    matrix::write(&page, &mut put)?;
    put(timeline::section(&page))?;
    put(slowest::section(&page))?;
    put(skipped::section(&page))?;
    put(PreEscaped("\n</main></body></html>\n".to_owned()))
}

/// Whatever else should fail, no script runs and nothing is fetched: the policy forbids it.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

const STYLE: &str = include_str!("html/style.css");

fn head(page: &Page<'_>) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta http-equiv="Content-Security-Policy" content=(POLICY);
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            title { (title(page)) }
            style { (PreEscaped(STYLE)) }
        }
    }
}

/// What a tab or a bookmark shows: the result before the place.
fn title(page: &Page<'_>) -> String {
    let host = &page.record.run.host;
    let (failed, all) = (page.failures.len(), page.record.outcomes.len());
    text(&format!(
        "{failed} failed of {all}: KVM selftests on {}, {}",
        host.hostname, host.kernel
    ))
}

/// A status as a word in its colour.
fn badge(status: Status) -> Markup {
    html! { span.badge.(class(status)) { (status.as_str()) } }
}
