//! A stay in an environment, as it is recorded.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::host::Modules;

/// A time in which the host was in an environment; in the host as it is only where something had to be put back for that.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stay {
    /// The environment's name.
    pub environment: String,
    /// The runner that entered it.
    pub pid: u32,
    /// What the environment sets: `tdp=off`, `512 hugepages of 2M`.
    pub settings: Vec<String>,
    /// What else changed with it, and what a killed run had left.
    pub notes: Vec<String>,
    /// The parameters of the loaded `kvm*` modules in it, as `host.modules` has them for the start.
    pub modules: Modules,
    /// When the host began to be changed, after any wait for others, in milliseconds since the epoch.
    pub entering_ms: u64,
    /// When the host was in it.
    pub entered_ms: u64,
    /// When the host began to be put back; `None` where that is not known.
    pub leaving_ms: Option<u64>,
    /// When it was put back, or left to others who are in the same environment.
    pub left_ms: Option<u64>,
    /// What could not be put back.
    pub problem: Option<String>,
}

impl Stay {
    /// Whether `other` tells of the same stay.
    pub fn is(&self, other: &Self) -> bool {
        (self.pid, self.entering_ms, &self.environment)
            == (other.pid, other.entering_ms, &other.environment)
    }
}
