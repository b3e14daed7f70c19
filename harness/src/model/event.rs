//! What happens in a run, told to those who report it: they take events and know no process.

use crate::kernel_log::splat::Splat;
use crate::model::outcome::Outcome;
use crate::model::stay::Stay;

/// Something that has just happened.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// The host is in an environment: those of its cases that are let in come after this.
    Entered(&'a Stay),
    /// The host was put back, after all cases of that environment.
    Left(&'a Stay),
    /// A case is about to start: nothing of it runs before everybody has taken note.
    Starting(&'a Outcome),
    /// A case's process was started: its `pid` and `started_ms` are known.
    Started(&'a Outcome),
    /// A case has ended, one way or another.
    Finished(&'a Outcome),
    /// The kernel has complained, and it could not be shown that a case made it do so.
    Splat(&'a Splat),
}

/// One who is told what happens, on the thread where it happens.
pub trait Observer: Send + Sync {
    /// Takes note of `event`.
    fn notify(&self, event: Event<'_>);
}
