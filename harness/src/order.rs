//! The order in which cases are started.

use std::hash::{BuildHasher, RandomState};

use crate::case::Case;
use crate::cli::Options;

/// The seed of a random order, where the user wants one.
pub fn seed(options: &Options) -> Option<u64> {
    options.shuffle_seed.or_else(|| options.shuffle.then(|| RandomState::new().hash_one(std::process::id())))
}

/// Sorts `cases`: at random by `seed`; else those that nothing may run beside come last, where they make no worker wait.
pub fn sort(cases: &mut [Case], seed: Option<u64>) {
    match seed {
        Some(seed) => fastrand::Rng::with_seed(seed).shuffle(cases),
        None => cases.sort_by_key(|case| case.exclusive),
    }
}
