//! How a task is started.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::SystemTime;

use rustix::io::Errno;

use super::output::OutputFile;
use super::server::Server;
use super::system::{self, Program};
use super::task::{NotStarted, Task};
use crate::log::no_links;

/// A task that can be started at once.
pub(super) struct Ready {
    pub(super) task: Task,
    /// Its standard output and error.
    pub(super) outputs: [OutputFile; 2],
    args: Vec<CString>,
    directory: CString,
}

/// Creates the output files of a task. This is for the runner to do, which has time while the task before runs: on some
/// disks it takes longer than a fast task does.
pub(super) fn create_outputs(task: &Task) -> Result<[File; 2], NotStarted> {
    let create = |path: &Path| {
        no_links::create_new(path)
            .map_err(|error| not_started(format!("create {}", path.display()), &error))
    };
    let stdout = create(&task.stdout)?;
    let stderr = create(&task.stderr).inspect_err(|_| remove(&task.stdout))?;
    Ok([stdout, stderr])
}

/// Removes the output files of a task that will not be started here, so that another keeper can be asked for it.
pub(super) fn remove_outputs(task: &Task) {
    remove(&task.stdout);
    remove(&task.stderr);
}

fn remove(path: &Path) {
    // Where it stays, who creates it the next time tells of it.
    no_links::remove(path).ok();
}

/// Does for a task what can be done while another one runs. `outputs` are the files that came with it.
pub(super) fn prepare(task: Task, outputs: Option<[File; 2]>) -> Result<Ready, NotStarted> {
    let strings = || -> io::Result<_> {
        let string = |text: &OsStr| CString::new(text.as_bytes());
        let args = [task.program.as_os_str()]
            .into_iter()
            .chain(task.args.iter().map(AsRef::as_ref));
        Ok((
            args.map(string).collect::<Result<_, _>>()?,
            string(task.directory.as_os_str())?,
        ))
    };
    let (args, directory) = strings().map_err(|error| cannot_execute(&task, &error))?;
    // unix(7): those beyond the limit of open files are left out.
    let too_many = || not_started("take its output files".to_owned(), &Errno::MFILE.into());
    let outputs = outputs
        .ok_or_else(too_many)?
        .map(|file| OutputFile::new(file, task.output_cap));
    Ok(Ready {
        task,
        outputs,
        args,
        directory,
    })
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
    NotStarted {
        doing,
        errno: error.raw_os_error().unwrap_or(libc::EINVAL),
    }
}
