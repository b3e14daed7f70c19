//! Whose a splat is: the thread that its lines accuse, and the case that this thread belongs to.

use std::collections::BTreeMap;

use super::pattern::after;
use crate::model::case::{Case, Command};
use crate::model::host::Root;
use crate::model::outcome::Splat;
use crate::supervise::{is_supervisor_process, parent_of};

/// How many splats of one case, and how many that nobody owns, are kept; `kernel.log` has them all.
pub(super) const MOST: usize = 50;

/// What the kernel keeps of a thread's name, in bytes (`TASK_COMM_LEN` in include/linux/sched.h, less its end).
const COMM: usize = 15;

/// The PID namespace in which the kernel's PIDs are what /proc has (`PROC_PID_INIT_INO` in include/linux/proc_ns.h).
const FIRST_NAMESPACE: &str = "pid:[4026531836]";

/// No process has more ancestors than this; who seems to have was read while they changed.
const ANCESTORS: usize = 1000;

/// Whom a splat belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// The case of this worker.
    Case(usize),
    /// A case of another run on this host, which tells of it.
    OtherRun,
    /// None of ours, as far as can be known.
    Nobody,
}

/// A thread, as the kernel names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Culprit {
    /// Its ID in the first PID namespace. The kernel's PID is a thread's ID.
    pub(super) pid: i32,
    /// Its name (`Comm`), where the line has it: at most 15 bytes.
    comm: Option<String>,
}

/// The cases that are running, one a worker.
pub(super) struct Cases {
    running: BTreeMap<usize, RunningCase>,
    knows_pids: bool,
}

struct RunningCase {
    name: String,
    /// Its steps' own processes, and their supervisors.
    pids: Vec<i32>,
    comm: String,
    splats: Vec<Splat>,
}

impl Cases {
    /// None yet, on the host whose files are under `root`.
    pub(super) fn new(root: &Root) -> Self {
        // In another namespace the kernel's PIDs are somebody else's; what stands for a host has ours.
        let namespace = std::fs::read_link("/proc/self/ns/pid");
        let is_first = namespace.is_ok_and(|namespace| namespace.as_os_str() == FIRST_NAMESPACE);
        Self {
            running: BTreeMap::new(),
            knows_pids: is_first || !root.is_host(),
        }
    }

    /// The worker runs `case` from now on, below this supervisor, unless it has none yet (0).
    pub(super) fn begin(&mut self, case: &Case, worker: usize, supervisor: u32) {
        let supervisor = i32::try_from(supervisor).ok().filter(|&pid| pid > 0);
        let running = RunningCase {
            name: case.name.to_string(),
            pids: supervisor.into_iter().collect(),
            comm: comm(case),
            splats: Vec::new(),
        };
        self.running.insert(worker, running);
    }

    /// A step's process was started: by the supervisor, which may be another one for each step.
    pub(super) fn started(&mut self, worker: usize, pid: i32) {
        if let Some(case) = self.running.get_mut(&worker) {
            let supervisor = parent_of(pid).filter(|&parent| is_supervisor_process(parent));
            case.pids.extend(supervisor.into_iter().chain([pid]));
        }
    }

    /// A splat is that of the worker's case.
    pub(super) fn add(&mut self, worker: usize, splat: Splat) {
        let case = self.running.get_mut(&worker);
        if let Some(case) = case.filter(|case| case.splats.len() < MOST) {
            case.splats.push(splat);
        }
    }

    /// The worker's case has ended. Returns its splats.
    pub(super) fn end(&mut self, worker: usize) -> Vec<Splat> {
        let case = self.running.remove(&worker);
        case.map_or_else(Vec::new, |case| case.splats)
    }

    /// The names of all that run.
    pub(super) fn names(&self) -> Vec<String> {
        let cases = self.running.values();
        cases.map(|case| case.name.clone()).collect()
    }

    /// Whose thread this is, or was: of one that has ended, its name is known at most.
    pub(super) fn owner(&self, culprit: &Culprit) -> Whose {
        let by_pid = self.owner_by_pid(culprit.pid);
        by_pid.filter(|_| self.knows_pids).unwrap_or_else(|| {
            let comm = culprit.comm.as_ref();
            let mut named = self
                .running
                .iter()
                .filter(|(_, case)| Some(&case.comm) == comm);
            match (named.next(), named.next()) {
                (Some((worker, _)), None) => Whose::Case(*worker),
                _ => Whose::Nobody,
            }
        })
    }

    /// Whose thread this is; `None` where it has ended, and was no step's own process.
    fn owner_by_pid(&self, pid: i32) -> Option<Whose> {
        let mut ancestor = pid;
        for _ in 0..ANCESTORS {
            let mut cases = self.running.iter();
            if let Some((worker, _)) = cases.find(|(_, case)| case.pids.contains(&ancestor)) {
                return Some(Whose::Case(*worker));
            }
            if is_supervisor_process(ancestor) {
                // One of ours that has nothing to do at the moment has no process below it either.
                return Some(Whose::OtherRun);
            }
            ancestor = parent_of(ancestor)?;
            if ancestor == 0 {
                break;
            }
        }
        Some(Whose::Nobody)
    }
}

/// The name that a case's process has, and all of its threads that take no other: its file's.
fn comm(case: &Case) -> String {
    let file = match &case.command {
        Command::Program { path, .. } => path.to_string_lossy().into_owned(),
        Command::Shell(line) => line
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned(),
    };
    let name = file.rsplit('/').next().unwrap_or_default();
    let kept = &name.as_bytes()[..COMM.min(name.len())];
    String::from_utf8_lossy(kept).into_owned()
}

/// The thread that ran into what a splat tells of, where this line of it says so:
/// - `CPU: 1 UID: 0 PID: 2 Comm: NAME Not tainted 6.12.0` (lib/dump_stack.c), and before 6.19 the first line of a WARN,
///   `WARNING: CPU: 1 PID: 2 at FILE:LINE`, which has no name
/// - `WARNING: FILE:LINE at FUNCTION, CPU#1: NAME/2` (kernel/panic.c since 6.19)
/// - `Read of size 8 at addr ffff by task NAME/2` (mm/kasan/report.c), `read to 0xffff of 8 bytes by task 2 on cpu 1`
///   (kernel/kcsan/report.c)
/// - `watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [NAME:2]`
/// - `INFO: task NAME:2 blocked for more than 120 seconds.`
pub(super) fn thread(line: &str) -> Option<Culprit> {
    if let Some(pid) = after(line, ["CPU: ", "PID: "]) {
        let comm = after(pid, [" Comm: "]).map(|comm| {
            let ends = [" Not tainted", " Tainted:", " Kdump:"].map(|end| comm.rfind(end));
            let end = ends.into_iter().flatten().min();
            comm[..end.unwrap_or(comm.len())].trim_end()
        });
        return culprit(comm, pid);
    }
    let (task, between) = if line.starts_with("WARNING: ") {
        (after(line, ["CPU#", ": "])?, '/')
    } else if let Some(task) = after(line, [" by task "]) {
        if let Some((pid, _)) = task.split_once(" on cpu ") {
            return culprit(None, pid);
        }
        (task, '/')
    } else if let Some(task) = after(line, ["soft lockup - CPU#", " ["]) {
        (task.strip_suffix(']')?, ':')
    } else {
        let (task, _) = line.strip_prefix("INFO: task ")?.split_once(" blocked ")?;
        (task, ':')
    };
    let (comm, pid) = task.rsplit_once(between)?;
    culprit(Some(comm), pid)
}

/// The process that the kernel killed for want of memory (mm/oom_kill.c).
pub(super) fn victim(line: &str) -> Option<Culprit> {
    if let Some(constraint) = line.strip_prefix("oom-kill:") {
        // `…,task=NAME,pid=1,uid=0`: the name may contain anything.
        let (before, pid) = constraint.rsplit_once(",pid=")?;
        return culprit(after(before, [",task="]), pid);
    }
    let killed = after(line, ["Killed process "])?;
    let name = after(killed, ["("]).unwrap_or_default();
    let end = name.rfind(") total-vm:").or_else(|| name.rfind(')'));
    culprit(end.map(|end| &name[..end]), killed)
}

/// The thread of this name, with the ID that `pid` begins with.
fn culprit(comm: Option<&str>, pid: &str) -> Option<Culprit> {
    let end = pid.find(|c: char| !c.is_ascii_digit()).unwrap_or(pid.len());
    Some(Culprit {
        pid: pid[..end].parse().ok()?,
        comm: comm.map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(culprit: Option<Culprit>) -> String {
        culprit.map_or_else(String::new, |one| {
            format!("{} {}", one.pid, one.comm.unwrap_or_default())
        })
    }

    #[test]
    fn the_thread_is_found_in_every_form_that_the_kernel_has_for_it() {
        for (line, expected) in [
            (
                "CPU: 1 PID: 12 Comm: dirty_log_test Not tainted 6.1.0 #1",
                "12 dirty_log_test",
            ),
            (
                "CPU: 1 UID: 0 PID: 12 Comm: a b: c Kdump: loaded Tainted: G  W  6.12.0",
                "12 a b: c",
            ),
            ("Hardware name: x", ""),
            (
                "WARNING: CPU: 0 PID: 12 at arch/x86/kvm/x86.c:1 f+0x1/0x2 [kvm]",
                "12 ",
            ),
            (
                "WARNING: arch/x86/kvm/x86.c:1 at f+0x1/0x2, CPU#3: a/b/12",
                "12 a/b",
            ),
            (
                "Write of size 8 at addr ffff888012345678 by task x y/12",
                "12 x y",
            ),
            ("write to 0xffff of 8 bytes by task 12 on cpu 1:", "12 "),
            ("Allocated by task 13:", ""),
            ("Freed by task 13:", ""),
            (
                "watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [a:b:12]",
                "12 a:b",
            ),
            (
                "INFO: task a:b:12 blocked for more than 120 seconds.",
                "12 a:b",
            ),
            ("CPU: 1 PID: 99999999999 Comm: x", ""),
        ] {
            assert_eq!(shown(thread(line)), expected, "{line}");
        }
    }

    #[test]
    fn of_an_oom_kill_the_victim_is_found() {
        for (line, expected) in [
            (
                "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,task=a,pid=1,pid=12,uid=0",
                "12 a,pid=1",
            ),
            (
                "Out of memory: Killed process 12 (a (b)) total-vm:1kB, anon-rss:1kB",
                "12 a (b)",
            ),
            (
                "Memory cgroup out of memory: Killed process 12 (a) total-vm:1kB",
                "12 a",
            ),
            ("CPU: 1 PID: 13 Comm: the one that asked Not tainted", ""),
        ] {
            assert_eq!(shown(victim(line)), expected, "{line}");
        }
    }
}
