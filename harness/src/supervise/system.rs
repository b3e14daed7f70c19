//! The system calls that no crate offers in the form that is needed here: all `unsafe` code of this room.

use std::ffi::{c_int, c_long};
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::time::Duration;

/// Sets every signal to its default disposition, for the sake of what is started: one that is ignored here would be
/// ignored there as well, and an ignored SIGCHLD would lose exits (wait(2)).
pub(super) fn reset_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: `SIG_DFL` runs no code of ours. It fails for SIGKILL, SIGSTOP and those that the C library keeps to
        // itself, all of which are as wanted.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Lets children be waited for, although whoever started this process ignored SIGCHLD (wait(2)).
pub(super) fn hear_of_children() {
    // SAFETY: `SIG_DFL` runs no code of ours.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// Lets every signal come that whoever started this process has blocked.
pub(super) fn unblock_signals() {
    let mut none = MaybeUninit::uninit();
    // SAFETY: the set is initialised by the first call before it is used. With these arguments, neither can fail.
    unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
    }
}

/// Sends a signal of any number. rustix has no real-time signals.
pub(super) fn send(pid: i32, signal: c_int) {
    // SAFETY: no memory is involved. It fails only where the process is gone.
    unsafe { libc::kill(pid, signal) };
}

/// Keeps the files that this process was started with, but for its standard ones, from the processes that it starts.
pub(super) fn close_files_on_exec() {
    let [first, last, flags] = [3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC].map(c_long::from);
    // SAFETY: it closes nothing, and changes a flag of descriptors. Before Linux 5.11 it fails: they are then passed on.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
}

/// Looks for a child that has ended, and leaves it to whoever started it to wait for it; returns its process ID and what it
/// used, with those of its children that it waited for. The error is `ECHILD` where there is no child at all.
pub(super) fn ended_child() -> io::Result<Option<(i32, libc::rusage)>> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    let all = c_long::from(libc::P_ALL);
    let options = c_long::from(libc::WEXITED | libc::WNOHANG | libc::WNOWAIT);
    let pointers = (info.as_mut_ptr(), usage.as_mut_ptr());
    // SAFETY: both pointers are to live values that the call fills in, and zeroed ones are valid. The kernel's waitid has
    // a fifth argument that the C library's has not.
    let (result, pid, usage) = unsafe {
        let result = libc::syscall(libc::SYS_waitid, all, 0, pointers.0, options, pointers.1);
        (result, info.assume_init().si_pid(), usage.assume_init())
    };
    match (result, pid) {
        (0, 0) => Ok(None),
        (0, pid) => Ok(Some((pid, usage))),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A time that a process used.
pub(super) fn duration(time: libc::timeval) -> Duration {
    // Neither is negative.
    Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000)
}
