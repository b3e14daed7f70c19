//! A directory of selftests to run the real program on.

#![allow(dead_code, reason = "each test file uses its own part")]
#![expect(
    clippy::unwrap_used,
    reason = "a fixture that cannot be made fails its test"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub(crate) use record::{Outcome, Record, Status, events, journals, report};

pub(crate) mod fake_host;
pub(crate) mod made;
mod record;
pub(crate) mod terminal;

/// A temporary directory with `selftests`, in which a run keeps its results in `run`.
pub(crate) struct Fixture {
    directory: TempDir,
    is_on_real_host: bool,
}

/// What the program did.
pub(crate) struct Ran {
    /// Its exit status.
    pub(crate) code: Option<i32>,
    /// What it printed.
    pub(crate) stdout: String,
    /// What it said.
    pub(crate) stderr: String,
}

impl Fixture {
    /// One without any selftest.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("selftests")).unwrap();
        Self {
            directory,
            is_on_real_host: false,
        }
        .file("root/dev/kvm", "")
    }

    /// With this host's own KVM, for real selftests.
    pub(crate) fn on_the_real_host(self) -> Self {
        Self {
            is_on_real_host: true,
            ..self
        }
    }

    /// With one more selftest: a script for `sh`.
    pub(crate) fn selftest(self, name: &str, script: &str) -> Self {
        self.executable(
            &format!("selftests/{name}"),
            &format!("#!/bin/sh\n{script}\n"),
        )
    }

    /// With an executable file.
    pub(crate) fn executable(self, path: &str, text: &str) -> Self {
        let this = self.file(path, text);
        fs::set_permissions(this.path().join(path), fs::Permissions::from_mode(0o755)).unwrap();
        this
    }

    /// With a file.
    pub(crate) fn file(self, path: &str, text: &str) -> Self {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Where runs keep their results.
    pub(crate) fn results(&self) -> PathBuf {
        self.path().join("run")
    }

    /// The program, where it lies in no target directory of Cargo's: so results go to the working directory by default.
    fn binary(&self) -> PathBuf {
        let path = self.path().join("bin/kvm-tests");
        if !path.exists() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let built = env!("CARGO_BIN_EXE_kvm-tests-runner");
            fs::hard_link(built, &path)
                .or_else(|_| fs::copy(built, &path).map(drop))
                .unwrap();
        }
        path
    }

    /// A run with `arguments`, in a clean environment.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.program(&[&["run"], arguments].concat())
    }

    /// The program with `arguments`, in a clean environment.
    pub(crate) fn program(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.binary());
        command
            .env_clear()
            .envs(std::env::vars().filter(|(name, _)| name == "PATH"));
        // A host without KVM runs these selftests all the same: they do not use it.
        if !self.is_on_real_host {
            command.env("KVM_TESTS_ROOT", self.path().join("root"));
        }
        command.current_dir(self.path());
        command.args(arguments);
        command
    }

    /// Runs it, on these selftests and with the results in [`Self::results`].
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        let mut command =
            self.command(&["--selftests", "selftests", "--output", "run", "--overwrite"]);
        Ran::of(command.args(arguments).output().unwrap())
    }

    /// Starts it likewise, where there are no results yet.
    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(&["--selftests", "selftests", "--output", "run"]);
        command
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// What run.json tells of the last run.
    pub(crate) fn record(&self) -> Record {
        Record::read(&self.results()).unwrap()
    }

    /// What became of the case `name` in the last run.
    pub(crate) fn outcome(&self, name: &str) -> Outcome {
        let found = self
            .record()
            .outcomes
            .into_iter()
            .find(|outcome| outcome.name == name);
        found.unwrap_or_else(|| panic!("no outcome of {name}"))
    }

    /// The status of the case `name`, and the first line of its reason.
    pub(crate) fn verdict(&self, name: &str) -> (Status, String) {
        let outcome = self.outcome(name);
        (
            outcome.status,
            outcome
                .reason
                .unwrap_or_default()
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned(),
        )
    }
}

impl Ran {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Copies a program. This process does not write it: one that another test is just starting could keep it open, and
/// executing it would fail (`ETXTBSY`, execve(2)).
pub(crate) fn copy_program(from: &Path, to: &Path) {
    let copied = Command::new("cp").args([from, to]).status();
    assert!(copied.unwrap().success());
}

/// Waits for what nobody sends word of.
#[track_caller]
pub(crate) fn wait_until(condition: impl FnMut() -> bool) {
    wait_for("it never came to pass", condition);
}

/// The same, with words for what was waited for in vain.
#[track_caller]
pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        let is_hopeless = begin.elapsed() >= Duration::from_secs(60);
        assert!(!is_hopeless, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The processes with `mark` in their command lines.
pub(crate) fn processes(mark: &str) -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let has_mark = |pid: &i32| {
        let command_line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        memchr::memmem::find(&command_line, mark.as_bytes()).is_some()
            && *pid != i32::try_from(std::process::id()).unwrap()
    };
    pids.filter(has_mark).collect()
}

/// The lines of `text` that contain `part`.
pub(crate) fn lines_with<'a>(text: &'a str, part: &str) -> Vec<&'a str> {
    text.lines().filter(|line| line.contains(part)).collect()
}
