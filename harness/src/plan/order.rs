//! The order in which cases are started.

use std::cmp::Reverse;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::cli::Options;
use crate::model::case::Case;

/// Which part of its timeout a case is taken to need that has never run: more than most that have, so that it starts
/// before them.
const PART_OF_TIMEOUT: u32 = 10;

/// The seed of a random order, where the user wants one.
pub fn seed(options: &Options) -> Option<u64> {
    options.shuffle_seed.or_else(|| {
        options
            .shuffle
            .then(|| RandomState::new().hash_one(std::process::id()))
    })
}

/// Sorts `cases` with the suspects last, and by environment, each of which is entered once, the host as it is first.
/// Within it at random by `seed`; else those that are expected to take longest first, so that the last workers end
/// together, and those last that nothing may run beside, where they make no worker wait. `expected` knows how long a case
/// took before, by its name; `timeout` is that of cases that have none.
pub fn sort(
    cases: &mut [Case],
    seed: Option<u64>,
    expected: impl Fn(&str) -> Option<Duration>,
    timeout: Duration,
) {
    if let Some(seed) = seed {
        fastrand::Rng::with_seed(seed).shuffle(cases);
        cases.sort_by(|a, b| {
            (a.suspect, &a.name.environment).cmp(&(b.suspect, &b.name.environment))
        });
        return;
    }
    cases.sort_by_cached_key(|case| {
        let guess = || case.timeout.unwrap_or(timeout) / PART_OF_TIMEOUT;
        let expected = expected(&case.name.listed()).unwrap_or_else(guess);
        (
            case.suspect,
            case.name.environment.clone(),
            case.exclusive,
            Reverse(expected * case.weight),
        )
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::case::{Command, Requires, Variant};
    use crate::model::name::CaseName;

    fn case(variant: &str, timeout: u64, weight: u32) -> Case {
        Case {
            name: CaseName::new("suite", variant),
            variant: Arc::new(Variant {
                suite: Arc::default(),
                command: Command::Shell("true".to_owned()),
                directory: std::path::Path::new("/").into(),
                setup: None,
                teardown: None,
                precheck: None,
                env: Vec::new(),
                tags: Default::default(),
                shipped: false,
                timeout: Some(Duration::from_secs(timeout)),
                requires: Requires::default(),
                weight,
                needs_kvm: false,
                ignored_splats: Default::default(),
                iterations: 1,
                missing: None,
            }),
            exclusive: variant.starts_with("exclusive"),
            suspect: false,
            ignored: None,
        }
    }

    fn sorted(mut cases: Vec<Case>, seed: Option<u64>) -> Vec<String> {
        sort(&mut cases, seed, |_| None, Duration::from_secs(120));
        cases.into_iter().map(|case| case.name.variant).collect()
    }

    #[test]
    fn without_history_a_longer_timeout_and_a_greater_weight_come_first_and_exclusive_ones_last() {
        let cases = vec![
            case("exclusive", 900, 1),
            case("short", 10, 1),
            case("long", 300, 1),
            case("heavy", 120, 4),
            case("also_short", 10, 1),
        ];
        assert_eq!(
            sorted(cases, None),
            ["heavy", "long", "short", "also_short", "exclusive"]
        );
    }

    #[test]
    fn a_seed_makes_one_order() {
        let cases: Vec<_> = (0..20)
            .map(|number| case(&format!("v{number}"), 10, 1))
            .collect();
        let shuffled = sorted(cases.clone(), Some(7));
        assert_eq!(shuffled, sorted(cases.clone(), Some(7)));
        assert_ne!(shuffled, sorted(cases, Some(8)));
    }
}
