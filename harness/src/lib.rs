//! The library behind `kvm-tests`: from selftest binaries and configuration files to results.
//!
//! Data flows one way: sources are discovered, become cases, are planned and ordered, run by libtest-mimic's
//! threads, and end as outcomes that the reports show.

pub mod assertion;
pub mod case;
pub mod evidence;
pub mod ktap;
pub mod line;
pub mod name;
pub mod outcome;
pub mod printable;
pub mod problem;
pub mod verdict;
