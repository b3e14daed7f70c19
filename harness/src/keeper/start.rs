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

/// Starts a task; returns the ID of its main process, the time, and its standard output and error.
pub(super) fn start(server: &Server, task: &Task) -> Result<(i32, SystemTime, [OutputFile; 2]), NotStarted> {
    let create = |path: &Path| {
        OutputFile::create(path, task.output_cap)
            .map_err(|error| not_started(format!("create {}", path.display()), &error))
    };
    let outputs = [create(&task.stdout)?, create(&task.stderr)?];
    let started = SystemTime::now();
    let pid = spawn(server, task, &outputs).map_err(|error| {
        // The same numbers for both reasons. Looking afterwards costs nothing where all is well.
        let doing = if task.directory.is_dir() {
            format!("execute {}", task.program.display())
        } else {
            format!("enter {}", task.directory.display())
        };
        not_started(doing, &error)
    })?;
    Ok((pid, started, outputs))
}

fn not_started(doing: String, error: &io::Error) -> NotStarted {
    // A NUL in a path or an argument is the one error here that the kernel does not see.
    NotStarted { doing, errno: error.raw_os_error().unwrap_or(libc::EINVAL) }
}

fn spawn(server: &Server, task: &Task, [stdout, stderr]: &[OutputFile; 2]) -> io::Result<i32> {
    let string = |text: &OsStr| CString::new(text.as_bytes());
    let args: Result<Vec<_>, _> = [task.program.as_os_str()]
        .into_iter()
        .chain(task.args.iter().map(AsRef::as_ref))
        .map(string)
        .collect();
    let args = args?;
    let program = Program {
        path: &args[0],
        args: &args,
        env: &server.environment(task)?,
        directory: &string(task.directory.as_os_str())?,
        stdio: [server.nothing.as_fd(), stdout.as_fd(), stderr.as_fd()],
    };
    server.oom_score.as_ref().inspect(|score| score.raise());
    let spawned = system::spawn(&program);
    server.oom_score.as_ref().inspect(|score| score.reset());
    spawned
}
