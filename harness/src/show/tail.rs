//! The end of an output file, as text that may be shown anywhere.

use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::path::Path;

use crate::log::no_links;
use crate::model::outcome::Outcome;
use crate::model::printable::printable_within;

/// The file that a case's own process has as its standard output, in the case's directory.
pub const STDOUT: &str = "command.stdout";

/// The file that it has as its standard error.
pub const STDERR: &str = "command.stderr";

/// The printable end of the file `name` of `outcome`'s output, in the run's directory: see [`tail`]. Empty where there is
/// no such file; where it cannot be read, the text says so.
pub fn tail_of(outcome: &Outcome, run: impl AsFd, name: &str, limit: usize) -> String {
    let Some(place) = &outcome.output else {
        return String::new();
    };
    let size = match name {
        STDOUT => outcome.stdout_bytes,
        STDERR => outcome.stderr_bytes,
        _ => None,
    };
    if size == Some(0) {
        return String::new();
    }
    match tail(run, &place.join(name), limit) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => format!("(cannot read {name}: {error})"),
    }
}

/// The end of the file at `place` in the directory `run`: at most `limit` bytes of printable text, with `…` before it where
/// something was left out.
///
/// # Errors
/// It cannot be read, is no regular file, or is reached through a link in `place`.
pub fn tail(run: impl AsFd, place: &Path, limit: usize) -> io::Result<String> {
    let (bytes, skipped) = last_bytes(run, place, limit)?;
    Ok(end_of(&bytes, skipped > 0, limit))
}

/// The last bytes of that file, at most `limit`, and how many there are before them.
///
/// # Errors
/// As [`tail`] has them.
pub fn last_bytes(run: impl AsFd, place: &Path, limit: usize) -> io::Result<(Vec<u8>, u64)> {
    let (mut file, length) = no_links::open_beneath(run, place)?;
    if length == 0 {
        return Ok((Vec::new(), 0));
    }
    // A file that is being written may have grown meanwhile.
    let skipped = length.saturating_sub(limit as u64);
    file.seek(SeekFrom::Start(skipped))?;
    let mut bytes = Vec::with_capacity(limit.min(usize::try_from(length).unwrap_or(limit)));
    file.take(limit as u64).read_to_end(&mut bytes)?;
    Ok((bytes, skipped))
}

fn end_of(bytes: &[u8], is_cut: bool, limit: usize) -> String {
    // The rest of a character that was cut through is no character.
    let continued = bytes
        .iter()
        .take(3)
        .take_while(|&&byte| is_cut && byte & 0xc0 == 0x80)
        .count();
    let text = printable_within(&bytes[continued..], usize::MAX);
    let surplus = text.len().saturating_sub(limit);
    let start = (surplus..)
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(surplus);
    if !is_cut && start == 0 {
        return text;
    }
    format!("…{}", &text[start..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail_of_bytes(bytes: &[u8], limit: usize) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let root = no_links::directory(Path::new("/")).unwrap();
        tail(root, file.path().strip_prefix("/").unwrap(), limit).unwrap()
    }

    #[test]
    fn the_end_of_a_file_is_what_is_kept() {
        assert_eq!(tail_of_bytes(b"", 4), "");
        assert_eq!(tail_of_bytes(b"abcd", 4), "abcd");
        assert_eq!(tail_of_bytes(b"abcde", 4), "…bcde");
        assert_eq!(tail_of_bytes("éé".as_bytes(), 3), "…é");
        assert_eq!(tail_of_bytes(b"\xa9x", 4), "…xa9x");
        assert_eq!(tail_of_bytes(&b"\0".repeat(5000), 8), "…\\x00\\x00");
    }

    #[test]
    fn a_line_of_many_megabytes_is_cut_too() {
        let text = tail_of_bytes(&b"x".repeat(5 << 20), 100);
        assert_eq!(text.len(), "…".len() + 100);
    }

    #[test]
    fn what_is_no_regular_file_is_not_read() {
        let dev = no_links::directory(Path::new("/dev")).unwrap();
        assert!(tail(&dev, Path::new("zero"), 8).is_err());
        assert!(tail(&dev, Path::new("."), 8).is_err());
    }
}
