//! What a task prints to one of its streams: read from a pipe, and kept in a file of limited size.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::model::file;
use crate::model::outcome::Printed;

/// How many bytes are kept of the start of an output, and of the end of a longer one.
const KEPT: [u64; 2] = [56 << 20, 8 << 20];

/// How much is read or moved at a time. A pipe holds as much, unless it is made larger (pipe(7)).
pub(super) const CHUNK: usize = 64 << 10;

/// The output of a task to one stream.
pub(super) struct Output {
    /// `None` once nobody can write to it any more.
    pipe: Option<OwnedFd>,
    path: PathBuf,
    /// Of a long output, what comes after its start goes round in the last part of the file.
    file: File,
    /// How many bytes are kept of its start, and of its end.
    pub(super) kept: [u64; 2],
    /// How many bytes there were.
    printed: u64,
    /// Why they are not all in the file.
    error: Option<io::Error>,
}

impl Output {
    /// Creates the file `base.stream`, and a pipe for what is to be in it, the end of which for writing comes along.
    pub(super) fn create(base: &Path, stream: &str) -> Result<(Self, OwnedFd), String> {
        let path = base.with_extension(stream);
        let file = create(base, stream);
        let file = file.map_err(|error| format!("create {}: {error}", path.display()))?;
        let pipe = pipe_with(PipeFlags::CLOEXEC)
            .and_then(|(read, write)| fcntl_setfl(&read, OFlags::NONBLOCK).map(|()| (read, write)));
        let (read, write) = pipe.map_err(|error| format!("make a pipe: {error}"))?;
        let output = Self {
            pipe: Some(read),
            path,
            file,
            kept: KEPT,
            printed: 0,
            error: None,
        };
        Ok((output, write))
    }

    /// What is readable when something was printed, or nothing can be any more.
    pub(super) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Takes from the pipe what is there, at most a [`CHUNK`], and keeps it. Empty where there is nothing.
    pub(super) fn read<'a>(&mut self, chunk: &'a mut [u8; CHUNK]) -> &'a [u8] {
        let Some(pipe) = &self.pipe else {
            return &[];
        };
        let length = match rustix::io::read(pipe, &mut chunk[..]) {
            Ok(length) if length > 0 => length,
            // Our own signals come in between, and a task may read from the pipe itself.
            Err(Errno::INTR | Errno::AGAIN) => return &[],
            Ok(_) | Err(_) => {
                self.pipe = None;
                return &[];
            }
        };
        self.keep(&chunk[..length]);
        &chunk[..length]
    }

    /// Adds to the file. After an error only counts.
    pub(super) fn keep(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (at, room) = self.place_of(self.printed);
            let (now, rest) = bytes.split_at(bytes.len().min(room as usize));
            if self.error.is_none() {
                self.error = self.file.write_all_at(now, at).err();
            }
            self.printed += now.len() as u64;
            bytes = rest;
        }
    }

    /// Ends the file; how much was printed, and why not all of that could be kept.
    pub(super) fn end(mut self) -> (Printed, Option<String>) {
        let bytes = self.printed;
        let cut = match self.error {
            None if bytes > self.kept.iter().sum() => self.put_in_order(),
            _ => 0,
        };
        let path = self.path.display();
        let error = self.error.map(|error| format!("write {path}: {error}"));
        let is_there = file::check_in_place(&self.file, &self.path);
        let is_gone = is_there.err().map(|error| format!("keep {path}: {error}"));
        (Printed { bytes, cut }, error.or(is_gone))
    }

    /// Puts the end in order, with a line before it that says how many bytes are left out there; returns how many these
    /// are. It takes no more space, in case the disk is full.
    fn put_in_order(&mut self) -> u64 {
        let all = self.printed;
        let line = |cut| format!("\n[{cut} bytes of output left out here]\n");
        // The line takes the place of what was printed first of the end. It may be one byte shorter than that.
        let beyond = all - self.kept.iter().sum::<u64>();
        let size = line(beyond + 64).len();
        let cut = beyond + size as u64;
        self.keep(format!("{:\n>size$}", line(cut)).as_bytes());
        if self.error.is_none() {
            self.error = self.rotate(self.place_of(all).0).err();
        }
        cut
    }

    /// Lets the end begin with this byte of the file.
    fn rotate(&self, first: u64) -> io::Result<()> {
        let [start, length] = self.kept;
        let mut end = vec![0; length as usize];
        self.file.read_exact_at(&mut end, start)?;
        end.rotate_left((first - start) as usize);
        self.file.write_all_at(&end, start)
    }

    /// Where in its file the byte of this number is written, and how many can follow it there.
    fn place_of(&self, number: u64) -> (u64, u64) {
        let [start, end] = self.kept;
        match number.checked_sub(start) {
            None => (number, start - number),
            Some(beyond) => (start + beyond % end, end - beyond % end),
        }
    }
}

/// Creates a file. One that is in its place, of a run that is gone on with, is put aside as `NAME.1`, or the next
/// number that is free.
fn create(base: &Path, stream: &str) -> io::Result<File> {
    let path = base.with_extension(stream);
    match file::create_new(&path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        created => return created,
    }
    let mut names = (1..).map(|number: u32| base.with_extension(format!("{stream}.{number}")));
    let is_free = |name: &PathBuf| name.symlink_metadata().is_err();
    fs::rename(
        &path,
        names.find(is_free).expect("there are enough numbers"),
    )?;
    file::create_new(&path)
}
