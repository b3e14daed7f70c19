//! Untrusted bytes as text: made harmless, for a terminal; or with nothing lost, for JSON.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// Where [`printable`] cuts, in bytes of text.
const LIMIT: usize = 4096;

/// The text of untrusted `bytes`, of at most 4 KiB; see [`printable_within`].
pub fn printable(bytes: &[u8]) -> String {
    printable_within(bytes, LIMIT)
}

/// Untrusted `text` as one line of at most 4 KiB: its newlines are spelled out, too.
pub fn one_line(text: &str) -> String {
    printable(text.as_bytes()).replace('\n', "\\n")
}

/// The last `limit` bytes of the text of `bytes`, which are the end of something longer if `is_cut`; with `…` before it where
/// something was left out.
pub fn printable_end(bytes: &[u8], is_cut: bool, limit: usize) -> String {
    // The rest of a character that was cut through is no character.
    let is_rest = |byte: &&u8| is_cut && **byte & 0xc0 == 0x80;
    let rest = bytes.iter().take(3).take_while(is_rest).count();
    let text = printable_within(&bytes[rest..], usize::MAX);
    let surplus = text.len().saturating_sub(limit);
    let start = (surplus..=text.len()).find(|&at| text.is_char_boundary(at));
    match start.unwrap_or_default() {
        0 if !is_cut => text,
        start => format!("…{}", &text[start..]),
    }
}

/// The text of untrusted `bytes`: of at most `limit` bytes, plus a `…` where it had to be cut.
///
/// Escape sequences of terminals are left out. Newlines and tabs stay. Other control characters, what is not UTF-8, and
/// the characters that turn or hide the text around them are spelled out (`\x07`, `\xff`, `\u{202e}`).
pub fn printable_within(bytes: &[u8], limit: usize) -> String {
    // Nothing beyond this can matter, unless escape sequences take up all of it: such text is as good as empty.
    let seen = &bytes[..bytes.len().min(limit.saturating_mul(4).saturating_add(4))];
    let mut text = String::new();
    let mut is_cut = seen.len() < bytes.len();
    for piece in plain_parts(seen).flat_map(pieces) {
        if text.len() + piece.len() > limit {
            is_cut = true;
            break;
        }
        text.push_str(&piece);
    }
    if is_cut {
        text.push('…');
    }
    text
}

/// What stands between the escape sequences.
fn plain_parts(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        while rest.first() == Some(&ESC) {
            rest = &rest[escape_sequence(rest)..];
        }
        let end = memchr::memchr(ESC, rest).unwrap_or(rest.len());
        let (plain, after) = rest.split_at(end);
        rest = after;
        (!plain.is_empty()).then_some(plain)
    })
}

/// The characters of a text as they are shown, without the carriage returns at the ends of its lines.
fn pieces(bytes: &[u8]) -> impl Iterator<Item = Cow<'_, str>> {
    bytes.utf8_chunks().flat_map(|chunk| {
        let valid = chunk.valid();
        let characters = valid.char_indices().filter_map(move |(at, character)| {
            let (this, after) = valid[at..].split_at(character.len_utf8());
            let ends_line = after.is_empty() || after.starts_with('\n');
            (character != '\r' || !ends_line).then(|| shown(this, character))
        });
        let invalid = chunk.invalid().iter();
        characters.chain(invalid.map(|byte| format!("\\x{byte:02x}").into()))
    })
}

/// `1 case`, `2 cases`.
pub fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// The first `most` of these names.
pub fn named(names: &[impl AsRef<str>], most: usize) -> String {
    let shown = names.iter().take(most);
    let shown = shown.map(|name| one_line(name.as_ref()));
    let shown = shown.collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(most) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

const ESC: u8 = 0x1b;

/// A character, which is all of `text`: as it is, or spelled out.
fn shown(text: &str, character: char) -> Cow<'_, str> {
    match character {
        '\n' | '\t' | ' '..='~' => text.into(),
        '\0'..='\x1f' | '\x7f' => format!("\\x{:02x}", u32::from(character)).into(),
        // C1 controls; zero-width and bidirectional marks, embeddings, overrides and isolates; line separators; tags; and what
        // is no character, which XML and HTML cannot have.
        '\u{80}'..='\u{9f}'
        | '\u{61c}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fdd0}'..='\u{fdef}'
        | '\u{e0000}'..='\u{e007f}' => character.escape_unicode().to_string().into(),
        _ if u32::from(character) & 0xfffe == 0xfffe => {
            character.escape_unicode().to_string().into()
        }
        _ => text.into(),
    }
}

/// The length of the escape sequence (ECMA-48) that `bytes` begin with, 1 where the ESC stands alone.
pub fn escape_sequence(bytes: &[u8]) -> usize {
    let end_of = |from: usize, is_last: fn(&u8) -> bool| {
        bytes[from..]
            .iter()
            .position(is_last)
            .map_or(bytes.len(), |last| from + last + 1)
    };
    match bytes.get(1) {
        // CSI: parameters, then a final byte. A byte that can be neither is no part of it.
        Some(b'[') => match bytes[2..]
            .iter()
            .position(|byte| !(0x20..=0x3f).contains(byte))
        {
            Some(last) if (0x40..=0x7e).contains(&bytes[2 + last]) => 2 + last + 1,
            Some(last) => 2 + last,
            None => bytes.len(),
        },
        // OSC, DCS, SOS, PM and APC: up to BEL or `ESC \`, and never beyond the line.
        Some(b']' | b'P' | b'X' | b'^' | b'_') => {
            let end = end_of(2, |&byte| matches!(byte, 0x07 | ESC | b'\n'));
            match bytes.get(end - 1) {
                Some(&ESC) if bytes.get(end) == Some(&b'\\') => end + 1,
                Some(&(ESC | b'\n')) if end > 2 => end - 1,
                _ => end,
            }
        }
        Some(0x20..=0x2f) => end_of(2, |byte| !(0x20..=0x2f).contains(byte)),
        Some(0x30..=0x7e) => 2,
        _ => 1,
    }
}

/// `bytes`, a path or an argument, as text from which [`decode`] gets them back: one that is no UTF-8 is `\xNN`, and a
/// backslash is `\\`; all else is as it is.
pub fn encode(bytes: &OsStr) -> String {
    let mut text = String::new();
    for chunk in bytes.as_bytes().utf8_chunks() {
        text.push_str(&chunk.valid().replace('\\', r"\\"));
        for byte in chunk.invalid() {
            write!(text, r"\x{byte:02x}").expect("write to a string");
        }
    }
    text
}

/// The bytes of what [`encode`] wrote; what it would not have written stays as it is.
pub fn decode(text: &str) -> OsString {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let hex = after.strip_prefix('x').and_then(|hex| hex.get(..2));
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        rest = match byte {
            Some(byte) => {
                bytes.push(byte);
                &after[3..]
            }
            None => {
                bytes.push(b'\\');
                after.strip_prefix('\\').unwrap_or(after)
            }
        };
    }
    bytes.extend_from_slice(rest.as_bytes());
    OsString::from_vec(bytes)
}

/// For `#[serde(with = "text::path")]`.
pub mod path {
    use std::path::Path;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::{PathBuf, decode, encode};

    /// Writes a path.
    pub fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&encode(path.as_os_str()))
    }

    /// Reads a path.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        Ok(decode(&String::deserialize(deserializer)?).into())
    }
}

/// For `#[serde(with = "text::optional_path")]`.
pub mod optional_path {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{PathBuf, decode, encode};

    /// Writes a path, if there is one.
    pub fn serialize<S: Serializer>(
        path: &Option<PathBuf>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let text = path.as_ref().map(|path| encode(path.as_os_str()));
        text.serialize(serializer)
    }

    /// Reads a path, if there is one.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<PathBuf>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        Ok(text.map(|text| decode(&text).into()))
    }
}

/// For `#[serde(with = "text::os_strings")]`: a list of arguments.
pub mod os_strings {
    use std::ffi::{OsStr, OsString};

    use serde::{Deserialize, Deserializer, Serializer};

    use super::{decode, encode};

    /// Writes them.
    pub fn serialize<S: Serializer>(
        list: &[impl AsRef<OsStr>],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(list.iter().map(|one| encode(one.as_ref())))
    }

    /// Reads them.
    pub fn deserialize<'de, T: From<OsString>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<T>, D::Error> {
        let list = Vec::<String>::deserialize(deserializer)?;
        Ok(list.iter().map(|text| T::from(decode(text))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_drive_a_terminal_is_removed_or_spelled_out() {
        for (bytes, text) in [
            (&b"plain \xc3\xa9"[..], "plain é"),
            (b"\x1b[1;31mred\x1b[0m", "red"),
            (b"\x1b]0;title\x07after", "after"),
            (b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
            (b"\x1b]never ended\nnext", "\nnext"),
            (b"\x1b(Bx\x1bcy\x1b", "xy"),
            (b"\x1b[3\nx", "\nx"),
            (b"a\0b\x07\x08\x7f", "a\\x00b\\x07\\x08\\x7f"),
            (b"10%\r20%\r\nend\r", "10%\\x0d20%\nend"),
            (b"\xff\xfe ok", "\\xff\\xfe ok"),
            (b"\xc2\x9b31m", "\\u{9b}31m"),
            ("\u{202e}evil\u{2066}".as_bytes(), "\\u{202e}evil\\u{2066}"),
            (b"tab\tnew\nline", "tab\tnew\nline"),
            ("\u{ffff}".as_bytes(), "\\u{ffff}"),
            ("\u{1fffe}\u{fdd0}".as_bytes(), "\\u{1fffe}\\u{fdd0}"),
        ] {
            assert_eq!(printable(bytes), text);
        }
    }

    #[test]
    fn a_newline_makes_no_second_line() {
        assert_eq!(
            one_line("sleep\nFAILED a::b\t\x1b[31m"),
            "sleep\\nFAILED a::b\t"
        );
    }

    #[test]
    fn the_first_few_names_are_told() {
        assert_eq!(named(&["a", "b\n"], 2), "a, b\\n");
        assert_eq!(named(&["a", "b", "c"], 1), "a and 2 more");
    }

    #[test]
    fn an_end_begins_with_a_character_too() {
        let end = |text: &[u8], is_cut| printable_end(text, is_cut, 4);
        assert_eq!([end(b"", false), end(b"abcd", false)], ["", "abcd"]);
        assert_eq!(
            [end(b"abcde", false), end(b"bcde", true)],
            ["…bcde", "…bcde"]
        );
        assert_eq!(printable_end("éé".as_bytes(), false, 3), "…é");
        assert_eq!(end(b"\xa9x", true), "…x");
        assert_eq!(printable_end(&b"\0".repeat(50), false, 8), "…\\x00\\x00");
    }

    #[test]
    fn text_is_cut_at_a_character() {
        assert_eq!(printable_within("éééé".as_bytes(), 5), "éé…");
        assert_eq!(printable_within(b"ab\0cd", 5), "ab…");
        assert_eq!(printable_within(b"abcde", 5), "abcde");
        assert_eq!(printable_within(&b"\x1b[0m".repeat(10_000), 5), "…");
    }

    #[test]
    fn any_bytes_come_back_and_plain_text_is_plain() {
        for bytes in [
            &b"/plain/p\xc3\xa4th"[..],
            b"a\xffb\\xff\\",
            b"\\\\x00",
            b"",
            b"\xc3",
        ] {
            let bytes = OsStr::from_bytes(bytes);
            assert_eq!(decode(&encode(bytes)), bytes);
        }
        assert_eq!(encode(OsStr::from_bytes(b"a\xff")), r"a\xff");
        assert_eq!(encode("/plain/päth".as_ref()), "/plain/päth");
    }
}
