//! The environments that there are: shipped, the user's own, and one made up on the command line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use glob::Pattern;

use super::definition::{Definition, HOST};
use super::definition_toml;
use crate::model::problem::{Problem, hint};

/// An environment made up on the command line.
#[derive(Debug, Clone, Default, Args)]
pub struct MadeUp {
    /// Run in an environment made up on the spot; repeatable (see `kvm-tests environments` for the features). Also
    /// hugepages.SIZE=COUNT, hugepages.SIZE.nodeN=COUNT and the path of a file below /sys or /proc/sys
    #[arg(long, value_name = "FEATURE=VALUE")]
    set: Vec<String>,

    /// The same, for any parameter of a module; repeatable
    #[arg(long, value_name = "MODULE.PARAM=VALUE")]
    param: Vec<String>,
}

/// The environments by name.
#[derive(Debug, Default)]
pub struct Definitions {
    by_name: BTreeMap<String, Definition>,
}

impl Definitions {
    /// Reads those of `files`, their paths and their texts; and what is wrong with them. The first problem of a name is
    /// where it is given the second time.
    pub fn read<'a>(files: impl IntoIterator<Item = (&'a Path, &'a str)>) -> (Self, Vec<Problem>) {
        let mut definitions = Self::default();
        let mut paths = BTreeMap::<String, PathBuf>::new();
        let mut problems = Vec::new();
        for (path, text) in files {
            let definition = match definition_toml::read(path, text) {
                Ok(definition) => definition,
                Err(found) => {
                    problems.extend(found);
                    continue;
                }
            };
            let name = definition.name.clone();
            if let Some(first) = paths.get(&name) {
                let problem = format!(
                    "a second environment `{name}`; the first is {}",
                    first.display()
                );
                problems.push(Problem::of_file(path, problem));
            } else {
                paths.insert(name.clone(), path.to_owned());
                definitions.by_name.insert(name, definition);
            }
        }
        (definitions, problems)
    }

    /// All, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Definition> {
        self.by_name.values()
    }

    /// Those that `names` ask for, which may be globs, each once; and the one that is `made_up`. Empty
    /// where nothing is asked for.
    ///
    /// # Errors
    /// A name that no environment has, or options that make up none.
    pub fn selected(&self, names: &[String], made_up: &MadeUp) -> anyhow::Result<Vec<Definition>> {
        let host = Definition::host();
        let mut selected = BTreeMap::new();
        for name in names {
            let pattern = Pattern::new(name).with_context(|| format!("--environment {name}"))?;
            let all = std::iter::once(&host).chain(self.iter());
            let matching = all.filter(|one| pattern.matches(&one.name));
            let matching: Vec<_> = matching
                .map(|one| (one.name.clone(), one.clone()))
                .collect();
            if matching.is_empty() {
                let known = self.by_name.keys().map(String::as_str);
                let known: Vec<&str> = std::iter::once(HOST).chain(known).collect();
                bail!("no environment is called {name}{}", hint(name, &known));
            }
            selected.extend(matching);
        }
        if !made_up.set.is_empty() || !made_up.param.is_empty() {
            let made = Definition::from_options(&made_up.set, &made_up.param);
            let made = made.map_err(|problems| anyhow!("{}", problems.join("\n")))?;
            selected.insert(made.name.clone(), made);
        }
        Ok(selected.into_values().collect())
    }
}
