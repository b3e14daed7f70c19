//! What the cases that run side by side share: the run's slots, and the host's memory.
//!
//! A case that holds a slot may offer it to the next one before it ends, along with whatever makes use of that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::model::case::Case;

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
        let slots = if case.exclusive {
            u32::MAX
        } else {
            case.weight
        };
        Self {
            slots,
            memory: case.requires.memory.unwrap_or(0),
        }
    }

    /// Whether a worker may have to wait for it although another case could run.
    pub fn is_special(self) -> bool {
        self.slots > 1 || self.memory > 0
    }

    fn fits_in(self, other: Self) -> bool {
        self.slots <= other.slots && self.memory <= other.memory
    }
}

/// What a case takes its slot with.
#[derive(Debug)]
pub enum Turn<O> {
    /// It may start.
    Now(Taken<O>),
    /// It has been offered this, to start once another case has ended.
    Next(O),
}

/// Gives out slots and memory in the run's order, whichever thread is the fastest; a case that does not fit yet is
/// overtaken by those that do. None waits for ever, as a run has an end.
#[derive(Debug)]
pub struct Slots<O> {
    total: Demand,
    state: Mutex<State<O>>,
}

#[derive(Debug)]
struct State<O> {
    free: Demand,
    /// All cases at places before this one have arrived.
    arrived: usize,
    /// Those that arrived before others whose turn is earlier.
    early: BTreeSet<usize>,
    /// Those that wait, by their places.
    waiting: BTreeMap<usize, Waiting>,
    /// What the cases at these places offer.
    offers: BTreeMap<usize, O>,
    /// What was offered to those who waited at these places, until they take it.
    accepted: BTreeMap<usize, O>,
}

#[derive(Debug)]
struct Waiting {
    demand: Demand,
    takes_offers: bool,
    granted: Arc<Condvar>,
}

/// What a case has taken. It is given back when the last copy is dropped: the slot that one case has offered to another
/// is free when both have ended.
#[derive(Debug)]
#[must_use = "what was taken is given back when this is dropped"]
pub struct Taken<O>(Arc<Share<O>>);

#[derive(Debug)]
struct Share<O> {
    slots: Arc<Slots<O>>,
    demand: Demand,
}

impl<O> Clone for Taken<O> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<O> Slots<O> {
    /// All of `total`, free; at least one slot.
    pub fn new(total: Demand) -> Self {
        let total = Demand {
            slots: total.slots.max(1),
            ..total
        };
        let state = State {
            free: total,
            arrived: 0,
            early: BTreeSet::new(),
            waiting: BTreeMap::new(),
            offers: BTreeMap::new(),
            accepted: BTreeMap::new(),
        };
        Self {
            total,
            state: Mutex::new(state),
        }
    }

    /// The case at `place` will take nothing: those behind it need not wait for it to come.
    pub fn pass(&self, place: usize) {
        let mut state = self.lock();
        state.arrive(place);
        state.grant();
    }

    /// Waits for `demand` for the case at `place` in the order, counted from 0 without gaps, each of which must come here
    /// or [pass](Self::pass); more than there is means all of it. Who `takes_offers` takes one where nothing is free.
    pub fn take(self: &Arc<Self>, place: usize, demand: Demand, takes_offers: bool) -> Turn<O> {
        let demand = Demand {
            slots: demand.slots.clamp(1, self.total.slots),
            memory: demand.memory.min(self.total.memory),
        };
        let granted = Arc::new(Condvar::new());
        let mut state = self.lock();
        state.waiting.insert(
            place,
            Waiting {
                demand,
                takes_offers,
                granted: Arc::clone(&granted),
            },
        );
        state.arrive(place);
        state.grant();
        while state.waiting.contains_key(&place) {
            state = granted.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        match state.accepted.remove(&place) {
            Some(offer) => Turn::Next(offer),
            None => Turn::Now(Taken(Arc::new(Share {
                slots: Arc::clone(self),
                demand,
            }))),
        }
    }

    /// The case at `place`, which holds a slot, offers `offer` to the next one that takes it.
    pub fn offer(&self, place: usize, offer: O) {
        let mut state = self.lock();
        state.offers.insert(place, offer);
        state.grant();
    }

    /// The case at `place` does not offer anything any more. Returns what it has offered, unless that was taken.
    pub fn withdraw(&self, place: usize) -> Option<O> {
        self.lock().offers.remove(&place)
    }

    fn lock(&self) -> MutexGuard<'_, State<O>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<O> State<O> {
    fn arrive(&mut self, place: usize) {
        self.early.insert(place);
        while self.early.first() == Some(&self.arrived) {
            self.early.pop_first();
            self.arrived += 1;
        }
    }

    /// Gives what is free to those who wait, the first in the order first; and what is offered, as long as nobody is
    /// overtaken by that who may want the slot once it is free.
    fn grant(&mut self) {
        let Self {
            free,
            offers,
            accepted,
            ..
        } = self;
        let mut overtakes = false;
        self.waiting.retain(|&place, waiting| {
            if place >= self.arrived {
                return true;
            }
            if waiting.demand.fits_in(*free) {
                free.slots -= waiting.demand.slots;
                free.memory -= waiting.demand.memory;
            } else if waiting.takes_offers
                && !overtakes
                && let Some((_, offer)) = offers.pop_first()
            {
                accepted.insert(place, offer);
            } else {
                overtakes = true;
                return true;
            }
            waiting.granted.notify_one();
            false
        });
    }
}

impl<O> Drop for Share<O> {
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
        let slots = Arc::new(Slots::<()>::new(demand(4, 100)));
        let place = AtomicUsize::new(0);
        let used = Mutex::new((0, 0));
        let work = |weight: u32| {
            let memory = u64::from(weight % 3) * 40;
            let place = place.fetch_add(1, Ordering::SeqCst);
            let _taken = slots.take(place, demand(weight, memory), false);
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
        drop(slots.take(last, demand(u32::MAX, u64::MAX), false));
        assert_eq!(*used.lock().unwrap(), (0, 0));
    }

    /// Starts a thread for each case at `place` with `weight`, each once the one before waits or runs, and returns the
    /// places in the order in which they ran.
    fn ran(slots: &Arc<Slots<()>>, cases: &[(usize, u32)], meanwhile: impl FnOnce()) -> Vec<usize> {
        let (told, order) = mpsc::channel();
        thread::scope(|scope| {
            for &(place, weight) in cases {
                let told = told.clone();
                scope.spawn(move || {
                    let taken = slots.take(place, demand(weight, 0), false);
                    told.send(place).unwrap();
                    drop(taken);
                });
                let has_come =
                    |state: &State<()>| state.early.contains(&place) || state.arrived > place;
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
        let slots = Arc::new(Slots::new(demand(1, 0)));
        assert_eq!(
            ran(&slots, &[(3, 1), (1, 1), (2, 1), (0, 1)], || ()),
            [0, 1, 2, 3]
        );
    }

    #[test]
    fn who_does_not_fit_is_overtaken_and_comes_first_once_it_fits() {
        let slots = Arc::new(Slots::new(demand(2, 0)));
        let running = slots.take(0, demand(1, 0), false);
        let is_overtaken = || slots.lock().waiting.keys().copied().eq([1, 3]);
        let order = ran(&slots, &[(3, 2), (2, 1), (1, 2)], || {
            while !is_overtaken() {
                thread::yield_now();
            }
            drop(running);
        });
        assert_eq!(order, [2, 1, 3]);
    }

    struct Offer(Taken<Offer>);

    #[test]
    fn an_offered_slot_is_free_once_both_have_ended() {
        let slots = Arc::new(Slots::new(demand(1, 0)));
        let Turn::Now(first) = slots.take(0, demand(1, 0), true) else {
            panic!("it is free")
        };
        slots.offer(0, Offer(first.clone()));
        let Turn::Next(Offer(second)) = slots.take(1, demand(1, 0), true) else {
            panic!("it is taken")
        };
        assert!(slots.withdraw(0).is_none());
        drop(first);
        assert_eq!(slots.lock().free.slots, 0);
        slots.offer(1, Offer(second.clone()));
        assert!(slots.withdraw(1).is_some());
        drop(second);
        assert_eq!(slots.lock().free.slots, 1);
        assert!(matches!(slots.take(2, demand(1, 0), true), Turn::Now(_)));
    }

    #[test]
    fn an_offer_goes_to_the_first_in_the_order_and_overtakes_nobody() {
        let slots = Arc::new(Slots::new(demand(2, 0)));
        let running = [
            slots.take(0, demand(1, 0), true),
            slots.take(1, demand(1, 0), true),
        ];
        let (told, order) = mpsc::channel();
        thread::scope(|scope| {
            for (place, takes_offers) in [(4, true), (3, false), (2, true)] {
                let (told, slots) = (told.clone(), &slots);
                scope.spawn(move || {
                    let turn = slots.take(place, demand(1, 0), takes_offers);
                    told.send((place, matches!(turn, Turn::Next("offered"))))
                        .unwrap();
                });
            }
            while slots.lock().waiting.len() < 3 {
                thread::yield_now();
            }
            slots.offer(0, "offered");
            assert_eq!(order.recv().unwrap(), (2, true));
            slots.offer(1, "refused");
            assert_eq!(slots.withdraw(1), Some("refused"));
            drop(running);
            drop(told);
            let rest: BTreeSet<_> = order.iter().collect();
            assert_eq!(rest, [(3, false), (4, false)].into());
        });
    }
}
