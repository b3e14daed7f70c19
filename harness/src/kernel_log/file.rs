//! `kernel.log`: what the kernel said during a run, as text.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::time::{ClockId, clock_gettime};

use super::record::Record;

/// The file's name in the directory of a run.
pub const KERNEL_LOG: &str = "kernel.log";

/// The most that is kept of it, in bytes: a kernel that is told to may log without end.
const CAP: u64 = 64 << 20;

/// The file.
#[derive(Debug)]
pub struct LogFile {
    file: File,
    room: u64,
    problem: Option<io::Error>,
}

impl LogFile {
    /// The one in the directory of a run, which a run that is resumed or that several processes share may have already.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(run: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        // Where somebody has put a link, he means another file to be written.
        options
            .append(true)
            .create(true)
            .mode(0o640)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
        let file = options.open(run.join(KERNEL_LOG))?;
        Ok(Self {
            file,
            room: CAP,
            problem: None,
        })
    }

    /// Adds a record, line by line.
    pub fn record(&mut self, record: &Record) {
        let origin = if record.is_the_kernels() {
            ""
        } else {
            "(from user space) "
        };
        let lines = record
            .text
            .lines()
            .map(|line| format!("{} {origin}{line}\n", time(record.time_us)));
        self.write(&lines.collect::<String>());
    }

    /// Adds what we have to say about it, at this moment.
    pub fn mark(&mut self, text: &str) {
        self.write(&format!("{} ==== {text}\n", time(now_us())));
    }

    /// Why something is missing from it.
    pub fn problem(&self) -> Option<String> {
        self.problem.as_ref().map(ToString::to_string)
    }

    fn write(&mut self, text: &str) {
        if self.room == 0 {
            return;
        }
        let fits = text.len() as u64 <= self.room;
        self.room = if fits {
            self.room - text.len() as u64
        } else {
            0
        };
        let text = if fits {
            text
        } else {
            "==== the rest is left out: this file has its full size\n"
        };
        if let Err(error) = self.file.write_all(text.as_bytes()) {
            self.problem.get_or_insert(error);
        }
    }
}

/// As dmesg(1) shows it.
fn time(us: u64) -> String {
    format!("[{:>5}.{:06}]", us / 1_000_000, us % 1_000_000)
}

/// The clock that the kernel's log is nearly on.
fn now_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000
        + u64::try_from(now.tv_nsec).unwrap_or(0) / 1000
}
