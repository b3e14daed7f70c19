//! A comparison for a terminal: without escape sequences, short where little changed.

use crate::compare::change::Kind;
use crate::compare::layout::wrapped;
use crate::compare::sections::{self, Same, Section};
use crate::compare::{Comparison, Run, flat};

/// How wide lines are.
const WIDTH: usize = 100;

/// The comparison as text.
pub fn render(comparison: &Comparison<'_>) -> String {
    let mut lines = Vec::new();
    for (label, run) in [("old  ", comparison.old), ("new  ", comparison.new)] {
        let place = flat(&run.place.to_string_lossy());
        lines.extend(wrapped(
            label,
            label.len(),
            &format!("{place}: {}", sections::of_run(run)),
            WIDTH,
        ));
    }
    lines.extend(wrapped(
        "     ",
        5,
        &sections::of_differences(&comparison.differences),
        WIDTH,
    ));
    lines.extend(arguments(comparison));
    for Section {
        heading,
        lines: section,
    } in sections::of(comparison, Same::Named, WIDTH - 2)
    {
        lines.extend([String::new(), heading.to_uppercase()]);
        lines.extend(section.iter().map(|line| format!("  {line}")));
    }
    lines.extend([String::new(), sections::verdict(comparison), String::new()]);
    lines.join("\n")
}

/// Both command lines, where they may be why cases have vanished.
fn arguments(comparison: &Comparison<'_>) -> Vec<String> {
    let arguments = |run: &Run| {
        flat(
            &run.record
                .run
                .command_line
                .get(1..)
                .unwrap_or_default()
                .join(" "),
        )
    };
    let (old, new) = (arguments(comparison.old), arguments(comparison.new));
    if old == new || comparison.of_kind(Kind::Vanished).next().is_none() {
        return Vec::new();
    }
    let lines = [
        ("     arguments of the old run: ", old),
        ("     arguments of the new run: ", new),
    ];
    lines
        .iter()
        .flat_map(|(label, text)| wrapped(label, 7, text, WIDTH))
        .collect()
}
