//! What the cases that run side by side share: the run's slots, the host's memory and its hugepages.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::model::case::Case;
use crate::model::value::Size;

/// What a case takes while it runs, or all that there is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Demand {
    /// Slots.
    pub slots: u32,
    /// Memory in bytes.
    pub memory: u64,
    /// Hugepages: their size in bytes, and how many.
    pub hugepages: BTreeMap<u64, u64>,
}

impl Demand {
    /// That of `case`.
    pub fn of(case: &Case) -> Self {
        Self {
            slots: case.slots(),
            memory: case.requires.memory.map_or(0, |Size(bytes)| bytes),
            hugepages: case.requires.hugepages.0.clone(),
        }
    }

    /// As much of it as there is in `all`: more than there is means all of it.
    fn within(&self, all: &Self) -> Self {
        let pages = self.hugepages.iter();
        let there = |size| all.hugepages.get(size).copied().unwrap_or(0);
        Self {
            slots: self.slots.clamp(1, all.slots),
            memory: self.memory.min(all.memory),
            hugepages: pages
                .map(|(size, count)| (*size, (*count).min(there(size))))
                .collect(),
        }
    }

    fn fits_in(&self, free: &Self) -> bool {
        let mut pages = self.hugepages.iter();
        self.slots <= free.slots
            && self.memory <= free.memory
            && pages.all(|(size, count)| free.hugepages.get(size).unwrap_or(&0) >= count)
    }

    fn change(&mut self, by: &Self, change: impl Fn(u64, u64) -> u64) {
        let slots = change(u64::from(self.slots), u64::from(by.slots));
        self.slots = u32::try_from(slots).unwrap_or(u32::MAX);
        self.memory = change(self.memory, by.memory);
        for (size, count) in &by.hugepages {
            let free = self.hugepages.entry(*size).or_default();
            *free = change(*free, *count);
        }
    }
}

/// A fair semaphore: who came first is served first, so that nobody waits for ever.
#[derive(Debug)]
pub struct Semaphore {
    all: Demand,
    state: Mutex<SemaphoreState>,
    changed: Condvar,
}

#[derive(Debug)]
struct SemaphoreState {
    free: Demand,
    /// Those who wait, by their numbers.
    queue: VecDeque<u64>,
    next: u64,
}

/// What has been taken; it is given back when this is dropped.
#[derive(Debug)]
#[must_use = "what was taken is given back when this is dropped"]
pub struct Permit {
    semaphore: Arc<Semaphore>,
    demand: Demand,
}

impl Semaphore {
    /// All of this, free; at least one slot.
    pub fn new(all: Demand) -> Arc<Self> {
        let all = Demand {
            slots: all.slots.max(1),
            ..all
        };
        let state = SemaphoreState {
            free: all.clone(),
            queue: VecDeque::new(),
            next: 0,
        };
        Arc::new(Self {
            all,
            state: Mutex::new(state),
            changed: Condvar::new(),
        })
    }

    /// Waits until all of `demand` is free, and takes it.
    pub fn acquire(self: &Arc<Self>, demand: &Demand) -> Permit {
        let demand = demand.within(&self.all);
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state.queue.push_back(number);
        while state.queue.front() != Some(&number) || !demand.fits_in(&state.free) {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.queue.pop_front();
        state.free.change(&demand, u64::saturating_sub);
        drop(state);
        // What is left may be enough for the next one.
        self.changed.notify_all();
        Permit {
            semaphore: Arc::clone(self),
            demand,
        }
    }

    fn lock(&self) -> MutexGuard<'_, SemaphoreState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.semaphore.lock();
        state.free.change(&self.demand, u64::saturating_add);
        drop(state);
        self.semaphore.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    fn demand(slots: u32, memory: u64, pages: u64) -> Demand {
        let hugepages = BTreeMap::from([(2 << 20, pages)]);
        Demand {
            slots,
            memory,
            hugepages,
        }
    }

    #[test]
    fn who_came_first_is_served_first_and_pages_are_counted() {
        let semaphore = Semaphore::new(demand(4, 100, 10));
        let first = semaphore.acquire(&demand(1, 0, 6));
        let (send, served) = mpsc::channel();
        let mut threads = Vec::new();
        // The second one does not fit, and so the third one, which does, waits behind it.
        for (place, wanted) in [(2, demand(1, 0, 6)), (3, demand(1, 0, 0))] {
            let (theirs, send) = (Arc::clone(&semaphore), send.clone());
            threads.push(thread::spawn(move || {
                let permit = theirs.acquire(&wanted);
                send.send(place).unwrap();
                permit
            }));
            while semaphore.lock().queue.len() < place - 1 {
                thread::yield_now();
            }
        }
        assert!(served.try_recv().is_err());
        drop(first);
        // Both at once, and so in any order.
        let both: BTreeSet<_> = served.iter().take(2).collect();
        assert_eq!(both, BTreeSet::from([2, 3]));
        for thread in threads {
            drop(thread.join().unwrap());
        }
        assert_eq!(semaphore.lock().free, demand(4, 100, 10));
    }

    #[test]
    fn more_than_there_is_means_all_of_it() {
        let semaphore = Semaphore::new(demand(2, 100, 1));
        let all = semaphore.acquire(&demand(u32::MAX, 1 << 40, 5));
        assert_eq!(semaphore.lock().free, demand(0, 0, 0));
        drop(all);
        assert_eq!(semaphore.lock().free, demand(2, 100, 1));
    }
}
