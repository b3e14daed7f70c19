//! Which cases the user asked for, as libtest chooses them, and by tags.

use super::selftests::other_names;
use crate::cli::Options;
use crate::model::arch::Arch;
use crate::model::case::Case;
use crate::model::name;

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
        }
    }

    /// Every case in every environment.
    pub fn everything() -> Self {
        Self {
            with_ignored: true,
            ..Self::default()
        }
    }

    /// Whether it asks for a case; a whole name without an iteration means all of them.
    pub fn has(&self, case: &Case) -> bool {
        let is_tagged = |tag: &String| case.tags.contains(tag);
        if (self.ignored && case.ignored.is_none())
            || (!self.tags.is_empty() && !self.tags.iter().any(is_tagged))
            || self.skip_tags.iter().any(is_tagged)
        {
            return false;
        }
        let name = case.name.to_string();
        let matches = |filter: &String| match self.exact {
            true => name == *filter || name::listed(&name) == *filter,
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
fn names_of(filter: &str) -> Vec<String> {
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
