//! Enters what happens in the run's journal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::log::announcement::Announcer;
use crate::log::results::Results;
use crate::model::case::Case;
use crate::model::entry::Entry;
use crate::model::event::{Event, Observer};
use crate::model::outcome::{Outcome, Status};
use crate::show::console::Console;

/// The observer that keeps the journal.
#[derive(Debug)]
pub struct Journal {
    results: Arc<Results>,
    announcer: Announcer,
    console: Arc<Console>,
    lost: AtomicBool,
}

impl Journal {
    /// A journal in `results`, in which `announcer` says what starts; what it cannot keep is said on `console`.
    pub fn new(results: Arc<Results>, announcer: Announcer, console: Arc<Console>) -> Self {
        Self {
            results,
            announcer,
            console,
            lost: AtomicBool::new(false),
        }
    }

    /// A case is ignored, as its listing says.
    pub fn ignored(&self, case: &Case) {
        let mut outcome = Outcome::new(case);
        outcome.set(Status::Skipped, case.ignored.clone().unwrap_or_default());
        self.finished(&outcome);
    }

    /// Enters what became of a case.
    pub fn finished(&self, outcome: &Outcome) {
        self.record(&Entry::Finished {
            outcome: Box::new(outcome.clone()),
        });
    }

    /// Enters `entry`; a failure to do so is said, and remembered.
    pub fn record(&self, entry: &Entry) {
        self.must(self.results.record(entry));
    }

    /// Whether everything was entered.
    pub fn is_complete(&self) -> bool {
        !self.lost.load(Ordering::Relaxed)
    }

    fn starting(&self, name: &str) {
        self.must(self.announcer.announce(name, |names| {
            self.results.record(&Entry::Starting { names })?;
            self.results.sync()
        }));
    }

    fn must(&self, done: anyhow::Result<()>) {
        if let Err(error) = done {
            self.lost.store(true, Ordering::Relaxed);
            self.console
                .say(&format!("cannot keep the journal: {error:#}"));
        }
    }
}

impl Observer for Journal {
    fn notify(&self, event: Event<'_>) {
        match event {
            Event::Entered(stay) => self.record(&Entry::EnvironmentEntered {
                stay: Box::new(stay.clone()),
            }),
            Event::Left(stay) => self.record(&Entry::EnvironmentLeft {
                stay: Box::new(stay.clone()),
            }),
            Event::Starting(outcome) => self.starting(&outcome.name),
            Event::Started(outcome) => self.record(&Entry::Started {
                outcome: Box::new(outcome.clone()),
            }),
            Event::Finished(outcome) => self.finished(outcome),
            Event::Splat(splat) => self.record(&Entry::Splat {
                splat: Box::new(splat.clone()),
            }),
        }
    }
}
