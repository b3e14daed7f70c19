//! The program `kvm-tests`: the runner without Cargo.

use std::process::ExitCode;

mod embedded;
mod smoke;

fn main() -> ExitCode {
    harness::program(&embedded::EMBEDDED)
}
