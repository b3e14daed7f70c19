//! What is said before anything runs.

use std::io::{self, IsTerminal};
use std::path::Path;

use rustix::process::geteuid;

use crate::environment::root::Root;
use crate::kernel_log::KernelLog;
use crate::model::entry::RunInfo;
use crate::model::host::size;
use crate::plan::Discovered;

/// The header's lines.
pub fn lines(
    info: &RunInfo,
    discovered: &Discovered,
    kernel_log: &KernelLog,
    results: &Path,
) -> Vec<String> {
    let host = &info.host;
    let modules: Vec<_> = host.modules.keys().map(String::as_str).collect();
    let kvm = match (&host.kvm_problem, modules.is_empty()) {
        (Some(problem), _) => problem.clone(),
        (None, true) => "there".to_owned(),
        (None, false) => format!("there ({})", modules.join(", ")),
    };
    let mut lines = vec![
        format!(
            "kvm-tests {}: Linux {} on {} ({}), {} CPUs, {} of memory",
            info.version,
            host.kernel,
            host.machine,
            host.cpu_vendor,
            host.cpus,
            size(host.memory)
        ),
        format!("  /dev/kvm     {kvm}"),
    ];
    lines.extend(
        discovered
            .describe_sources()
            .into_iter()
            .map(|line| format!("  selftests    {line}")),
    );
    lines.extend(
        discovered
            .describe_left_out()
            .into_iter()
            .map(|line| format!("  left out     {line}")),
    );
    lines.extend(
        discovered
            .describe_environments()
            .into_iter()
            .map(|line| format!("  environment  {line}")),
    );
    lines.extend(Root::from_env().announcement());
    if let Some(problem) = kernel_log.problem() {
        lines.push(format!(
            "  kernel log   not followed, its splats fail no case: {problem}"
        ));
    }
    if !geteuid().is_root() {
        lines.push(
            "  not root     environments cannot be applied, nor what a case leaves running as another user be ended"
                .to_owned(),
        );
    }
    if let Some(seed) = info.shuffle_seed {
        lines.push(format!("  order        shuffled (--shuffle-seed {seed})"));
    }
    lines.push(format!("  results      {}", results.display()));
    if io::stdin().is_terminal() {
        lines.push(format!(
            "  Enter        shows what runs, as SIGUSR1 to {} does",
            std::process::id()
        ));
    }
    lines
}
