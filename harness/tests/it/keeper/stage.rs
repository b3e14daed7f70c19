//! Where a test runs its tasks, and how it looks at their processes from outside.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use harness::supervise::keeper::{Ended, Keeper, Task};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The program that is a keeper, a runner or an ill-behaved selftest.
pub(crate) const FIXTURE: &str = env!("CARGO_BIN_EXE_kvm-tests-fixture");

/// After this time a test is hopeless, on however slow a machine.
pub(crate) const HOPELESS: Duration = Duration::from_secs(60);

/// A keeper with a directory, and a mark that the processes of its tasks carry.
pub(crate) struct Stage {
    pub(crate) directory: TempDir,
    pub(crate) mark: String,
    pub(crate) keeper: Keeper,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::with_keeper(Path::new(FIXTURE))
    }

    pub(crate) fn with_keeper(executable: &Path) -> Self {
        let keeper = Keeper::start_with(executable).unwrap();
        Self {
            directory: tempfile::tempdir().unwrap(),
            mark: mark(),
            keeper,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A task of the fixture.
    pub(crate) fn fixture(&self, args: &[&str]) -> Task {
        self.task(FIXTURE, &[args, &[&self.mark]].concat())
    }

    pub(crate) fn task(&self, program: &str, args: &[&str]) -> Task {
        Task {
            program: program.into(),
            args: args.iter().map(OsString::from).collect(),
            directory: self.directory.path().to_owned(),
            stdout: self.path("stdout"),
            stderr: self.path("stderr"),
            timeout: Some(HOPELESS),
            grace: HOPELESS,
            output_cap: 1 << 20,
            removes_shared_memory: false,
        }
    }

    pub(crate) fn run(&mut self, task: &Task) -> Ended {
        let ended = self.keeper.run(task, |_| ()).unwrap();
        assert!(
            marked(&self.mark).is_empty(),
            "processes are left of {task:?}"
        );
        ended
    }

    /// Runs a task, and does something once the condition holds.
    pub(crate) fn run_until(
        &mut self,
        task: &Task,
        condition: impl Fn() -> bool + Send,
        act: impl FnOnce() + Send,
    ) -> Ended {
        thread::scope(|scope| {
            scope.spawn(|| {
                eventually(condition);
                act();
            });
            self.run(task)
        })
    }

    /// A condition: the task has printed `ready`.
    pub(crate) fn is_ready(&self) -> impl Fn() -> bool + Send + use<> {
        let stdout = self.path("stdout");
        move || fs::read(&stdout).is_ok_and(|told| told == b"ready\n")
    }

    pub(crate) fn stdout(&self) -> String {
        fs::read_to_string(self.path("stdout")).unwrap()
    }
}

/// A new mark.
pub(crate) fn mark() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!(
        "mark-{}-{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    )
}

/// The processes that have the mark among their arguments.
pub(crate) fn marked(mark: &str) -> Vec<i32> {
    let names = fs::read_dir("/proc")
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let has_mark = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|&byte| byte == 0)
            .any(|argument| argument == mark.as_bytes())
    };
    names
        .filter_map(|name| name.to_str()?.parse().ok())
        .filter(has_mark)
        .collect()
}

/// The state of a process, as in `/proc/PID/stat`.
pub(crate) fn state(pid: i32) -> char {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(") ").next().unwrap().chars().next().unwrap()
}

/// Waits for what the kernel sends no word of.
pub(crate) fn eventually(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < HOPELESS, "it never came to pass");
        thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

pub(crate) fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

/// A directory that any user may write to.
pub(crate) fn public_directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o777)).unwrap();
    directory
}

/// Writes a script that any user may execute.
pub(crate) fn install_script(path: &Path, content: &str) {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("script");
    fs::write(&source, content).unwrap();
    install(&source, path, "755");
}

/// Copies the fixture to where any user may execute it, wherever the build directory is.
pub(crate) fn install_fixture(path: &Path, mode: &str) {
    install(Path::new(FIXTURE), path, mode);
}

/// If we wrote the file ourselves, a process that another test is just starting could keep it open for writing, and
/// executing it would fail (`ETXTBSY`, execve(2)).
fn install(from: &Path, to: &Path, mode: &str) {
    assert!(
        Command::new("install")
            .args(["-m", mode])
            .args([from, to])
            .status()
            .unwrap()
            .success()
    );
}
