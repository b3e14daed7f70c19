//! What this program is when it is started by itself: the bare loop, and a program that prints much.

use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// The role of a bare loop of spawn and wait, which the name of a file with a program on each line and the number of
/// threads follow.
pub(crate) const SPAWN_ALL: &str = "spawn-all";

/// The role of a program that prints as many bytes as the number that follows.
pub(crate) const PRINT: &str = "print-bytes";

/// How much a C program prints at once that calls printf(3) and has a file as its standard output: `st_blksize`.
const STDIO_BUFFER: usize = 4096;

/// Plays the role that `args` begin with, if it is one.
pub(crate) fn play(args: impl Iterator<Item = String>) -> bool {
    let args: Vec<String> = args.collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [SPAWN_ALL, list, workers] => spawn_all(list, workers.parse().unwrap()),
        [PRINT, bytes] => print(bytes.parse().unwrap()),
        _ => return false,
    }
    true
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
