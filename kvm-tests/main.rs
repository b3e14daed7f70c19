//! The program `kvm-tests`.

use std::process::ExitCode;

mod smoke;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() != Some("--smoke-selftest") {
        return ExitCode::SUCCESS;
    }
    let name = args.next().unwrap_or_default();
    match smoke::SELFTESTS.iter().find(|(known, _)| *known == name) {
        Some((_, run)) => run(),
        None => {
            eprintln!("no smoke selftest is called {name:?}");
            ExitCode::from(2)
        }
    }
}
