//! What is wrong with the configuration: every problem with its place, collected so that all are shown at once.

use std::fmt;
use std::path::{Path, PathBuf};

/// One thing wrong with a file (or a directory) that the user gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, as the user would name it.
    pub path: PathBuf,
    /// Line and column, both from 1, where there is text to point at.
    pub position: Option<(usize, usize)>,
    /// One sentence, lower case, without a full stop.
    pub message: String,
}

impl Problem {
    /// A problem of the whole file or directory.
    pub fn of_file(path: &Path, message: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            position: None,
            message: message.into(),
        }
    }

    /// A problem at the byte `offset` of the file's `text`.
    pub fn at(path: &Path, text: &str, offset: usize, message: impl Into<String>) -> Self {
        let before = &text.as_bytes()[..offset.min(text.len())];
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        let start_of_line = before
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |newline| newline + 1);
        let column = String::from_utf8_lossy(&before[start_of_line..])
            .chars()
            .count()
            + 1;
        Self {
            path: path.to_owned(),
            position: Some((line, column)),
            message: message.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some((line, column)) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)
    }
}
