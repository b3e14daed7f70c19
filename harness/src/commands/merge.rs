//! `kvm-tests merge`: one run of many.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;

use crate::log::{Parts, write_run_json};
use crate::model::text::one_line;
use crate::report::write_all;
use crate::show::print;
use crate::show::summary;

/// Something failed, or is not there.
const EXIT_FAILED: u8 = 101;

/// `kvm-tests merge`
#[derive(Debug, Clone, Args)]
pub struct MergeOptions {
    /// The directory to make, for all of them together
    #[arg(value_name = "OUT")]
    out: PathBuf,

    /// The directories of the runs: of shards, of several hosts, merged ones
    #[arg(value_name = "DIR", required = true)]
    runs: Vec<PathBuf>,

    /// Merge runs of different kernels or selftests, too
    #[arg(long)]
    mixed: bool,
}

/// Makes one run of all, with every report: 0 where nothing failed, 101 where something did, is not there, or was left out.
///
/// # Errors
/// They are not to be merged, or the directory cannot be made.
pub fn merge(options: &MergeOptions) -> anyhow::Result<ExitCode> {
    let mut parts = Parts::find(&options.runs);
    let differences = parts.differences();
    if !options.mixed && !differences.is_empty() {
        let hint = "these are not runs of one thing (--mixed merges them all the same)";
        bail!("{hint}\n{}", differences.join("\n"));
    }
    let made = parts.write(&options.out);
    for problem in &parts.problems {
        eprintln!("{}", one_line(problem));
    }
    let state = made?;
    write_run_json(&state, &options.out)?;
    write_all(&state, &options.out)?;
    print(&summary(&state, &options.out))?;
    let has_failed = state.counts().failures() > 0
        || !state.finished
        || state.has_ended_badly()
        || !parts.problems.is_empty();
    Ok(ExitCode::from(if has_failed { EXIT_FAILED } else { 0 }))
}
