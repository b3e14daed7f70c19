//! The environments that there are: shipped, the user's own, and one made up on the command line.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use glob::Pattern;

use crate::cli::MadeUp;
use crate::environment::definition::{Definition, HOST};
use crate::environment::definition_toml;
use crate::plan::files::EnvironmentSource;
use crate::plan::problem::Problem;

/// The environments by name.
#[derive(Debug, Default)]
pub struct Definitions {
    by_name: BTreeMap<String, Definition>,
}

impl Definitions {
    /// Reads those of `sources`; the first problem of a name is where it is given the second time.
    pub fn read<'a>(
        sources: impl IntoIterator<Item = &'a EnvironmentSource>,
    ) -> (Self, Vec<Problem>) {
        let mut definitions = Self::default();
        let mut places = BTreeMap::<String, PathBuf>::new();
        let mut problems = Vec::new();
        for source in sources {
            match definition_toml::read(source) {
                Ok(definition) => match places.get(&definition.name) {
                    Some(first) => problems.push(Problem::of_file(
                        &source.path,
                        format!(
                            "a second environment `{}`; the first is {}",
                            definition.name,
                            first.display()
                        ),
                    )),
                    None => {
                        places.insert(definition.name.clone(), source.path.clone());
                        definitions
                            .by_name
                            .insert(definition.name.clone(), definition);
                    }
                },
                Err(found) => problems.extend(found),
            }
        }
        (definitions, problems)
    }

    /// All, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Definition> {
        self.by_name.values()
    }

    /// Those that `names` ask for, which may be globs, each once; and the one that is `made_up`. Empty where nothing
    /// is asked for.
    ///
    /// # Errors
    /// A name that no environment has, or options that make up none.
    pub fn selected(&self, names: &[String], made_up: &MadeUp) -> anyhow::Result<Vec<Definition>> {
        let mut selected = BTreeMap::new();
        for name in names {
            let pattern = Pattern::new(name).with_context(|| format!("--environment {name}"))?;
            let host = Definition::host();
            let matching: Vec<_> = std::iter::once(&host)
                .chain(self.iter())
                .filter(|one| pattern.matches(&one.name))
                .collect();
            if matching.is_empty() {
                return Err(anyhow!(
                    "no environment is called {name}{}",
                    self.hint(name)
                ));
            }
            selected.extend(
                matching
                    .into_iter()
                    .map(|one| (one.name.clone(), one.clone())),
            );
        }
        if !made_up.set.is_empty() || !made_up.param.is_empty() {
            let made = Definition::from_options(&made_up.set, &made_up.param);
            let made = made.map_err(|problems| anyhow!("{}", problems.join("\n")))?;
            selected.insert(made.name.clone(), made);
        }
        Ok(selected.into_values().collect())
    }

    fn hint(&self, name: &str) -> String {
        let names: Vec<_> = std::iter::once(HOST)
            .chain(self.by_name.keys().map(String::as_str))
            .collect();
        crate::plan::fields::hint(name, &names)
    }
}
