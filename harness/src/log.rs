//! What is kept of a run: its directory, its journals, and what they add up to when they are read back.

mod directory;
mod history;
mod hosts;
mod journal;
mod merge;
mod nextest;
mod plan_file;
mod read;
mod recorder;
mod resume;
mod version1;

use std::path::Path;

use anyhow::Context;

pub use directory::{Destination, RunDirectory, is_in_use};
pub use history::History;
pub use journal::{CONSOLES, Journal, PLAN_JSON, RUN_JSON, line_of};
pub use merge::Parts;
pub use nextest::{Member, Nextest};
pub use plan_file::{read_plan, write_plan};
pub use read::{before, fold, is_run, read};
pub use recorder::{MOST_NAMED, Recorder};
pub use resume::{Resumed, what_killed_the_latest};

use crate::model::file;
use crate::model::state::State;

/// Writes run.json in a run's directory, in one step.
///
/// # Errors
/// It cannot be written.
pub fn write_run_json(state: &State, directory: &Path) -> anyhow::Result<()> {
    let path = directory.join(RUN_JSON);
    let written = file::replace(&path, |file| {
        serde_json::to_writer(&mut *file, state)?;
        file.write_all(b"\n")
    });
    written.with_context(|| format!("write {}", path.display()))
}
