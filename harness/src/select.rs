//! Which cases the user asked for, as libtest chooses them.

use crate::case::Case;
use crate::cli::Options;
use crate::discover::Listed;

/// The user's FILTERs, `--skip`, `--exact`, `--ignored` and `--include-ignored`.
#[derive(Debug)]
pub struct Selection {
    filters: Vec<String>,
    skip: Vec<String>,
    exact: bool,
    ignored: Ignored,
}

/// What to do about the cases that are listed as ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ignored {
    Leave,
    Include,
    Only,
}

impl Selection {
    /// What `options` ask for.
    pub fn new(options: &Options) -> Self {
        let path = |filter: &String| filter.replace('/', "::");
        Self {
            filters: options.filters.iter().map(path).collect(),
            skip: options.skip.iter().map(path).collect(),
            exact: options.exact,
            ignored: match (options.ignored, options.include_ignored) {
                (_, true) => Ignored::Include,
                (true, false) => Ignored::Only,
                (false, false) => Ignored::Leave,
            },
        }
    }

    /// Whether it asks for `case`; a whole name without an iteration means all of them.
    pub fn has(&self, case: &Case) -> bool {
        let listed = case.name.iteration.map(|_| case.name.listed());
        self.takes(case.ignored.is_some()) && self.names(&case.name.to_string(), listed.as_deref())
    }

    /// The same for one that is only listed.
    pub fn lists(&self, case: Listed<'_>) -> bool {
        self.takes(case.ignored.is_some()) && self.names(case.name, None)
    }

    fn takes(&self, is_ignored: bool) -> bool {
        self.ignored != Ignored::Only || is_ignored
    }

    fn names(&self, name: &str, listed: Option<&str>) -> bool {
        let matches = |filter: &String| match self.exact {
            true => name == *filter || listed == Some(filter),
            false => name.contains(filter.as_str()),
        };
        (self.filters.is_empty() || self.filters.iter().any(matches)) && !self.skip.iter().any(matches)
    }

    /// Whether it names cases by their whole names.
    pub fn is_exact(&self) -> bool {
        self.exact && !self.filters.is_empty()
    }

    /// Whether a case that is listed as ignored is to run all the same.
    pub fn runs_ignored(&self) -> bool {
        self.ignored != Ignored::Leave
    }

    /// The filters in words, for a message.
    pub fn describe(&self) -> String {
        let mut words: Vec<String> = self.filters.iter().map(|filter| format!("`{filter}`")).collect();
        words.extend(self.skip.iter().map(|filter| format!("--skip `{filter}`")));
        words.extend((self.ignored == Ignored::Only).then(|| "--ignored".to_owned()));
        words.extend(self.exact.then(|| "--exact".to_owned()));
        if words.is_empty() { "no filter".to_owned() } else { words.join(", ") }
    }
}
