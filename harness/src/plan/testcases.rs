//! Reads upstream's `.test` files: each holds one test, a line for the shell that starts with a selftest.
//!
//! A directory of them is a suite of its name; a file's stem is its test's name, and `default.test` is reserved for the
//! selftest without arguments. Blank lines and lines that start with `#` do not count.

use std::path::Path;
use std::sync::Arc;

use crate::model::name;
use crate::plan::fields::{quoted, short_enough};
use crate::plan::source::Source;
use crate::plan::suite_file::{Place, TestEntry, What};

/// The extension of these files.
pub const EXTENSION: &str = "test";

/// The name of the suite that the `.test` files of a directory make; `None` where it has no name of its own.
pub fn suite_name(directory: &Path) -> Option<String> {
    Some(name::to_identifier(
        &directory.file_name()?.to_string_lossy(),
    ))
}

/// Reads the test of a file; `None`, with the problems noted, where it has none.
pub fn read(source: &Source<'_>) -> Option<TestEntry> {
    let stem = source.path.file_stem()?.to_string_lossy();
    let name = short_enough(source, 0, name::to_identifier(&stem));
    let mut lines = source
        .text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let Some(line) = lines.next() else {
        source.problem(0, "no line for the shell");
        return None;
    };
    if let Some(second) = lines.next() {
        source.problem(
            source.place_of(second),
            "a second line: a test is one line for the shell",
        );
    }
    if let Some(nul) = line.find('\0') {
        source.problem(
            source.place_of(line) + nul,
            "a NUL, which no command line can hold",
        );
    }
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    // Built in the kernel's tree, a selftest may be written with its directory (`x86/cpuid_test`, `./cpuid_test`).
    let selftest = word.rsplit('/').next().unwrap_or(word);
    if matches!(selftest, "" | "." | "..") {
        source.problem(
            source.place_of(line),
            format!("{} names no selftest", quoted(word)),
        );
    }
    Some(TestEntry {
        name: name?,
        what: What::SelftestLine {
            selftest: selftest.to_owned(),
            rest: rest.trim_start().to_owned(),
        },
        setup: None,
        teardown: None,
        precheck: None,
        settings: Arc::default(),
        place: Place {
            path: source.path.into(),
            position: source.positions().of(source.place_of(line)),
        },
    })
}
