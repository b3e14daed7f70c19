//! What runner and keeper say to each other: one line of JSON a message, over a Unix stream socket.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use rustix::cmsg_space;
use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::task::{Ended, NotStarted, Task};

/// What the runner asks for. All but `Run` is about the task that is running, and ignored where none is.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Run this, next where another one is running. Its output files come along, open.
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
    socket.write_all(&line(message)?)
}

/// Sends one message along with two open files.
pub(super) fn send_with(
    mut socket: &UnixStream,
    message: &impl Serialize,
    files: &[File; 2],
) -> io::Result<()> {
    let line = line(message)?;
    let files = files.each_ref().map(AsFd::as_fd);
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&files));
    let sent = retry_on_intr(|| {
        sendmsg(
            socket,
            &[IoSlice::new(&line)],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )
    })?;
    // They go with the first byte.
    socket.write_all(&line[sent..])
}

fn line(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// What comes from the runner, and the files that came along, in their order.
pub(super) struct Incoming {
    socket: UnixStream,
    files: VecDeque<File>,
}

impl Incoming {
    /// What comes over this socket.
    pub(super) fn new(socket: UnixStream) -> Self {
        Self {
            socket,
            files: VecDeque::new(),
        }
    }

    /// The files of the `Run` that was heard last; `None` where they got lost.
    pub(super) fn take_files(&mut self) -> Option<[File; 2]> {
        self.files
            .pop_front()
            .zip(self.files.pop_front())
            .map(<[File; 2]>::from)
    }
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(2))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut buffers = [IoSliceMut::new(buffer)];
        let received = retry_on_intr(|| {
            recvmsg(
                &self.socket,
                &mut buffers,
                &mut ancillary,
                RecvFlags::CMSG_CLOEXEC,
            )
        })?;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(files) = message {
                self.files.extend(files.map(File::from));
            }
        }
        Ok(received.bytes)
    }
}

/// Waits for the next message; `None` where the other side is gone.
pub(super) fn receive<T: DeserializeOwned>(socket: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    socket.read_until(b'\n', &mut line)?;
    // Without its newline, the sender died while it wrote.
    let Some(message) = line.strip_suffix(b"\n") else {
        return Ok(None);
    };
    Ok(Some(serde_json::from_slice(message)?))
}

/// Paths of any bytes: serde itself takes UTF-8 paths only, but any `OsString`.
pub(super) mod path {
    use std::ffi::{OsStr, OsString};
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in crate::supervise::keeper) fn serialize<S: Serializer>(
        path: &Path,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        OsStr::serialize(path.as_os_str(), serializer)
    }

    pub(in crate::supervise::keeper) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<PathBuf, D::Error> {
        Ok(OsString::deserialize(deserializer)?.into())
    }
}
