//! `kernel.log`: what the kernel said during a run, as text.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use rustix::time::{ClockId, clock_gettime};

use super::kmsg::Record;
use crate::model::file::append;

/// The file's name in the directory of a run.
pub(super) const KERNEL_LOG: &str = "kernel.log";

/// The most that is kept of it, in bytes: a kernel that is told to may log without end.
const CAP: u64 = 64 << 20;

/// The file.
pub(super) struct LogFile {
    file: File,
    room: u64,
    /// Why something is missing from it.
    pub(super) problem: Option<String>,
}

impl LogFile {
    /// The one in the directory of a run, which a run that is resumed or that several processes share may have already.
    ///
    /// # Errors
    /// It cannot be opened, or something else is in its place.
    pub(super) fn open(run: &Path) -> io::Result<Self> {
        Ok(Self {
            file: append(&run.join(KERNEL_LOG))?,
            room: CAP,
            problem: None,
        })
    }

    /// Adds a record, line by line.
    pub(super) fn record(&mut self, record: &Record) {
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
    pub(super) fn mark(&mut self, text: &str) {
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
