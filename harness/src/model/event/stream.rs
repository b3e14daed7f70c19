//! What a program of ours at a place tells: messages in lines that are found again among whatever else a transport prints.
//!
//! A line is `~kvm-tests~ NUMBER INDEX COUNT HASH TEXT~`: the line's number since the beginning; which of how many lines of
//! its message it is; a hash of the rest. TEXT is printable ASCII without `~`. So what comes before and behind, on the same line
//! too, is somebody else's; and whatever is missing or was changed in between is noticed.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Event;
use crate::model::planned::Fnv;
use crate::model::text;

const MARK: &str = "~kvm-tests~ ";
const END: u8 = b'~';
const ESCAPE: u8 = b'\\';

/// No pipe tears up what is not longer than 4096 bytes.
const LONGEST_TEXT: usize = 2000;

/// A line without an end is none of ours from here on.
const LONGEST_LINE: usize = 64 << 10;

/// A message. Those of a part come in the order in which everything happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// A line of its journal.
    Event(Event),
    /// A piece of a file, whose bytes come behind the message.
    File {
        /// Its path below the run's directory.
        #[serde(with = "text::path")]
        path: PathBuf,
        /// Where the piece begins in it.
        at: u64,
    },
    /// It is still there.
    Beat,
    /// That was all.
    End,
}

/// Makes lines of messages.
#[derive(Debug, Default)]
pub struct MessageWriter {
    next: u64,
}

impl MessageWriter {
    /// A message as lines, with the bytes behind it.
    pub fn lines(&mut self, message: &Message, bytes: &[u8]) -> Vec<u8> {
        let head = serde_json::to_vec(message).expect("a message has a form in JSON");
        let pieces = escaped(&[&head, b"\n".as_slice(), bytes].concat());
        let mut lines = String::new();
        for (index, piece) in pieces.iter().enumerate() {
            let place = format!("{} {index} {}", self.next, pieces.len());
            let hash = hash(&place, piece.as_bytes());
            lines.push_str(&format!("{MARK}{place} {hash} {piece}~\n"));
            self.next += 1;
        }
        lines.into_bytes()
    }
}

fn hash(place: &str, piece: &[u8]) -> String {
    Fnv::default().with(place.as_bytes()).with(piece).text()
}

/// Bytes in printable ASCII, in pieces that fit in a line.
fn escaped(bytes: &[u8]) -> Vec<String> {
    let escape = |byte: &u8| match *byte {
        b' '..=b'}' if *byte != ESCAPE => char::from(*byte).to_string(),
        _ => format!("\\{byte:02x}"),
    };
    let pieces = bytes.chunks(LONGEST_TEXT / 3);
    pieces
        .map(|piece| piece.iter().map(escape).collect())
        .collect()
}

fn unescape(piece: &[u8], text: &mut Vec<u8>) -> Option<()> {
    let mut bytes = piece.iter();
    while let Some(&byte) = bytes.next() {
        text.push(match byte {
            ESCAPE => {
                let digits = [*bytes.next()?, *bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            _ => byte,
        });
    }
    Some(())
}

/// What was read.
#[derive(Debug, PartialEq)]
pub enum Heard {
    /// A message, as it was written, and the bytes behind it.
    Message(Message, Vec<u8>),
    /// What is none.
    Noise(Vec<u8>),
    /// Lines are missing before this one, or this one is damaged: what they said is not known.
    Damage,
}

/// Finds messages in what is read.
#[derive(Debug, Default)]
pub struct MessageReader {
    line: Vec<u8>,
    /// The number of the next line.
    next: u64,
    /// Of the message that has begun: its text, and how many of its lines are there.
    text: Vec<u8>,
    lines: u64,
}

impl MessageReader {
    /// Reads on; nothing at all means that nothing comes any more.
    pub fn read(&mut self, bytes: &[u8], heard: &mut impl FnMut(Heard)) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.line.extend(piece);
            if piece.ends_with(b"\n") || self.line.len() >= LONGEST_LINE {
                self.read_line(heard);
            }
        }
        if bytes.is_empty() {
            self.read_line(heard);
        }
    }

    fn read_line(&mut self, heard: &mut impl FnMut(Heard)) {
        let line = std::mem::take(&mut self.line);
        let mut noise = |noise: &[u8]| {
            if !noise.trim_ascii().is_empty() {
                heard(Heard::Noise(noise.to_owned()));
            }
        };
        // One that was torn may stand before a whole one.
        let Some(start) = memchr::memmem::rfind(&line, MARK.as_bytes()) else {
            return noise(&line);
        };
        noise(&line[..start]);
        let inner = &line[start + MARK.len()..];
        let end = memchr::memchr(END, inner);
        end.iter().for_each(|end| noise(&inner[end + 1..]));
        match end.and_then(|end| Intact::read(&inner[..end])) {
            Some(line) => self.take(&line, heard),
            None => heard(Heard::Damage),
        }
    }

    fn take(&mut self, line: &Intact, heard: &mut impl FnMut(Heard)) {
        let is_next = line.number == self.next;
        self.next = line.number.saturating_add(1);
        if !is_next {
            heard(Heard::Damage);
        }
        if line.index == 0 {
            self.text.clear();
        } else if !is_next || self.lines != line.index {
            self.lines = 0;
            return;
        }
        self.text.extend(&line.text);
        self.lines = line.index + 1;
        if self.lines == line.count {
            heard(message_of(&self.text).unwrap_or(Heard::Damage));
        }
    }
}

fn message_of(text: &[u8]) -> Option<Heard> {
    let head = memchr::memchr(b'\n', text)?;
    let message = serde_json::from_slice(&text[..head]).ok()?;
    Some(Heard::Message(message, text[head + 1..].to_owned()))
}

/// A line that is intact.
struct Intact {
    number: u64,
    index: u64,
    count: u64,
    text: Vec<u8>,
}

impl Intact {
    fn read(inner: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(inner).ok()?.splitn(5, ' ');
        let (number, index, count) = (words.next()?, words.next()?, words.next()?);
        let (written, piece) = (words.next()?, words.next()?.as_bytes());
        let is_intact = hash(&format!("{number} {index} {count}"), piece) == written;
        is_intact.then_some(())?;
        let mut text = Vec::new();
        unescape(piece, &mut text)?;
        Some(Self {
            number: number.parse().ok()?,
            index: index.parse().ok()?,
            count: count.parse().ok()?,
            text,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    fn heard(bytes: &[u8]) -> Vec<Heard> {
        let mut reader = MessageReader::default();
        let mut all = Vec::new();
        reader.read(bytes, &mut |one| all.push(one));
        reader.read(b"", &mut |one| all.push(one));
        all
    }

    fn beat(behind: &str) -> Heard {
        Heard::Message(Message::Beat, behind.as_bytes().to_owned())
    }

    fn noise(noise: &str) -> Heard {
        Heard::Noise(noise.as_bytes().to_owned())
    }

    #[test]
    fn messages_are_found_among_what_a_transport_prints() {
        let mut writer = MessageWriter::default();
        let mut line = |text: &str| {
            let lines = writer.lines(&Message::Beat, text.as_bytes());
            String::from_utf8(lines).unwrap()
        };
        let (one, two, three) = (line("~\\ ü\n"), line(""), line("3"));
        assert!(one.is_ascii() && one.len() < 4096);
        let (two, three) = (two.trim_end(), three.trim_end());
        let all =
            format!("Welcome\r\n[ 1.2] torn {one}\r\n{two}[ 1.3] x\r\n~kvm-tests~ 2 {three}\n$ ");
        let expected = [
            noise("Welcome\r\n"),
            noise("[ 1.2] torn "),
            beat("~\\ ü\n"),
            noise("[ 1.3] x\r\n"),
            beat(""),
            noise("~kvm-tests~ 2 "),
            beat("3"),
            noise("$ "),
        ];
        assert_eq!(heard(all.as_bytes()), expected);
    }

    #[test]
    fn what_is_missing_or_changed_is_noticed() {
        let long = "x".repeat(LONGEST_TEXT);
        let lines = || {
            let mut writer = MessageWriter::default();
            let all = ["a", &long, "b"].map(|text| writer.lines(&Message::Beat, text.as_bytes()));
            let all = String::from_utf8(all.concat()).unwrap();
            let lines = all.split_inclusive('\n').map(str::to_owned);
            lines.collect::<Vec<_>>()
        };
        let whole = lines().concat();
        assert_eq!(heard(whole.as_bytes()), [beat("a"), beat(&long), beat("b")]);
        assert!(lines().len() > 4);
        for missing in 1..lines().len() - 1 {
            let mut lines = lines();
            lines.remove(missing);
            let expected = [beat("a"), Heard::Damage, beat("b")];
            assert_eq!(heard(lines.concat().as_bytes()), expected);
        }
        let cut = &whole[..whole.len() - 3];
        assert_eq!(heard(cut.as_bytes()).last(), Some(&Heard::Damage));
    }

    proptest! {
        #[test]
        fn any_bytes_come_back_and_none_that_were_not_sent(
            texts in vec(vec(any::<u8>(), 0..5000), 1..4), at in any::<usize>(), byte in any::<u8>()
        ) {
            let mut writer = MessageWriter::default();
            let lines = texts.iter().map(|text| writer.lines(&Message::Beat, text));
            let mut all: Vec<u8> = lines.flatten().collect();
            let sent = texts.into_iter().map(|text| Heard::Message(Message::Beat, text));
            let sent: Vec<_> = sent.collect();
            prop_assert_eq!(&heard(&all), &sent);
            let at = at % all.len();
            all[at] = byte;
            let is_sent = |one: &Heard| !matches!(one, Heard::Message(..)) || sent.contains(one);
            prop_assert!(heard(&all).iter().all(is_sent));
        }
    }
}
