//! What is kept of a run.

pub mod announcement;
pub mod history;
pub mod journal;
pub mod nextest;
pub mod no_links;
pub mod record;
pub mod replay;
pub mod results;
pub mod resume;
pub mod shared_run;
