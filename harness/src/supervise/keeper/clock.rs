//! A clock that can be stopped.

use std::time::{Duration, Instant};

/// How long something has been going on, without the time that it was stopped for.
#[derive(Debug)]
pub(super) struct Clock {
    started: Instant,
    stopped: Option<Instant>,
    lost: Duration,
}

impl Clock {
    /// A running clock that shows zero.
    pub(super) fn start() -> Self {
        Self {
            started: Instant::now(),
            stopped: None,
            lost: Duration::ZERO,
        }
    }

    /// The time it shows.
    pub(super) fn elapsed(&self) -> Duration {
        self.stopped.unwrap_or_else(Instant::now) - self.started - self.lost
    }

    /// Whether it is stopped.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    /// Stops it.
    pub(super) fn stop(&mut self) {
        self.stopped.get_or_insert_with(Instant::now);
    }

    /// Lets it go on.
    pub(super) fn resume(&mut self) {
        if let Some(stopped) = self.stopped.take() {
            self.lost += stopped.elapsed();
        }
    }
}
