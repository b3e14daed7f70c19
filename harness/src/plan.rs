//! What will run.

pub mod definitions;
pub mod discover;
pub mod embedded;
pub mod fields;
pub mod files;
mod foreign;
mod keys;
pub mod list;
pub mod node;
pub mod order;
mod placeholder;
pub mod problem;
pub mod select;
pub mod selftests;
pub mod source;
mod suite;
mod suite_toml;
