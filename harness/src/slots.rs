//! The run's slots: how many cases run side by side, counted by their weights.

use std::sync::{Condvar, Mutex, PoisonError};

/// A counter of free slots, given out first come, first served, so that a heavy case is not overtaken for ever.
#[derive(Debug)]
pub struct Slots {
    total: u32,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    free: u32,
    next_ticket: u64,
    now_serving: u64,
}

/// Slots that a case has taken; dropping it gives them back.
#[derive(Debug)]
#[must_use = "the slots are given back when this is dropped"]
pub struct Taken<'a> {
    slots: &'a Slots,
    weight: u32,
}

impl Slots {
    /// `total` free slots, at least one.
    pub fn new(total: u32) -> Self {
        let total = total.max(1);
        let state = State { free: total, next_ticket: 0, now_serving: 0 };
        Self { total, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Waits for `weight` slots; more than there are means all of them.
    pub fn take(&self, weight: u32) -> Taken<'_> {
        let weight = weight.clamp(1, self.total);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        while state.now_serving != ticket || state.free < weight {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.now_serving += 1;
        state.free -= weight;
        self.changed.notify_all();
        Taken { slots: self, weight }
    }

    /// Waits until nothing else runs.
    pub fn take_all(&self) -> Taken<'_> {
        self.take(self.total)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut state = self.slots.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.free += self.weight;
        self.slots.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn what_is_taken_never_exceeds_the_total_and_all_is_alone() {
        let slots = Slots::new(4);
        let used = AtomicU32::new(0);
        let work = |weight: u32| {
            let _taken = slots.take(weight);
            let before = used.fetch_add(weight.clamp(1, 4), Ordering::SeqCst);
            assert!(before + weight.clamp(1, 4) <= 4);
            std::thread::yield_now();
            used.fetch_sub(weight.clamp(1, 4), Ordering::SeqCst);
        };
        std::thread::scope(|scope| {
            for worker in 0..8 {
                scope.spawn(move || (0..200).for_each(|round| work((worker + round) % 7)));
            }
        });
        drop(slots.take_all());
        assert_eq!(used.load(Ordering::SeqCst), 0);
    }
}
