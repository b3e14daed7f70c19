//! What ran beside what: a lane for each worker, along the run's time, and one for the host's environments.

use std::collections::BTreeMap;
use std::time::Duration;

use maud::{Markup, html};

use super::{Page, class, duration, text};
use crate::model::event::Span;
use crate::model::outcome::Outcome;
use crate::model::text::plural;

/// The run's time in so many columns: what lies within one, about two pixels, would not be seen apart.
const COLUMNS: f64 = 700.0;

/// A run is taken to last so long at least, in seconds: something must be divided by.
const SHORTEST: f64 = 0.001;

/// A bar that spans so much of the run has room for a name.
const LABELLED: f64 = 0.03;

/// What lasted, in seconds from the run's start.
struct Bar<'a> {
    start: f64,
    end: f64,
    class: String,
    name: &'a str,
    anchor: Option<&'a str>,
}

impl Page<'_> {
    /// The time line.
    pub(super) fn timeline(&self) -> Markup {
        let spans = &self.run.state.environments;
        let mut lanes: BTreeMap<usize, Vec<&Outcome>> = BTreeMap::new();
        for outcome in &self.run.state.outcomes {
            if outcome.pid.is_some() {
                lanes.entry(outcome.worker).or_default().push(outcome);
            }
        }
        let outcomes = lanes.values().flatten();
        let ends = outcomes.map(|one| self.seconds(one.started_ms) + one.duration_s);
        let left = spans
            .iter()
            .map(|span| span.left_ms.unwrap_or(span.entered_ms));
        let took = self.run.state.duration_s().unwrap_or(0.0);
        let ends = ends.chain(left.map(|ms| self.seconds(ms)));
        let whole = ends.fold(took.max(SHORTEST), f64::max);
        html! {
            h2 #timeline { "Time line " span.soft { (plural(lanes.len(), "worker")) ", " (duration(whole)) } }
            @if !spans.is_empty() {
                (lane("host", &spans.iter().map(|span| self.in_environment(span, whole)).collect::<Vec<_>>(), whole))
            }
            @for (worker, outcomes) in &mut lanes { (self.worker(*worker, outcomes, whole)) }
            @if !spans.is_empty() {
                details {
                    summary { "Environments" }
                    dl.facts { @for span in spans { (self.environment(span)) } }
                }
            }
        }
    }

    /// How long after the run's start `ms` was: a clock that was set back meanwhile puts nothing before it.
    fn seconds(&self, ms: u64) -> f64 {
        Duration::from_millis(ms.saturating_sub(self.run.part.started_ms)).as_secs_f64()
    }

    /// What a worker ran. Cases within one column are drawn together.
    fn worker(&self, worker: usize, outcomes: &mut [&Outcome], whole: f64) -> Markup {
        outcomes.sort_by_key(|outcome| outcome.started_ms);
        let start = |outcome: &Outcome| self.seconds(outcome.started_ms);
        let end = |outcome: &Outcome| start(outcome) + outcome.duration_s;
        let column = |seconds: f64| (seconds / whole * COLUMNS).floor();
        let together = outcomes.chunk_by(|a, b| column(start(a)) == column(end(b)));
        let bars = together.filter_map(|outcomes| {
            let worst = outcomes.iter().max_by_key(|outcome| outcome.kind())?;
            Some(Bar {
                start: start(outcomes[0]),
                end: end(outcomes.last()?),
                class: class(worst.kind()),
                name: &worst.name,
                anchor: self.anchors.get(worst.name.as_str()).map(String::as_str),
            })
        });
        let busy: f64 = outcomes.iter().map(|outcome| outcome.duration_s).sum();
        let cases = plural(outcomes.len(), "case");
        let label = format!(
            "worker {worker}: {cases}, busy {:.0} %",
            busy / whole * 100.0
        );
        lane(&label, &bars.collect::<Vec<_>>(), whole)
    }

    /// The host in an environment. What nobody has left lasts to the end.
    fn in_environment<'s>(&self, span: &'s Span, whole: f64) -> Bar<'s> {
        Bar {
            start: self.seconds(span.entering_ms),
            end: span.left_ms.map_or(whole, |ms| self.seconds(ms)),
            class: "environment".to_owned(),
            name: &span.environment,
            anchor: None,
        }
    }

    /// What an environment was: its settings, and the parameters that it changed.
    fn environment(&self, span: &Span) -> Markup {
        let took = |from: u64, to: u64| duration(self.seconds(to) - self.seconds(from));
        let before = &self.run.part.host.modules;
        html! {
            dt { (text(&span.environment)) }
            dd {
                (text(&span.settings.join(", ")))
                " " span.soft { "(entered in " (took(span.entering_ms, span.entered_ms)) ")" }
                @for (module, parameters) in &span.modules { @for (name, value) in parameters {
                    @let before = before.get(module).and_then(|before| before.get(name));
                    @if before != Some(value) { br; code { (text(module)) "." (text(name)) "=" (text(value)) } }
                } }
                @for line in span.notes.iter().chain(&span.problem) { br; (text(line)) }
            }
        }
    }
}

fn lane(label: &str, bars: &[Bar<'_>], whole: f64) -> Markup {
    html! {
        div.row {
            span { (label) }
            div.lane aria-hidden="true" {
                @for Bar { start, end, class, name, anchor } in bars {
                    @let length = end - start;
                    @let (left, width) = (start / whole * 100.0, length / whole * 100.0);
                    a.(class) href=[anchor.map(|anchor| format!("#{anchor}"))] tabindex="-1"
                        style=(format!("left:{left:.3}%;width:{width:.3}%"))
                        title=(format!("{}: {}, from {} on", text(name), duration(length), duration(*start))) {
                        @if length >= whole * LABELLED { (text(name)) }
                    }
                }
            }
        }
    }
}
