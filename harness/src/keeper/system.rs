//! The system calls that no safe crate offers in the form that a keeper needs: all `unsafe` code there is.

use std::ffi::{CStr, CString, c_char, c_int};
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
/// This is `posix_spawn`: on the machine it was measured on, `fork` and `execve` from this same small process take
/// 100 µs more of about 600 µs. What only `fork` would allow is to set `PR_SET_PDEATHSIG` in the child. It would
/// matter only where runner and keeper are killed at once, and reach no more than the main process.
pub(super) fn spawn(program: &Program) -> io::Result<i32> {
    let args = pointers(program.args);
    let env = pointers(program.env);
    let mut actions = FileActions::new()?;
    actions.change_directory(program.directory)?;
    for (file, number) in program.stdio.iter().zip(0..) {
        actions.duplicate(*file, number)?;
    }
    let attributes = Attributes::new_session()?;
    let mut pid = 0;
    // SAFETY: all pointers are to live, initialised values; `args` and `env` end with a null pointer, and their
    // strings, borrowed by `program`, outlive the call.
    check(unsafe {
        libc::posix_spawn(
            &raw mut pid,
            program.path.as_ptr(),
            &raw const actions.0,
            &raw const attributes.0,
            args.as_ptr(),
            env.as_ptr(),
        )
    })?;
    Ok(pid)
}

fn pointers(strings: &[CString]) -> Vec<*mut c_char> {
    strings.iter().map(|string| string.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect()
}

/// The result of those functions that return an error's number instead of setting `errno`.
fn check(error: c_int) -> io::Result<()> {
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

struct FileActions(libc::posix_spawn_file_actions_t);

impl FileActions {
    fn new() -> io::Result<Self> {
        let mut actions = MaybeUninit::uninit();
        // SAFETY: the call initialises what it is given, unless it fails.
        unsafe {
            check(libc::posix_spawn_file_actions_init(actions.as_mut_ptr()))?;
            Ok(Self(actions.assume_init()))
        }
    }

    fn change_directory(&mut self, directory: &CStr) -> io::Result<()> {
        // SAFETY: initialised by `new`; the path is copied by the call.
        check(unsafe { libc::posix_spawn_file_actions_addchdir_np(&raw mut self.0, directory.as_ptr()) })
    }

    fn duplicate(&mut self, file: BorrowedFd, number: c_int) -> io::Result<()> {
        // SAFETY: initialised by `new`; descriptors are only numbers here.
        check(unsafe { libc::posix_spawn_file_actions_adddup2(&raw mut self.0, file.as_raw_fd(), number) })
    }
}

impl Drop for FileActions {
    fn drop(&mut self) {
        // SAFETY: initialised by `new`, and not used after this.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.0) };
    }
}

struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    /// A session of its own, and an empty signal mask. The dispositions are the default ones here already.
    fn new_session() -> io::Result<Self> {
        let flags = libc::POSIX_SPAWN_SETSID as i32 | libc::POSIX_SPAWN_SETSIGMASK;
        let mut attributes = MaybeUninit::uninit();
        let mut none = MaybeUninit::uninit();
        // SAFETY: the calls initialise what they are given before it is used.
        unsafe {
            check(libc::posix_spawnattr_init(attributes.as_mut_ptr()))?;
            let mut attributes = Self(attributes.assume_init());
            libc::sigemptyset(none.as_mut_ptr());
            check(libc::posix_spawnattr_setsigmask(&raw mut attributes.0, none.as_ptr()))?;
            check(libc::posix_spawnattr_setflags(&raw mut attributes.0, flags as _))?;
            Ok(attributes)
        }
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised by `new_session`, and not used after this.
        unsafe { libc::posix_spawnattr_destroy(&raw mut self.0) };
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
        (libc::wait4(-1, &raw mut status, options, usage.as_mut_ptr()), usage.assume_init())
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
            Ok(Reaped::Child { pid, status: ExitStatus::from_raw(status), usage })
        }
    }
}

fn duration(time: libc::timeval) -> Duration {
    Duration::from_secs(time.tv_sec.cast_unsigned()) + Duration::from_micros(time.tv_usec.cast_unsigned())
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
        let number = entry?.file_name().to_str().and_then(|name| name.parse::<c_int>().ok());
        if let Some(number) = number.filter(|&number| number > 2) {
            // SAFETY: it closes nothing; it changes a flag of a descriptor, if there is still one of that number.
            unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}
