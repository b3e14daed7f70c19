//! The end of what a case printed.

use std::io;
use std::os::fd::AsFd;
use std::path::{Component, Path};

use maud::{Markup, html};

use super::text::{bytes, text};
use crate::model::host::size;
use crate::model::outcome::Outcome;
use crate::show::tail::{STDERR, STDOUT, last_bytes};

/// How much of all outputs together a page quotes, in bytes before escaping.
const QUOTED: usize = 4 << 20;

/// The most and the least that it quotes of one file.
const MOST: usize = 8 << 10;
const LEAST: usize = 512;

/// A case's files, in the order in which they tell why it failed.
const FILES: [&str; 4] = [STDERR, STDOUT, "setup.stderr", "setup.stdout"];

/// How much of a file is quoted where there are so many `failures`: the page must open however many they are.
pub(super) fn share(failures: usize) -> usize {
    (QUOTED / 2 / failures.max(1)).clamp(LEAST, MOST)
}

/// The ends of the files of `outcome` in the run's `directory`, at most `limit` bytes of each.
pub(super) fn quote(directory: impl AsFd, outcome: &Outcome, limit: usize) -> Markup {
    // A run.json may come from anybody: it must not make a page of this user's other files.
    let Some(place) = outcome.output.as_deref().filter(|place| is_inside(place)) else {
        return html! {};
    };
    html! {
        @for file in FILES {
            @let place = place.join(file);
            @match tail(&directory, &place, limit) {
                Ok(tail) if tail.whole == 0 => {}
                Ok(tail) => {
                    h3 {
                        code { (text(&place.to_string_lossy())) } " "
                        @if tail.text.len() as u64 != tail.whole {
                            span.soft { "its end, of " (size(tail.whole)) " bytes" }
                        }
                    }
                    // It can be scrolled, so it must be reachable with the keyboard.
                    pre.output tabindex="0" { "\n" (bytes(&tail.text)) }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => p { code { (text(&place.to_string_lossy())) } " cannot be read: " (error) }
            }
        }
    }
}

fn is_inside(path: &Path) -> bool {
    path.components()
        .all(|component| matches!(component, Component::Normal(_)))
}

struct Tail {
    text: Vec<u8>,
    whole: u64,
}

/// The end of a file: at most `limit` bytes, from the start of a line where one starts in their first half.
fn tail(run: impl AsFd, place: &Path, limit: usize) -> io::Result<Tail> {
    let (mut text, skipped) = last_bytes(run, place, limit)?;
    let whole = skipped + text.len() as u64;
    if skipped > 0
        && let Some(newline) = memchr::memchr(b'\n', &text[..text.len() / 2])
    {
        text.drain(..=newline);
    }
    Ok(Tail { text, whole })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::no_links;

    #[test]
    fn a_tail_starts_with_a_line_where_it_can() {
        let directory = tempfile::tempdir().unwrap();
        for (content, shown) in [
            ("", ""),
            ("short\n", "short\n"),
            ("long\nab\ncdefgh", "ab\ncdefgh"),
            ("0123456789abc", "3456789abc"),
        ] {
            std::fs::write(directory.path().join("file"), content).unwrap();
            let run = no_links::directory(directory.path()).unwrap();
            let tail = tail(run, Path::new("file"), 10).unwrap();
            assert_eq!(
                (tail.text.as_slice(), tail.whole),
                (shown.as_bytes(), content.len() as u64)
            );
        }
    }

    #[test]
    fn only_files_of_the_run_are_quoted() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("file"), "x").unwrap();
        std::os::unix::fs::symlink("file", directory.path().join("link")).unwrap();
        let run = no_links::directory(directory.path()).unwrap();
        assert!(tail(&run, Path::new("link"), 10).is_err());
        assert!(tail(&run, Path::new("."), 10).is_err());
        assert!(is_inside(Path::new("a/b")));
        assert!(!is_inside(Path::new("a/../../b")));
        assert!(!is_inside(Path::new("/etc")));
    }

    #[test]
    fn many_failures_share_what_is_quoted() {
        assert_eq!(
            [share(0), share(18), share(1024), share(5000)],
            [MOST, MOST, 2048, LEAST]
        );
    }
}
