//! What ran beside what: a lane for each worker, along the run's time, and one for the host's environments.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::STATUSES;
use super::page::{Page, worst};
use super::stays;
use super::text::{class, duration, plural, text};
use crate::model::outcome::{Outcome, Status};

/// The run's time in so many columns: what lies within one, about two pixels, would not be seen apart.
const COLUMNS: f64 = 700.0;

/// A run is taken to last so long at least, in seconds: something must be divided by.
const SHORTEST: f64 = 0.001;

/// A bar that spans so much of the run has room for a name.
const LABELLED: f64 = 0.03;

/// How many marks the time scale has at most.
const MARKS: f64 = 12.0;

/// How far apart the marks may be, in seconds.
const STEPS: [f64; 17] = [
    0.01, 0.1, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0,
    7200.0, 21600.0,
];

/// The time line.
pub(super) fn section(page: &Page<'_>) -> Markup {
    let lanes = lanes(page);
    let end = lanes
        .values()
        .flatten()
        .map(|span| span.end)
        .chain(stays::last_change(page))
        .fold(
            page.record.duration_s.unwrap_or(0.0).max(SHORTEST),
            f64::max,
        );
    // Beyond some days in whole days, and never more marks than that, whatever the durations in a run.json that was damaged.
    let step = STEPS.into_iter().find(|step| end / step <= MARKS);
    let step = step.unwrap_or_else(|| (end / MARKS / 86400.0).ceil() * 86400.0);
    let marks = (0..=MARKS as u32)
        .map(|mark| f64::from(mark) * step)
        .take_while(|mark| *mark < end);
    html! {
        section #timeline {
            h2 { "Time line " span.soft { (plural(lanes.len(), "worker")) ", " (duration(end)) } }
            @if lanes.is_empty() { p { "No case was started." } }
            @else {
                p.legend {
                    @for status in STATUSES { span.(class(status)) { (status.as_str()) } }
                }
                table.timeline style=(format!("--step:{:.4}%", step / end * 100.0)) {
                    thead {
                        tr {
                            th scope="col" { "worker" }
                            th.number scope="col" { "cases" }
                            th.number scope="col" { "busy" }
                            th scope="col" {
                                div.scale {
                                    @for mark in marks {
                                        span style=(format!("left:{:.3}%", mark / end * 100.0)) { (scale(mark)) }
                                    }
                                }
                            }
                        }
                    }
                    tbody {
                        (stays::lane(page, end))
                        @for (worker, spans) in &lanes { (lane(page, *worker, spans, end)) }
                    }
                }
                (stays::list(page))
            }
        }
    }
}

/// A case in the run's time, in seconds from its start.
struct Span<'a> {
    start: f64,
    end: f64,
    outcome: &'a Outcome,
}

/// What each worker ran, in order.
fn lanes<'a>(page: &Page<'a>) -> BTreeMap<usize, Vec<Span<'a>>> {
    let mut lanes: BTreeMap<usize, Vec<Span<'_>>> = BTreeMap::new();
    for outcome in page
        .record
        .outcomes
        .iter()
        .filter(|outcome| outcome.pid.is_some())
    {
        let start = page.seconds(outcome.started_ms);
        lanes.entry(outcome.worker).or_default().push(Span {
            start,
            end: start + outcome.duration_s,
            outcome,
        });
    }
    for lane in lanes.values_mut() {
        lane.sort_by(|a, b| a.start.total_cmp(&b.start));
    }
    lanes
}

fn lane(page: &Page<'_>, worker: usize, spans: &[Span<'_>], end: f64) -> Markup {
    let busy: f64 = spans.iter().map(|span| span.end - span.start).sum();
    html! {
        tr {
            th scope="row" { (worker) }
            td.number { (spans.len()) }
            td.number { (format!("{:.0} %", busy / end * 100.0)) }
            td.lane {
                div.lane aria-hidden="true" {
                    @for bar in bars(spans, end) { (draw(page, bar, end)) }
                }
            }
        }
    }
}

/// The spans, of which those that lie within one column are drawn together.
fn bars<'s, 'a>(spans: &'s [Span<'a>], end: f64) -> impl Iterator<Item = &'s [Span<'a>]> {
    let column = move |time: f64| (time / end * COLUMNS).floor();
    spans.chunk_by(move |a, b| column(a.start) == column(b.end))
}

fn draw(page: &Page<'_>, bar: &[Span<'_>], end: f64) -> Markup {
    let [first, .., last] = bar else {
        return html! { @for span in bar { (draw_one(page, span, end)) } };
    };
    let word = worst(bar.iter().map(|span| span.outcome.status)).unwrap_or(Status::Passed);
    let title = format!(
        "{}, from {} on",
        plural(bar.len(), "case"),
        duration(first.start)
    );
    html! { span.(class(word)) style=(position(first.start, last.end, end)) title=(title) {} }
}

fn draw_one(page: &Page<'_>, span: &Span<'_>, end: f64) -> Markup {
    let Outcome {
        name,
        status,
        duration_s,
        ..
    } = span.outcome;
    let (status, style) = ((*status), position(span.start, span.end, end));
    let title = format!(
        "{} {} after {}, from {} on",
        text(name),
        status.as_str(),
        duration(*duration_s),
        duration(span.start)
    );
    let label = if span.end - span.start >= end * LABELLED {
        text(name)
    } else {
        String::new()
    };
    html! {
        @match page.anchor(span.outcome).filter(|_| status.is_failure()) {
            Some(anchor) => a.(class(status)) href={ "#" (anchor) } tabindex="-1" style=(style) title=(title) { (label) },
            None => span.(class(status)) style=(style) title=(title) { (label) },
        }
    }
}

/// Where something stands in a lane that spans `whole` seconds.
pub(super) fn position(start: f64, end: f64, whole: f64) -> String {
    format!(
        "left:{:.3}%;width:{:.3}%",
        start / whole * 100.0,
        (end - start) / whole * 100.0
    )
}

/// A mark of the time scale; those of whole seconds as minutes and seconds.
fn scale(seconds: f64) -> String {
    if seconds.fract() > 0.0 {
        return format!("{seconds:.2} s");
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "as saturates"
    )]
    let whole = seconds as u64;
    format!("{}:{:02}", whole / 60, whole % 60)
}
