//! Programs that sleep, the longest last in the list, where it costs most: what a good order is worth.

use std::path::Path;
use std::time::Duration;

use crate::Options;
use crate::comparison::Comparison;
use crate::table;
use crate::workload::{Workload, lower_bound};

const WORKERS: usize = 2;

/// Measures and prints it.
pub(crate) fn measure(options: &Options, scratch: &Path) {
    let mut durations = vec![Duration::from_millis(100); 18];
    durations.extend([Duration::from_millis(400), Duration::from_millis(1600)]);
    let workload = Workload::sleeping(scratch.join("skewed"), &durations);
    let bound = lower_bound(&durations, WORKERS);
    let comparison = Comparison::new(&workload, WORKERS, options);
    let title = format!(
        "**{} programs that sleep, the longest last, {WORKERS} at a time**: they take at least {}:",
        durations.len(),
        table::seconds(bound)
    );
    comparison.print(&title, "ratio to the least", bound);
}
