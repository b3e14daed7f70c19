//! What the kernel complained of.

use maud::{Markup, html};

use super::page::Page;
use super::text::text;
use crate::kernel_log::end::when;
use crate::kernel_log::splat::Splat;

/// The splats that could not be shown to be a case's own.
pub(super) fn section(page: &Page<'_>) -> Markup {
    let splats = &page.record.splats;
    html! {
        @if !splats.is_empty() {
            section #kernel {
                h2 { "Kernel " span.soft { (splats.len()) } }
                @for splat in splats {
                    details {
                        summary { span.badge.failed { (text(&splat.name)) } " " (text(&splat.title)) }
                        p { (text(&when(splat))) }
                        (lines(splat))
                    }
                }
            }
        }
    }
}

/// The splats of a case.
pub(super) fn of_case(splats: &[Splat]) -> Markup {
    html! {
        @if !splats.is_empty() {
            h3 { "Kernel log" }
            @for splat in splats { (lines(splat)) }
        }
    }
}

fn lines(splat: &Splat) -> Markup {
    html! { pre { (text(&splat.lines.join("\n"))) } }
}
