//! A case: one thing to run, fully worked out before anything runs.

use std::ffi::{OsStr, OsString};
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::model::case::name::CaseName;
use crate::model::outcome::known::{Expectation, KnownFailure};
use crate::model::value::{Count, MAX_COUNT, Pages, Size};

pub mod name;

/// The collection of KVM's selftests.
pub const KVM: &str = "kvm";

/// The variant that a selftest has by itself: run without arguments.
pub const DEFAULT: &str = "default";

/// The timeout of a case that may take any time.
pub const NO_TIMEOUT: Duration = Duration::from_secs(u32::MAX as u64);

/// One thing to run: a suite's variant in an environment.
///
/// What does not depend on the environment is read as if it were its own.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its name, unique in a run.
    pub name: CaseName,
    /// The variant that it runs, shared by the cases of all environments and iterations.
    pub variant: Arc<Variant>,
    /// What gives its environment by hand: the options of `kvm-tests with`. `None` for the host as it is.
    pub environment_options: Option<Arc<[String]>>,
    /// Nothing else runs beside it.
    pub exclusive: bool,
    /// It ran, or may have, when the runner or the host died that this run goes on after: it runs last.
    pub suspect: bool,
    /// Why it is listed but ignored, as far as that is known without running anything.
    pub ignored: Option<String>,
    /// The failures that are known of it.
    pub known: Vec<Arc<KnownFailure>>,
}

impl Deref for Case {
    type Target = Variant;

    fn deref(&self) -> &Variant {
        &self.variant
    }
}

/// One entry of a suite, as it is run on this host.
#[derive(Debug)]
pub struct Variant {
    /// Its suite, shared with the suite's other variants.
    pub suite: Arc<Suite>,
    /// What is run.
    pub command: Command,
    /// Where it is run: the directory of its selftest.
    pub directory: Arc<Path>,
    /// A shell command run before it; if it fails the case is `NO_RUN`.
    pub setup: Option<String>,
    /// A shell command run after it, whatever came of it.
    pub teardown: Option<String>,
    /// A shell command whose failure skips the case, with what it printed as the reason.
    pub precheck: Option<String>,
    /// Environment variables of its steps, its suite's included.
    pub env: Vec<(String, String)>,
    /// After this time the case is killed; the command line's `--timeout` where `None`.
    pub timeout: Option<Duration>,
    /// What the host must have.
    pub requires: Requires,
    /// How many of the run's slots it takes, where it is not exclusive.
    pub weight: u32,
    /// The collection of kselftests that its selftest is of; `None` where it runs none.
    pub collection: Option<Arc<str>>,
    /// The kernel's splats that are no failure of it: patterns of their lines, in which `*` stands for anything.
    pub ignored_splats: Arc<[String]>,
    /// Words to choose it by.
    pub tags: Arc<[String]>,
    /// How often it runs in one run.
    pub iterations: u32,
    /// Whether it is this program's own and not the user's: then an option that its selftest does not have, since it is of
    /// another kernel, is no failure.
    pub shipped: bool,
    /// Why it cannot be run at all although the user asked for it (`NO_RUN`).
    pub missing: Option<String>,
}

impl Case {
    /// How many of the run's slots it takes; more than there are is all of them.
    pub fn slots(&self) -> u32 {
        if self.exclusive {
            u32::MAX
        } else {
            self.weight
        }
    }

    /// Whether it runs one of KVM's selftests.
    pub fn needs_kvm(&self) -> bool {
        self.collection.as_deref() == Some(KVM)
    }

    /// What run_kselftest.sh calls it, behind `selftests: `: a selftest by itself after its file, anything else by its name.
    pub fn kselftest_name(&self) -> String {
        let mut name = self.name.clone();
        if let Command::Program { path, .. } = &self.command {
            let is_selftest = path.parent() == Some(&self.directory) && name.variant == DEFAULT;
            let file = path.file_name().filter(|_| is_selftest);
            name.suite = file.map_or(name.suite, |file| file.to_string_lossy().into_owned());
        }
        let mut segments: Vec<_> = name.segments().collect();
        if name.variant == DEFAULT {
            segments.remove(1 + usize::from(name.environment.is_some()));
        }
        let collection = self.collection.as_deref().unwrap_or(KVM);
        format!("{collection}: {}", segments.join("::"))
    }

    /// The known failure for which it is never run.
    pub fn crash(&self) -> Option<&KnownFailure> {
        let mut known = self.known.iter().map(|known| &**known);
        known.find(|known| known.expect == Expectation::Crash)
    }

    /// A shell command that repeats the case's selftest by hand.
    pub fn reproduce(&self) -> String {
        let command = self.command.line();
        let by_hand = format!("cd {} && {command}", quoted(self.directory.as_os_str()));
        match &self.environment_options {
            None => by_hand,
            Some(options) => {
                let options: Vec<_> = options.iter().map(|one| quoted(one.as_ref())).collect();
                let by_hand = quoted(by_hand.as_ref());
                format!("kvm-tests with {} -- sh -c {by_hand}", options.join(" "))
            }
        }
    }
}

/// `text` as one word of a shell command.
pub fn quoted(text: &OsStr) -> String {
    // A NUL, which shlex refuses, cannot be in the argument of a process either.
    shlex::try_quote(&text.to_string_lossy()).map_or_else(|_| "''".to_owned(), Into::into)
}

/// What the cases of a suite share.
#[derive(Debug, Default)]
pub struct Suite {
    /// The suite's name.
    pub name: String,
    /// A shell command run once before the suite's first case.
    pub setup: Option<String>,
    /// A shell command run once after the suite's last case.
    pub teardown: Option<String>,
    /// Environment variables of both.
    pub env: Vec<(String, String)>,
}

/// What a case runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A program with its arguments: no shell.
    Program {
        /// The executable.
        path: Arc<Path>,
        /// Its arguments, after the program's name.
        args: Vec<OsString>,
    },
    /// A line for `/bin/sh -c`.
    Shell(String),
}

impl Command {
    /// It as a line for the shell.
    pub fn line(&self) -> String {
        match self {
            Self::Program { path, args } => {
                let args = args.iter().map(OsString::as_os_str);
                let words = std::iter::once(path.as_os_str()).chain(args);
                words.map(quoted).collect::<Vec<_>>().join(" ")
            }
            Self::Shell(line) => line.clone(),
        }
    }

    /// Whether it passes an option: `-x`, perhaps among others (`-vx`), or `--x`.
    pub fn has_option(&self, option: &str) -> bool {
        let line = self.line();
        let mut words = line.split_whitespace();
        words.any(|word| match (word.strip_prefix('-'), &option[1..]) {
            (Some(letters), letter) if !letters.starts_with('-') => letters.contains(letter),
            _ => word.starts_with(option),
        })
    }
}

/// What a case needs of the host, the key `requires`. Unmet, it is listed, and ignored with the reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct Requires {
    /// CPUs that the runner may use. By default any number.
    pub cpus: Option<Count<MAX_COUNT>>,
    /// Memory, such as `"2G"`. By default none.
    pub memory: Option<Size>,
    /// Free hugepages: their size, and how many. By default none.
    pub hugepages: Pages,
}
