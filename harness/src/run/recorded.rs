//! The options of a run that is gone on with, and of one that was planned elsewhere.

use std::borrow::Cow;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::Path;

use anyhow::Context;

use crate::cli;
use crate::log::{PLAN_JSON, Resumed, read_plan};
use crate::model::event::Part;
use crate::model::planned::Planned;
use crate::options::Options;

/// The options of this run, and the plan that it has a share in where there is one by now: those of the run that `given`
/// resume, those of the plan that `given` name, or `given` themselves.
pub(super) fn options<'g>(
    given: &'g Options,
    resumed: Option<&Resumed>,
) -> anyhow::Result<(Cow<'g, Options>, Option<Planned>)> {
    let mut options = Cow::Borrowed(given);
    let mut plan = given.plan.clone();
    if let Some(resumed) = resumed {
        options = Cow::Owned(of_run(resumed.first()?, given)?);
        let kept = resumed.directory.root().join(PLAN_JSON);
        plan = Some(kept).filter(|kept| kept.exists());
    }
    let planned = plan.as_deref().map(read_plan).transpose()?;
    if let Some(planned) = planned.as_ref().filter(|_| options.plan.is_some()) {
        options = Cow::Owned(of_plan(planned, &options)?);
    }
    Ok((options, planned))
}

/// The options that the run was started with, with those of `given` that do not change what runs. Goes to the
/// directory where it was started: its relative paths begin there.
///
/// # Errors
/// The directory is gone, or this version does not understand the options.
fn of_run(first: &Part, given: &Options) -> anyhow::Result<Options> {
    let absolute = |path: &Path| std::path::absolute(path).context("find the current directory");
    let logfile = given.logfile.as_deref().map(absolute).transpose()?;
    let baseline = given.baseline.as_deref().map(absolute).transpose()?;
    std::env::set_current_dir(&first.directory).with_context(|| {
        let directory = first.directory.display();
        format!("go to {directory}, where the run was started")
    })?;
    let recorded = parse(&first.options)?;
    let selftests = match recorded.selftests.is_empty() {
        true => first.selftests.clone(),
        false => recorded.selftests.clone(),
    };
    let test_threads = given.test_threads.or(NonZeroUsize::new(first.workers));
    Ok(Options {
        resume: given.resume.clone(),
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
        ..shown_as(given, recorded)
    })
}

/// The options that the plan was made with, with those of `given` that say where things are on this machine and what to show.
///
/// # Errors
/// This version does not understand the options.
fn of_plan(planned: &Planned, given: &Options) -> anyhow::Result<Options> {
    let recorded = parse(&planned.options)?;
    let or = |given: &Vec<_>, recorded: &Vec<_>| match given.is_empty() {
        true => recorded.clone(),
        false => given.clone(),
    };
    Ok(Options {
        resume: given.resume.clone(),
        plan: given.plan.clone(),
        plan_only: None,
        // What these left to be run is in the plan.
        changed: None,
        rerun: None,
        git_bisect: None,
        fail_fast: false,
        max_fail: given.max_fail().or(recorded.max_fail()),
        time_limit: given.time_limit.or(recorded.time_limit),
        retry_failed: given.retry_failed.max(recorded.retry_failed),
        stream: given.stream,
        place: given.place.clone(),
        places: given.places.clone(),
        copy: given.copy,
        guests: given.guests.clone(),
        shard: given.shard.clone(),
        selftests: match &given.kernel_src {
            Some(_) => Vec::new(),
            None => or(&given.selftests, &recorded.selftests),
        },
        kernel_src: given.kernel_src.clone().or(recorded.kernel_src.clone()),
        config: or(&given.config, &recorded.config),
        known: or(&given.known, &recorded.known),
        test_threads: given.test_threads.or(recorded.test_threads),
        logfile: given.logfile.clone(),
        baseline: given.baseline.clone(),
        output: given.output.clone(),
        overwrite: given.overwrite,
        ..shown_as(given, recorded)
    })
}

fn parse(recorded: &[OsString]) -> anyhow::Result<Options> {
    let args: Vec<_> = [OsString::from("kvm")]
        .into_iter()
        .chain(recorded.iter().cloned())
        .collect();
    cli::parse_test_target(&args)
        .with_context(|| format!("understand the options of the run, {recorded:?}"))
}

/// `recorded`, shown as `given` ask for.
fn shown_as(given: &Options, recorded: Options) -> Options {
    Options {
        format: given.format,
        quiet: given.quiet,
        color: given.color,
        no_capture: given.no_capture,
        show_output: given.show_output,
        report: given.report.clone(),
        given: given.given.clone(),
        ..recorded
    }
}
