//! Programs that exit at once: what a runner itself costs.

use std::path::Path;
use std::time::Duration;

use crate::Options;
use crate::comparison::Comparison;
use crate::workload::Workload;

/// Measures and prints it.
pub(crate) fn measure(options: &Options, scratch: &Path) {
    let workload = Workload::sleeping(
        scratch.join("programs"),
        &vec![Duration::ZERO; options.programs],
    );
    for workers in [1, 2] {
        let comparison = Comparison::new(&workload, workers, options);
        let title = format!(
            "**{} programs that exit at once, {workers} at a time**, the best of {}; *own CPU* is what it took more than the bare loop:",
            options.programs, options.rounds
        );
        comparison.print(&title, "ratio to the bare loop", comparison.floor().wall);
    }
}
