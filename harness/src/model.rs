//! The words that everybody uses.

pub mod arch;
pub mod case;
pub mod entry;
pub mod event;
pub mod host;
pub mod name;
pub mod outcome;
pub mod printable;
pub mod problem;
pub mod size;
pub mod stay;
pub mod taint;
pub mod text_file;
pub mod value;
