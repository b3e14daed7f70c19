//! The tests of what the program promises: a file a promise.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

#[path = "../support/mod.rs"]
mod support;

mod command_line;
mod compare;
mod configuration;
mod environment;
mod faults;
mod followed;
mod house;
mod html;
mod interruption;
mod keeper;
mod kernel_log;
mod kernel_src;
mod killed;
mod least_privilege;
mod left_behind;
mod neighbours;
mod nextest;
mod output_parsers;
mod readme;
mod reports;
mod resources;
mod resume;
mod schema;
mod selection;
mod statuses;
mod stays;
mod suites;
mod untrusted_results;
mod verdicts;
mod while_it_runs;
