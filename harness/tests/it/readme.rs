//! The documentation names tests and files that are there.

use std::fs;
use std::path::Path;

const FAULTS: &str = include_str!("../../../docs/reliability.md");
const CI: &str = include_str!("../../../.ci/run");
const MAP: &str = include_str!("../../../docs/architecture.md");

/// The directory of this crate.
const HARNESS: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn every_file_of_the_map_is_there() {
    let names = MAP.split(|c: char| !c.is_ascii_alphanumeric() && !"_-./".contains(c));
    let files: Vec<&str> = names.filter(|name| name.ends_with(".rs")).collect();
    assert!(files.len() >= 10, "{files:?}");
    for file in files {
        let places = ["src", "..", "../kvm-tests"];
        let paths = places.map(|place| Path::new(HARNESS).join(place).join(file));
        let is_there = paths.iter().any(|path| path.is_file());
        assert!(is_there, "the map names {file}, which is not there");
    }
}

#[test]
fn every_test_in_the_tables_of_reliability_is_there() {
    let lines: Vec<&str> = FAULTS.lines().collect();
    let is_heading = |two: &[&str]| two[1].starts_with("|---");
    let rows = lines.windows(2).filter(|two| !is_heading(two));
    let rows: Vec<&str> = rows
        .map(|two| two[0])
        .chain(lines.last().copied())
        .filter(|line| line.starts_with("| "))
        .collect();
    assert!(rows.len() >= 100, "{} rows", rows.len());
    for row in rows {
        let codes = || row.split('`');
        let tests: Vec<_> = codes()
            .filter_map(|code| code.split_once(".rs::"))
            .collect();
        let steps: Vec<_> = codes()
            .filter_map(|code| code.strip_prefix(".ci/run "))
            .collect();
        assert!(tests.len() + steps.len() > 0, "no test in {row}");
        for (file, name) in tests {
            assert!(is_test(file, name), "there is no test {name} in {file}.rs");
        }
        for step in steps {
            let word = step.trim_matches('\'');
            let mut steps = CI.lines().filter(|line| line.starts_with("step "));
            let is_there = steps.any(|line| line.contains(word));
            assert!(is_there, "there is no step {word} in .ci/run");
        }
    }
}

/// Whether a file of the end-to-end tests, of the other tests beside them, or of the program has a test of this name.
fn is_test(file: &str, name: &str) -> bool {
    let places = ["tests/it", "tests", "src"];
    let paths = places.map(|place| Path::new(HARNESS).join(place).join(format!("{file}.rs")));
    let sources = paths
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok());
    let start = format!("fn {name}(");
    sources.into_iter().any(|source| {
        let lines: Vec<&str> = source.lines().map(str::trim_start).collect();
        lines
            .windows(2)
            .any(|two| two[0].starts_with("#[") && two[1].starts_with(&start))
    })
}
