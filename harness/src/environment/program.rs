//! Runs a program of the host, such as modprobe: its arguments as they are, its output kept, its time limited.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

/// What became of a program.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status; `None` if it was killed because its time was up.
    pub status: Option<ExitStatus>,
    /// What it wrote to its standard output.
    pub stdout: String,
    /// What it wrote to its standard error.
    pub stderr: String,
}

impl Ended {
    /// Whether it ended by itself, with status 0.
    pub fn success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// How it failed, in words: what it complained about or, where it said nothing, its status.
    pub fn complaint(&self, time: Duration) -> String {
        let said = self.stderr.trim();
        match self.status {
            None => format!("it hung, and was killed after {} s", time.as_secs_f64()),
            Some(status) if said.is_empty() => format!("it ended with {status}"),
            Some(_) => said
                .lines()
                .collect::<Vec<_>>()
                .join("; ")
                .escape_debug()
                .to_string(),
        }
    }
}

/// Runs a program in a process group of its own, so that a Ctrl-C at the terminal does not reach it half-way and all of
/// it can be killed.
///
/// # Errors
/// If it cannot be started.
pub fn run<S: AsRef<OsStr>>(program: &Path, args: &[S], time: Duration) -> io::Result<Ended> {
    // Files rather than pipes: a child of the program that lives on would keep a pipe open for ever.
    let [mut stdout, mut stderr] = [memory_file()?, memory_file()?];
    let mut child = Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(stdout.try_clone()?)
        .stderr(stderr.try_clone()?)
        .process_group(0)
        .spawn()?;
    let status = wait(&mut child, time)?;
    Ok(Ended {
        status,
        stdout: text(&mut stdout)?,
        stderr: text(&mut stderr)?,
    })
}

fn wait(child: &mut Child, time: Duration) -> io::Result<Option<ExitStatus>> {
    let pid = Pid::from_child(child);
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    let limit = Timespec::try_from(time).map_err(io::Error::other)?;
    let ended = loop {
        match poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit)) {
            Ok(ready) => break ready > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    };
    if ended {
        return child.wait().map(Some);
    }
    // The child is not yet waited for, so the number of its group cannot belong to anybody else.
    kill_process_group(pid, Signal::KILL)?;
    // One that is stuck in the kernel cannot be killed; it is left behind rather than waited for.
    let moment = Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    };
    if poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&moment)).is_ok_and(|ready| ready > 0)
    {
        child.wait()?;
    }
    Ok(None)
}

fn memory_file() -> io::Result<File> {
    Ok(memfd_create(c"output", MemfdFlags::CLOEXEC)?.into())
}

fn text(file: &mut File) -> io::Result<String> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_and_status_are_kept() {
        let ended = run(
            Path::new("/bin/sh"),
            &["-c", "echo out; echo err >&2; exit 3"],
            Duration::from_secs(60),
        )
        .unwrap();
        assert_eq!(
            (ended.stdout.as_str(), ended.stderr.as_str()),
            ("out\n", "err\n")
        );
        assert_eq!(ended.status.unwrap().code(), Some(3));
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_its_children() {
        let ended = run(
            Path::new("/bin/sh"),
            &["-c", "sleep 600 & wait"],
            Duration::from_millis(50),
        )
        .unwrap();
        assert!(ended.status.is_none() && !ended.success());
        assert_eq!(
            ended.complaint(Duration::from_millis(50)),
            "it hung, and was killed after 0.05 s"
        );
    }
}
