//! One process tree a task: whatever a step starts is below its supervisor, and nothing of it outlives the step.
//!
//! Each worker of a run has a supervisor: this program, executed anew in a session of its own. It is a child subreaper
//! (`PR_SET_CHILD_SUBREAPER`, prctl(2)): a process whose parent dies becomes its child, whatever groups, sessions or
//! double forks it went through. So whatever is below it belongs to its task, and having no child left is the proof
//! that the task left nothing behind.
//!
//! Runner and supervisor talk over a socket, a line of JSON a message: one [`Task`] is asked for, and answered when it
//! runs, and when nothing is left of it. What else the runner wishes it tells by signals (`protocol::Control`).

use std::ffi::CString;
use std::io::{self, BufRead, BufReader};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use rustix::process::{getpid, set_child_subreaper, setsid};
use rustix::thread::set_name;

use self::protocol::{NAME, Reply};
use self::server::{Server, Wishes};

pub use self::protocol::{Task, Urgency, is_supervisor, is_supervisor_process};
pub use self::workers::{Supervisors, Worker};

mod hang;
mod job;
mod output;
mod protocol;
mod server;
mod system;
mod tree;
mod workers;

#[cfg(test)]
#[path = "../tests/supervise/tests.rs"]
mod tests;

/// The supervisor's side: what a program does first of all when [`is_supervisor`] says so, before it has any thread.
pub fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{NAME}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Serves the runner, which is at the other end of the socket that is our standard input, until it is gone.
fn serve() -> anyhow::Result<()> {
    // 1. Signals are the runner's to decide on. This is first, as one sent to all of us may be on its way.
    let wishes = Wishes::listen().context("handle signals")?;
    // 2. Neither a terminal's nor a shell's signals to a process group are for us. It fails where we lead a session.
    setsid().ok();
    set_child_subreaper(Some(getpid())).context("become a child subreaper")?;
    system::close_files_on_exec();
    set_name(&CString::new(NAME)?).context("set the name")?;
    let socket = io::stdin().as_fd().try_clone_to_owned();
    let socket = UnixStream::from(socket.context("use the socket")?);
    let mut server = Server::new(socket, wishes);
    // 3. From now on it can be signalled.
    server.reply(&Reply::Ready).context("answer the runner")?;
    let requests = BufReader::new(server.socket.try_clone().context("clone the socket")?);
    for line in requests.split(b'\n').map_while(Result::ok) {
        let task = serde_json::from_slice(&line).context("understand the runner")?;
        let reply = job::run(&mut server, &task)?;
        if reply.is_none_or(|reply| server.reply(&reply).is_err()) {
            break;
        }
    }
    Ok(())
}

/// Makes the runner deaf to nothing that whoever started it has blocked, and lets it hear how its children end. A write to
/// a file that is too large (`ulimit -f`) is an error afterwards, and no signal that ends it.
///
/// # Errors
/// There is no memory left.
pub fn accept_signals() -> io::Result<()> {
    system::hear_of_children();
    signal_hook::flag::register(libc::SIGXFSZ, Arc::default())?;
    system::unblock_signals();
    Ok(())
}

/// The process ID of the parent of a process or of a thread; `None` where that has been reaped.
pub fn parent_of(pid: i32) -> Option<i32> {
    tree::Process::read(&pid.to_string()).map(|process| process.parent)
}
