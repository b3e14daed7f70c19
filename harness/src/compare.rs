//! What changed between two runs: `kvm-tests compare OLD NEW`, and `--baseline RUN` at the end of a run.

use clap::ValueEnum;
use serde::Serialize;

mod case;
mod comparison;
mod difference;
mod text;

pub use comparison::{Comparison, Side};

/// How a comparison is printed: `--format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ComparisonFormat {
    /// For a terminal
    #[default]
    Text,
    /// One object, for machines
    Json,
    /// All of it for a mail: reads well as plain text, too
    Markdown,
    /// What a cover letter should say, and nothing of what is the same
    Cover,
    /// For `b4 review`, as the result of a check command
    B4,
}

impl Comparison<'_> {
    /// What is to be printed.
    pub fn render(&self, format: ComparisonFormat) -> String {
        match format {
            ComparisonFormat::Text => text::terminal(self),
            ComparisonFormat::Markdown => text::markdown(self),
            ComparisonFormat::Cover => text::cover(self),
            ComparisonFormat::Json => json(self),
            ComparisonFormat::B4 => json(&text::results(self)),
        }
    }
}

/// JSON, indented, with a newline at its end, and without the characters that a terminal could take for more than text:
/// outside of strings there are none.
fn json(value: &impl Serialize) -> String {
    let json = serde_json::to_string_pretty(value).expect("write a comparison as JSON");
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        if character == '\n' || (' '..='~').contains(&character) {
            text.push(character);
        } else {
            let units = &mut [0; 2];
            let units = character.encode_utf16(units).iter();
            text.extend(units.map(|unit| format!("\\u{unit:04x}")));
        }
    }
    text + "\n"
}
