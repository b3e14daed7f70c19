//! `kvm-tests schema`: the JSON schemas of what a run leaves.

use std::process::ExitCode;

use clap::ValueEnum;
use schemars::generate::SchemaSettings;

use crate::model::event::Event;
use crate::model::state::State;
use crate::show::print;

/// A file whose form is asked for.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum SchemaOf {
    /// run.json
    Run,
    /// A line of a journal
    Journal,
}

/// Prints a JSON schema.
///
/// # Errors
/// It cannot be printed.
pub fn schema(of: SchemaOf) -> anyhow::Result<ExitCode> {
    // As they are written.
    let generator = SchemaSettings::default().for_serialize().into_generator();
    let schema = match of {
        SchemaOf::Run => generator.into_root_schema_for::<State>(),
        SchemaOf::Journal => generator.into_root_schema_for::<Event>(),
    };
    print(&format!("{}\n", serde_json::to_string_pretty(&schema)?))?;
    Ok(ExitCode::SUCCESS)
}
