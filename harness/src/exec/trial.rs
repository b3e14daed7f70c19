//! Where a case becomes a trial of libtest-mimic, and its outcome what a trial returns.

use std::path::Path;
use std::sync::Arc;

use libtest_mimic::{Completion, Failed, Trial};

use crate::exec::execute::Executor;
use crate::model::case::Case;
use crate::model::outcome::{Outcome, Status};
use crate::model::printable::{printable, printable_within};

/// The kind that marks what the filters left out, for [`libtest_mimic::Arguments::skip`]: libtest-mimic counts it then.
pub const FILTERED_OUT: &str = "\u{1}filtered out";

/// The most of a failure's reason with what the kernel said that is printed, in bytes.
const ACCOUNT: usize = 8 * 1024;

/// The trial of the case at `index` of `cases`, which is at `place` among those that are executed.
pub fn of(place: usize, index: usize, cases: &Arc<[Case]>, executor: &Arc<Executor>) -> Trial {
    let (cases, executor) = (Arc::clone(cases), Arc::clone(executor));
    let Case { name, ignored, .. } = &cases[index];
    let (name, ignored) = (name.to_string(), ignored.is_some());
    let run = move || {
        conclude(
            &executor.execute(place, &cases[index]),
            executor.results.root(),
        )
    };
    Trial::ignorable_test(name, run).with_ignored_flag(ignored)
}

/// A trial that is only counted, as filtered out.
pub fn filtered_out() -> Trial {
    Trial::test("", || Ok(())).with_kind(FILTERED_OUT)
}

fn conclude(outcome: &Outcome, results: &Path) -> Result<Completion, Failed> {
    let reason = printable(outcome.reason.as_deref().unwrap_or_default().as_bytes());
    match outcome.status {
        Status::Passed => Ok(Completion::Completed),
        Status::Skipped => Ok(Completion::ignored_with(
            reason.lines().next().unwrap_or_default(),
        )),
        Status::Failed | Status::TimedOut | Status::NoRun => {
            let output = outcome
                .output
                .as_ref()
                .map(|place| format!("\noutput:    {}", results.join(place).display()));
            let account = printable_within(outcome.account().as_bytes(), ACCOUNT);
            Err(format!(
                "{}: {account}{}\nreproduce: {}",
                outcome.status.as_str(),
                output.unwrap_or_default(),
                printable(outcome.reproduce.as_bytes())
            )
            .into())
        }
    }
}
