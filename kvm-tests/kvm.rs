//! The test target `kvm`: `cargo test` comes here.

use std::process::ExitCode;

mod embedded;
mod smoke;

fn main() -> ExitCode {
    harness::test_target(&embedded::EMBEDDED)
}

// What IDEs find; rustc drops it, since this target has a `main` of its own (`harness = false`).
#[cfg(any(test, rust_analyzer))]
include!(concat!(env!("OUT_DIR"), "/stubs.rs"));
