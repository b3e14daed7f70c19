//! What will run.

pub mod arch;
pub mod config;
pub mod definitions;
pub mod discover;
pub mod embedded;
pub mod fields;
pub mod list;
pub mod long_suite;
pub mod matrix;
pub mod node;
pub mod order;
pub mod placeholder;
pub mod problem;
pub mod proposal;
pub mod select;
pub mod selftests;
pub mod settings;
pub mod source;
pub mod suite_file;
pub mod suite_toml;
pub mod testcases;
