//! How a case comes to its facts.

pub mod attempt;
pub mod core_dump;
pub mod execute;
pub mod gate;
pub mod left_behind;
pub mod neighbours;
pub mod slots;
pub mod suite_run;
pub mod traces;
pub mod trial;
pub mod verdict;
