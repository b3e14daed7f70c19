//! The options of a run that is gone on with.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::Path;

use anyhow::Context;

use crate::cli;
use crate::model::event::Part;
use crate::options::Options;

/// The options that the run was started with, with those of `given` that do not change what runs. Goes to the
/// directory where it was started: its relative paths begin there.
///
/// # Errors
/// The directory is gone, or this version does not understand the options.
pub(super) fn options(first: &Part, given: &Options) -> anyhow::Result<Options> {
    let absolute = |path: &Path| std::path::absolute(path).context("find the current directory");
    let logfile = given.logfile.as_deref().map(absolute).transpose()?;
    let baseline = given.baseline.as_deref().map(absolute).transpose()?;
    std::env::set_current_dir(&first.directory).with_context(|| {
        let directory = first.directory.display();
        format!("go to {directory}, where the run was started")
    })?;
    let args = [OsString::from("kvm")]
        .into_iter()
        .chain(first.options.clone());
    let recorded = cli::parse_test_target(&args.collect::<Vec<_>>())
        .with_context(|| format!("understand the options of the run, {:?}", first.options))?;
    let selftests = match recorded.selftests.is_empty() {
        true => first.selftests.clone(),
        false => recorded.selftests,
    };
    let test_threads = given.test_threads.or(NonZeroUsize::new(first.workers));
    Ok(Options {
        resume: given.resume.clone(),
        format: given.format,
        quiet: given.quiet,
        color: given.color,
        no_capture: given.no_capture,
        show_output: given.show_output,
        report: given.report.clone(),
        test_threads,
        fail_fast: given.fail_fast,
        max_fail: given.max_fail,
        time_limit: given.time_limit,
        retry_failed: given.retry_failed,
        // What these left to be run is known.
        rerun: None,
        git_bisect: None,
        shuffle_seed: first.shuffle_seed,
        selftests,
        logfile,
        baseline,
        given: given.given.clone(),
        ..recorded
    })
}
