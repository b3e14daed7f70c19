//! The README says what the code does.

use harness::environment::feature;

const README: &str = include_str!("../../README.md");

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
    for entry in std::fs::read_dir(format!("{root}/kvm-tests/environments")).expect("list the environments") {
        let path = entry.expect("read a directory entry").path();
        let name = path.file_stem().expect("a file's name").to_string_lossy();
        assert!(README.contains(&format!("| `{name}` |")), "{name} is not in the README's table");
    }
    let map = README.split_once("## A map of the code").expect("find the map").1;
    for file in map.split(|c: char| !c.is_ascii_alphanumeric() && !"_./".contains(c)) {
        let is_of_the_library = file.ends_with(".rs") && !["kvm.rs", "main.rs"].contains(&file);
        if is_of_the_library {
            let path = format!("{root}/harness/src/{file}");
            assert!(std::path::Path::new(&path).is_file(), "the map names {file}, which is not there");
        }
    }
}
