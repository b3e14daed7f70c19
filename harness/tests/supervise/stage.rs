//! Where a test runs its tasks, and how it looks at their processes from outside.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::model::facts::Ended;
use crate::model::outcome::Step;
use crate::supervise::{Supervisors, Task, Urgency, Worker};

/// After this time a test is hopeless, on however slow a machine.
pub(super) const HOPELESS: Duration = Duration::from_secs(60);

/// Three processes that escape in different ways: one in a session of its own that spins, without an environment, one that
/// sleeps, and a daemon that sleeps. Each says when it is there.
pub(super) const TREE: &str = r#"
    mkfifo begun never; exec 9<> begun
    setsid env -i /bin/sh -c 'echo >&9; while :; do :; done' "$0" &
    sh -c 'echo >&9; read -r nothing < never' "$0" &
    setsid sh -c 'sh -c "echo >&9; read -r nothing < never" "$0" &' "$0"
    for each in 1 2 3; do read -r line <&9; done
"#;

/// The same, and then waits to be ended.
pub(super) fn tree_and_wait() -> String {
    format!("{TREE} echo ready; wait")
}

/// All supervisors of this process hear what one run's are told: who tells them something is alone.
static CONTROLS: RwLock<()> = RwLock::new(());

/// A worker with a directory, and a mark that the processes of its tasks carry.
pub(super) struct Stage {
    pub(super) directory: TempDir,
    pub(super) mark: String,
    pub(super) all: Arc<Supervisors>,
    pub(super) worker: Worker,
    _controls: Controls,
}

/// While it is held, nobody tells a supervisor anything.
pub(super) fn together() -> RwLockReadGuard<'static, ()> {
    CONTROLS.read().unwrap()
}

/// How a test shares [`CONTROLS`].
#[expect(dead_code, reason = "it is held, not looked at")]
enum Controls {
    Shared(RwLockReadGuard<'static, ()>),
    Own(RwLockWriteGuard<'static, ()>),
    Unlocked,
}

impl Stage {
    pub(super) fn new() -> Self {
        Self::with(Controls::Shared(together()))
    }

    /// For a test that interrupts, hurries, stops or continues.
    pub(super) fn alone() -> Self {
        Self::with(Controls::Own(CONTROLS.write().unwrap()))
    }

    /// For a test that sees to that itself.
    pub(super) fn unlocked() -> Self {
        Self::with(Controls::Unlocked)
    }

    fn with(controls: Controls) -> Self {
        let all = Arc::new(Supervisors::new());
        Self {
            directory: tempfile::tempdir().unwrap(),
            mark: mark(),
            worker: all.take().unwrap(),
            all,
            _controls: controls,
        }
    }

    /// The directory of the output.
    pub(super) fn place(&self) -> PathBuf {
        self.directory.path().join("suite/case")
    }

    /// A task: a script for `sh`, to which the mark is `$0`.
    pub(super) fn script(&self, script: &str) -> Task {
        self.task("/bin/sh", &["-c", script, &self.mark])
    }

    pub(super) fn task(&self, program: &str, args: &[&str]) -> Task {
        Task {
            program: program.into(),
            args: args.iter().map(Into::into).collect(),
            env: Vec::new(),
            directory: self.directory.path().to_owned(),
            root: self.directory.path().to_owned(),
            place: "suite/case".into(),
            step: Step::Selftest,
            timeout: HOPELESS,
            urgency: Urgency::Interruptible,
        }
    }

    pub(super) fn run(&mut self, task: &Task) -> Ended {
        let ended = self.worker.run(task, |_| ()).unwrap();
        assert!(
            marked(&self.mark).is_empty(),
            "processes are left of {task:?}"
        );
        ended
    }

    /// Runs a task, and does something once the condition holds.
    pub(super) fn run_until(
        &mut self,
        task: &Task,
        condition: impl Fn() -> bool + Send,
        act: impl FnOnce(&Supervisors) + Send,
    ) -> Ended {
        let all = Arc::clone(&self.all);
        thread::scope(|scope| {
            scope.spawn(move || {
                eventually(condition);
                let acted = catch_unwind(AssertUnwindSafe(|| act(&all)));
                if let Err(panic) = acted {
                    // Or else the task, and the test with it, would go on.
                    all.cont();
                    all.interrupt(2);
                    resume_unwind(panic);
                }
            });
            self.run(task)
        })
    }

    /// A condition: the task has printed `ready`.
    pub(super) fn is_ready(&self) -> impl Fn() -> bool + Send + use<> {
        let stdout = self.place().join("command.stdout");
        move || fs::read(&stdout).is_ok_and(|told| told == b"ready\n")
    }

    pub(super) fn stdout(&self) -> String {
        fs::read_to_string(self.place().join("command.stdout")).unwrap()
    }

    pub(super) fn stderr(&self) -> String {
        fs::read_to_string(self.place().join("command.stderr")).unwrap()
    }
}

/// A new mark.
pub(super) fn mark() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("mark-{}-{count}", std::process::id())
}

/// The processes that have the mark among their arguments.
pub(super) fn marked(mark: &str) -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let has_mark = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut arguments = line.split(|&byte| byte == 0);
        arguments.any(|argument| argument == mark.as_bytes())
    };
    pids.filter(has_mark).collect()
}

/// The state of a process, as in `/proc/PID/stat`.
pub(super) fn state(pid: i32) -> char {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = stat.rsplit(") ").next();
    rest.and_then(|rest| rest.chars().next()).unwrap_or(' ')
}

/// Waits for what the kernel sends no word of.
pub(super) fn eventually(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < HOPELESS, "it never came to pass");
        thread::sleep(Duration::from_millis(2));
    }
}

pub(super) fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// Writes a script that anybody may execute. It is not written by this process: one that another test is just starting
/// could keep it open for writing, and executing it would fail (`ETXTBSY`, execve(2)).
pub(super) fn install_script(path: &Path, content: &str) {
    let written = std::process::Command::new("sh")
        .args(["-c", r#"printf %s "$1" > "$0" && chmod 755 "$0""#])
        .arg(path)
        .arg(content)
        .status();
    assert!(written.unwrap().success());
}
