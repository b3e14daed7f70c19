//! What `kvm-tests kselftest` asks of a run. These options are hidden: they stand in the journal, where `--resume` finds them.

use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};

/// The hidden options of a run of an installed tree, whose directory is `--selftests`.
#[derive(Debug, Clone, Args)]
pub struct KselftestRun {
    /// The tests that run, and nothing else, each as JSON.
    #[arg(
        long = "kselftest-test",
        hide = true,
        requires = "selftests",
        conflicts_with = "config"
    )]
    #[arg(value_parser = |text: &str| serde_json::from_str::<InstalledTest>(text))]
    pub tests: Vec<InstalledTest>,

    /// What they print goes to the end of this file or, where it is a directory, to files of their names in it.
    #[arg(long = "kselftest-log", hide = true)]
    pub log: Option<PathBuf>,

    /// That tests failed is no reason for another exit status than 0.
    #[arg(long = "kselftest-no-error-on-fail", hide = true)]
    pub no_error_on_fail: bool,
}

/// A test of an installed tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstalledTest {
    /// The directory that it is in, below the tree's.
    pub collection: String,
    /// Its file's name.
    pub test: String,
    /// How many seconds it may take; 0 is any number.
    pub timeout: u32,
    /// What it is called with.
    pub args: Vec<String>,
}

impl InstalledTest {
    /// Its name as kselftest-list.txt has it.
    pub fn name(&self) -> String {
        format!("{}:{}", self.collection, self.test)
    }
}
