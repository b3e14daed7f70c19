//! Whom a line of a splat accuses: the thread that it was printed for.

/// A thread, as the kernel names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Culprit {
    /// Its ID in the first PID namespace. The kernel's PID is a thread's ID.
    pub pid: i32,
    /// Its name (`Comm`), where the line has it: at most 15 bytes.
    pub comm: Option<String>,
}

/// The thread that ran into what the splat tells of.
pub fn thread(line: &str) -> Option<Culprit> {
    of_dump(line)
        .or_else(|| of_warning(line))
        .or_else(|| of_access(line))
        .or_else(|| of_lockup(line))
        .or_else(|| of_hung(line))
}

/// The process that the kernel killed for want of memory (mm/oom_kill.c).
pub fn victim(line: &str) -> Option<Culprit> {
    if let Some(constraint) = line.strip_prefix("oom-kill:") {
        // `…,task=NAME,pid=1,uid=0`: the name may contain anything.
        let (before, after) = constraint.rsplit_once(",pid=")?;
        let comm = before.split_once(",task=").map(|(_, comm)| comm.to_owned());
        return Some(Culprit {
            pid: number(after)?,
            comm,
        });
    }
    let (_, killed) = line.split_once("Killed process ")?;
    let comm = killed.split_once('(').and_then(|(_, rest)| {
        rest.rsplit_once(") total-vm:")
            .or_else(|| rest.rsplit_once(')'))
    });
    Some(Culprit {
        pid: number(killed)?,
        comm: comm.map(|(comm, _)| comm.to_owned()),
    })
}

/// `CPU: 1 UID: 0 PID: 2 Comm: NAME Not tainted 6.12.0` (lib/dump_stack.c), and before 6.19 the first line of a WARN,
/// `WARNING: CPU: 1 PID: 2 at FILE:LINE`, which has no name.
fn of_dump(line: &str) -> Option<Culprit> {
    let (_, dump) = line.split_once("CPU: ")?;
    let (_, pid) = dump
        .split_once(" PID: ")
        .or_else(|| dump.split_once("PID: "))?;
    let comm = pid.split_once(" Comm: ").map(|(_, comm)| {
        let ends = [" Not tainted", " Tainted:", " Kdump:"].map(|end| comm.rfind(end));
        comm[..ends.into_iter().flatten().min().unwrap_or(comm.len())]
            .trim_end()
            .to_owned()
    });
    Some(Culprit {
        pid: number(pid)?,
        comm,
    })
}

/// `WARNING: FILE:LINE at FUNCTION, CPU#1: NAME/2` (kernel/panic.c since 6.19).
fn of_warning(line: &str) -> Option<Culprit> {
    let (_, task) = line
        .strip_prefix("WARNING: ")?
        .split_once("CPU#")?
        .1
        .split_once(": ")?;
    named(task.rsplit_once('/')?)
}

/// `Read of size 8 at addr ffff by task NAME/2` (mm/kasan/report.c), `read to 0xffff of 8 bytes by task 2 on cpu 1`
/// (kernel/kcsan/report.c).
fn of_access(line: &str) -> Option<Culprit> {
    let (_, task) = line.rsplit_once(" by task ")?;
    match task.split_once(" on cpu ") {
        Some((pid, _)) => Some(Culprit {
            pid: number(pid)?,
            comm: None,
        }),
        None => named(task.rsplit_once('/')?),
    }
}

/// `watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [NAME:2]`
fn of_lockup(line: &str) -> Option<Culprit> {
    let (_, task) = line.split_once("soft lockup - CPU#")?.1.split_once(" [")?;
    named(task.strip_suffix(']')?.rsplit_once(':')?)
}

/// `INFO: task NAME:2 blocked for more than 120 seconds.`
fn of_hung(line: &str) -> Option<Culprit> {
    let (task, _) = line.strip_prefix("INFO: task ")?.split_once(" blocked ")?;
    named(task.rsplit_once(':')?)
}

fn named((comm, pid): (&str, &str)) -> Option<Culprit> {
    Some(Culprit {
        pid: number(pid)?,
        comm: Some(comm.to_owned()),
    })
}

/// The number that `text` begins with.
fn number(text: &str) -> Option<i32> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text[..end].parse().ok()
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
