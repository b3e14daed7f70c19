//! nextest starts this program once for each case: what it tells such a process of the run that it belongs to.

use std::env;

use anyhow::bail;
use rustix::process::getppid;

use crate::cli::Options;
use crate::model::case::Case;

/// A run of nextest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nextest {
    /// Its ID, by which its processes know each other: letters, digits and `-`.
    pub run_id: String,
    /// How often this case was run before in that run, as a retry or under stress.
    repeated: u32,
}

/// The longest ID that is taken; nextest's are UUIDs, of 36 characters.
const LONGEST_ID: usize = 64;

impl Nextest {
    /// The run of nextest that started this process for one case; `None` where it did not: a run that a test of another
    /// program starts has the same variables.
    ///
    /// # Errors
    /// The run's ID could not be the name of a file.
    pub fn of(options: &Options) -> anyhow::Result<Option<Self>> {
        let (Ok(run_id), Ok(name)) = (env::var("NEXTEST_RUN_ID"), env::var("NEXTEST_TEST_NAME"))
        else {
            return Ok(None);
        };
        if options.list || !options.exact || options.filters != [name] {
            return Ok(None);
        }
        let is_plain = run_id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !is_plain || run_id.is_empty() || run_id.len() > LONGEST_ID {
            bail!(
                "NEXTEST_RUN_ID is `{}`, should be a UUID",
                run_id.escape_debug()
            );
        }
        let number = |name| {
            env::var(name)
                .ok()
                .and_then(|value| value.parse::<u32>().ok())
        };
        // Attempts count from 1, rounds of stress from 0; there is `none` where there is no stress.
        let (attempt, attempts) = (number("NEXTEST_ATTEMPT"), number("NEXTEST_TOTAL_ATTEMPTS"));
        let before_this_round =
            number("NEXTEST_STRESS_CURRENT").unwrap_or(0) * attempts.unwrap_or(1);
        Ok(Some(Self {
            run_id,
            repeated: before_this_round + attempt.unwrap_or(1).saturating_sub(1),
        }))
    }

    /// The command line of nextest itself, which started this process.
    pub fn command_line() -> Option<Vec<String>> {
        let line = std::fs::read(format!("/proc/{}/cmdline", getppid()?)).ok()?;
        let line = String::from_utf8_lossy(&line).into_owned();
        Some(
            line.trim_end_matches('\0')
                .split('\0')
                .map(str::to_owned)
                .collect(),
        )
    }

    /// Numbers `cases` so that a case that is run again is another iteration of it.
    pub fn number(&self, cases: &mut [Case], iterations: u32) {
        for case in cases.iter_mut().filter(|_| self.repeated > 0) {
            let count = case.iterations.saturating_mul(iterations);
            let iteration = case.name.iteration.unwrap_or(1);
            case.name.iteration = Some(
                self.repeated
                    .saturating_mul(count)
                    .saturating_add(iteration),
            );
        }
    }
}
