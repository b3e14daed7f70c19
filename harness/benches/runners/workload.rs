//! Lists of programs that everybody can run.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::roles;

/// A list of programs to run.
pub(crate) struct Workload {
    /// The executables, in the order of the list; they take no arguments.
    pub(crate) programs: Vec<PathBuf>,
    /// A file with a program on each line.
    pub(crate) list: PathBuf,
    /// By which this project's program chooses them.
    pub(crate) filters: Vec<String>,
    /// Whether they are real selftests, some of which may fail.
    pub(crate) may_fail: bool,
    directory: PathBuf,
}

impl Workload {
    /// A program for each of `durations`, which is how long it sleeps, in a new directory.
    pub(crate) fn sleeping(directory: PathBuf, durations: &[Duration]) -> Self {
        let selftests = directory.join("selftests");
        fs::create_dir_all(&selftests).unwrap();
        let program = |(number, duration): (usize, &Duration)| {
            let name = format!("prog_{number:05}");
            let (name, executable) = match duration.is_zero() {
                true => (name, PathBuf::from("/bin/true")),
                false => (
                    roles::name_sleeping(&name, *duration),
                    std::env::current_exe().unwrap(),
                ),
            };
            let path = selftests.join(name);
            fs::copy(executable, &path).unwrap();
            path
        };
        let programs = durations.iter().enumerate().map(program).collect();
        Self::new(programs, vec!["prog_".to_owned()], directory, false)
    }

    /// Those real selftests, with a new directory.
    pub(crate) fn of(directory: PathBuf, programs: Vec<PathBuf>) -> Self {
        let names = programs.iter().map(|program| name(program) + "::default");
        let filters = ["--exact".to_owned()].into_iter().chain(names).collect();
        Self::new(programs, filters, directory, true)
    }

    fn new(
        programs: Vec<PathBuf>,
        filters: Vec<String>,
        directory: PathBuf,
        may_fail: bool,
    ) -> Self {
        let list = directory.join("programs.list");
        let workload = Self {
            programs,
            list: list.clone(),
            filters,
            may_fail,
            directory,
        };
        workload.write(&list, "", |_, path| path.display().to_string());
        workload
    }

    /// Where contenders may leave what they need.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The directory that has all of the programs.
    pub(crate) fn selftests(&self) -> &Path {
        self.programs[0].parent().unwrap()
    }

    /// Writes a file, at a path that may be relative to the directory, with a line for each program.
    pub(crate) fn write(
        &self,
        path: impl AsRef<Path>,
        head: &str,
        line: impl Fn(&str, &Path) -> String,
    ) -> PathBuf {
        let path = self.directory().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let lines = self
            .programs
            .iter()
            .map(|program| line(&name(program), program) + "\n");
        fs::write(&path, head.to_owned() + &lines.collect::<String>()).unwrap();
        path
    }
}

/// The name of a program.
pub(crate) fn name(program: &Path) -> String {
    program.file_name().unwrap().to_string_lossy().into_owned()
}

/// How long programs of these durations take at least with this many side by side.
pub(crate) fn lower_bound(durations: &[Duration], workers: usize) -> Duration {
    let total: Duration = durations.iter().sum();
    let longest = durations.iter().max().copied().unwrap_or_default();
    longest.max(total / u32::try_from(workers).unwrap())
}
