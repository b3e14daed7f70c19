//! How fast a selftest's output is read: `cargo bench -p harness --bench evidence`.

use std::hint::black_box;
use std::io::{self, Read};

use harness::evidence;
use rustix::time::{ClockId, clock_gettime};

/// How much is read of each kind: enough to be measured; without `--bench` (as `cargo test --benches` has it), just
/// to see that it runs.
const MEASURED: u64 = 1 << 30;
const TRIED: u64 = 1 << 20;

fn main() {
    let size = if std::env::args().any(|argument| argument == "--bench") {
        MEASURED
    } else {
        TRIED
    };
    let log = "guest physical test memory: [0xfffcbfffe000, 0xfffcffffe000)\n\
               Iteration 31 clear dirty log time: 0.000021953s, vCPU 3 halted 13110 times\n";
    for (kind, pattern) in [
        ("plain lines", log.repeat(1000)),
        ("short lines", ".\n".repeat(60_000)),
        ("one endless line", "x".repeat(100_000)),
        (
            "diagnostics",
            "# vCPU 3 halted 13110 times, woke 13109 times, received 13109 IPIs\n".repeat(2000),
        ),
        (
            "sub-tests",
            "ok 1 sync_regs_test.req_and_verify_all_valid\n".repeat(2000),
        ),
    ] {
        let started = cpu_seconds();
        let stream = Endless {
            bytes: pattern.as_bytes(),
            at: 0,
        }
        .take(size);
        let evidence = evidence::read(stream, io::empty()).expect("read from memory");
        black_box(evidence);
        let seconds = cpu_seconds() - started;
        println!("{kind:>16}: {:6.2} GB/s", size as f64 / seconds / 1e9);
    }
}

/// The CPU time that this process took, in seconds: other processes do not disturb it much.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The same bytes again and again.
struct Endless<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Read for Endless<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(self.bytes.len() - self.at);
        buffer[..length].copy_from_slice(&self.bytes[self.at..self.at + length]);
        self.at = (self.at + length) % self.bytes.len();
        Ok(length)
    }
}
