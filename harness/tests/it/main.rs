//! The tests of what the program promises: a file a promise.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

#[path = "../support/mod.rs"]
mod support;

mod again;
mod changed;
mod command_line;
mod compare;
mod configuration;
mod ending_early;
mod environment;
mod environment_spans;
mod environments_doc;
mod faults;
mod hang;
mod hostile;
mod house;
mod html;
mod in_a_row;
mod interruption;
mod kernel_log;
mod kernel_src;
mod killed;
mod known;
mod kselftest;
mod least_privilege;
mod left_behind;
mod merge;
mod neighbours;
mod nextest;

mod panics;
mod places;
mod readme;
mod reports;
mod resources;
mod resume;
mod selection;
mod shards;
mod statuses;
mod suites;
mod untrusted_results;

mod while_it_runs;
