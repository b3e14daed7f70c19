//! Says on the disk which cases may run before they do: a host that dies leaves the names of those that ran.
//!
//! Writing to the disk takes up to milliseconds, and a case may take less. So the cases that follow are announced along
//! with the one that is about to start: just as many that syncing takes no more than a small share of the time. Where
//! cases take longer than that, each is announced alone, and none is suspected wrongly.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The share of a run's time that syncing may take.
const SHARE: f64 = 1.0 / 32.0;

/// The most cases that are announced at a time.
const MOST: usize = 1024;

/// What counts of the times so far with each new announcement: a disk's are so uneven that one alone tells little.
const MEMORY: f64 = 0.875;

/// Who announces the cases of a run.
#[derive(Debug)]
pub struct Announcer {
    plan: Vec<String>,
    places: HashMap<String, usize>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    announced: Vec<bool>,
    window: usize,
    /// When the last announcement was over.
    last: Option<Instant>,
    /// Of the last times, in seconds, what announcing took, and all together.
    spent: (f64, f64),
}

impl Announcer {
    /// One for the cases named in `plan`, which start in about this order. A case that is not among them is always
    /// announced alone.
    pub fn new(plan: Vec<String>) -> Self {
        let places = plan.iter().cloned().zip(0..).collect();
        let state = State {
            announced: vec![false; plan.len()],
            window: 1,
            last: None,
            spent: (0.0, 0.0),
        };
        Self {
            plan,
            places,
            state: Mutex::new(state),
        }
    }

    /// The case `name` is about to start: unless it has been announced, `keep` is given its name and those of the next
    /// ones to write to the disk. Others that are about to start wait meanwhile.
    ///
    /// # Errors
    /// Those of `keep`.
    pub fn announce<E>(
        &self,
        name: &str,
        keep: impl FnOnce(Vec<String>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(&place) = self.places.get(name) else {
            return keep(vec![name.to_owned()]);
        };
        if state.announced[place] {
            return Ok(());
        }
        let begin = Instant::now();
        let window = (place..self.plan.len())
            .take(MOST)
            .filter(|&at| !state.announced[at]);
        let window: Vec<usize> = window.take(state.window).collect();
        keep(window.iter().map(|&at| self.plan[at].clone()).collect())?;
        window.iter().for_each(|&at| state.announced[at] = true);
        let end = Instant::now();
        if let Some(last) = state.last.replace(end) {
            state.adapt(end - begin, end - last);
        }
        Ok(())
    }
}

impl State {
    /// Announcing took this long, of the time since the last announcement was over.
    fn adapt(&mut self, announcing: Duration, all: Duration) {
        self.spent.0 = self.spent.0 * MEMORY + announcing.as_secs_f64();
        self.spent.1 = self.spent.1 * MEMORY + all.as_secs_f64();
        let share = self.spent.0 / self.spent.1.max(f64::MIN_POSITIVE);
        if share > SHARE {
            self.window = (self.window * 2).min(MOST);
        } else if share < SHARE / 4.0 {
            self.window = (self.window / 2).max(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// The window after `rounds` announcements that take `announcing`, with cases that take `case` each.
    fn window(rounds: usize, announcing: impl Fn(usize) -> Duration, case: Duration) -> usize {
        let mut state = Announcer::new(Vec::new()).state.into_inner().unwrap();
        for round in 0..rounds {
            let cases = case * u32::try_from(state.window).unwrap();
            state.adapt(announcing(round), announcing(round) + cases);
        }
        state.window
    }

    #[test]
    fn slow_cases_are_announced_one_by_one_and_fast_ones_together() {
        assert_eq!(window(50, |_| MS, 100 * MS), 1);
        assert!((16..=64).contains(&window(50, |_| MS, MS)));
        assert_eq!(window(50, |_| 100 * MS, MS), MOST);
        // However uneven the disk is, it is the time in all that counts.
        let uneven = |round| if round % 4 == 0 { 40 * MS } else { MS / 10 };
        assert!(window(50, uneven, MS) >= 128);
        assert_eq!(
            window(50, |round| if round < 10 { 100 * MS } else { MS }, 500 * MS),
            1
        );
    }

    #[test]
    fn every_case_is_announced_once_whatever_the_order() {
        let plan: Vec<String> = (0..500).map(|number| number.to_string()).collect();
        let mut order = plan.clone();
        fastrand::Rng::with_seed(5).shuffle(&mut order);
        let announcer = Announcer::new(plan.clone());
        let mut announced = Vec::new();
        for name in &order {
            let keep = |names: Vec<String>| {
                assert!(names.contains(name));
                announced.extend(names);
                Ok::<_, Infallible>(())
            };
            announcer.announce(name, keep).unwrap();
            assert!(announced.contains(name));
        }
        announced.sort_by_key(|name| name.parse::<u32>().unwrap());
        assert_eq!(announced, plan);
    }

    #[test]
    fn what_could_not_be_kept_is_announced_again() {
        let announcer = Announcer::new(vec!["a".to_owned()]);
        assert!(announcer.announce("a", |_| Err("full")).is_err());
        let mut kept = Vec::new();
        let keep = |names: Vec<String>| {
            kept.extend(names);
            Ok::<_, Infallible>(())
        };
        announcer.announce("a", keep).unwrap();
        assert_eq!(kept, ["a"]);
    }
}
