//! What the cases that run side by side share: the run's slots, and the host's memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::case::Case;

/// What a case takes while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// Slots.
    pub slots: u32,
    /// Memory in bytes.
    pub memory: u64,
}

impl Demand {
    /// That of `case`; an exclusive one takes all the slots that there are.
    pub fn of(case: &Case) -> Self {
        let slots = if case.exclusive { u32::MAX } else { case.weight };
        Self { slots, memory: case.requires.memory.unwrap_or(0) }
    }

    /// Whether a worker may have to wait for it although another case could run.
    pub fn is_special(self) -> bool {
        self.slots > 1 || self.memory > 0
    }

    fn fits_in(self, other: Self) -> bool {
        self.slots <= other.slots && self.memory <= other.memory
    }
}

/// Gives out slots and memory in the run's order, whichever thread is the fastest; a case that does not fit yet is
/// overtaken by those that do. None waits for ever, as a run has an end.
#[derive(Debug)]
pub struct Slots {
    total: Demand,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: Demand,
    /// All cases at places before this one have arrived.
    arrived: usize,
    /// Those that arrived before others whose turn is earlier.
    early: BTreeSet<usize>,
    /// Those that wait, by their places.
    waiting: BTreeMap<usize, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    demand: Demand,
    granted: Arc<Condvar>,
}

/// What a case has taken; dropping it gives it back.
#[derive(Debug)]
#[must_use = "what was taken is given back when this is dropped"]
pub struct Taken<'a> {
    slots: &'a Slots,
    demand: Demand,
}

impl Slots {
    /// All of `total`, free; at least one slot.
    pub fn new(total: Demand) -> Self {
        let total = Demand { slots: total.slots.max(1), ..total };
        let state = State { free: total, arrived: 0, early: BTreeSet::new(), waiting: BTreeMap::new() };
        Self { total, state: Mutex::new(state) }
    }

    /// The case at `place` will take nothing: those behind it need not wait for it to come.
    pub fn pass(&self, place: usize) {
        let mut state = self.lock();
        state.arrive(place);
        state.grant();
    }

    /// Waits for `demand` for the case at `place` in the order, counted from 0 without gaps, each of which must come here
    /// or [pass](Self::pass); more than there is means all of it.
    pub fn take(&self, place: usize, demand: Demand) -> Taken<'_> {
        let demand = Demand {
            slots: demand.slots.clamp(1, self.total.slots),
            memory: demand.memory.min(self.total.memory),
        };
        let granted = Arc::new(Condvar::new());
        let mut state = self.lock();
        state.waiting.insert(place, Waiting { demand, granted: Arc::clone(&granted) });
        state.arrive(place);
        state.grant();
        while state.waiting.contains_key(&place) {
            state = granted.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Taken { slots: self, demand }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn arrive(&mut self, place: usize) {
        self.early.insert(place);
        while self.early.first() == Some(&self.arrived) {
            self.early.pop_first();
            self.arrived += 1;
        }
    }

    /// Gives what is free to those who wait, the first in the order first.
    fn grant(&mut self) {
        let free = &mut self.free;
        self.waiting.retain(|&place, waiting| {
            let fits = place < self.arrived && waiting.demand.fits_in(*free);
            if fits {
                free.slots -= waiting.demand.slots;
                free.memory -= waiting.demand.memory;
                waiting.granted.notify_one();
            }
            !fits
        });
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut state = self.slots.lock();
        state.free.slots += self.demand.slots;
        state.free.memory += self.demand.memory;
        state.grant();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    const fn demand(slots: u32, memory: u64) -> Demand {
        Demand { slots, memory }
    }

    #[test]
    fn what_is_taken_never_exceeds_what_there_is() {
        let slots = Slots::new(demand(4, 100));
        let place = AtomicUsize::new(0);
        let used = Mutex::new((0, 0));
        let work = |weight: u32| {
            let memory = u64::from(weight % 3) * 40;
            let place = place.fetch_add(1, Ordering::SeqCst);
            let _taken = slots.take(place, demand(weight, memory));
            let weight = weight.clamp(1, 4);
            let mut now = used.lock().unwrap();
            *now = (now.0 + weight, now.1 + memory);
            assert!(now.0 <= 4 && now.1 <= 100, "{now:?}");
            drop(now);
            thread::yield_now();
            let mut now = used.lock().unwrap();
            *now = (now.0 - weight, now.1 - memory);
        };
        thread::scope(|scope| {
            for worker in 0..8 {
                scope.spawn(move || (0..200).for_each(|round| work((worker + round) % 7)));
            }
        });
        let last = place.load(Ordering::SeqCst);
        drop(slots.take(last, demand(u32::MAX, u64::MAX)));
        assert_eq!(*used.lock().unwrap(), (0, 0));
    }

    /// Starts a thread for each case at `place` with `weight`, each once the one before waits or runs, and returns the
    /// places in the order in which they ran.
    fn ran(slots: &Slots, cases: &[(usize, u32)], meanwhile: impl FnOnce()) -> Vec<usize> {
        let (told, order) = mpsc::channel();
        thread::scope(|scope| {
            for &(place, weight) in cases {
                let told = told.clone();
                scope.spawn(move || {
                    let taken = slots.take(place, demand(weight, 0));
                    told.send(place).unwrap();
                    drop(taken);
                });
                let has_come = |state: &State| state.early.contains(&place) || state.arrived > place;
                while !has_come(&slots.lock()) {
                    thread::yield_now();
                }
            }
            meanwhile();
        });
        drop(told);
        order.iter().collect()
    }

    #[test]
    fn who_comes_before_his_turn_waits_for_those_before_him() {
        let slots = Slots::new(demand(1, 0));
        assert_eq!(ran(&slots, &[(3, 1), (1, 1), (2, 1), (0, 1)], || ()), [0, 1, 2, 3]);
    }

    #[test]
    fn who_does_not_fit_is_overtaken_and_comes_first_once_it_fits() {
        let slots = Slots::new(demand(2, 0));
        let running = slots.take(0, demand(1, 0));
        let is_overtaken = || slots.lock().waiting.keys().copied().eq([1, 3]);
        let order = ran(&slots, &[(3, 2), (2, 1), (1, 2)], || {
            while !is_overtaken() {
                thread::yield_now();
            }
            drop(running);
        });
        assert_eq!(order, [2, 1, 3]);
    }
}
