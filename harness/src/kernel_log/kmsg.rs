//! `/dev/kmsg`, read record by record without waiting.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::record::Record;
use crate::environment::root::Root;

/// Where the kernel's log is.
const PATH: &str = "/dev/kmsg";

/// No record is longer with its dictionary (`PRINTK_MESSAGE_MAX` in kernel/printk/internal.h, and some more).
const BUFFER: usize = 8192;

/// The kernel's log from a moment on.
#[derive(Debug)]
pub struct Kmsg<R = File> {
    file: R,
    buffer: Vec<u8>,
    /// The number of the last record that was read.
    last: Option<u64>,
    is_overrun: bool,
}

/// What a read brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A record.
    Record(Record),
    /// Records were overwritten before they were read: so many, where that is known.
    Lost(Option<u64>),
}

/// Why there is nothing more to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// There will be more.
    NotYet,
    /// The file is at its end, as one that stands for /dev/kmsg may be.
    End,
}

impl Kmsg {
    /// The log from now on.
    ///
    /// # Errors
    /// It may not be read: `EPERM` without `CAP_SYSLOG` where `kernel.dmesg_restrict` is 1.
    pub fn open(root: &Root) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::open(root.path(PATH), flags, Mode::empty())?);
        match file.seek(SeekFrom::End(0)) {
            Err(error) if error.raw_os_error() != Some(Errno::SPIPE.raw_os_error()) => Err(error),
            // A pipe that stands for it has no past.
            _ => Ok(Self::from_reader(file)),
        }
    }

    /// The file, to be polled.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl<R: Read> Kmsg<R> {
    /// What reads like /dev/kmsg.
    pub fn from_reader(file: R) -> Self {
        Self {
            file,
            buffer: vec![0; BUFFER],
            last: None,
            is_overrun: false,
        }
    }

    /// Reads what there is.
    ///
    /// # Errors
    /// It cannot be read any more.
    pub fn drain(&mut self, mut each: impl FnMut(News)) -> io::Result<Rest> {
        loop {
            let length = match self.file.read(&mut self.buffer) {
                Ok(0) => return Ok(Rest::End),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Rest::NotYet),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // The next one was overwritten; reading goes on at the oldest that is left.
                Err(error) if error.raw_os_error() == Some(Errno::PIPE.raw_os_error()) => {
                    self.is_overrun = true;
                    continue;
                }
                Err(error) => return Err(error),
            };
            for record in Record::all_in(&self.buffer[..length]) {
                if std::mem::take(&mut self.is_overrun) {
                    let lost = self
                        .last
                        .map(|last| record.sequence.saturating_sub(last.saturating_add(1)));
                    each(News::Lost(lost));
                }
                self.last = Some(record.sequence);
                each(News::Record(record));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one of these at each read.
    struct Script(Vec<Result<&'static [u8], Errno>>);

    impl Read for Script {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let bytes = if self.0.is_empty() {
                Err(Errno::AGAIN)
            } else {
                self.0.remove(0)
            }?;
            buffer[..bytes.len()].copy_from_slice(bytes);
            Ok(bytes.len())
        }
    }

    fn news(reads: Vec<Result<&'static [u8], Errno>>) -> (Vec<String>, io::Result<Rest>) {
        let mut all = Vec::new();
        let rest = Kmsg::from_reader(Script(reads)).drain(|news| {
            all.push(match news {
                News::Record(record) => record.text,
                News::Lost(count) => format!("{count:?}"),
            });
        });
        (all, rest)
    }

    #[test]
    fn an_overrun_tells_how_many_records_were_lost() {
        let reads = vec![
            Ok(&b"6,7,1,-;seven"[..]),
            Err(Errno::INTR),
            Err(Errno::PIPE),
            Err(Errno::PIPE),
            Ok(b"6,100,2,-;hundred"),
            Ok(b"6,101,2,-;next"),
        ];
        let (all, rest) = news(reads);
        assert_eq!(all, ["seven", "Some(92)", "hundred", "next"]);
        assert_eq!(rest.unwrap(), Rest::NotYet);
        assert_eq!(
            news(vec![Err(Errno::PIPE), Ok(b"6,100,2,-;hundred")]).0,
            ["None", "hundred"]
        );
    }

    #[test]
    fn a_file_of_several_records_is_read_to_its_end() {
        let (all, rest) = news(vec![Ok(b"6,1,1,-;a\n K=V\n6,2,1,-;b\n"), Ok(b"")]);
        assert_eq!(all, ["a", "b"]);
        assert_eq!(rest.unwrap(), Rest::End);
        assert!(news(vec![Err(Errno::INVAL)]).1.is_err());
    }
}
