//! What is wrong with the configuration.

pub use crate::model::problem::Problem;
