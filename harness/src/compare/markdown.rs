//! A comparison for a cover letter: Markdown that is plain text to whoever reads the mail.
//!
//! What a test or a host said stands in indented code blocks, where nothing of it has a meaning. There are no headings:
//! Git takes a line that begins with `#` out of what is edited.

use std::collections::BTreeMap;

use crate::compare::Comparison;
use crate::compare::flat;
use crate::compare::layout::wrapped;
use crate::compare::sections::{self, Same};

/// How wide the lines of mail are.
const WIDTH: usize = 75;

const INDENT: &str = "    ";

/// The comparison as Markdown.
pub fn render(comparison: &Comparison<'_>) -> String {
    let width = WIDTH - INDENT.len();
    let mut blocks = Vec::new();
    let mut head = Vec::new();
    for (label, run) in [("old  ", comparison.old), ("new  ", comparison.new)] {
        head.extend(wrapped(label, label.len(), &sections::of_run(run), width));
    }
    head.extend(wrapped(
        "     ",
        5,
        &sections::of_differences(&comparison.differences),
        width,
    ));
    blocks.push(("KVM selftests, two runs compared".to_owned(), head));
    let parts = sections::of(comparison, Same::Told, width);
    blocks.extend(
        parts
            .into_iter()
            .map(|section| (section.heading, section.lines)),
    );
    let parameters = parameters(comparison, width);
    let mut text = String::new();
    for (heading, lines) in &blocks {
        push(&mut text, heading, lines);
    }
    text.push_str(&sections::verdict(comparison));
    text.push_str("\n\n");
    if !parameters.is_empty() {
        push(&mut text, "Module parameters", &parameters);
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

fn push(text: &mut String, heading: &str, lines: &[String]) {
    text.push_str(heading);
    text.push_str(":\n\n");
    for line in lines {
        text.push_str(INDENT);
        text.push_str(line);
        text.push('\n');
    }
    text.push('\n');
}

/// All parameters of each module: `npt=Y`, or `npt=Y->N` where the runs differ.
fn parameters(comparison: &Comparison<'_>, width: usize) -> Vec<String> {
    let (old, new) = (
        &comparison.old.record.run.host.modules,
        &comparison.new.record.run.host.modules,
    );
    let mut modules: BTreeMap<&str, BTreeMap<&str, (&str, &str)>> = BTreeMap::new();
    for (module, parameters) in old {
        let known = modules.entry(module).or_default();
        known.extend(
            parameters
                .iter()
                .map(|(name, value)| (name.as_str(), (value.as_str(), ""))),
        );
    }
    for (module, parameters) in new {
        let known = modules.entry(module).or_default();
        for (name, value) in parameters {
            known.entry(name).or_insert(("", "")).1 = value;
        }
    }
    let lines = modules.iter().flat_map(|(module, parameters)| {
        let shown = parameters.iter().map(|(name, (old, new))| {
            let value = if old == new {
                flat(old)
            } else {
                format!("{}->{}", flat(old), flat(new))
            };
            format!("{}={value}", flat(name))
        });
        wrapped(
            &format!("{}: ", flat(module)),
            2,
            &shown.collect::<Vec<_>>().join(" "),
            width,
        )
    });
    lines.collect()
}
