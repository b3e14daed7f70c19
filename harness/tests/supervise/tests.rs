//! The promises of supervisors, each with real processes that do their worst.

use std::process::Command;

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

/// A command in namespaces of its own; `None` where none can be made, as in many a container.
fn in_namespaces(options: &[&str]) -> Option<Command> {
    let unshare = || {
        let mut unshare = Command::new("unshare");
        unshare.arg("--map-root-user").args(options);
        unshare
    };
    let is_possible = unshare()
        .arg("true")
        .status()
        .is_ok_and(|tried| tried.success());
    if !is_possible {
        eprintln!("not tested: no namespaces can be made here");
    }
    is_possible.then(unshare)
}

/// Has this test program do what the test of this name does, through `command`.
fn check_within(mut command: Command, name: &str) {
    let own = std::env::current_exe().unwrap();
    let output = command.arg(own).args(only(name)).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && told.contains("1 passed"),
        "{told}"
    );
}
