//! The promises of supervisors, each with real processes that do their worst.

use super::{is_supervisor, serve};

mod broken;
mod ended;
mod left;
mod output;
mod stage;
mod started;

/// This test program is a supervisor as well, where it is started as one: before its main function, which knows nothing of
/// that and begins a thread.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = before_main;

#[expect(clippy::exit, reason = "there is no main function to return from")]
extern "C" fn before_main() {
    if is_supervisor(std::env::args_os()) {
        std::process::exit(serve().is_err().into());
    }
}

/// The arguments with which this test program does only what the test of this name does.
fn only(name: &str) -> [String; 3] {
    [
        format!("supervise::tests::{name}"),
        "--exact".to_owned(),
        "--ignored".to_owned(),
    ]
}
