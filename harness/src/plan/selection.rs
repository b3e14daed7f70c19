//! Which cases the user asked for, as libtest chooses them, and by tags.

use super::selftests::other_names;
use crate::cli::Options;
use crate::model::arch::Arch;
use crate::model::case::Case;
use crate::model::name;

/// The tags of what `--quick` leaves out.
pub(super) const NOT_QUICK: [&str; 2] = ["perf", "slow"];

/// A case as it is listed.
#[derive(Debug, Clone, Copy)]
pub struct Listed<'a> {
    /// Its name.
    pub name: &'a str,
    /// Why it is ignored.
    pub ignored: Option<&'a str>,
    /// Words to choose it by.
    pub tags: &'a [String],
}

impl<'a> Listed<'a> {
    pub(super) fn new(name: &'a str, ignored: Option<&'a str>, case: &'a Case) -> Self {
        let tags = &case.tags;
        Self {
            name,
            ignored,
            tags,
        }
    }
}

/// The user's FILTERs, `--skip`, `--exact`, `--ignored`, `--include-ignored`, `--tag`, `--skip-tag` and `--quick`.
#[derive(Debug)]
pub struct Selection {
    filters: Vec<String>,
    skip: Vec<String>,
    exact: bool,
    ignored: IgnoredCases,
    tags: Vec<String>,
    skip_tags: Vec<String>,
    /// What the user wrote.
    written: String,
}

/// What to do about the cases that are listed as ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IgnoredCases {
    Leave,
    Include,
    Only,
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
            ignored: match (options.ignored, options.include_ignored) {
                (_, true) => IgnoredCases::Include,
                (true, false) => IgnoredCases::Only,
                (false, false) => IgnoredCases::Leave,
            },
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
            filters: Vec::new(),
            skip: Vec::new(),
            exact: false,
            ignored: IgnoredCases::Include,
            tags: Vec::new(),
            skip_tags: Vec::new(),
            written: String::new(),
        }
    }

    /// Whether it asks for a case, or for one iteration of it; a whole name without an iteration means all of them.
    pub fn has(&self, case: Listed<'_>, iteration: Option<u32>) -> bool {
        let is_tagged = |tag: &String| case.tags.contains(tag);
        let is_left_out = (self.ignored == IgnoredCases::Only && case.ignored.is_none())
            || (!self.tags.is_empty() && !self.tags.iter().any(is_tagged))
            || self.skip_tags.iter().any(is_tagged);
        !is_left_out
            && match iteration {
                None => self.names(case.name, case.name),
                Some(number) => self.names(&name::of_iteration(case.name, number), case.name),
            }
    }

    fn names(&self, name: &str, listed: &str) -> bool {
        let matches = |filter: &String| match self.exact {
            true => name == *filter || listed == *filter,
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
        self.ignored != IgnoredCases::Leave
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
    let option = |option: &'static str, words: &[String]| {
        let word = |word: &String| format!("{option}`{word}`");
        words.iter().map(word).collect::<Vec<_>>()
    };
    let flag = |is_set: bool, flag: &str| is_set.then(|| flag.to_owned());
    [
        option("", &options.filters),
        option("--skip ", &options.skip),
        option("--tag ", &options.tag),
        option("--skip-tag ", &options.skip_tag),
    ]
    .into_iter()
    .flatten()
    .chain(flag(options.quick, "--quick"))
    .chain(flag(options.ignored, "--ignored"))
    .chain(flag(options.exact, "--exact"))
    .collect::<Vec<_>>()
    .join(", ")
}
