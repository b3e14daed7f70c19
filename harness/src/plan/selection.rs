//! Which cases the user asked for, as libtest chooses them, and by tags; and in which order they are started.

use std::cmp::Reverse;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use super::selftests::other_names;
use crate::model::case::Case;
use crate::model::case::name;
use crate::model::host::Arch;
use crate::model::planned::Shard;
use crate::options::Options;

/// The tags of what `--quick` leaves out.
pub(super) const NOT_QUICK: [&str; 2] = ["perf", "slow"];

/// The user's FILTERs, `--skip`, `--exact`, `--ignored`, `--include-ignored`, `--tag`, `--skip-tag` and `--quick`.
#[derive(Debug, Default)]
pub struct Selection {
    filters: Vec<String>,
    skip: Vec<String>,
    exact: bool,
    /// Only those that are ignored.
    ignored: bool,
    /// Those that are ignored, too.
    with_ignored: bool,
    tags: Vec<String>,
    skip_tags: Vec<String>,
    /// What the user wrote.
    written: String,
    shard: Option<Shard>,
}

impl Selection {
    /// What `options` ask for.
    pub fn new(options: &Options) -> Self {
        let names =
            |filters: &[String]| filters.iter().flat_map(|filter| names_of(filter)).collect();
        let quick = NOT_QUICK.iter().filter(|_| options.quick);
        let skip_tags = options.skip_tag.iter().cloned();
        Self {
            filters: names(&options.filters),
            skip: names(&options.skip),
            exact: options.exact,
            ignored: options.ignored && !options.include_ignored,
            with_ignored: options.ignored || options.include_ignored,
            tags: options.tag.clone(),
            skip_tags: skip_tags
                .chain(quick.map(|tag| (*tag).to_owned()))
                .collect(),
            written: written(options),
            shard: None,
        }
    }

    /// Every case in every environment.
    pub fn everything() -> Self {
        Self {
            with_ignored: true,
            ..Self::default()
        }
    }

    /// Of what it asks for, this part.
    pub fn within(self, shard: Option<Shard>) -> Self {
        Self { shard, ..self }
    }

    /// Whether it asks for a case; a whole name without an iteration means all of them.
    pub fn has(&self, case: &Case) -> bool {
        let is_tagged = |tag: &String| case.tags.contains(tag);
        if (self.ignored && case.ignored.is_none())
            || (!self.tags.is_empty() && !self.tags.iter().any(is_tagged))
            || self.skip_tags.iter().any(is_tagged)
            || self
                .shard
                .as_ref()
                .is_some_and(|shard| !shard.has(&case.name))
        {
            return false;
        }
        self.has_name(&case.name.to_string())
    }

    /// Whether its filters ask for a case of this name.
    pub fn has_name(&self, name: &str) -> bool {
        let matches = |filter: &String| match self.exact {
            true => name == *filter || name::listed(name) == *filter,
            false => name.contains(filter.as_str()),
        };
        (self.filters.is_empty() || self.filters.iter().any(matches))
            && !self.skip.iter().any(matches)
    }

    /// Whether it names cases by their whole names.
    pub fn is_exact(&self) -> bool {
        self.exact && !self.filters.is_empty()
    }

    /// Whether a case that is listed as ignored is to run all the same.
    pub fn runs_ignored(&self) -> bool {
        self.with_ignored
    }

    /// Whether one of its filters is for cases in `environment`.
    pub(super) fn names_in(&self, environment: &str) -> bool {
        let is_in = |filter: &String| filter.split("::").next() == Some(environment);
        self.filters.iter().any(is_in)
    }

    /// Whether cases in `environment` that was not asked for are considered, as ignored.
    pub(super) fn considers(&self, environment: &str) -> bool {
        self.with_ignored || (self.is_exact() && self.names_in(environment))
    }

    /// Whether it leaves nothing out.
    pub fn is_all(&self) -> bool {
        self.written.is_empty()
    }

    /// What the user wrote, for a message.
    pub fn describe(&self) -> &str {
        if self.is_all() {
            "no filter"
        } else {
            &self.written
        }
    }
}

/// The names that a filter may stand for: `/` may be written for `::`, and a selftest is known as the kernel's tree has
/// it (`x86/get-reg-list.sh`), now or before it was renamed.
pub(super) fn names_of(filter: &str) -> Vec<String> {
    let directories = Arch::ALL.iter().flat_map(|arch| arch.directories());
    let mut prefixes =
        directories.filter_map(|directory| filter.strip_prefix(*directory)?.strip_prefix('/'));
    let filter = prefixes.next().unwrap_or(filter);
    let filter = filter
        .strip_suffix(".sh")
        .unwrap_or(filter)
        .replace('/', "::")
        .replace('-', "_");
    let renamed = filter.split("::").flat_map(|segment| {
        let others = other_names(segment);
        others
            .map(|other| filter.replacen(segment, other, 1))
            .collect::<Vec<_>>()
    });
    let mut names: Vec<_> = renamed.collect();
    names.push(filter);
    names
}

fn written(options: &Options) -> String {
    let mut words = Vec::new();
    for (option, given) in [
        ("", &options.filters),
        ("--skip ", &options.skip),
        ("--tag ", &options.tag),
        ("--skip-tag ", &options.skip_tag),
    ] {
        words.extend(given.iter().map(|word| format!("{option}`{word}`")));
    }
    for (flag, is_set) in [
        ("--quick", options.quick),
        ("--ignored", options.ignored),
        ("--exact", options.exact),
    ] {
        words.extend(is_set.then(|| flag.to_owned()));
    }
    words.join(", ")
}

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
    use crate::model::case::name::CaseName;
    use crate::model::case::{Command, Requires, Variant};

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
                collection: None,
                ignored_splats: Default::default(),
                iterations: 1,
                missing: None,
            }),
            exclusive: variant.starts_with("exclusive"),
            environment_options: None,
            suspect: false,
            ignored: None,
            known: Vec::new(),
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
