//! What the program carries with it.

use std::path::PathBuf;
use std::process::ExitCode;

/// An embedded selftest: its name, and the function that is its `main`.
pub type SmokeSelftest<'a> = (&'a str, fn() -> ExitCode);

/// What was known when the program was built.
#[derive(Debug, Clone, Copy)]
pub struct Embedded<'a> {
    /// The smoke selftests, by name: each runs in a process of its own, and returns its exit status.
    pub selftests: &'a [SmokeSelftest<'a>],
    /// The shipped suites: path and text of each file.
    pub suites: &'a [(&'a str, &'a str)],
    /// The shipped environments: path and text of each file.
    pub environments: &'a [(&'a str, &'a str)],
    /// The directory of the selftests that were built from `KERNEL_SRC`, where that was set.
    pub built_selftests: Option<&'a str>,
    /// The user's own configuration, which is read where it exists.
    pub local: Option<&'a str>,
}

/// The hidden argument that makes the program act as one of its embedded selftests.
pub const SMOKE_SELFTEST: &str = "--smoke-selftest";

impl Embedded<'_> {
    /// `paths`, and the user's own configuration, where there is any.
    pub fn with_local(&self, paths: &[PathBuf]) -> Vec<PathBuf> {
        let has_entries = |local: &PathBuf| {
            std::fs::read_dir(local).is_ok_and(|mut entries| entries.next().is_some())
        };
        paths
            .iter()
            .cloned()
            .chain(self.local.map(PathBuf::from).filter(has_entries))
            .collect()
    }

    /// Acts as the embedded selftest called `name`.
    pub fn run_selftest(&self, name: &str) -> ExitCode {
        match self
            .selftests
            .iter()
            .find(|(embedded, _)| *embedded == name)
        {
            Some((_, selftest)) => selftest(),
            None => {
                eprintln!("there is no embedded selftest `{name}`");
                ExitCode::FAILURE
            }
        }
    }
}
