//! The processes that a keeper leaves to the runner when it is killed.

use std::collections::BTreeSet;
use std::io;
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, pidfd_open, set_child_subreaper, waitpid,
};

use super::process::Process;
use super::tree;

/// For how long one that was killed may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// The keepers that have not been waited for. Like the children of a process, there is one set of them.
static KEEPERS: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

fn keepers() -> MutexGuard<'static, BTreeSet<i32>> {
    // A set of numbers is whole whenever the lock is given up.
    KEEPERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a keeper, after making sure that what it may leave falls to this process.
pub(super) fn start_keeper(command: &mut Command) -> io::Result<Child> {
    // The lock is held over both steps, so that `kill` takes no new keeper for an orphan.
    let mut keepers = keepers();
    set_child_subreaper(Some(getpid()))?;
    let keeper = command.spawn()?;
    keepers.insert(keeper.id().cast_signed());
    Ok(keeper)
}

/// A keeper has been waited for.
pub(super) fn forget(keeper: u32) {
    keepers().remove(&keeper.cast_signed());
}

/// Kills and waits for what dead keepers have left: the children of this process that are in another session (so are
/// all processes below a keeper, which can never get into ours) and no keepers, and all below them.
pub(super) fn kill() {
    let keepers = keepers();
    let me = getpid().as_raw_nonzero().get();
    // Not by getsid(2): in a container the session may have begun outside, and then its ID is 0, which rustix does not
    // expect.
    let Some(session) = Process::read("self").map(|process| process.session) else {
        return;
    };
    let is_orphan =
        |process: &Process| process.session != session && !keepers.contains(&process.pid);
    let deadline = Instant::now() + PATIENCE;
    // The death of an orphan hands its own children on to us, for the next turn.
    while Instant::now() < deadline {
        tree::freeze(me, is_orphan);
        // One that may not be killed may still end by itself before the deadline.
        let orphans = tree::walk(me, is_orphan, |process| drop(process.signal(Signal::KILL)));
        if orphans.is_empty() {
            return;
        }
        for root in orphans.iter().filter(|process| process.parent == me) {
            // It fails only for one that is no child of ours any more.
            wait(root.pid, deadline).ok();
        }
    }
}

fn wait(pid: i32, deadline: Instant) -> io::Result<()> {
    let Some(pid) = Pid::from_raw(pid) else {
        return Ok(());
    };
    let ended = pidfd_open(pid, PidfdFlags::empty())?;
    let timeout = deadline
        .saturating_duration_since(Instant::now())
        .try_into()
        .ok();
    poll(&mut [PollFd::new(&ended, PollFlags::IN)], timeout.as_ref())?;
    waitpid(Some(pid), WaitOptions::NOHANG)?;
    Ok(())
}
