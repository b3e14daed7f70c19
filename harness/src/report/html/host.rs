//! The top of the page: what ran, where, and what it came to.

use maud::{Markup, html};

use super::counts;
use super::page::Page;
use super::text::{duration, moment, plural, text};
use crate::model::host::{Host, size};
use crate::model::outcome::Status;
use crate::model::taint;

/// The header with its counts, and the way to the sections.
pub(super) fn header(page: &Page<'_>) -> Markup {
    let host = &page.record.run.host;
    html! {
        header {
            h1 { "KVM selftests on " (text(&host.hostname)) ", " code { (text(&host.kernel)) } }
            @for warning in warnings(page) { p.warning { (text(&warning)) } }
            div.top {
                div.sums {
                    (counts::table(page))
                    @if !host.modules.is_empty() { (parameters(host)) }
                }
                (facts(page))
            }
        }
        nav aria-label="Sections" {
            @if !page.record.splats.is_empty() { a href="#kernel" { "Kernel " span.soft { (page.record.splats.len()) } } }
            a href="#failures" { "Failures " span.soft { (page.failures.len()) } }
            a href="#matrix" { "Matrix" }
            a href="#timeline" { "Time line" }
            a href="#slowest" { "Slowest" }
            a href="#skipped" { "Skipped" }
        }
    }
}

fn warnings(page: &Page<'_>) -> Vec<String> {
    let record = page.record;
    let mut warnings = Vec::new();
    match record.interrupted_by {
        Some(signal) => warnings.push(format!("This run was interrupted by signal {signal}.")),
        None if !record.finished => warnings.push("This run did not come to its end.".to_owned()),
        None => {}
    }
    warnings.extend(record.run.host.kvm_problem.clone());
    if !record.splats.is_empty() {
        let count = plural(record.splats.len(), "complaint");
        warnings.push(format!(
            "{count} of the kernel could not be shown to be a case's own: see Kernel."
        ));
    }
    if record.kernel_records_lost > 0 {
        let lost = plural(
            usize::try_from(record.kernel_records_lost).unwrap_or(usize::MAX),
            "record",
        );
        warnings.push(format!(
            "{lost} of the kernel's log or more were overwritten before they were read."
        ));
    }
    if record
        .outcomes
        .iter()
        .all(|outcome| outcome.status == Status::Skipped)
    {
        warnings.push("Nothing was tested: no case was run, or every one was skipped.".to_owned());
    }
    warnings
}

fn facts(page: &Page<'_>) -> Markup {
    let run = &page.record.run;
    let host = &run.host;
    let cpu = [&host.cpu_vendor, &host.cpu_model]
        .map(String::as_str)
        .join(" ");
    let took = page
        .record
        .duration_s
        .map_or_else(|| "an unknown time".to_owned(), duration);
    let hugepages: Vec<_> = host
        .free_hugepages
        .iter()
        .map(|(&page, free)| format!("{free} × {}", size(page)))
        .collect();
    let facts = [
        (
            "Started",
            format!("{}, took {took}", moment(run.started_ms)),
        ),
        (
            "Kernel",
            format!("{} {} {}", host.kernel, host.kernel_version, host.machine),
        ),
        ("CPU", format!("{} × {}", host.cpus, cpu.trim())),
        ("Memory", size(host.memory)),
        ("Free hugepages", hugepages.join(", ")),
        ("Taint", taint(host.taint, page.record.taint)),
        (
            "Selftests",
            run.selftests
                .iter()
                .map(|path| path.to_string_lossy())
                .collect::<Vec<_>>()
                .join(", "),
        ),
        (
            "Workers",
            format!("{}{}", run.workers, shuffled(run.shuffle_seed)),
        ),
        ("kvm-tests", run.version.clone()),
    ];
    let command_line = shlex::try_join(run.command_line.iter().map(String::as_str));
    html! {
        dl.facts {
            @for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
                dt { (name) }
                dd { (text(value)) }
            }
            dt { "Command line" }
            dd { code { (text(&command_line.unwrap_or_else(|_| run.command_line.join(" ")))) } }
        }
    }
}

fn shuffled(seed: Option<u64>) -> String {
    seed.map_or_else(String::new, |seed| format!(", shuffled by seed {seed}"))
}

/// The taint mask, and what became of it.
fn taint(before: u64, after: Option<u64>) -> String {
    match after.filter(|&after| after != before) {
        Some(after) => format!(
            "{}, and {} at the end",
            taint::show(before),
            taint::show(after)
        ),
        None => taint::show(before),
    }
}

fn parameters(host: &Host) -> Markup {
    let count = host
        .modules
        .values()
        .map(std::collections::BTreeMap::len)
        .sum();
    html! {
        details {
            summary {
                (plural(count, "parameter")) " of " (text(&host.modules.keys().cloned().collect::<Vec<_>>().join(", ")))
            }
            @for (module, parameters) in &host.modules {
                h2.minor { (text(module)) }
                ul.parameters {
                    @for (name, value) in parameters {
                        li { span.soft { (text(name)) "=" } (text(value)) }
                    }
                }
            }
        }
    }
}
