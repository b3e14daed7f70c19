//! The library behind `kvm-tests`: from selftest binaries and configuration files to results.
//!
//! Data flows one way: sources are discovered, become cases, are planned and ordered, run by libtest-mimic's
//! threads, and end as outcomes that the reports show.

pub mod case;
pub mod keeper;
pub mod name;
pub mod outcome;
pub mod problem;
