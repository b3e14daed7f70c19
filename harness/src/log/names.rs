//! What the files in a run's directory are called.

/// The directory of the journals, one for each part.
pub const JOURNALS: &str = "journal";

/// The file that holds the whole run once it has ended.
pub const RUN_JSON: &str = "run.json";

/// The plan that the run has a share in.
pub const PLAN_JSON: &str = "plan.json";

/// What the kernel logged, and what a guest printed: each host has its own.
pub const LOGS: [&str; 2] = ["kernel.log", "console.log"];

/// The directory of what places print.
pub const CONSOLES: &str = "places";

/// What stands beside the cases' directories, or those of hosts.
pub const FILES: [&str; 9] = [
    CONSOLES,
    JOURNALS,
    RUN_JSON,
    PLAN_JSON,
    "junit.xml",
    "results.ktap",
    "report.html",
    LOGS[0],
    LOGS[1],
];
