//! An output file of a task, which the task writes by itself, and which is cut when it grows too long.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::Duration;

use rustix::fs::{FallocateFlags, OFlags, fallocate, fcntl_setfl};

/// The middle of a file is freed once there are that many times the cap to free. What that spares all but the endless
/// outputs is not little: while the pages of a gigabyte are freed, its writer waits for a tenth of a second or more.
const SLACK: u64 = 32;

/// What part of what is kept is the end, which must be moved: an eighth is less to wait for, and still 100,000 lines.
const END: u64 = 8;

/// How much is moved at a time when a file is cut.
const CHUNK: usize = 64 << 10;

/// How soon a file that is being cut is looked at again. Nothing tells when it has its new size.
const AGAIN: Duration = Duration::from_micros(200);

/// One output file, open for appending.
#[derive(Debug)]
pub(super) struct OutputFile {
    file: File,
    /// How many bytes are kept of its start.
    start: u64,
    /// And of its end.
    end: u64,
    /// Up to where its middle has been freed.
    freed: u64,
}

/// What is left of an output file.
pub(super) struct Kept {
    /// Its size; `None` where somebody has removed it.
    pub(super) bytes: Option<u64>,
    /// Whether it was too long.
    pub(super) is_cut: bool,
}

impl OutputFile {
    /// Of `file`, up to `cap` bytes are kept. It must be open for appending, as its program may hand it to others who would
    /// overwrite each other's output, and for reading, as cutting it moves its end.
    pub(super) fn new(file: File, cap: u64) -> Self {
        Self {
            file,
            start: cap - cap / END,
            end: cap / END,
            freed: 0,
        }
    }

    /// Frees the disk space of the middle of a file that is far too long, and goes on growing meanwhile. Returns
    /// whether it did.
    pub(super) fn free_middle(&mut self) -> io::Result<bool> {
        let size = self.size()?;
        if size < self.freed {
            self.freed = 0; // its program has truncated it
        }
        let from = self.start.max(self.freed);
        let to = size.saturating_sub(self.end);
        if to <= from.saturating_add(SLACK.saturating_mul(self.start + self.end)) {
            return Ok(false);
        }
        fallocate(
            &self.file,
            FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            from,
            to - from,
        )?;
        self.freed = to;
        Ok(true)
    }

    /// Cuts a file that is too long, and which nothing writes to any more, down to its start, a line that says how
    /// many bytes are left out there, and its end. Its space may be freed a moment later.
    pub(super) fn cut(self) -> io::Result<Kept> {
        let file = rustix::fs::fstat(&self.file)?;
        let size = file.st_size.cast_unsigned();
        let of = |bytes| Some(bytes).filter(|_| file.st_nlink > 0);
        let left_out = size.saturating_sub(self.start + self.end);
        let line = format!("\n[{left_out} bytes of output left out here]\n");
        // Below that the line would be no shorter than what it stands for.
        if left_out <= line.len() as u64 {
            return Ok(Kept {
                bytes: of(size),
                is_cut: false,
            });
        }
        // On Linux, pwrite(2) to a file open for appending appends.
        fcntl_setfl(&self.file, OFlags::empty())?;
        self.file.write_all_at(line.as_bytes(), self.start)?;
        let mut to = self.start + line.len() as u64;
        let mut from = size - self.end;
        let mut chunk = vec![0; CHUNK];
        while from < size {
            let length = self.file.read_at(&mut chunk, from)?;
            if length == 0 {
                break; // someone else has truncated it
            }
            self.file.write_all_at(&chunk[..length], to)?;
            from += length as u64;
            to += length as u64;
        }
        self.shorten(to)?;
        Ok(Kept {
            bytes: of(to),
            is_cut: true,
        })
    }

    /// Cuts the file off at `length`, and lets the kernel free what was behind that on its own time: ftruncate(2) gives
    /// a file its new size first, and then takes up to a quarter of the time that writing took.
    fn shorten(self, length: u64) -> io::Result<()> {
        let file = self.file.try_clone()?;
        let Ok(freeing) = thread::Builder::new().spawn(move || file.set_len(length)) else {
            return self.file.set_len(length);
        };
        while !freeing.is_finished() {
            if self.size()? <= length {
                return Ok(());
            }
            thread::sleep(AGAIN);
        }
        freeing
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread that cuts the file panicked")))
    }

    fn size(&self) -> io::Result<u64> {
        Ok(rustix::fs::fstat(&self.file)?.st_size.cast_unsigned())
    }
}

impl AsFd for OutputFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
