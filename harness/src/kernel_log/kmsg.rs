//! `/dev/kmsg`, read record by record without waiting.
//!
//! Documentation/ABI/testing/dev-kmsg: each read(2) gives `PRIORITY,NUMBER,TIME,FLAGS[,caller=ID];TEXT`, then lines of
//! `KEY=VALUE` that begin with a space. In TEXT what is not printable ASCII, and the backslash, is written `\xHH`.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use rustix::fs::{Mode, OFlags, major, minor};

use crate::model::host::Root;
use crate::model::text::printable_within;

/// The device's numbers: `MEM_MAJOR` in include/uapi/linux/major.h, `devlist` in drivers/char/mem.c.
const DEVICE: (u32, u32) = (1, 11);

/// No record is longer with its dictionary (`PRINTK_MESSAGE_MAX` in kernel/printk/internal.h, and some more).
const BUFFER: usize = 8192;

/// What is kept of a text, in bytes; the kernel's own limit is below it.
const TEXT: usize = 4096;

/// The kernel's log from a moment on.
pub struct Kmsg<R = File> {
    /// The file, to be polled.
    pub(super) file: R,
    buffer: Vec<u8>,
    /// The number of the last record that was read.
    last: Option<u64>,
    is_overrun: bool,
}

/// A record of the kernel's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The facility times eight, plus the level (syslog(2)).
    priority: u32,
    /// Its number: one more than that of the record before.
    sequence: u64,
    /// When it was logged, in microseconds of the kernel's local clock, which is nearly `CLOCK_MONOTONIC`.
    pub(super) time_us: u64,
    /// Who logged it, where the kernel tells (`CONFIG_PRINTK_CALLER`): `T` and a thread's ID, or `C` and a CPU's number.
    pub(super) caller: Option<String>,
    /// Its text, printable; it may have more than one line.
    pub text: String,
    /// How many records before it were overwritten before they were read, at least.
    pub(super) lost: u64,
}

impl Kmsg {
    /// The log from now on.
    ///
    /// # Errors
    /// It may not be read (`EPERM` without `CAP_SYSLOG` where `kernel.dmesg_restrict` is 1), or something else is in its
    /// place, as in many containers.
    pub fn open(root: &Root) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let mut file = File::from(rustix::fs::open(
            root.path("/dev/kmsg"),
            flags,
            Mode::empty(),
        )?);
        if !is_log(&file.metadata()?, root) {
            return Err(io::Error::other("it is not the kernel's log"));
        }
        match file.seek(SeekFrom::End(0)) {
            Err(error) if error.kind() != ErrorKind::NotSeekable => Err(error),
            // A pipe that stands for it has no past.
            _ => Ok(Self::from_reader(file)),
        }
    }
}

/// Whether this is the kernel's log, or a file or a pipe that stands for it.
fn is_log(file: &Metadata, root: &Root) -> bool {
    let kind = file.file_type();
    if kind.is_char_device() {
        (major(file.rdev()), minor(file.rdev())) == DEVICE
    } else {
        !root.is_host() && (kind.is_file() || kind.is_fifo())
    }
}

impl<R: Read> Kmsg<R> {
    /// What reads like /dev/kmsg.
    pub(super) fn from_reader(file: R) -> Self {
        Self {
            file,
            buffer: vec![0; BUFFER],
            last: None,
            is_overrun: false,
        }
    }

    /// Reads what there is. Returns whether the file is at its end, as one that stands for /dev/kmsg may be.
    ///
    /// # Errors
    /// It cannot be read any more.
    pub fn drain(&mut self, mut each: impl FnMut(Record)) -> io::Result<bool> {
        loop {
            let length = match self.file.read(&mut self.buffer) {
                Ok(0) => return Ok(true),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // The next one was overwritten; reading goes on at the oldest that is left.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                    self.is_overrun = true;
                    continue;
                }
                Err(error) => return Err(error),
            };
            // The real one gives one record at a time, a file that stands for it several. What is no record is passed over.
            let lines = self.buffer[..length].split(|&byte| byte == b'\n');
            for mut record in lines.filter_map(Record::parse) {
                if std::mem::take(&mut self.is_overrun) {
                    let last = self.last.unwrap_or(record.sequence);
                    record.lost = record.sequence.saturating_sub(last).max(2) - 1;
                }
                self.last = Some(record.sequence);
                each(record);
            }
        }
    }
}

impl Record {
    /// Whether the kernel itself said this. Nobody else can: what is written to /dev/kmsg as of facility 0 is made one of
    /// user space (`devkmsg_write` in kernel/printk/printk.c).
    pub(super) fn is_the_kernels(&self) -> bool {
        self.priority >> 3 == 0
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let semicolon = memchr::memchr(b';', line)?;
        let (header, text) = line.split_at(semicolon);
        let mut fields = std::str::from_utf8(header).ok()?.split(',');
        let priority = fields.next()?.parse().ok()?;
        let sequence = fields.next()?.parse().ok()?;
        let time_us = fields.next()?.parse().ok()?;
        // What newer kernels add comes after these.
        let caller = fields.find_map(|field| field.strip_prefix("caller="));
        Some(Self {
            priority,
            sequence,
            time_us,
            caller: caller.map(|caller| printable_within(caller.as_bytes(), 32)),
            text: printable_within(&unescaped(&text[1..]), TEXT),
            lost: 0,
        })
    }
}

fn unescaped(mut text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    while let Some((&first, others)) = text.split_first() {
        let code = text.strip_prefix(b"\\x").and_then(|code| code.get(..2));
        let code = code.filter(|code| code.iter().all(u8::is_ascii_hexdigit));
        let code = code.and_then(|code| std::str::from_utf8(code).ok());
        let byte = code.and_then(|code| u8::from_str_radix(code, 16).ok());
        bytes.push(byte.unwrap_or(first));
        text = byte.map_or(others, |_| &text[4..]);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    fn one(text: &str) -> Record {
        let mut all = Vec::new();
        Kmsg::from_reader(text.as_bytes())
            .drain(|record| all.push(record))
            .unwrap();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    #[test]
    fn a_record_is_its_header_and_its_text_without_the_dictionary() {
        let record =
            one("6,339,5140900,-;NET: Registered protocol family 10\n SUBSYSTEM=net\n DEVICE=n1\n");
        assert_eq!(
            (record.priority, record.sequence, record.time_us),
            (6, 339, 5_140_900)
        );
        assert_eq!(
            (record.caller, record.text.as_str()),
            (None, "NET: Registered protocol family 10")
        );
        let record = one("4,1,2,-,caller=T123,more=x;a;b,c\n");
        assert_eq!(
            (record.caller.as_deref(), record.text.as_str()),
            (Some("T123"), "a;b,c")
        );
    }

    #[test]
    fn escapes_are_read_and_what_could_drive_a_terminal_is_not_passed_on() {
        assert_eq!(
            one("4,1,2,-;two\\x0alines \\x5cx0a \\xc3\\xa9 \\xzz \\x1b[31mred\\x07\n").text,
            "two\nlines \\x0a é \\xzz red\\x07"
        );
    }

    #[test]
    fn only_facility_0_is_the_kernels_own() {
        for (priority, is_the_kernels) in
            [(0, true), (7, true), (8, false), (12, false), (30, false)]
        {
            assert_eq!(
                one(&format!("{priority},1,2,-;x")).is_the_kernels(),
                is_the_kernels,
                "{priority}"
            );
        }
    }

    #[test]
    fn what_is_no_record_is_passed_over() {
        for bytes in [
            "",
            "\n",
            "no semicolon",
            ";",
            "4,1;x",
            "4,1,-;x",
            "-1,2,3,-;x",
            " 4,1,2,-;x",
        ] {
            let mut lines = bytes.as_bytes().split(|&byte| byte == b'\n');
            assert!(lines.all(|line| Record::parse(line).is_none()), "{bytes}");
        }
    }

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

    fn read(reads: Vec<Result<&'static [u8], Errno>>) -> (Vec<(String, u64)>, Option<bool>) {
        let mut all = Vec::new();
        let each = |record: Record| all.push((record.text, record.lost));
        let is_at_end = Kmsg::from_reader(Script(reads)).drain(each);
        (all, is_at_end.ok())
    }

    fn records(records: &[(&str, u64)]) -> Vec<(String, u64)> {
        let records = records.iter();
        records
            .map(|(text, lost)| ((*text).to_owned(), *lost))
            .collect()
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
        let expected = records(&[("seven", 0), ("hundred", 92), ("next", 0)]);
        assert_eq!(read(reads), (expected, Some(false)));
        let reads = vec![Err(Errno::PIPE), Ok(&b"6,100,2,-;hundred"[..])];
        assert_eq!(read(reads).0, records(&[("hundred", 1)]));
    }

    #[test]
    fn a_file_of_several_records_is_read_to_its_end() {
        let reads = vec![Ok(&b"6,1,1,-;a\n K=V\n6,2,1,-;b\n"[..]), Ok(b"")];
        assert_eq!(read(reads), (records(&[("a", 0), ("b", 0)]), Some(true)));
        assert_eq!(read(vec![Err(Errno::INVAL)]).1, None);
    }
}
