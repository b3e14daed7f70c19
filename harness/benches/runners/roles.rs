//! What this program is when it is started by itself: the bare loop, a program that sleeps, and one that prints much.

use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// The role of a bare loop of spawn and wait, which the name of a file with a program on each line and the number of
/// threads follow.
pub(crate) const SPAWN_ALL: &str = "spawn-all";

/// The role of a program that prints as many bytes as the number that follows.
pub(crate) const PRINT: &str = "print-bytes";

/// How the name ends, behind a number of milliseconds, under which it sleeps that long.
const SLEEPS: &str = "ms";

/// How much a C program prints at once that calls printf(3) and has a file as its standard output: `st_blksize`.
const STDIO_BUFFER: usize = 4096;

/// Plays the role that `args`, of which the first is this program's name, tell of, if they do.
pub(crate) fn play(args: impl Iterator<Item = String>) -> bool {
    let args: Vec<String> = args.collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, SPAWN_ALL, list, workers] => spawn_all(list, workers.parse().unwrap()),
        [_, PRINT, bytes] => print(bytes.parse().unwrap()),
        [program] => match sleeping(program) {
            Some(duration) => thread::sleep(duration),
            None => return false,
        },
        _ => return false,
    }
    true
}

/// The name of a program that sleeps for `duration`, of whole milliseconds.
pub(crate) fn name_sleeping(name: &str, duration: Duration) -> String {
    format!("{name}_{}{SLEEPS}", duration.as_millis())
}

/// How long the program of this name sleeps.
fn sleeping(program: &str) -> Option<Duration> {
    let (_, duration) = program.rsplit_once('_')?;
    duration
        .strip_suffix(SLEEPS)?
        .parse()
        .ok()
        .map(Duration::from_millis)
}

/// The floor: the standard library uses `posix_spawn` for a command as plain as this.
fn spawn_all(list: &str, workers: usize) {
    let list = fs::read_to_string(list).unwrap();
    let programs: Vec<&str> = list.lines().collect();
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(program) = programs.get(next.fetch_add(1, Ordering::Relaxed)) {
            // How it ends does not matter to a loop as bare as this.
            Command::new(program).stdin(Stdio::null()).status().unwrap();
        }
    };
    thread::scope(|scope| {
        for _ in 1..workers {
            scope.spawn(work);
        }
        work();
    });
}

fn print(mut bytes: usize) {
    let line = "Iteration 31 clear dirty log time: 0.000021953s, vCPU 3 halted 13110 times\n";
    let text = line.repeat(STDIO_BUFFER);
    // Past the standard library's own buffer, which would write line by line.
    let mut stdout = fs::File::from(std::io::stdout().as_fd().try_clone_to_owned().unwrap());
    let mut blocks = text.as_bytes().chunks_exact(STDIO_BUFFER).cycle();
    while bytes > 0 {
        let block = blocks.next().unwrap();
        let length = block.len().min(bytes);
        stdout.write_all(&block[..length]).unwrap();
        bytes -= length;
    }
}
