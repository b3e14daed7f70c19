//! Lines of a file of any size, in memory of a fixed size.

use std::io::{ErrorKind, Read, Result};

/// What is kept of a line, in bytes.
pub const LIMIT: usize = 4096;

/// How much is read at first, in bytes: most files are no longer.
const SMALL: usize = 2 * LIMIT;

/// How much is read at once of longer ones, in bytes: enough to make a system call cheap, little enough for the
/// second-level cache.
const BUFFER: usize = 128 * 1024;

/// Calls `visit` for all of `input`, some whole lines at a time, without the newline of the last of them. The last line of
/// all may lack one.
pub fn each_block(mut input: impl Read, mut visit: impl FnMut(&[u8])) -> Result<()> {
    let mut buffer = vec![0; SMALL];
    // The beginning of a line whose end has not been read yet, at the front of the buffer.
    let mut begun = 0;
    loop {
        let read = match input.read(&mut buffer[begun..]) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let end = begun + read;
        let mut start = 0;
        if let Some(newline) = memchr::memrchr(b'\n', &buffer[begun..end]) {
            visit(&buffer[..begun + newline]);
            start = begun + newline + 1;
        }
        let kept = (end - start).min(LIMIT);
        buffer.copy_within(start..start + kept, 0);
        begun = kept;
        if end == buffer.len() {
            buffer.resize(BUFFER, 0);
        }
    }
    if begun > 0 {
        visit(&buffer[..begun]);
    }
    Ok(())
}

/// The lines of such a block, without their newlines, and cut to [`LIMIT`] bytes.
pub fn lines(block: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut start = 0;
    memchr::memchr_iter(b'\n', block)
        .chain([block.len()])
        .map(move |end| {
            let line = &block[start..end.min(start + LIMIT)];
            start = end + 1;
            line
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads at most `1` bytes at a time from `0`, with interruptions.
    struct Drip<'a>(&'a [u8], usize, bool);

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
            self.2 = !self.2;
            if self.2 {
                return Err(ErrorKind::Interrupted.into());
            }
            let length = self.1.min(self.0.len()).min(buffer.len());
            buffer[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            Ok(length)
        }
    }

    #[test]
    fn lines_are_the_same_however_they_are_read() {
        let mut text = b"one\n\ntwo\n".to_vec();
        text.extend_from_slice(&b"x".repeat(3 * BUFFER));
        text.extend_from_slice(b"\nlast");
        let expected: Vec<Vec<u8>> = text
            .split(|&byte| byte == b'\n')
            .map(|line| line[..line.len().min(LIMIT)].to_vec())
            .collect();
        for step in [1, 2, 7, LIMIT, BUFFER, usize::MAX] {
            let mut found = Vec::new();
            each_block(Drip(&text, step, false), |block| {
                found.extend(lines(block).map(<[u8]>::to_vec))
            })
            .unwrap();
            assert!(found == expected, "read by {step}");
        }
    }

    #[test]
    fn an_empty_file_has_no_line_and_a_final_newline_adds_none() {
        for (text, expected) in [("", 0), ("\n", 1), ("a\n", 1), ("a\nb", 2)] {
            let mut count = 0;
            each_block(text.as_bytes(), |block| count += lines(block).count()).unwrap();
            assert_eq!(count, expected, "{text:?}");
        }
    }
}
