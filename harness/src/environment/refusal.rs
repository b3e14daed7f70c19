//! Why an environment was not entered.

use std::fmt;

/// Why an environment was not entered, or not left as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// This host cannot be that way: its cases are skipped. Nothing was changed, or all of it was put back.
    Impossible(String),
    /// It was not tried, or failed. The reason says what to do, and whether everything was put back.
    Failed(String),
    /// The wait for others was broken off. Nothing was changed.
    Interrupted,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Impossible(reason) | Self::Failed(reason) => f.write_str(reason),
            Self::Interrupted => f.write_str("interrupted while waiting for others"),
        }
    }
}
