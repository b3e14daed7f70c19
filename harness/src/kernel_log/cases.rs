//! Which case a thread belongs to.

use std::collections::BTreeMap;

use super::culprit::Culprit;
use super::ignore::Ignored;
use crate::environment::root::Root;
use crate::model::case::{Case, Command};
use crate::supervise::keeper;

/// What the kernel keeps of a thread's name, in bytes (`TASK_COMM_LEN` in include/linux/sched.h, less its end).
const COMM: usize = 15;

/// The PID namespace in which the kernel's PIDs are what /proc has (`PROC_PID_INIT_INO` in include/linux/proc_ns.h).
const FIRST_NAMESPACE: &str = "pid:[4026531836]";

/// No process has more ancestors than this; who seems to have was read while they changed.
const ANCESTORS: usize = 1000;

/// A case, while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CaseId(u64);

/// Whom a splat belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// A case of this run.
    Case(CaseId),
    /// A case of another run on this host, which tells of it.
    OtherRun,
    /// None of ours, as far as can be known.
    Nobody,
}

/// The cases that are running.
#[derive(Debug)]
pub struct Cases {
    running: BTreeMap<CaseId, Running>,
    next: u64,
    knows_pids: bool,
}

#[derive(Debug)]
struct Running {
    name: String,
    keeper: i32,
    /// Its main process, once that was started.
    pid: Option<i32>,
    /// Nothing of it is left that is alive.
    is_over: bool,
    comm: String,
    ignored: Ignored,
}

impl Cases {
    /// None yet, on the host whose files are under `root`.
    pub fn new(root: &Root) -> Self {
        // In another namespace the kernel's PIDs are somebody else's; what stands for a host has ours.
        let namespace = std::fs::read_link("/proc/self/ns/pid");
        let is_first = namespace.is_ok_and(|namespace| namespace.as_os_str() == FIRST_NAMESPACE);
        Self {
            running: BTreeMap::new(),
            next: 0,
            knows_pids: is_first || !root.is_host(),
        }
    }

    /// `case` runs from now on below the keeper with this process ID, or once the case that it has now has ended.
    pub fn begin(&mut self, case: &Case, keeper: u32) -> CaseId {
        let id = CaseId(self.next);
        self.next += 1;
        let running = Running {
            name: case.name.to_string(),
            keeper: keeper.cast_signed(),
            pid: None,
            is_over: false,
            comm: comm(case),
            ignored: Ignored::new(case.ignored_splats.to_vec()),
        };
        self.running.insert(id, running);
        id
    }

    /// The main process of a case was started.
    pub fn started(&mut self, id: CaseId, pid: i32) {
        if let Some(case) = self.running.get_mut(&id) {
            case.pid = Some(pid);
        }
    }

    /// Nothing of the case is alive any more; what it has made the kernel say may not have been read yet.
    pub fn over(&mut self, id: CaseId) {
        if let Some(case) = self.running.get_mut(&id) {
            case.is_over = true;
        }
    }

    /// The case has ended. Returns what it has as patterns of splats to be ignored.
    pub fn end(&mut self, id: CaseId) -> Ignored {
        self.running
            .remove(&id)
            .map(|case| case.ignored)
            .unwrap_or_default()
    }

    /// Whether it is still running.
    pub fn is_running(&self, id: CaseId) -> bool {
        self.running.contains_key(&id)
    }

    /// The names of all that run, as far as is known; and of those that have just ended, as what is read now may have been
    /// said before.
    pub fn names(&self) -> Vec<String> {
        self.begun().map(|(_, case)| case.name.clone()).collect()
    }

    fn alive(&self) -> impl Iterator<Item = (CaseId, &Running)> {
        self.begun().filter(|(_, case)| !case.is_over)
    }

    /// All but those that cannot have begun yet.
    fn begun(&self) -> impl Iterator<Item = (CaseId, &Running)> {
        self.running
            .iter()
            .map(|(id, case)| (*id, case))
            .filter(|(id, case)| self.may_have_begun(*id, case))
    }

    /// A keeper starts a case when it has waited for the main process of the one before, and nothing is left of that.
    fn may_have_begun(&self, id: CaseId, case: &Running) -> bool {
        let before = self
            .running
            .range(..id)
            .rev()
            .find(|(_, before)| before.keeper == case.keeper);
        case.pid.is_some()
            || before
                .filter(|(_, before)| !before.is_over)
                .and_then(|(_, before)| before.pid)
                .is_none_or(|pid| keeper::parent_of(pid) != Some(case.keeper))
    }

    /// Whose thread this is, or was.
    pub fn owner(&self, culprit: &Culprit) -> Owner {
        if self.knows_pids {
            // A case that has just ended may still have had it.
            if let Some((id, _)) = self
                .running
                .iter()
                .find(|(_, case)| case.pid == Some(culprit.pid))
            {
                return Owner::Case(*id);
            }
            if let Some(owner) = self.owner_of_living(culprit.pid) {
                return owner;
            }
        }
        culprit
            .comm
            .as_deref()
            .map_or(Owner::Nobody, |comm| self.owner_by_name(comm))
    }

    /// Whose thread this is; `None` where it has ended.
    fn owner_of_living(&self, pid: i32) -> Option<Owner> {
        let mut ancestor = pid;
        for _ in 0..ANCESTORS {
            let parent = keeper::parent_of(ancestor)?;
            let kept: Vec<_> = self
                .alive()
                .filter(|(_, case)| case.keeper == ancestor)
                .collect();
            if let [.., (id, last)] = kept[..] {
                // Of two, the earlier one has left nothing that is alive, once it is known that the last one has begun.
                let is_certain = kept.len() == 1 || last.pid.is_some();
                return Some(if is_certain {
                    Owner::Case(id)
                } else {
                    Owner::Nobody
                });
            }
            if keeper::is_keeper_process(ancestor) {
                // One of ours that has nothing to do at the moment has no process below it either.
                return Some(Owner::OtherRun);
            }
            if parent == 0 {
                break;
            }
            ancestor = parent;
        }
        Some(Owner::Nobody)
    }

    /// The only running case whose selftest is called so: of a thread that has ended, nothing else is known.
    fn owner_by_name(&self, comm: &str) -> Owner {
        let mut named = self.begun().filter(|(_, case)| case.comm == comm);
        match (named.next(), named.next()) {
            (Some((id, _)), None) => Owner::Case(id),
            _ => Owner::Nobody,
        }
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
    let end = (0..=COMM.min(name.len()))
        .rev()
        .find(|&end| name.is_char_boundary(end));
    name[..end.unwrap_or(0)].to_owned()
}
