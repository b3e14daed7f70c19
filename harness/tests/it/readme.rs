//! The README says what the code does.

use harness::environment::feature;

const README: &str = include_str!("../../../README.md");

#[test]
fn the_table_of_features_is_the_codes() {
    assert!(
        README.contains(feature::markdown().trim()),
        "put this into the README:\n{}",
        feature::markdown()
    );
}

#[test]
fn every_shipped_environment_and_every_file_of_the_map_is_there() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    for entry in
        std::fs::read_dir(format!("{root}/kvm-tests/environments")).expect("list the environments")
    {
        let path = entry.expect("read a directory entry").path();
        let name = path.file_stem().expect("a file's name").to_string_lossy();
        assert!(
            README.contains(&format!("| `{name}` |")),
            "{name} is not in the README's table"
        );
    }
    let map = README
        .split_once("## A map of the code")
        .expect("find the map")
        .1;
    for file in map.split(|c: char| !c.is_ascii_alphanumeric() && !"_./".contains(c)) {
        let is_of_the_library = file.ends_with(".rs") && !["kvm.rs", "main.rs"].contains(&file);
        if is_of_the_library {
            let pattern = format!("{root}/harness/src/**/{file}");
            let found = glob::glob(&pattern).expect("a pattern").next().is_some();
            assert!(found, "the map names {file}, which is not there");
        }
    }
}

#[test]
fn every_test_in_the_table_of_faults_is_there() {
    let section = README
        .split_once("\n## Reliability\n")
        .expect("find the section")
        .1;
    let section = section.split_once("\n## ").expect("find its end").0;
    let rows: Vec<&str> = section
        .lines()
        .filter(|line| line.starts_with("| "))
        .skip(1)
        .collect();
    assert!(rows.len() >= 25, "{} faults", rows.len());
    for row in rows {
        let tests: Vec<_> = row
            .split('`')
            .filter_map(|code| code.split_once(".rs::"))
            .collect();
        assert!(!tests.is_empty(), "no test in {row}");
        for (file, name) in tests {
            let path = format!("{}/tests/it/{file}.rs", env!("CARGO_MANIFEST_DIR"));
            let source =
                std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
            let mut before = "";
            let is_test = source.lines().any(|line| {
                let is_it = line == format!("fn {name}() {{") && before.starts_with("#[");
                before = line;
                is_it
            });
            assert!(is_test, "there is no test {name} in {path}");
        }
    }
}
