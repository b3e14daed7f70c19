//! The kernel's log during a run: kept in `kernel.log`, and searched for splats, which are attributed to the cases.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::time::{ClockId, clock_gettime};

use crate::model::case::Case;
use crate::model::event::KernelEnd;
use crate::model::file::append;
use crate::model::host::Root;
use crate::model::outcome::Splat;
use owner::{Cases, MOST, Whose};
use pattern::is_ignored;
use splat::{Assembler, GAP};

pub use kmsg::{Kmsg, Record};
pub use splat::last_splat;

mod kmsg;
mod owner;
mod pattern;
mod splat;

/// The name of the file in the directory of a run. One that is resumed, or shared by several processes, may have it already.
const KERNEL_LOG: &str = "kernel.log";

/// The most that is kept of it, in bytes: a kernel that is told to may log without end.
const CAP: u64 = 64 << 20;

/// The kernel's log, from the beginning of a run to its end.
pub struct KernelLog {
    root: Root,
    reader: Result<Arc<Mutex<Reader>>, String>,
    /// The thread, which ends when its pipe is closed.
    thread: Mutex<Option<(OwnedFd, JoinHandle<()>)>>,
}

impl KernelLog {
    /// Follows the log from now on, and keeps it in the directory of a run. Splats that fit `ignored` do not count.
    ///
    /// Where the log may not be read, nothing is kept, and [`Self::problem`] says why.
    pub fn open(root: &Root, run: &Path, ignored: &[String]) -> Self {
        let reader = Reader::open(root, run, ignored);
        Self {
            root: root.clone(),
            reader: reader.map(|reader| Arc::new(Mutex::new(reader))),
            thread: Mutex::default(),
        }
    }

    /// Why the kernel's log is not followed.
    pub fn problem(&self) -> Option<&str> {
        self.reader.as_ref().err().map(String::as_str)
    }

    /// Starts the thread that reads the log as it comes. `told` gets the splats that are no case's own, whoever reads them.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn follow(&self, told: impl Fn(Splat) + Send + 'static) -> io::Result<()> {
        let Ok(reader) = &self.reader else {
            return Ok(());
        };
        let shared = Arc::clone(reader);
        let mut reader = lock(reader);
        reader.told = Some(Box::new(told));
        let polled = reader.kmsg.file.try_clone()?;
        let (stopped, stop) = pipe_with(PipeFlags::CLOEXEC)?;
        let thread = thread::Builder::new()
            .name("kernel-log".to_owned())
            .spawn(move || read_until_stopped(&shared, &polled, &stopped))?;
        *lock(&self.thread) = Some((stop, thread));
        Ok(())
    }

    /// This worker begins with `case`, below the supervisor with this process ID (0 where it has none yet).
    pub fn begin(&self, case: &Case, worker: usize, supervisor: u32) {
        if let Some(mut reader) = self.reader() {
            // What was logged before this moment is not its doing.
            reader.drain();
            reader.file.mark(&format!("{} begins", case.name));
            reader.cases.begin(case, worker, supervisor);
        }
    }

    /// The process of a step of the worker's case was started.
    pub fn started(&self, worker: usize, pid: i32) {
        if let Some(mut reader) = self.reader() {
            reader.cases.started(worker, pid);
        }
    }

    /// The worker's case has ended. Returns its splats: a process's own are all logged before it has ended.
    pub fn end(&self, case: &Case, worker: usize) -> Vec<Splat> {
        let reader = self.reader();
        reader.map_or_else(Vec::new, |mut reader| reader.end_case(case, worker))
    }

    /// Stops to follow it, forgets whom it told, and returns what it came to.
    pub fn close(&self) -> KernelEnd {
        if let Some((stop, thread)) = lock(&self.thread).take() {
            drop(stop);
            // Had it panicked, its message is on the terminal.
            thread.join().ok();
        }
        let mut end = self.reader().map_or_else(KernelEnd::default, |mut reader| {
            reader.drain();
            reader.close_open();
            reader.told = None;
            let mut end = reader.end.clone();
            end.problem = end.problem.or(reader.file.problem.take());
            end
        });
        end.taint = taint(&self.root);
        end
    }

    fn reader(&self) -> Option<MutexGuard<'_, Reader>> {
        self.reader.as_ref().ok().map(|reader| lock(reader))
    }
}

/// The kernel's taint mask (/proc/sys/kernel/tainted); 0 where it cannot be read.
pub fn taint(root: &Root) -> u64 {
    let mask = root.read("/proc/sys/kernel/tainted").ok();
    mask.and_then(|mask| mask.parse().ok()).unwrap_or(0)
}

/// Reads the log for the thread, and for each case that begins or ends: so a case's splats are known when it has ended.
struct Reader {
    kmsg: Kmsg,
    /// When it brought something last.
    heard: Instant,
    file: LogFile,
    assembler: Assembler,
    cases: Cases,
    ignored: Vec<String>,
    told: Option<Box<dyn Fn(Splat) + Send>>,
    end: KernelEnd,
}

impl Reader {
    fn open(root: &Root, run: &Path, ignored: &[String]) -> Result<Self, String> {
        let kmsg = Kmsg::open(root).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => {
                "/dev/kmsg may not be read: run as root, or allow it with sysctl kernel.dmesg_restrict=0"
                    .to_owned()
            }
            _ => format!("/dev/kmsg cannot be read: {error}"),
        })?;
        let file = append(&run.join(KERNEL_LOG))
            .map_err(|error| format!("{KERNEL_LOG} cannot be opened: {error}"))?;
        Ok(Self {
            kmsg,
            heard: Instant::now(),
            file: LogFile {
                file,
                room: CAP,
                problem: None,
            },
            assembler: Assembler::default(),
            cases: Cases::new(root),
            ignored: ignored.to_vec(),
            told: None,
            end: KernelEnd::default(),
        })
    }

    /// Reads what there is. Returns whether the log is at its end.
    fn drain(&mut self) -> bool {
        let (assembler, cases, file) = (&mut self.assembler, &self.cases, &mut self.file);
        let mut ended = Vec::new();
        let is_at_end = self.kmsg.drain(|record| {
            self.heard = Instant::now();
            self.end.lost += record.lost;
            if record.lost > 0 {
                let why = "are missing here, or more: they were overwritten before they were read";
                file.mark(&format!("{} records {why}", record.lost));
            }
            file.record(&record);
            ended.extend(assembler.record(&record, cases));
        });
        self.settle(ended);
        is_at_end.unwrap_or_else(|error| {
            let problem = format!("/dev/kmsg cannot be read any more: {error}");
            self.end.problem.get_or_insert(problem);
            true
        })
    }

    /// Ends the splats that have begun.
    fn close_open(&mut self) {
        let open = self.assembler.close();
        self.settle(open);
    }

    fn end_case(&mut self, case: &Case, worker: usize) -> Vec<Splat> {
        self.drain();
        let mut splats = self.cases.end(worker);
        splats.extend(self.assembler.take(worker));
        let all = splats.len();
        let patterns = || self.ignored.iter().chain(case.ignored_splats.iter());
        splats.retain(|splat| !is_ignored(splat, patterns()));
        self.end.ignored += all - splats.len();
        self.end.owned += splats.len();
        for splat in &splats {
            let (name, title) = (&splat.name, &splat.title);
            self.file.mark(&format!("{name} of {}: {title}", case.name));
        }
        self.file.mark(&format!("{} ends", case.name));
        splats
    }

    /// Finds a place for splats that have come to their end.
    fn settle(&mut self, ended: Vec<(Whose, Splat)>) {
        for (owner, splat) in ended {
            let (name, title) = (&splat.name, &splat.title);
            match owner {
                Whose::Case(worker) => self.cases.add(worker, splat),
                Whose::OtherRun => {
                    self.end.of_others += 1;
                    let of_other = format!("{name} of another run on this host: {title}");
                    self.file.mark(&of_other);
                }
                Whose::Nobody if is_ignored(&splat, self.ignored.iter()) => self.end.ignored += 1,
                Whose::Nobody => {
                    self.end.stray += 1;
                    let stray = format!("{name}, {}: {title}", splat.when());
                    self.file.mark(&stray);
                    if let Some(told) = self.told.as_ref().filter(|_| self.end.stray <= MOST) {
                        told(splat);
                    }
                }
            }
        }
    }
}

/// `kernel.log`: what the kernel said during a run, as text.
struct LogFile {
    file: File,
    room: u64,
    /// Why something is missing from it.
    problem: Option<String>,
}

impl LogFile {
    /// Adds a record, line by line.
    fn record(&mut self, record: &Record) {
        let time = time(record.time_us);
        let origin = match record.is_the_kernels() {
            true => "",
            false => "(from user space) ",
        };
        let lines = record.text.lines();
        let lines = lines.map(|line| format!("{time} {origin}{line}\n"));
        self.write(&lines.collect::<String>());
    }

    /// Adds what we have to say about it, at this moment.
    fn mark(&mut self, text: &str) {
        // The clock that the kernel's log is nearly on.
        let now = clock_gettime(ClockId::Monotonic);
        let now = u64::try_from(now.tv_sec * 1_000_000 + now.tv_nsec / 1000).unwrap_or(0);
        self.write(&format!("{} ==== {text}\n", time(now)));
    }

    fn write(&mut self, mut text: &str) {
        if self.room == 0 {
            return;
        }
        self.room = self.room.saturating_sub(text.len() as u64);
        if self.room == 0 {
            text = "==== the rest is left out: this file has its full size\n";
        }
        if let Err(error) = self.file.write_all(text.as_bytes()) {
            let problem = format!("cannot write {KERNEL_LOG}: {error}");
            self.problem.get_or_insert(problem);
        }
    }
}

/// As dmesg(1) shows it.
fn time(us: u64) -> String {
    format!("[{:>5}.{:06}]", us / 1_000_000, us % 1_000_000)
}

/// Reads what comes, until the other end of `stopped` is closed.
fn read_until_stopped(reader: &Mutex<Reader>, polled: &File, stopped: &OwnedFd) {
    let tick = Timespec::try_from(GAP).expect("write a second as a timespec");
    let mut is_at_end = false;
    loop {
        let mut watched = [
            PollFd::new(stopped, PollFlags::IN),
            PollFd::new(polled, PollFlags::IN),
        ];
        // A file that is at its end can always be read.
        let count = if is_at_end { 1 } else { 2 };
        // If it fails, what there is is read all the same.
        poll(&mut watched[..count], Some(&tick)).ok();
        if !watched[0].revents().is_empty() {
            return;
        }
        let mut reader = lock(reader);
        is_at_end = reader.drain();
        if reader.heard.elapsed() >= GAP {
            reader.close_open();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
