//! Where all events of a run go: to the journal, into the state, and to the display, in one order.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::journal::{Journal, line_of};
use crate::model::case::Case;
use crate::model::event::{Event, Sink};
use crate::model::state::State;
use crate::show::Display;

/// Writing to the disk takes up to milliseconds, and a case may take less. So this is how often it is done at most: an event
/// names the cases that may start until the next.
const SYNC_EVERY: Duration = Duration::from_millis(50);

/// The most cases that are named at a time, where nobody listens elsewhere.
pub const MOST_NAMED: usize = 1024;

/// The recorder of a part.
pub struct Recorder {
    plan: Arc<[Case]>,
    display: Arc<Display>,
    kept: Mutex<Kept>,
    announced: Mutex<Announced>,
    /// For the disk, without the lock of the others.
    syncing: Journal,
    has_lost: AtomicBool,
}

struct Kept {
    journal: Journal,
    state: State,
}

/// Which cases of the plan the disk says may have started.
struct Announced {
    places: HashSet<usize>,
    window: usize,
    /// How many at most.
    most: usize,
    last: Option<Instant>,
}

impl Recorder {
    /// One that goes on with `state`, to which the first line of `journal` has been applied. It names at most so many cases
    /// before they start.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub fn new(
        plan: Arc<[Case]>,
        journal: Journal,
        state: State,
        display: Arc<Display>,
        most: usize,
    ) -> std::io::Result<Self> {
        let syncing = journal.try_clone()?;
        Ok(Self {
            plan,
            display,
            kept: Mutex::new(Kept { journal, state }),
            announced: Mutex::new(Announced {
                places: HashSet::new(),
                window: 1,
                most,
                last: None,
            }),
            syncing,
            has_lost: AtomicBool::new(false),
        })
    }

    /// Reads the state; nothing happens meanwhile.
    pub fn with_state<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.kept().state)
    }

    /// Takes note of an event of another part: in its own journal, and as one on `host`, where that has a name.
    pub fn record_in(&self, journal: &mut Journal, event: Event, host: Option<&str>) {
        let line = line_of(&event);
        self.must(journal.append(&line));
        self.show(event, host);
    }

    /// The same for one that its journal has already.
    pub fn show(&self, event: Event, host: Option<&str>) {
        let event = match host {
            Some(host) => event.on(host),
            None => event,
        };
        let mut kept = self.kept();
        kept.state.apply(&event);
        self.display.see(&kept.state, &event);
    }

    /// The state and the journal, when everything has happened; and whether every event was kept.
    pub fn into_parts(self) -> (State, Journal, bool) {
        let kept = self
            .kept
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        (kept.state, kept.journal, !self.has_lost.into_inner())
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers that something could not be kept, and says so the first time.
    fn must(&self, done: anyhow::Result<()>) {
        let Err(error) = done else { return };
        if !self.has_lost.swap(true, Ordering::SeqCst) {
            let message = "cannot keep the journal, so that a host that dies would leave less";
            self.display.say(&format!("{message}: {error:#}"));
        }
    }
}

impl Sink for Recorder {
    fn record(&self, event: Event) {
        let line = line_of(&event);
        let mut kept = self.kept();
        self.must(kept.journal.append(&line));
        kept.state.apply(&event);
        self.display.see(&kept.state, &event);
    }

    fn starting(&self, place: usize) {
        let mut announced = self
            .announced
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if announced.places.contains(&place) {
            return;
        }
        let cases = announced.next(place, &self.plan);
        self.record(Event::Starting { cases });
        self.must(self.syncing.sync());
        announced.last = Some(Instant::now());
    }

    fn say(&self, line: &str) {
        self.display.say(line);
    }

    fn waiting(&self, message: Option<&str>) {
        self.display.waiting(message);
    }
}

impl Announced {
    /// The names of the case at `place` and of those that may start before the next time: twice as many as last time
    /// where that was not long ago. What is ignored has ended, or is named when it starts. A suspect is named alone, as
    /// the fewest possible are to be suspected next time.
    fn next(&mut self, place: usize, plan: &[Case]) -> Vec<String> {
        let is_soon = self.last.is_some_and(|last| last.elapsed() < SYNC_EVERY);
        self.window = if is_soon {
            (self.window * 2).min(self.most)
        } else {
            1
        };
        let may_start = |case: &Case| !case.suspect && case.ignored.is_none();
        let is_next =
            |at: &usize| *at == place || (may_start(&plan[*at]) && !self.places.contains(at));
        let count = if plan[place].suspect { 1 } else { self.window };
        let places: Vec<_> = (place..plan.len()).filter(is_next).take(count).collect();
        self.places.extend(&places);
        let names = places.iter().map(|&place| plan[place].name.to_string());
        names.collect()
    }
}
