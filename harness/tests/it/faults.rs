//! What can go wrong around a run, done to the real program: no outcome is lost that was reported, no process is left,
//! and it never panics. The table in docs/reliability.md names these tests, and those of other files.

use crate::support::Status;
use crate::support::{Fixture, Ran};

mod clock;
mod limits;
mod results;
mod selftests;
mod surroundings;

/// Whatever happened, it did not panic, and every case that was said to have passed is kept as passed.
fn check_that_nothing_is_lost(fixture: &Fixture, ran: &Ran) {
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    let passed = ran
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... ok"));
    for name in passed {
        assert_eq!(
            fixture.outcome(name.trim()).status,
            Status::Passed,
            "{name}"
        );
    }
}
