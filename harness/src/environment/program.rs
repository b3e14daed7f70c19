//! Programs of the host, such as modprobe; and the processes that are in their way.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::Duration;

use duct::cmd;
use rustix::process::{Pid, Signal, kill_process_group};

use super::root::Root;

/// How long a program may take before it is killed and counts as failed.
const LIMIT: Duration = Duration::from_secs(60);

/// How long a killed program may take to be gone. One that is stuck in the kernel is left behind.
const END: Duration = Duration::from_secs(1);

/// How much of a command line is shown, in characters.
const MAX_COMMAND: usize = 100;

/// Runs a program, and answers what it printed.
///
/// # Errors
/// Why it was not run, or what it complained about.
pub(super) fn run(root: &Root, name: &str, args: &[&str]) -> Result<String, String> {
    run_within(LIMIT, root, name, args)
}

fn run_within(limit: Duration, root: &Root, name: &str, args: &[&str]) -> Result<String, String> {
    let program = root.program(name);
    let program = program.ok_or_else(|| format!("there is no {name} in PATH: install kmod"))?;
    let failed = |error: std::io::Error| format!("run {}: {error}", program.display());
    let expression = cmd(&program, args).env("LC_ALL", "C").unchecked();
    let expression = expression.stdin_null().stdout_capture().stderr_capture();
    // In a process group of its own: a Ctrl-C at the terminal does not reach it half-way, and all of it can be killed.
    let expression = expression.before_spawn(|command| {
        command.process_group(0);
        Ok(())
    });
    let handle = expression.start().map_err(failed)?;
    let Some(output) = handle.wait_timeout(limit).map_err(failed)? else {
        // It is not yet waited for, so the number of its group cannot belong to anybody else.
        let groups = handle.pids().into_iter();
        let groups = groups.filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        for group in groups {
            kill_process_group(group, Signal::KILL).ok();
        }
        handle.wait_timeout(END).ok();
        return Err(format!(
            "it hung, and was killed after {} s",
            limit.as_secs_f64()
        ));
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.trim().lines().collect();
    Err(match lines.is_empty() {
        true => format!("it ended with {}", output.status),
        false => lines.join("; ").escape_debug().to_string(),
    })
}

/// The processes that keep KVM's modules in use, in words: they have /dev/kvm, a VM or a vCPU open (proc_pid_fd(5)).
pub(super) fn users_of_kvm(root: &Root) -> Vec<String> {
    let names = root.names("/proc");
    let mut pids: Vec<u32> = names.iter().filter_map(|name| name.parse().ok()).collect();
    pids.sort_unstable();
    let is_of_kvm = |file: &Path| {
        let target = fs::read_link(file).unwrap_or_default();
        let target = target.to_string_lossy();
        target == "/dev/kvm" || target.starts_with("anon_inode:kvm-")
    };
    let users = pids.into_iter().filter_map(|pid| {
        let directory = format!("/proc/{pid}/fd");
        let files = root.names(&directory).into_iter();
        let mut files = files.map(|file| root.path(&directory).join(file));
        files.find(|file| is_of_kvm(file))?;
        let line = fs::read(root.path(format!("/proc/{pid}/cmdline"))).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        let command = line.trim_end_matches('\0').replace('\0', " ");
        Some(format!("pid {pid} ({})", shown(&command)))
    });
    users.collect()
}

/// A command line, which may contain anything, fit for a message.
pub(super) fn shown(command: &str) -> String {
    let start = command.chars().take(MAX_COMMAND);
    start.flat_map(char::escape_debug).collect()
}

/// The processes that have started this one, the nearest first.
pub(super) fn ancestors() -> Vec<u32> {
    // `PID (COMMAND) STATE PARENT …`, and the command may contain anything (proc_pid_stat(5)).
    let parent = |pid: &u32| {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        let stat = String::from_utf8_lossy(&stat);
        let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?;
        parent.parse().ok().filter(|&pid| pid > 0)
    };
    std::iter::successors(parent(&std::process::id()), parent).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn shell(script: &str) -> Result<String, String> {
        let root = Root::at(Path::new("/"), "/bin:/usr/bin");
        run_within(Duration::from_secs(1), &root, "sh", &["-c", script])
    }

    #[test]
    fn a_program_answers_what_it_prints_or_complains_about() {
        assert_eq!(shell("echo out; echo err >&2"), Ok("out\n".to_owned()));
        assert_eq!(
            shell("echo one >&2; echo two >&2; false"),
            Err("one; two".to_owned())
        );
        assert_eq!(
            shell("exit 3"),
            Err("it ended with exit status: 3".to_owned())
        );
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_its_children() {
        let start = Instant::now();
        let hung = shell("sleep 600 & wait");
        assert_eq!(hung, Err("it hung, and was killed after 1 s".to_owned()));
        assert!(start.elapsed() < Duration::from_secs(60));
    }
}
