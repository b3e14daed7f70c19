//! What the program does beside running.

pub mod environment_commands;
pub mod with;
