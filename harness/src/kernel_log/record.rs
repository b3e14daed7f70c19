//! One record of the kernel's log, as a read(2) of `/dev/kmsg` gives it.
//!
//! Documentation/ABI/testing/dev-kmsg: `PRIORITY,NUMBER,TIME,FLAGS[,caller=ID];TEXT`, then lines of `KEY=VALUE` that
//! begin with a space. In TEXT what is not printable ASCII, and the backslash, is written `\xHH`.

use crate::model::printable::printable_within;

/// What is kept of a text, in bytes; the kernel's own limit is below it (`PRINTK_MESSAGE_MAX` in kernel/printk/internal.h).
const TEXT: usize = 4096;

/// What is kept of a caller, in bytes: `T` or `C` and a number.
const CALLER: usize = 32;

/// A record of the kernel's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The facility times eight, plus the level (syslog(2)).
    pub priority: u32,
    /// Its number: one more than that of the record before.
    pub sequence: u64,
    /// When it was logged, in microseconds of the kernel's local clock, which is nearly `CLOCK_MONOTONIC`.
    pub time_us: u64,
    /// Who logged it, where the kernel tells (`CONFIG_PRINTK_CALLER`): `T` and a thread's ID, or `C` and a CPU's number.
    pub caller: Option<String>,
    /// Its text, printable; it may have more than one line.
    pub text: String,
}

impl Record {
    /// The records in `bytes`: a read(2) of the real file gives one, and one of a file that stands for it gives several.
    /// What is no record is passed over.
    pub fn all_in(bytes: &[u8]) -> impl Iterator<Item = Self> {
        bytes
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.starts_with(b" "))
            .filter_map(Self::parse)
    }

    /// Whether the kernel itself said this. Nobody else can: what is written to /dev/kmsg as of facility 0 is made one of
    /// user space (`devkmsg_write` in kernel/printk/printk.c).
    pub fn is_the_kernels(&self) -> bool {
        self.priority >> 3 == 0
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let semicolon = memchr::memchr(b';', line)?;
        let (header, text) = (
            std::str::from_utf8(&line[..semicolon]).ok()?,
            &line[semicolon + 1..],
        );
        let mut fields = header.split(',');
        let priority = fields.next()?.parse().ok()?;
        let sequence = fields.next()?.parse().ok()?;
        let time_us = fields.next()?.parse().ok()?;
        // What newer kernels add comes after these.
        let caller = fields.find_map(|field| field.strip_prefix("caller="));
        let caller = caller.map(|caller| printable_within(caller.as_bytes(), CALLER));
        Some(Self {
            priority,
            sequence,
            time_us,
            caller,
            text: printable_within(&unescaped(text), TEXT),
        })
    }
}

fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, others @ ..] = rest {
        match escape(rest) {
            Some(byte) => {
                bytes.push(byte);
                rest = &rest[4..];
            }
            None => {
                bytes.push(*first);
                rest = others;
            }
        }
    }
    bytes
}

fn escape(text: &[u8]) -> Option<u8> {
    let [b'\\', b'x', high, low, ..] = text else {
        return None;
    };
    let digit = |byte: &u8| {
        char::from(*byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    Some(digit(high)? << 4 | digit(low)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Record {
        let all: Vec<_> = Record::all_in(text.as_bytes()).collect();
        assert_eq!(all.len(), 1, "{all:?}");
        all[0].clone()
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
            assert_eq!(Record::all_in(bytes.as_bytes()).count(), 0, "{bytes}");
        }
    }
}
