//! What the threads of a task do when its time is up: evidence of a hang, taken before anything is ended.

use std::fs::File;
use std::io::Read;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use super::tree::Process;
use crate::model::facts::ThreadState;

/// How many threads, and of how many processes, are looked at.
const THREADS: usize = 256;
const PROCESSES: usize = 8;

/// The request of the ioctl that runs a guest (include/uapi/linux/kvm.h).
const KVM_RUN: &str = "0xae80";

/// The system calls that threads hang in most.
const CALLS: &[(i64, &str)] = &[
    (libc::SYS_read, "read"),
    (libc::SYS_write, "write"),
    (libc::SYS_ioctl, "ioctl"),
    (libc::SYS_futex, "futex"),
    (libc::SYS_wait4, "wait4"),
    (libc::SYS_waitid, "waitid"),
    (libc::SYS_ppoll, "ppoll"),
    (libc::SYS_pselect6, "pselect6"),
    (libc::SYS_epoll_pwait, "epoll_pwait"),
    (libc::SYS_nanosleep, "nanosleep"),
    (libc::SYS_clock_nanosleep, "clock_nanosleep"),
    (libc::SYS_rt_sigsuspend, "rt_sigsuspend"),
    (libc::SYS_rt_sigtimedwait, "rt_sigtimedwait"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_poll, "poll"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_pause, "pause"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_select, "select"),
];

/// What was seen of threads.
#[derive(Default)]
pub(super) struct Threads {
    /// With their IDs.
    known: Vec<(i32, ThreadState)>,
    /// All of it, for people.
    pub(super) text: String,
}

impl Threads {
    /// Looks at them in `/proc`. That is done in a thread of its own: who reads these files waits for a process that is stuck
    /// in execve(2), until that is killed.
    pub(super) fn look(processes: &[Process], deadline: Instant) -> Self {
        let (sender, receiver) = mpsc::channel();
        let processes = processes[..processes.len().min(PROCESSES)].to_vec();
        let looking = thread::Builder::new().spawn(move || {
            let mut threads = Self::default();
            for process in &processes {
                threads.process(process, processes.len() == 1);
            }
            // It came too late where nobody listens.
            sender.send(threads).ok();
        });
        let time = deadline.saturating_duration_since(Instant::now());
        let threads = looking.ok().and_then(|_| receiver.recv_timeout(time).ok());
        threads.unwrap_or_else(|| Self {
            text: "what the threads do could not be read in time\n".to_owned(),
            ..Self::default()
        })
    }

    /// What each does, the first of its process first.
    pub(super) fn states(self) -> Vec<ThreadState> {
        self.known.into_iter().map(|(_, state)| state).collect()
    }

    fn process(&mut self, process: &Process, is_only: bool) {
        let mut threads: Vec<_> = Process::all_in(&format!("/proc/{}/task", process.pid)).collect();
        threads.sort_unstable_by_key(|thread| thread.pid);
        for (number, thread) in (1..).zip(threads) {
            if self.known.len() == THREADS {
                return;
            }
            let (id, name) = (thread.pid, thread.command.clone());
            let [wchan, call, stack] = ["wchan", "syscall", "stack"]
                .map(|file| kernel_text(&format!("/proc/{}/task/{id}/{file}", process.pid)));
            self.text += &format!(
                "process {} ({}), thread {id} ({name}), state {}\nwchan: {wchan}\nsyscall: {call}\nstack:\n{stack}\n\n",
                process.pid,
                process.command,
                char::from(thread.state),
            );
            // A thread of the kernel's own in the process.
            if wchan.starts_with("vhost_task") {
                continue;
            }
            let name = match id == process.pid {
                true if is_only => "main".to_owned(),
                // Threads that nobody has named are called as their process is.
                false if name == process.command => format!("thread {number}"),
                _ => name,
            };
            let doing = match thread.is_stopped() {
                true => "stopped".to_owned(),
                false => doing(&call),
            };
            let at = None;
            self.known.push((id, ThreadState { name, doing, at }));
        }
    }

    /// Adds what gdb tells: the function that waits, and where in the selftest it was called.
    pub(super) fn refine(&mut self, told: &str) {
        for part in told.split("\nThread ").skip(1) {
            // `Thread 2 (Thread 0x7f… (LWP 42) "vcpu0"):`, or `Thread 1 (process 42):`.
            let head = part.lines().next().unwrap_or_default();
            let id = ["(LWP ", "(process "].iter().find_map(|before| {
                let id = head.split_once(before)?.1.split_once(')')?.0;
                id.parse::<i32>().ok()
            });
            let known = self.known.iter_mut().find(|(known, _)| Some(*known) == id);
            if let Some((_, thread)) = known {
                let frames: Vec<_> = part.lines().filter(|line| line.starts_with('#')).collect();
                thread.at = place(&frames);
                let is_told = matches!(&*thread.doing, "in KVM_RUN" | "stopped");
                if let Some(call) = waits_in(&frames).filter(|_| !is_told) {
                    thread.doing = format!("in {call}");
                }
            }
        }
    }
}

/// A file of the kernel's about a thread, as a text; empty where it may not be read.
fn kernel_text(path: &str) -> String {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(1 << 14).read_to_end(&mut bytes));
    // What was read before an error is as good as the rest.
    read.ok();
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

/// What a thread does, by its `/proc/PID/syscall`: the number and the arguments, `running`, or -1 outside of any call.
fn doing(call: &str) -> String {
    let mut words = call.split_whitespace();
    let Some(number) = words.next().and_then(|word| word.parse::<i64>().ok()) else {
        return match call {
            "running" => "running".to_owned(),
            _ => "somewhere".to_owned(),
        };
    };
    let name = CALLS.iter().find(|(known, _)| *known == number);
    match (name, words.nth(1)) {
        (Some((_, "ioctl")), Some(KVM_RUN)) => "in KVM_RUN".to_owned(),
        (Some((_, name)), _) => format!("in {name}"),
        (None, _) if number < 0 => "running".to_owned(),
        (None, _) => format!("in system call {number}"),
    }
}

/// gdb, to print the backtraces of these, which stay stopped.
pub(super) fn gdb(processes: &[Process]) -> duct::Expression {
    let mut args = vec!["--batch".to_owned(), "-nx".to_owned()];
    for process in processes.iter().take(PROCESSES) {
        let attach = format!("attach {}", process.pid);
        for command in [&attach, "thread apply all backtrace 32", "detach"] {
            args.extend(["-ex".to_owned(), command.to_owned()]);
        }
    }
    // Nothing is fetched from anywhere.
    duct::cmd("gdb", args)
        .stdin_null()
        .env("DEBUGINFOD_URLS", "")
}

/// The innermost place in the selftest's own source, or else in its library's: `dirty_log_test.c:731`.
fn place(frames: &[&str]) -> Option<String> {
    let places = || frames.iter().filter_map(|frame| source(frame));
    let is_own = |place: &&str| !place.starts_with("lib/") && !place.contains("/lib/");
    let place = places().find(is_own).or_else(|| places().next())?;
    place.rsplit('/').next().map(str::to_owned)
}

/// The function of the C library that the selftest has called: the last of those that come before any of its own.
fn waits_in(frames: &[&str]) -> Option<String> {
    let called = frames.iter().position(|frame| source(frame).is_some())?;
    let frame = frames.get(called.checked_sub(1)?)?;
    let (_, frame) = frame.split_once(char::is_whitespace)?;
    let frame = frame.trim_start();
    let frame = frame.split_once(" in ").map_or(frame, |(_, rest)| rest);
    let name = frame.split([' ', '@']).next()?.trim_start_matches('_');
    let name = name.trim_start_matches("GI_").trim_start_matches('_');
    let name = name.trim_start_matches("libc_");
    match name {
        "" | "??" => None,
        "pthread_clockjoin_ex" => Some("pthread_join".to_owned()),
        // In the guest it is `running`: then only the function that called it tells.
        "ioctl" if frames.iter().any(|frame| frame.contains("vcpu_run (")) => {
            Some("KVM_RUN".to_owned())
        }
        name => Some(name.to_owned()),
    }
}

/// Where a frame is in source of the selftest or its library; `None` in the C library's.
fn source<'a>(frame: &&'a str) -> Option<&'a str> {
    let place = frame.rsplit_once(" at ")?.1;
    let is_of_libc = place.starts_with("./") || place.starts_with("../");
    (!is_of_libc).then_some(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_named_and_an_unknown_one_numbered() {
        let ioctl = libc::SYS_ioctl;
        for (call, expected) in [
            (format!("{ioctl} 0x6 0xae80 0x0"), "in KVM_RUN"),
            (format!("{ioctl} 0x6 0xae81 0x0"), "in ioctl"),
            (format!("{} 0x6 0xae80", libc::SYS_read), "in read"),
            ("9999 0x0".to_owned(), "in system call 9999"),
            ("-1 0x7ff 0x40".to_owned(), "running"),
            ("running".to_owned(), "running"),
            (String::new(), "somewhere"),
        ] {
            assert_eq!(doing(&call), expected, "{call}");
        }
    }

    #[test]
    fn backtraces_tell_of_the_threads_that_they_name_by_their_numbers() {
        let thread = |id, doing: &str| {
            let state = ThreadState {
                name: format!("t{id}"),
                doing: doing.to_owned(),
                at: None,
            };
            (id, state)
        };
        let mut seen = Threads {
            known: vec![
                thread(7, "in futex"),
                thread(8, "in KVM_RUN"),
                thread(9, "running"),
                thread(10, "running"),
            ],
            text: String::new(),
        };
        seen.refine(
            "warning\n\nThread 3 (LWP 9 \"(LWP 7)\"):\nThread 2 (Thread 0x7f (LWP 8) \"x (LWP 7)\"):\n\
             #0  __GI___ioctl (fd=6) at ../sysdeps/unix/ioctl.c:36\n#1  0x40 in vcpu_run () at lib/kvm_util.c:1\n\
             #2  0x41 in worker (s=0x1 \"a at b\") at x86/a_test.c:12\n\
             \nThread 4 (LWP 10):\n#0  0x7f in ioctl () from /lib/libc.so\n#1  0x40 in _vcpu_run (vcpu=0x1) at lib/kvm_util.c:9\n\
             \nThread 1 (process 7):\n#0  0x7f in __futex () from /lib/libc.so\n\
             #1  0x7f in __pthread_clockjoin_ex () from /lib/libc.so\n#2  main () at a_test.c:5\n",
        );
        let told: Vec<_> = seen
            .known
            .iter()
            .map(|(_, it)| (&*it.doing, it.at.as_deref()))
            .collect();
        assert_eq!(
            told,
            [
                ("in pthread_join", Some("a_test.c:5")),
                ("in KVM_RUN", Some("a_test.c:12")),
                ("running", None),
                ("in KVM_RUN", Some("kvm_util.c:9"))
            ]
        );
    }
}
