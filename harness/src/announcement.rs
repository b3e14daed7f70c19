//! Says on the disk which cases may run before they do: a host that dies leaves the names of those that ran.
//!
//! Writing to the disk takes up to milliseconds, and a case may take less. So the cases that follow are announced along
//! with the one that is about to start: just as many that syncing takes no more than a small share of the time. Where
//! cases take longer than that, each is announced alone, and none is suspected wrongly.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Syncing may take one part in this of a run's time.
const SHARE: u32 = 32;

/// The most cases that are announced at a time.
const MOST: usize = 256;

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
    last: Option<Instant>,
}

impl Announcer {
    /// One for the cases named in `plan`, which start in about this order. A case that is not among them is always
    /// announced alone.
    pub fn new(plan: Vec<String>) -> Self {
        let places = plan.iter().cloned().zip(0..).collect();
        let state = State { announced: vec![false; plan.len()], window: 1, last: None };
        Self { plan, places, state: Mutex::new(state) }
    }

    /// The case `name` is about to start: unless it has been announced, `keep` is given its name and those of the next
    /// ones to write to the disk. Others that are about to start wait meanwhile.
    ///
    /// # Errors
    /// Those of `keep`.
    pub fn announce<E>(&self, name: &str, keep: impl FnOnce(Vec<String>) -> Result<(), E>) -> Result<(), E> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(&place) = self.places.get(name) else { return keep(vec![name.to_owned()]) };
        if state.announced[place] {
            return Ok(());
        }
        let begin = Instant::now();
        let window = (place..self.plan.len()).take(MOST).filter(|&at| !state.announced[at]);
        let window: Vec<usize> = window.take(state.window).collect();
        keep(window.iter().map(|&at| self.plan[at].clone()).collect())?;
        window.iter().for_each(|&at| state.announced[at] = true);
        let end = Instant::now();
        if let Some(last) = state.last.replace(end) {
            state.window = next_window(window.len(), begin - last, end - begin);
        }
        Ok(())
    }
}

/// How many to announce next, where the last `window` took so long to start, and announcing these so long.
fn next_window(window: usize, lasted: Duration, cost: Duration) -> usize {
    let affordable = (cost * SHARE).as_secs_f64() / lasted.as_secs_f64().max(1e-9) * window as f64;
    // A disk that was slow once must not make suspects of many.
    (affordable as usize).clamp(1, MOST.min(window * 2))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn slow_cases_are_announced_one_by_one_and_fast_ones_together() {
        assert_eq!(next_window(1, 100 * MS, MS), 1);
        assert_eq!(next_window(64, 64 * 100 * MS, MS), 1);
        assert_eq!(next_window(1, MS, MS), 2);
        assert_eq!(next_window(16, 16 * MS, MS), 32);
        assert_eq!(next_window(32, 32 * MS, MS), 32);
        assert_eq!(next_window(MOST, Duration::ZERO, MS), MOST);
        assert_eq!(next_window(1, 100 * MS, 1000 * MS), 2);
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
