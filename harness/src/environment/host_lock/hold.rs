//! A use of the host: who uses it, what for, and what that excludes.

use serde::{Deserialize, Serialize};

use crate::environment::program::shown;
use crate::model::time;

/// How the host, or something on it, is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Use {
    /// A test runs on it beside others.
    Shared,
    /// A test runs on it, and no other.
    Alone,
    /// The suite of this name is set up, which nobody else may have set up at the same time.
    Suite(String),
    /// It is to stay in an environment.
    Environment,
    /// It is changed or restored by one of those who need it in the same environment.
    Change,
}

/// A use of the host, as its file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hold {
    /// Who uses it.
    pub(super) pid: u32,
    /// The PID namespace in which that is its ID: the processes of another container may stand in the same queue.
    pub(super) namespace: u64,
    pub(super) command: String,
    /// Since when it uses the host, in milliseconds since the epoch.
    pub(super) since_ms: u64,
    #[serde(rename = "use")]
    pub(super) how: Use,
    /// What the environment sets that the host is to be in meanwhile, a line each; nothing for the host as it is.
    pub(super) environment: String,
}

impl Hold {
    /// Its user, as messages name it.
    pub(super) fn user(&self) -> String {
        let (pid, command) = (self.pid, shown(&self.command));
        match time::timestamp(self.since_ms) {
            Some(since) => format!("pid {pid} ({command}, started at {since:.0})"),
            None => format!("pid {pid} ({command})"),
        }
    }
}

/// Whether two uses cannot be at the same time.
pub(super) fn excludes(one: &Hold, other: &Hold) -> bool {
    match (&one.how, &other.how) {
        (Use::Suite(one), Use::Suite(other)) => one == other,
        (Use::Change, Use::Change) => true,
        (Use::Suite(_) | Use::Change, _) | (_, Use::Suite(_) | Use::Change) => false,
        _ if one.environment != other.environment => true,
        (Use::Alone, Use::Alone | Use::Shared) | (Use::Shared, Use::Alone) => true,
        (Use::Alone | Use::Shared | Use::Environment, _) => false,
    }
}
