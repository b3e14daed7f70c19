//! The documentation names tests and files that are there.

use std::fs;
use std::path::Path;

const FAULTS: &str = include_str!("../../../docs/reliability.md");
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
fn every_test_in_the_table_of_faults_is_there() {
    let rows = FAULTS.lines().filter(|line| line.starts_with("| "));
    let rows: Vec<&str> = rows.skip(1).collect();
    assert!(rows.len() >= 45, "{} faults", rows.len());
    for row in rows {
        let tests: Vec<_> = row
            .split('`')
            .filter_map(|code| code.split_once(".rs::"))
            .collect();
        assert!(!tests.is_empty(), "no test in {row}");
        for (file, name) in tests {
            assert!(is_test(file, name), "there is no test {name} in {file}.rs");
        }
    }
}

/// Whether a file of the end-to-end tests, or of the other tests beside them, has a test of this name.
fn is_test(file: &str, name: &str) -> bool {
    let places = ["tests/it", "tests"];
    let paths = places.map(|place| Path::new(HARNESS).join(place).join(format!("{file}.rs")));
    let source = paths.iter().find_map(|path| fs::read_to_string(path).ok());
    let source = source.unwrap_or_default();
    let lines: Vec<&str> = source.lines().collect();
    let start = format!("fn {name}() {{");
    lines
        .windows(2)
        .any(|two| two[0].starts_with("#[") && two[1] == start)
}
