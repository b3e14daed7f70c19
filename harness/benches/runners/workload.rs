//! Lists of programs whose durations are known.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

/// A list of programs to run.
pub(crate) struct Workload {
    /// What they are, for the title.
    pub(crate) what: &'static str,
    /// The executables, in the order of the list; they take no arguments.
    pub(crate) programs: Vec<PathBuf>,
    durations: Vec<Duration>,
    directory: TempDir,
}

impl Workload {
    /// A program for each of `durations`.
    pub(crate) fn new(what: &'static str, durations: &[Duration]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let selftests = directory.path().join("selftests");
        fs::create_dir(&selftests).unwrap();
        let program = |(number, duration): (usize, &Duration)| {
            let path = selftests.join(format!("prog_{number:05}"));
            if duration.is_zero() {
                fs::copy("/bin/true", &path).unwrap();
            } else {
                let script = format!("#!/bin/sh\nexec sleep {}\n", duration.as_secs_f64());
                fs::write(&path, script).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            }
            path
        };
        let programs = durations.iter().enumerate().map(program).collect();
        Self { what, programs, durations: durations.to_vec(), directory }
    }

    /// Where contenders may leave what they need.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file there, unless it is there already, with a line for each program.
    pub(crate) fn list(&self, name: &str, head: &str, line: impl Fn(&str, &Path) -> String) -> PathBuf {
        let path = self.directory().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let name_of = |program: &Path| program.file_name().unwrap().to_string_lossy().into_owned();
        let lines = self.programs.iter().map(|program| line(&name_of(program), program) + "\n");
        fs::write(&path, head.to_owned() + &lines.collect::<String>()).unwrap();
        path
    }

    /// How long they take at least with this many side by side.
    pub(crate) fn lower_bound(&self, workers: usize) -> Duration {
        let total: Duration = self.durations.iter().sum();
        let longest = self.durations.iter().max().copied().unwrap_or_default();
        longest.max(total / u32::try_from(workers).unwrap())
    }
}
