//! Trees of processes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::process::Process;

/// How long to wait for processes to stop that only wait for something in the kernel, such as a child of vfork(2).
const SETTLE: Duration = Duration::from_millis(100);

/// Walks from a process to those of its children that `is_root` picks, and to all below them, dead ones too. Each is
/// met as soon as it is found, before its own children are looked for. They are returned in this order.
pub(super) fn walk(
    root: i32,
    is_root: impl Fn(&Process) -> bool,
    mut meet: impl FnMut(&Process),
) -> Vec<Process> {
    let mut children = Children::new();
    let mut found = Vec::new();
    let mut next = 0;
    let mut parent = root;
    loop {
        children.of(parent, |process| {
            if parent != root || is_root(&process) {
                meet(&process);
                found.push(process);
            }
        });
        match found.get(next) {
            Some(process) => parent = process.pid,
            None => return found,
        }
        next += 1;
    }
}

/// Where the children of processes are looked up.
enum Children {
    /// In `/proc/PID/task/TID/children` when they are asked for, so that even one that soon starts the next and ends
    /// is met while it lives. None is missed as long as the parent is stopped (proc(5)).
    Files,
    /// In all of `/proc/*/stat`, read beforehand: only kernels with `CONFIG_PROC_CHILDREN` have those files.
    Table(BTreeMap<i32, Vec<Process>>),
}

impl Children {
    fn new() -> Self {
        if fs::exists("/proc/thread-self/children").unwrap_or(false) {
            Self::Files
        } else {
            Self::table()
        }
    }

    fn table() -> Self {
        let mut table = BTreeMap::<i32, Vec<Process>>::new();
        for process in Process::all_in("/proc") {
            table.entry(process.parent).or_default().push(process);
        }
        Self::Table(table)
    }

    fn of(&mut self, parent: i32, each: impl FnMut(Process)) {
        match self {
            Self::Table(table) => table.remove(&parent).into_iter().flatten().for_each(each),
            Self::Files => {
                // What cannot be read has ended meanwhile.
                let threads = fs::read_dir(format!("/proc/{parent}/task"))
                    .into_iter()
                    .flatten()
                    .flatten();
                let lists = threads
                    .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
                let lists: Vec<String> = lists.collect();
                lists
                    .iter()
                    .flat_map(|list| list.split_whitespace())
                    .filter_map(Process::read)
                    .for_each(each);
            }
        }
    }
}

/// Stops everything that [`walk`] finds, and returns what was not stopped before.
///
/// A fork bomb is stopped as well: what it starts while one pass goes on is met by the next, and the stopped still
/// count against its limits. As a process that has stopped is not in the middle of fork(2), none is missed but
/// where they do not [`SETTLE`].
pub(super) fn freeze(root: i32, is_root: impl Fn(&Process) -> bool) -> Vec<Process> {
    let start = Instant::now();
    let mut seen = BTreeSet::new();
    let mut frozen = Vec::new();
    let mut moving = true;
    while moving && start.elapsed() < SETTLE {
        moving = false;
        walk(root, &is_root, |process| {
            if process.is_alive() && !process.is_stopped() && !process.is_ending() {
                moving = true;
                if seen.insert(process.pid) {
                    // One that cannot be stopped is met again by who kills it.
                    process.signal(Signal::STOP).ok();
                    frozen.push(process.clone());
                }
            }
        });
    }
    frozen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_table_tell_of_the_same_children() {
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        let pid = child.id().cast_signed();
        for mut children in [Children::Files, Children::table()] {
            let mut found = false;
            children.of(std::process::id().cast_signed(), |process| {
                found |= process.pid == pid && process.is_alive() && !process.is_ending();
            });
            assert!(found);
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
