//! Where a selftest, or its guest, was when it failed: the core of a process that crashed, as core_pattern says (core(5)), and
//! the guest's RIP by the selftest's own symbols.
//!
//! The limit on the core's size (`RLIMIT_CORE`) is left to the user. Most hosts set it to 0, and that of a selftest with a guest
//! of a hundred gigabytes may fill the disk, beside the selftest.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use glob::Pattern;
use rustix::process::{getgid, getuid};
use rustix::system::uname;

use crate::model::facts::Ended;
use crate::model::outcome::Exit;
use crate::model::text::printable;

/// What file systems may be late by in telling when a file was written.
const COARSE: Duration = Duration::from_secs(2);

/// How many files are named, where the pattern does not tell which one it is.
const NAMED: usize = 4;

/// Where the core of a selftest is, if it dumped one.
pub(super) fn core(ended: &Ended, directory: &Path) -> Option<String> {
    let Exit::Signal {
        signal,
        core_dumped: true,
    } = ended.exit
    else {
        return None;
    };
    let crash = Crash {
        pid: ended.pid,
        signal,
        directory,
        started: SystemTime::UNIX_EPOCH + Duration::from_millis(ended.started_ms),
    };
    let read =
        |name: &str| fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap_or_default();
    let uses_pid = read("core_uses_pid").trim() != "0";
    let pattern = read("core_pattern");
    Some(place(pattern.trim_end_matches('\n'), uses_pid, crash))
}

/// A process that a signal has ended.
#[derive(Debug, Clone, Copy)]
struct Crash<'a> {
    pid: i32,
    signal: i32,
    /// The directory that it was started in.
    directory: &'a Path,
    started: SystemTime,
}

fn place(pattern: &str, uses_pid: bool, crash: Crash<'_>) -> String {
    let pid = crash.pid;
    if let Some(program) = pattern.strip_prefix('|') {
        let program = program.trim_start().split(' ').next().unwrap_or_default();
        return match Path::new(program)
            .file_name()
            .and_then(|name| name.to_str())
        {
            Some("systemd-coredump") => format!("coredumpctl info {pid}"),
            Some("apport") => {
                "in /var/crash, if apport has kept it (see /var/log/apport.log)".to_owned()
            }
            Some("abrt-hook-ccpp") => "abrt list".to_owned(),
            _ => format!("handed to {program}"),
        };
    }
    // Since Linux 6.16.
    if let Some(socket) = pattern.strip_prefix('@') {
        return format!("handed to the socket {}", socket.trim_start_matches('@'));
    }
    let searched = files(pattern, uses_pid, crash);
    let mut found: Vec<PathBuf> = glob::glob(&searched)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|path| is_new(path, crash.started).unwrap_or(false))
        .collect();
    found.truncate(NAMED);
    let found: Vec<_> = found
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    match found.is_empty() {
        true => format!("not found as {searched} (core_pattern)"),
        false => found.join(" or "),
    }
}

fn is_new(path: &Path, since: SystemTime) -> Option<bool> {
    let file = path.symlink_metadata().ok()?;
    Some(file.is_file() && file.modified().ok()? + COARSE >= since)
}

/// The files that `pattern` may mean, as a pattern for glob: `*` for what only the kernel knows.
fn files(pattern: &str, uses_pid: bool, crash: Crash<'_>) -> String {
    let mut name = String::new();
    let mut has_pid = false;
    let mut rest = pattern.chars();
    while let Some(character) = rest.next() {
        if character != '%' {
            name.push_str(&Pattern::escape(character.encode_utf8(&mut [0; 4])));
            continue;
        }
        let written = match rest.next() {
            Some('%') => write!(name, "%"),
            Some('p' | 'P') => {
                has_pid = true;
                write!(name, "{}", crash.pid)
            }
            Some('s') => write!(name, "{}", crash.signal),
            Some('u') => write!(name, "{}", getuid().as_raw()),
            Some('g') => write!(name, "{}", getgid().as_raw()),
            Some('h') => write!(
                name,
                "{}",
                Pattern::escape(&uname().nodename().to_string_lossy())
            ),
            // Of the thread that crashed, the time of the dump, and so on.
            Some('c' | 'C' | 'd' | 'e' | 'E' | 'f' | 'F' | 'i' | 'I' | 't') => write!(name, "*"),
            // The kernel leaves out what it does not know.
            Some(_) | None => Ok(()),
        };
        written.expect("write to a string");
    }
    if uses_pid && !has_pid {
        write!(name, ".{}", crash.pid).expect("write to a string");
    }
    if name.starts_with('/') {
        return name;
    }
    format!(
        "{}/{name}",
        Pattern::escape(&crash.directory.to_string_lossy())
    )
}

/// How long addr2line may take.
const RESOLVE: Duration = Duration::from_secs(5);

/// The function and the line that the guest was in; `None` where no RIP is told, or nothing is known of it.
pub(super) fn guest_rip(ended: &Ended, program: &Path) -> Option<String> {
    let assertion = ended.evidence.assertion.as_ref()?;
    let rip = rip(&assertion.message)?;
    let resolve = duct::cmd!("addr2line", "-f", "-s", "-e", program, &rip);
    let resolve = resolve.stdin_null().stdout_capture().stderr_null();
    // It is not there everywhere.
    let resolving = resolve.unchecked().start().ok()?;
    let Ok(Some(resolved)) = resolving.wait_timeout(RESOLVE) else {
        resolving.kill().ok();
        return None;
    };
    let lines = printable(&resolved.stdout);
    let (function, place) = lines.trim_end().split_once('\n')?;
    (function != "??").then(|| format!("guest RIP {rip}: {function} at {place}"))
}

/// The first address in a message that is called a RIP: `at guest RIP '0x402a3c'`, `rip=0x402a3c`.
fn rip(message: &str) -> Option<String> {
    let message = message.to_ascii_lowercase();
    let mut places = message.match_indices("rip");
    places.find_map(|(at, word)| {
        let is_in_word = message[..at].ends_with(|c: char| c.is_ascii_alphanumeric());
        let rest = message[at + word.len()..].trim_start_matches([' ', ':', '=', '\'', '"', '(']);
        let digits = rest.strip_prefix("0x").filter(|_| !is_in_word)?;
        let end = digits.find(|c: char| !c.is_ascii_hexdigit());
        let digits = &digits[..end.unwrap_or(digits.len())];
        (1..=16)
            .contains(&digits.len())
            .then(|| format!("0x{digits}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crash(directory: &Path) -> Crash<'_> {
        let started = SystemTime::now();
        Crash {
            pid: 42,
            signal: 11,
            directory,
            started,
        }
    }

    #[test]
    fn each_kind_of_core_pattern_says_where_to_look() {
        let directory = tempfile::tempdir().unwrap();
        for (pattern, expected) in [
            (
                "|/usr/lib/systemd/systemd-coredump %P %u %g %s %t %c %h",
                "coredumpctl info 42",
            ),
            (
                "|/usr/share/apport/apport -p%p -s%s",
                "in /var/crash, if apport has kept it (see /var/log/apport.log)",
            ),
            ("|/bin/own %p", "handed to /bin/own"),
            ("@@/run/cores", "handed to the socket /run/cores"),
        ] {
            assert_eq!(place(pattern, false, crash(directory.path())), expected);
        }
    }

    #[test]
    fn the_file_that_a_pattern_means_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for name in [
            "core",
            "core.42",
            "core.43",
            "c[1]%.11.some_thread.1700000000",
        ] {
            fs::write(path(name), "").unwrap();
        }
        for (pattern, uses_pid, expected) in [
            ("core", false, "core"),
            ("core", true, "core.42"),
            ("core.%p", true, "core.42"),
            ("c[1]%%.%s.%e.%t", false, "c[1]%.11.some_thread.1700000000"),
            ("core%z%", false, "core"),
        ] {
            let found = place(pattern, uses_pid, crash(directory.path()));
            assert_eq!(found, path(expected).display().to_string(), "{pattern}");
        }
        let absolute = path("core.%p").display().to_string();
        assert_eq!(
            place(&absolute, false, crash(Path::new("/"))),
            path("core.42").display().to_string()
        );
        let both = format!(
            "{} or {}",
            path("core.42").display(),
            path("core.43").display()
        );
        assert_eq!(place("core.%t", false, crash(directory.path())), both);
    }

    #[test]
    fn a_core_of_an_earlier_crash_is_not_taken_for_this_one() {
        let directory = tempfile::tempdir().unwrap();
        let core = fs::File::create(directory.path().join("core")).unwrap();
        core.set_modified(SystemTime::now() - Duration::from_secs(60))
            .unwrap();
        let expected = format!(
            "not found as {}/core (core_pattern)",
            directory.path().display()
        );
        assert_eq!(place("core", false, crash(directory.path())), expected);
    }

    #[test]
    fn an_address_is_the_rip_where_it_is_called_so() {
        for (message, expected) in [
            (
                "Unhandled exception '0xe' at guest RIP '0x402a3c'",
                Some("0x402a3c"),
            ),
            ("rip=0x40, rsp=0x50", Some("0x40")),
            ("exception 1 rip 0x1 (should be 0x403099)", Some("0x1")),
            ("a trip: 0x40, RIP: none", None),
            ("rip 0x", None),
            ("é", None),
        ] {
            assert_eq!(rip(message).as_deref(), expected, "{message}");
        }
    }
}
