//! What is still to be given to places.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::model::case::Case;
use crate::model::planned::Shard;

/// How often those who wait look whether the run goes on.
pub(super) const LOOK: Duration = Duration::from_millis(200);

/// What one place runs at a time: cases in one environment.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Item {
    /// Their places in the plan.
    pub(super) cases: Vec<usize>,
    /// The run of the parts that had them before, and what the host of the last one is called.
    pub(super) run: Option<String>,
    pub(super) label: Option<String>,
    /// The place that has died with them: another one is to be tried.
    pub(super) avoid: Option<usize>,
    /// Its only case may have cost a host.
    pub(super) is_suspect: bool,
}

/// Cases in items for so many places: an environment each, those that take longest first. Where there are fewer environments
/// than places, each is split.
pub(super) fn items(
    cases: &[Case],
    places: usize,
    seconds: impl Fn(&Case) -> f64,
) -> VecDeque<Item> {
    let environment = |case: &usize| &cases[*case].name.environment;
    let mut ordered: Vec<usize> = (0..cases.len()).collect();
    ordered.sort_by(|a, b| environment(a).cmp(environment(b)));
    let groups: Vec<_> = ordered
        .chunk_by(|a, b| environment(a) == environment(b))
        .collect();
    let of = (places / groups.len().max(1)).max(1) as u64;
    let mut items = Vec::new();
    for (group, number) in groups
        .iter()
        .flat_map(|group| (1..=of).map(move |at| (group, at)))
    {
        let shard = Shard::Numbered { number, of };
        let is_of_shard = |case: &usize| shard.has(&cases[*case].name);
        items.push(Item {
            cases: group.iter().copied().filter(is_of_shard).collect(),
            ..Item::default()
        });
    }
    items.retain(|item| !item.cases.is_empty());
    let time = |item: &Item| -> f64 {
        let times = item.cases.iter().map(|&case| seconds(&cases[case]));
        times.sum()
    };
    items.sort_by(|a, b| time(b).total_cmp(&time(a)));
    items.into()
}

/// The items, and who works on them.
#[derive(Debug)]
pub(super) struct Agenda {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug)]
struct Waiting {
    items: VecDeque<Item>,
    /// How many items places have at this moment.
    given: usize,
    /// How many places there are.
    places: usize,
    /// How many parts there were.
    parts: usize,
    /// Why the last of the places that are there no more is not.
    gone: String,
}

impl Agenda {
    pub(super) fn new(items: VecDeque<Item>, places: usize) -> Self {
        let waiting = Waiting {
            items,
            given: 0,
            places,
            parts: 0,
            gone: String::new(),
        };
        Self {
            waiting: Mutex::new(waiting),
            changed: Condvar::new(),
        }
    }

    /// The next item for this place, with the number of its part; waits as long as there may still be one and the run goes on.
    pub(super) fn take(&self, place: usize, goes_on: impl Fn() -> bool) -> Option<(Item, usize)> {
        let mut waiting = self.lock();
        while goes_on() {
            let is_last = waiting.places == 1;
            let may_have = |item: &Item| item.avoid != Some(place) || is_last;
            if let Some(item) = waiting.items.iter().position(may_have) {
                waiting.given += 1;
                waiting.parts += 1;
                return waiting.items.remove(item).zip(Some(waiting.parts));
            }
            if waiting.items.is_empty() && waiting.given == 0 {
                return None;
            }
            let woken = self.changed.wait_timeout(waiting, LOOK);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        None
    }

    /// An item is no longer with a place; of its cases these are to be tried next, and these last of all.
    pub(super) fn give_back(&self, next: Option<Item>, last: Vec<Item>) {
        let mut waiting = self.lock();
        waiting.given -= 1;
        next.into_iter()
            .for_each(|item| waiting.items.push_front(item));
        waiting.items.extend(last);
        self.changed.notify_all();
    }

    /// A place is there no more.
    pub(super) fn retire(&self, why: String) {
        let mut waiting = self.lock();
        waiting.places -= 1;
        waiting.gone = why;
        self.changed.notify_all();
    }

    /// What nobody has run, and why the last place is gone.
    pub(super) fn left(&self) -> (VecDeque<Item>, String) {
        let waiting = &mut *self.lock();
        (std::mem::take(&mut waiting.items), waiting.gone.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(case: usize, avoid: Option<usize>) -> Item {
        Item {
            cases: vec![case],
            avoid,
            ..Item::default()
        }
    }

    #[test]
    fn what_a_place_has_died_with_goes_to_another_one_as_long_as_there_is_one() {
        let agenda = Agenda::new([item(0, None), item(1, None)].into(), 2);
        let take = |place| agenda.take(place, || true).map(|(item, _)| item.cases[0]);
        assert_eq!((take(0), take(1)), (Some(0), Some(1)));
        agenda.give_back(Some(item(0, Some(0))), vec![item(2, Some(0))]);
        assert_eq!(take(1), Some(0));
        agenda.give_back(None, Vec::new());
        agenda.give_back(None, Vec::new());
        agenda.retire("it died".to_owned());
        assert_eq!((take(0), agenda.left().0.len()), (Some(2), 0));
    }
}
