//! One process tree.

pub mod keeper;
pub mod keepers;
