//! Which cases the user asked for, as libtest chooses them.

use crate::cli::Options;
use crate::model::name;
use crate::plan::discover::Listed;

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

    /// Whether it asks for a case, or for one iteration of it; a whole name without an iteration means all of them.
    pub fn has(
        &self,
        Listed {
            name: listed,
            ignored,
        }: Listed<'_>,
        iteration: Option<u32>,
    ) -> bool {
        if self.ignored == Ignored::Only && ignored.is_none() {
            return false;
        }
        match iteration {
            None => self.names(listed, listed),
            Some(number) => self.names(&name::of_iteration(listed, number), listed),
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
        self.ignored != Ignored::Leave
    }

    /// The filters in words, for a message.
    pub fn describe(&self) -> String {
        let mut words: Vec<String> = self
            .filters
            .iter()
            .map(|filter| format!("`{filter}`"))
            .collect();
        words.extend(self.skip.iter().map(|filter| format!("--skip `{filter}`")));
        words.extend((self.ignored == Ignored::Only).then(|| "--ignored".to_owned()));
        words.extend(self.exact.then(|| "--exact".to_owned()));
        if words.is_empty() {
            "no filter".to_owned()
        } else {
            words.join(", ")
        }
    }
}
