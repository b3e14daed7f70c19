//! `kvm-tests compare`: what changed between two runs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::ensure;
use clap::Args;

use crate::compare::{Comparison, ComparisonFormat, Side};
use crate::log;
use crate::show::print;

/// Something got worse.
const EXIT_WORSE: u8 = 1;

/// `kvm-tests compare`
#[derive(Debug, Clone, Args)]
pub struct CompareOptions {
    /// The run to compare with: its directory, or its run.json
    #[arg(value_name = "OLD")]
    old: PathBuf,

    /// The run to look at
    #[arg(value_name = "NEW")]
    new: PathBuf,

    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: ComparisonFormat,

    /// A case that passes, but takes FACTOR times as long (and 2 s longer) got worse. Where not given, those that take
    /// three times as long are told, and nothing is worse for it
    #[arg(long, value_name = "FACTOR", value_parser = factor)]
    slower: Option<f64>,
}

fn factor(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(factor) if factor > 1.0 && f64::is_finite(factor) => Ok(factor),
        _ => Err("should be a number above 1".to_owned()),
    }
}

/// Compares two runs and prints what came of it: 0 where nothing got worse, 1 where something did.
///
/// # Errors
/// They cannot be compared.
pub fn compare(options: &CompareOptions) -> anyhow::Result<ExitCode> {
    let (old, new) = (side(&options.old)?, side(&options.new)?);
    let comparison = Comparison::of(&old, &new, options.slower);
    print(&comparison.render(options.format))?;
    Ok(match comparison.is_worse() {
        true => ExitCode::from(EXIT_WORSE),
        false => ExitCode::SUCCESS,
    })
}

fn side(place: &Path) -> anyhow::Result<Side> {
    let (state, _) = log::read(place)?;
    let is_empty = state.outcomes.is_empty();
    ensure!(
        !is_empty,
        "nothing to compare: {} has no outcome of any case",
        place.display()
    );
    Ok(Side {
        place: place.to_owned(),
        state,
        left_out: None,
    })
}
