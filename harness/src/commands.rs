//! What the program does beside running.

mod build;
mod compare;
mod environments;
mod known;
mod kselftest;
mod merge;
mod report;
mod schema;
mod with;

pub use build::{BuildOptions, build};
pub use compare::{CompareOptions, compare};
pub use environments::{EnvironmentsOptions, check_restored, dry_run, restore, show};
pub use known::{KnownOptions, known};
pub use kselftest::{KselftestOptions, kselftest};
pub use merge::{MergeOptions, merge};
pub use report::{ReportOptions, report};
pub use schema::{SchemaOf, schema};
pub use with::{WithOptions, with};
