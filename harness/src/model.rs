//! The words that everybody uses. Imports nothing of ours.

pub mod case;
pub mod event;
pub mod facts;
pub mod file;
pub mod host;
pub mod outcome;
pub mod planned;
pub mod problem;
pub mod state;
pub mod text;
pub mod time;
pub mod value;
