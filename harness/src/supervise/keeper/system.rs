//! The system calls that no safe crate offers in the form that a keeper needs: all `unsafe` code there is, but for one line of
//! [`memory`](crate::memory).

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;
use std::{fs, io, ptr};

/// What a process is started from.
pub(super) struct Program<'a> {
    /// The path of its executable.
    pub(super) path: &'a CStr,
    /// Its arguments, its name first.
    pub(super) args: &'a [CString],
    /// Its environment, as `NAME=VALUE`.
    pub(super) env: &'a [CString],
    /// Its current directory.
    pub(super) directory: &'a CStr,
    /// Its standard input, output and error.
    pub(super) stdio: [BorrowedFd<'a>; 3],
}

/// Starts a process in a session of its own, with no signal blocked, and returns its ID.
///
/// This is what `posix_spawn` does, a child that borrows our memory until it executes (`CLONE_VM | CLONE_VFORK`, clone(2)),
/// without what nobody needs here: it would look at the disposition of each of 64 signals, and at a limit for each file.
/// [`take_signals`] has set them all, and blocks them, so no handler of ours can run in the child.
pub(super) fn spawn(program: &Program) -> io::Result<i32> {
    let (args, env) = (pointers(program.args), pointers(program.env));
    let mut image = Image {
        path: program.path.as_ptr(),
        args: args.as_ptr(),
        env: env.as_ptr(),
        directory: program.directory.as_ptr(),
        stdio: program.stdio.map(|file| file.as_raw_fd()),
        error: 0,
    };
    // Aligned to 16 bytes, as a stack must be.
    let mut stack = Vec::<u128>::with_capacity(CHILD_STACK / size_of::<u128>());
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the stack is the child's alone, grows down from its end, and lives on, as do `image` and all that it points
    // to, since this thread stands still until the child has executed its program or ended. What runs there is
    // async-signal-safe, allocates nothing and cannot panic.
    let pid = unsafe {
        let top = stack.as_mut_ptr().add(stack.capacity());
        libc::clone(execute, top.cast(), flags, (&raw mut image).cast())
    };
    if pid == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the child is gone from our memory; what it wrote there is what it told us.
    match unsafe { (&raw const image.error).read_volatile() } {
        0 => Ok(pid),
        error => {
            // SAFETY: no pointer is given. It has ended, or is about to.
            unsafe { libc::waitpid(pid, ptr::null_mut(), libc::__WALL) };
            Err(io::Error::from_raw_os_error(error))
        }
    }
}

/// How much stack a child has until it executes its program, in bytes; what it does not touch costs nothing.
const CHILD_STACK: usize = 64 << 10;

/// What [`execute`] needs, and what it answers.
struct Image {
    path: *const c_char,
    args: *const *const c_char,
    env: *const *const c_char,
    directory: *const c_char,
    stdio: [c_int; 3],
    /// Why it could not execute the program (errno(3)).
    error: c_int,
}

/// What a child does before it is the program. It returns, with the error in the image, where it cannot be that.
extern "C" fn execute(image: *mut c_void) -> c_int {
    let image = image.cast::<Image>();
    // SAFETY: `image` is that of `spawn`, which stands still meanwhile; its strings and lists end with a null.
    unsafe {
        let Image {
            path,
            args,
            env,
            directory,
            stdio,
            ..
        } = &*image;
        let mut none = MaybeUninit::uninit();
        libc::setsid();
        // None of them is among the numbers that are given away here: our own standard files are open.
        let is_ready = stdio
            .iter()
            .zip(0..)
            .all(|(&file, number)| libc::dup2(file, number) != -1)
            && libc::chdir(*directory) == 0
            && libc::sigemptyset(none.as_mut_ptr()) == 0
            && libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut()) == 0;
        if is_ready {
            libc::execve(*path, *args, *env);
        }
        (*image).error = *libc::__errno_location();
    }
    1
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings
        .iter()
        .map(|string| string.as_ptr())
        .chain([ptr::null()])
        .collect()
}

/// The result of those functions that return an error's number instead of setting `errno`.
fn check(error: c_int) -> io::Result<()> {
    if error == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(error))
    }
}

/// What [`reap`] found.
pub(super) enum Reaped {
    /// A child that had ended.
    Child {
        /// Its process ID, which may be used again from now on.
        pid: i32,
        /// How it ended.
        status: ExitStatus,
        /// What it used, with those of its children that it waited for.
        usage: Usage,
    },
    /// There are children, none of which has ended.
    NoneYet,
    /// There are no children.
    NoneLeft,
}

/// What a process used.
#[derive(Debug, Default)]
pub(super) struct Usage {
    /// CPU time in user mode.
    pub(super) user_time: Duration,
    /// CPU time in the kernel.
    pub(super) system_time: Duration,
    /// The largest resident set, in bytes.
    pub(super) max_rss: u64,
}

/// Takes note of one ended child, without waiting for one.
pub(super) fn reap() -> io::Result<Reaped> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are to live values that the call fills in. A zeroed `rusage` is a valid one.
    let (pid, usage) = unsafe {
        let options = libc::WNOHANG | libc::__WALL;
        (
            libc::wait4(-1, &raw mut status, options, usage.as_mut_ptr()),
            usage.assume_init(),
        )
    };
    match pid {
        0 => Ok(Reaped::NoneYet),
        -1 => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ECHILD) => Ok(Reaped::NoneLeft),
            error => Err(error),
        },
        _ => {
            let usage = Usage {
                user_time: duration(usage.ru_utime),
                system_time: duration(usage.ru_stime),
                // getrusage(2): in kilobytes.
                max_rss: usage.ru_maxrss.cast_unsigned() * 1024,
            };
            Ok(Reaped::Child {
                pid,
                status: ExitStatus::from_raw(status),
                usage,
            })
        }
    }
}

fn duration(time: libc::timeval) -> Duration {
    Duration::from_secs(time.tv_sec.cast_unsigned())
        + Duration::from_micros(time.tv_usec.cast_unsigned())
}

/// Blocks all signals and sets them to their default dispositions, for the children's sake: one that the runner's
/// parent ignored would be ignored by them as well, and an ignored SIGCHLD would lose their exits (wait(2)).
/// Returns a descriptor that is readable once a child has ended (signalfd(2)), which does not block.
pub(super) fn take_signals() -> io::Result<OwnedFd> {
    let mut all = MaybeUninit::uninit();
    let mut child = MaybeUninit::uninit();
    // SAFETY: the sets are initialised by the calls before they are used. `SIG_DFL` runs no code of ours. The
    // descriptor is checked, new, and nobody else's.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        if libc::sigprocmask(libc::SIG_SETMASK, all.as_ptr(), ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        for signal in 1..=libc::SIGRTMAX() {
            // It fails for SIGKILL, SIGSTOP and those that the C library keeps to itself, all of which are as wanted.
            libc::signal(signal, libc::SIG_DFL);
        }
        libc::sigemptyset(child.as_mut_ptr());
        libc::sigaddset(child.as_mut_ptr(), libc::SIGCHLD);
        match libc::signalfd(-1, child.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            descriptor => Ok(OwnedFd::from_raw_fd(descriptor)),
        }
    }
}

/// Blocks `signal` in the calling thread, and in the threads and processes that it starts.
pub(crate) fn block_in_this_thread(signal: c_int) -> io::Result<()> {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the set is initialised by the call before it is used.
    check(unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), signal);
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut())
    })
}

/// Removes a segment of System V shared memory; what is still attached lives on until it is not.
pub(crate) fn remove_shared_memory(id: c_int) -> io::Result<()> {
    // SAFETY: `IPC_RMID` uses no buffer.
    match unsafe { libc::shmctl(id, libc::IPC_RMID, ptr::null_mut()) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Keeps the files that this process was started with, but for its standard ones, from the processes that it starts.
pub(super) fn close_files_on_exec() -> io::Result<()> {
    for entry in fs::read_dir("/proc/self/fd")? {
        let number = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<c_int>().ok());
        if let Some(number) = number.filter(|&number| number > 2) {
            // SAFETY: it closes nothing; it changes a flag of a descriptor, if there is still one of that number.
            unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}
