//! docs/environments.md says what the code does.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

const DOC: &str = include_str!("../../../docs/environments.md");

/// The table of features, as the real program prints it.
fn features() -> String {
    let mut program = Command::new(env!("CARGO_BIN_EXE_kvm-tests-runner"));
    let shown = program.arg("environments").output().unwrap().stdout;
    let shown = String::from_utf8(shown).unwrap();
    shown[shown.find("| feature |").unwrap()..].to_owned()
}

/// The cells of a row.
fn cells(row: &str) -> Vec<&str> {
    let row = row.trim_matches('|');
    row.split('|').map(str::trim).collect()
}

/// The files of the shipped environments, by their names.
fn shipped() -> BTreeMap<String, toml::Table> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../kvm-tests/environments");
    let files = fs::read_dir(directory).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(path).unwrap().parse().unwrap())
    });
    files.collect()
}

/// What a shipped environment sets on each vendor's hosts, as a row of the table.
fn row(name: &str, environment: &toml::Table, features: &str) -> String {
    let vendors = cells(features.lines().next().unwrap()).len() - 2;
    let mut knobs = vec![Vec::new(); vendors];
    let set = environment.get("features").and_then(toml::Value::as_table);
    for (feature, value) in set.into_iter().flatten() {
        let row = features
            .lines()
            .find(|line| line.starts_with(&format!("| `{feature}`:")));
        let value = match value {
            toml::Value::Boolean(on) => if *on { "on" } else { "off" }.to_owned(),
            other => other.as_str().unwrap().to_owned(),
        };
        for (knobs, knob) in knobs.iter_mut().zip(&cells(row.unwrap())[2..]) {
            let has_value = knob.starts_with('`') && !knob.contains("boot only");
            knobs.push(if has_value {
                format!("{knob} {value}")
            } else {
                (*knob).to_owned()
            });
        }
    }
    for pages in environment
        .get("hugepages")
        .and_then(toml::Value::as_table)
        .into_iter()
        .flatten()
    {
        knobs
            .iter_mut()
            .for_each(|knobs| knobs.push(format!("{} of {}", pages.1, pages.0)));
    }
    let knobs: Vec<String> = knobs.iter().map(|knobs| knobs.join(", ")).collect();
    let description = environment["description"].as_str().unwrap();
    format!("| `{name}` | {description} | {} |\n", knobs.join(" | "))
}

#[test]
fn the_tables_of_features_and_of_shipped_environments_are_the_codes() {
    let features = features();
    let vendors = cells(features.lines().next().unwrap())[2..].join(" | ");
    let rule = "---|".repeat(2 + vendors.split('|').count());
    let mut environments = format!("| environment | what it is for | {vendors} |\n|{rule}\n");
    for (name, environment) in &shipped() {
        environments += &row(name, environment, &features);
    }
    for table in [features, environments] {
        assert!(
            DOC.contains(&table),
            "put this into docs/environments.md:\n{table}"
        );
    }
}

#[test]
fn every_shipped_environment_has_what_shows_that_it_took_effect_or_that_nothing_does() {
    let section = DOC
        .split_once("### What shows that one took effect")
        .unwrap()
        .1;
    let rows = section.lines().skip_while(|line| !line.starts_with("|---"));
    let rows: Vec<Vec<&str>> = rows
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(cells)
        .collect();
    let names: Vec<String> = rows
        .iter()
        .map(|row| row[0].trim_matches('`').to_owned())
        .collect();
    assert_eq!(names, shipped().into_keys().collect::<Vec<_>>());
    for row in rows {
        assert_eq!(row.len(), 4, "{row:?}");
        for cell in &row[1..] {
            let names_one = cell.contains('`') && cell.contains("_test");
            let is_told = ["–", "nothing", "the same"]
                .iter()
                .any(|start| cell.contains(start));
            assert!(names_one || is_told || cell.contains("`vmx_"), "{cell}");
        }
    }
}
