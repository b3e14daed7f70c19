//! The published schemas are those of the code.

use std::fs;
use std::path::Path;

use harness::log::record::Record;
use harness::model::entry::Entry;
use schemars::{Schema, schema_for};

/// Set, this variable has the schemas written anew: `UPDATE_SCHEMAS=1 cargo test -p harness --test schema`.
const UPDATE: &str = "UPDATE_SCHEMAS";

#[test]
fn the_schema_of_run_json_is_that_of_the_code() {
    check("run.schema.json", &schema_for!(Record));
}

#[test]
fn the_schema_of_a_line_of_the_journal_is_that_of_the_code() {
    check("journal.schema.json", &schema_for!(Entry));
}

fn check(name: &str, schema: &Schema) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../kvm-tests")
        .join(name);
    let generated = serde_json::to_string_pretty(schema).unwrap() + "\n";
    if std::env::var_os(UPDATE).is_some() {
        fs::write(&path, &generated).unwrap();
    }
    let published = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        published, generated,
        "{name} is old: run this again with {UPDATE}=1 and commit it"
    );
}
