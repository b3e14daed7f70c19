//! What can go wrong around a run, done to the real program: no outcome is lost that was reported, no process is left,
//! and it never panics. The table in the README's section on reliability names these tests, and those of other files.

#![expect(
    clippy::unwrap_used,
    reason = "a run that cannot be started fails its test"
)]

use std::time::{Duration, Instant};

use harness::model::outcome::Status;
use support::{Fixture, Ran};

mod support;

#[path = "faults/clock.rs"]
mod clock;
#[path = "faults/limits.rs"]
mod limits;
#[path = "faults/results.rs"]
mod results;
#[path = "faults/selftests.rs"]
mod selftests;
#[path = "faults/surroundings.rs"]
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

fn wait_until(mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(60), "waited in vain");
        std::thread::sleep(Duration::from_millis(10));
    }
}
