//! How a task is started.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::SystemTime;

use super::output::OutputFile;
use super::server::Server;
use super::system::{self, Program};
use super::task::{NotStarted, Task};
use crate::no_links;

/// A task that can be started at once.
pub(super) struct Ready {
    pub(super) task: Task,
    /// Its standard output and error.
    pub(super) outputs: [OutputFile; 2],
    args: Vec<CString>,
    directory: CString,
}

/// Does for a task what can be done while another one runs: above all, creates its output files.
pub(super) fn prepare(task: Task) -> Result<Ready, NotStarted> {
    let strings = || -> io::Result<_> {
        let string = |text: &OsStr| CString::new(text.as_bytes());
        let args = [task.program.as_os_str()].into_iter().chain(task.args.iter().map(AsRef::as_ref));
        Ok((args.map(string).collect::<Result<_, _>>()?, string(task.directory.as_os_str())?))
    };
    let (args, directory) = strings().map_err(|error| cannot_execute(&task, &error))?;
    let create = |path: &Path| {
        OutputFile::create(path, task.output_cap)
            .map_err(|error| not_started(format!("create {}", path.display()), &error))
    };
    let outputs = [create(&task.stdout)?, create(&task.stderr)?];
    Ok(Ready { task, outputs, args, directory })
}

impl Ready {
    /// Starts it; returns the ID of its main process, and the time.
    pub(super) fn start(&self, server: &Server) -> Result<(i32, SystemTime), NotStarted> {
        let [stdout, stderr] = &self.outputs;
        let program = Program {
            path: &self.args[0],
            args: &self.args,
            env: &server.env,
            directory: &self.directory,
            stdio: [server.nothing.as_fd(), stdout.as_fd(), stderr.as_fd()],
        };
        let started = SystemTime::now();
        server.oom_score.as_ref().inspect(|score| score.raise());
        let spawned = system::spawn(&program);
        server.oom_score.as_ref().inspect(|score| score.reset());
        let pid = spawned.map_err(|error| cannot_execute(&self.task, &error))?;
        Ok((pid, started))
    }

    /// Leaves it to another keeper, which will create its output files anew.
    pub(super) fn give_up(self) {
        for path in [&self.task.stdout, &self.task.stderr] {
            // Where it stays, the other keeper tells of it.
            no_links::remove(path).ok();
        }
    }
}

fn cannot_execute(task: &Task, error: &io::Error) -> NotStarted {
    // The same numbers for both reasons. Looking afterwards costs nothing where all is well.
    let doing = if task.directory.is_dir() {
        format!("execute {}", task.program.display())
    } else {
        format!("enter {}", task.directory.display())
    };
    not_started(doing, error)
}

fn not_started(doing: String, error: &io::Error) -> NotStarted {
    // A NUL in a path or an argument is the one error here that the kernel does not see.
    NotStarted { doing, errno: error.raw_os_error().unwrap_or(libc::EINVAL) }
}
