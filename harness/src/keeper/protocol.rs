//! What runner and keeper say to each other: one line of JSON a message, over a Unix stream socket.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::task::{Ended, NotStarted, Task};

/// What the runner asks for. All but `Run` is about the task that is running, and ignored where none is.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Run this, next where another one is running.
    Run(Box<Task>),
    /// End the task, with its grace.
    Interrupt,
    /// End the task at once.
    Hurry,
    /// Stop the task and its time.
    Stop,
    /// Go on after `Stop`.
    Continue,
}

/// What the keeper answers to each `Run`, in their order: `NotStarted`, `Returned`, or `Started` and later `Ended`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// The task's main process runs.
    Started {
        /// Its process ID.
        pid: i32,
    },
    /// It could not be started.
    NotStarted(NotStarted),
    /// It was not started, and another keeper is to run it: this one keeps a process that cannot be killed, or it was to
    /// be run after a task that was interrupted, or that ended while it was stopped.
    Returned,
    /// It has ended, and nothing is left of it.
    Ended(Box<Ended>),
}

/// Sends one message.
pub(super) fn send(mut socket: &UnixStream, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    socket.write_all(&line)
}

/// Waits for the next message; `None` where the other side is gone.
pub(super) fn receive<T: DeserializeOwned>(socket: &mut BufReader<UnixStream>) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    socket.read_until(b'\n', &mut line)?;
    // Without its newline, the sender died while it wrote.
    let Some(message) = line.strip_suffix(b"\n") else { return Ok(None) };
    Ok(Some(serde_json::from_slice(message)?))
}

/// Paths of any bytes: serde itself takes UTF-8 paths only, but any `OsString`.
pub(super) mod path {
    use std::ffi::{OsStr, OsString};
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in crate::keeper) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        OsStr::serialize(path.as_os_str(), serializer)
    }

    pub(in crate::keeper) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<PathBuf, D::Error> {
        Ok(OsString::deserialize(deserializer)?.into())
    }
}
