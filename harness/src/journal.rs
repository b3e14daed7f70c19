//! Enters what happens in the run's journal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::case::Case;
use crate::console::Console;
use crate::event::{Event, Observer};
use crate::outcome::{Outcome, Status};
use crate::results::{Entry, Results};

/// The observer that keeps the journal.
#[derive(Debug)]
pub struct Journal {
    results: Arc<Results>,
    console: Arc<Console>,
    lost: AtomicBool,
}

impl Journal {
    /// A journal in `results`; what it cannot keep is said on `console`.
    pub fn new(results: Arc<Results>, console: Arc<Console>) -> Self {
        Self { results, console, lost: AtomicBool::new(false) }
    }

    /// A case is ignored, as its listing says.
    pub fn ignored(&self, case: &Case) {
        let mut outcome = Outcome::new(case);
        outcome.set(Status::Skipped, case.ignored.clone().unwrap_or_default());
        self.record(&Entry::Finished { outcome: Box::new(outcome) });
    }

    /// Enters `entry`; a failure to do so is said, and remembered.
    pub fn record(&self, entry: &Entry) {
        if let Err(error) = self.results.record(entry) {
            self.lost.store(true, Ordering::Relaxed);
            self.console.say(&format!("cannot keep the journal: {error:#}"));
        }
    }

    /// Whether everything was entered.
    pub fn is_complete(&self) -> bool {
        !self.lost.load(Ordering::Relaxed)
    }
}

impl Observer for Journal {
    fn notify(&self, event: Event<'_>) {
        match event {
            Event::Started(outcome) => self.record(&Entry::Started { outcome: Box::new(outcome.clone()) }),
            Event::Finished(outcome) => self.record(&Entry::Finished { outcome: Box::new(outcome.clone()) }),
            Event::Splat(splat) => self.record(&Entry::Splat { splat: Box::new(splat.clone()) }),
        }
    }
}
