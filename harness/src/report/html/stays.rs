//! The environments in the time line: when the host was in which, and when it was being changed.

use maud::{Markup, html};

use super::page::Page;
use super::text::{duration, text};
use super::timeline::position;
use crate::environment::definition::HOST;
use crate::model::host::Modules;
use crate::model::stay::Stay;

/// When the host was last changed, in seconds from the run's start; `None` where it never was.
pub(super) fn last_change(page: &Page<'_>) -> Option<f64> {
    let last = |stay: &Stay| page.seconds(stay.left_ms.unwrap_or(stay.entered_ms));
    page.record.stays.iter().map(last).reduce(f64::max)
}

/// The lane of the host, in a time line of so many seconds; nothing where the host was as it is all the time.
pub(super) fn lane(page: &Page<'_>, end: f64) -> Markup {
    let stays = &page.record.stays;
    html! {
        @if !stays.is_empty() {
            tr {
                th scope="row" { "host" }
                td {}
                td {}
                td.lane {
                    div.lane aria-hidden="true" {
                        @for stay in stays {
                            @let [entering, entered, leaving, left] = times(page, stay, end);
                            (changing(entering, entered, end, &format!("changed for {}", stay.environment)))
                            @if stay.environment != HOST {
                                span.stay style=(position(entered, leaving, end)) title=(text(&title(stay))) {
                                    (text(&stay.environment))
                                }
                            }
                            @if stay.left_ms.is_some() {
                                (changing(leaving, left, end, &format!("put back after {}", stay.environment)))
                            }
                        }
                    }
                }
            }
        }
    }
}

/// What each environment was: its settings, how long it took to enter and to leave it, and what else there is to know.
pub(super) fn list(page: &Page<'_>) -> Markup {
    let stays = &page.record.stays;
    html! {
        @if !stays.is_empty() {
            p.soft { "In the lane of the host, the hatched parts are where it was being changed." }
            dl.facts {
                @for stay in stays {
                    dt { (text(&stay.environment)) }
                    dd {
                        (text(&stay.settings.join(", ")))
                        " " span.soft { "(" (took(page, stay)) ")" }
                        @let parameters = changed(&page.record.run.host.modules, &stay.modules);
                        @if !parameters.is_empty() { br; code { (text(&parameters.join(", "))) } }
                        @for note in &stay.notes { br; (text(note)) }
                        @if let Some(problem) = &stay.problem { p.warning { (text(problem)) } }
                    }
                }
            }
        }
    }
}

/// When it was entered and left, in seconds from the run's start. What nobody has left lasts to the end of the line.
fn times(page: &Page<'_>, stay: &Stay, end: f64) -> [f64; 4] {
    let seconds = |ms: Option<u64>| ms.map_or(end, |ms| page.seconds(ms));
    [
        Some(stay.entering_ms),
        Some(stay.entered_ms),
        stay.leaving_ms,
        stay.left_ms,
    ]
    .map(seconds)
}

fn changing(from: f64, to: f64, end: f64, what: &str) -> Markup {
    let title = format!(
        "{what} in {}, from {} on",
        duration(to - from),
        duration(from)
    );
    html! { span.changing style=(position(from, to, end)) title=(text(&title)) {} }
}

/// The parameters that read otherwise in `inside` than before: `kvm_amd.npt=N (Y before)`.
fn changed(before: &Modules, inside: &Modules) -> Vec<String> {
    let parameters = inside.iter().flat_map(|(module, parameters)| {
        parameters.iter().filter_map(move |(name, value)| {
            let before = before.get(module)?.get(name)?;
            (before != value).then(|| format!("{module}.{name}={value} ({before} before)"))
        })
    });
    parameters.collect()
}

fn title(stay: &Stay) -> String {
    format!("{}: {}", stay.environment, stay.settings.join(", "))
}

fn took(page: &Page<'_>, stay: &Stay) -> String {
    let [entering, entered, leaving, left] = times(page, stay, 0.0);
    let entered = format!(
        "entered in {}, {} after the start",
        duration(entered - entering),
        duration(entering)
    );
    match stay.left_ms {
        Some(_) => format!("{entered}; left in {}", duration(left - leaving)),
        None => format!("{entered}; not known to be left"),
    }
}
