//! The order in which cases are started.

use std::hash::{BuildHasher, RandomState};

use crate::case::Case;
use crate::cli::Options;

/// The seed of a random order, where the user wants one.
pub fn seed(options: &Options) -> Option<u64> {
    options.shuffle_seed.or_else(|| options.shuffle.then(|| RandomState::new().hash_one(std::process::id())))
}

/// Sorts `cases` by environment, each of which is entered once, the host as it is first; within it at random by `seed`,
/// else with those last that nothing may run beside, where they make no worker wait.
pub fn sort(cases: &mut [Case], seed: Option<u64>) {
    if let Some(seed) = seed {
        fastrand::Rng::with_seed(seed).shuffle(cases);
    }
    cases.sort_by(|a, b| {
        let by_environment = a.name.environment.cmp(&b.name.environment);
        by_environment.then_with(|| (seed.is_none() && a.exclusive).cmp(&(seed.is_none() && b.exclusive)))
    });
}
