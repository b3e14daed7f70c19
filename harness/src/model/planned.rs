//! A plan: what is to run in all parts together, on whatever machines; and which part of it one process runs.

use std::ffi::OsString;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::name::CaseName;
use super::text;

pub use hash::Fnv;
pub use shard::Shard;

mod hash;
mod shard;

/// What is to run, fixed once for all machines that have a share in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Planned {
    /// The version of the form of what wrote it.
    pub schema_version: u32,
    /// The version of the program that wrote it.
    pub version: String,
    /// The machine that it was made on, such as `x86_64`: selftests are of one kind of machine.
    #[serde(default)]
    pub machine: String,
    /// The options that select the cases and say how they run, as they were given.
    #[serde(with = "text::os_strings")]
    #[schemars(with = "Vec<String>")]
    pub options: Vec<OsString>,
    /// The commit that the selftests were built from, or a hash of them; `None` for those within the program.
    pub selftests_commit: Option<String>,
    /// All cases.
    pub cases: Vec<CaseName>,
}

impl Planned {
    /// Its name: a hash of what it says, so that the same plan has the same name wherever it was made.
    pub fn id(&self) -> String {
        let text = serde_json::to_vec(self).expect("a plan has a form in JSON");
        Fnv::default().with(&text).text()
    }
}
