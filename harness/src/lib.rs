//! The library behind `kvm-tests`: from selftest binaries and configuration files to results.
//!
//! Data flows one way: sources are discovered, become cases, are planned and ordered, run by libtest-mimic's
//! threads, and end as outcomes that the reports show.

pub mod arch;
pub mod case;
pub mod cli;
pub mod config;
pub mod environment;
pub mod fields;
pub mod host;
pub mod matrix;
pub mod name;
pub mod node;
pub mod outcome;
pub mod placeholder;
pub mod problem;
pub mod proposal;
pub mod selftests;
pub mod settings;
pub mod size;
pub mod slots;
pub mod source;
pub mod suite_file;
pub mod suite_toml;
pub mod testcases;
