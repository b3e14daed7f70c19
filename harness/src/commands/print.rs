//! What commands print.

use std::io::{self, ErrorKind, Write};

use anyhow::Context;

/// Prints to standard output. A reader that went away has said that it wants no more: that is no error.
///
/// # Errors
/// It cannot be printed.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("print"),
        _ => Ok(()),
    }
}
