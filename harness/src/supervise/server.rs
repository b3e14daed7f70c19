//! What a supervisor has for all of its tasks: the socket, what the runner wishes, and its own score when memory is short.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use libc::{
    SIGALRM, SIGCHLD, SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2, SIGXFSZ,
};
use rustix::event::{PollFd, PollFlags, poll};
use signal_hook::{flag, low_level};

use super::output::CHUNK;
use super::protocol::{Control, Reply};
use super::system;

/// Where the likelihood to be killed is kept, when memory is short (proc(5)).
const OOM_SCORE: &str = "/proc/self/oom_score_adj";

/// How much likelier a task is to be killed than we are: as if it used half of the memory more.
const OOM_MORE: i32 = 500;

/// The supervisor's own process: one thread, one socket, one task at a time.
pub(super) struct Server {
    /// At its end where the runner is gone, which says nothing while a task runs.
    pub(super) socket: UnixStream,
    pub(super) wishes: Wishes,
    /// Where outputs are read to.
    pub(super) chunk: Box<[u8; CHUNK]>,
    /// Our own score, and where it is set.
    oom_score: Option<(i32, File)>,
}

impl Server {
    /// Serves the runner at the other end of this socket.
    pub(super) fn new(socket: UnixStream, wishes: Wishes) -> Self {
        let own = fs::read_to_string(OOM_SCORE).ok();
        let own = own.and_then(|own| own.trim().parse().ok());
        let file = File::options().write(true).open(OOM_SCORE).ok();
        Self {
            socket,
            wishes,
            chunk: Box::new([0; CHUNK]),
            oom_score: own.zip(file),
        }
    }

    /// Tells the runner.
    pub(super) fn reply(&self, reply: &Reply) -> io::Result<()> {
        let mut line = serde_json::to_vec(reply)?;
        line.push(b'\n');
        (&self.socket).write_all(&line)
    }

    /// Waits while everything is to stand still; false where the runner is gone.
    pub(super) fn may_start(&mut self) -> bool {
        while self.wishes.is_stopped() {
            let mut watched = [
                PollFd::new(&self.wishes.wake, PollFlags::IN),
                PollFd::new(&self.socket, PollFlags::RDHUP),
            ];
            // What interrupts it is such a wish.
            poll(&mut watched, None).ok();
            if !watched[1].revents().is_empty() {
                return false;
            }
            self.wishes.awake();
        }
        true
    }

    /// What is started here inherits a higher score than ours. It is a help, not a need.
    pub(super) fn likelier_to_be_killed<T>(&self, start: impl FnOnce() -> T) -> T {
        let set = |more: i32| {
            let own = self.oom_score.as_ref();
            own.map(|(own, file)| file.write_at((own + more).min(1000).to_string().as_bytes(), 0))
        };
        set(OOM_MORE);
        let started = start();
        set(0);
        started
    }
}

/// What others may send to all processes, and what a write to a file that is too large does (`ulimit -f`): none of it
/// ends a supervisor. As there are handlers for them, what is started has their default dispositions.
const IGNORED: [i32; 10] = [
    SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, SIGTSTP, SIGALRM, SIGUSR1, SIGUSR2, SIGXFSZ,
];

/// What the runner wishes for the task that runs and for later ones: states, not events, so that it does not matter when
/// they are looked at.
pub(super) struct Wishes {
    /// Readable once one of them has changed, or a child has ended.
    pub(super) wake: UnixStream,
    interrupted: Arc<AtomicBool>,
    hurried: Arc<AtomicBool>,
    ended: Arc<AtomicBool>,
    stopped: Arc<AtomicUsize>,
}

impl Wishes {
    /// Listens to signals from now on, whatever whoever started this process made of them.
    pub(super) fn listen() -> io::Result<Self> {
        system::reset_signals();
        let (wake, waker) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let [interrupted, hurried, ended] = [Arc::default(), Arc::default(), Arc::default()];
        let stopped = Arc::default();
        flag::register(Control::Interrupt.signal(), Arc::clone(&interrupted))?;
        flag::register(Control::Hurry.signal(), Arc::clone(&hurried))?;
        flag::register(Control::End.signal(), Arc::clone(&ended))?;
        flag::register_usize(Control::Stop.signal(), Arc::clone(&stopped), 1)?;
        flag::register_usize(Control::Continue.signal(), Arc::clone(&stopped), 0)?;
        // After the state, what tells of it.
        let controls = Control::Continue.signal()..=Control::End.signal();
        for signal in controls.chain([SIGCHLD]) {
            low_level::pipe::register(signal, waker.try_clone()?)?;
        }
        for signal in IGNORED {
            flag::register(signal, Arc::default())?;
        }
        system::unblock_signals();
        Ok(Self {
            wake,
            interrupted,
            hurried,
            ended,
            stopped,
        })
    }

    /// Who was woken looks at everything afterwards.
    pub(super) fn awake(&mut self) {
        let mut told = [0; 64];
        while matches!(self.wake.read(&mut told), Ok(64)) {}
    }

    /// The run has been interrupted.
    pub(super) fn is_interrupted(&self) -> bool {
        self.interrupted.load(SeqCst)
    }

    /// The user wants the task that runs to end.
    pub(super) fn is_ended(&self) -> bool {
        self.ended.load(SeqCst)
    }

    /// Another task begins. Whoever wanted one to end has done so before the runner asks for the next.
    pub(super) fn begin(&self) {
        self.ended.store(false, SeqCst);
    }

    /// Who interrupted it does not want to wait.
    pub(super) fn is_hurried(&self) -> bool {
        self.hurried.load(SeqCst)
    }

    /// Everything is to stand still.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(SeqCst) == 1
    }
}
