//! The environments that there are: shipped, the user's own, and one made up on the command line.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use glob::Pattern;

use toml::Spanned;
use toml::de::DeValue;

use super::definition::{Definition, HOST, Setting};
use crate::model::problem::TextFile;
use crate::model::problem::{Problem, hint};
use crate::model::value::{Identifier, Scalar, Text};

/// The keys of an environment's file, which no other file has.
pub const ENVIRONMENT_KEYS: [&str; 7] = [
    "environment",
    "description",
    "features",
    "params",
    "hugepages",
    "sysctls",
    "sysfs",
];

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
        let (mut by_name, mut problems) = (BTreeMap::new(), Vec::new());
        let mut paths = BTreeMap::<String, &Path>::new();
        for (path, text) in files {
            match read(path, text) {
                Err(found) => problems.extend(found),
                Ok(definition) => match paths.entry(definition.name.clone()) {
                    Entry::Occupied(first) => {
                        let (name, first) = (first.key(), first.get().display());
                        let problem =
                            format!("a second environment `{name}`; the first is {first}");
                        problems.push(Problem::of_file(path, problem));
                    }
                    Entry::Vacant(first) => {
                        first.insert(path);
                        by_name.insert(definition.name.clone(), definition);
                    }
                },
            }
        }
        (Self { by_name }, problems)
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

/// Reads the environment in `text`, the file at `path`.
///
/// # Errors
/// Everything that is wrong with it.
fn read(path: &Path, text: &str) -> Result<Definition, Vec<Problem>> {
    let file = TextFile::new(path, text);
    let mut table = file.parse()?;
    let (mut definition, mut problems) = (Definition::default(), Vec::new());
    match name(&file, table.remove("environment")) {
        Ok(Identifier(name)) => definition.name = name,
        Err(problem) => problems.push(problem),
    }
    match table.remove("description").map(|value| file.read(value)) {
        Some(Ok(Text(text))) => definition.description = text,
        Some(Err(problem)) => problems.push(problem),
        None => {}
    }
    for (key, value) in table {
        let (at, key) = (key.span().start, key.into_inner());
        if !ENVIRONMENT_KEYS.contains(&&*key) {
            let (word, hint) = (key.escape_debug(), hint(&key, &ENVIRONMENT_KEYS));
            problems.push(file.problem(at, format!("unknown key `{word}`{hint}")));
            continue;
        }
        for (at, name, value) in values(at, &key, value) {
            let set = read_value(&file, at, &name, value).and_then(|(setting, value)| {
                let set = definition.want(setting, value);
                set.map_err(|problem| file.problem(at, problem))
            });
            problems.extend(set.err());
        }
    }
    problems.sort_by_key(|problem| problem.place.position);
    match problems.is_empty() {
        true => Ok(definition),
        false => Err(problems),
    }
}

/// The environment's name: by default it is the stem of its file.
fn name(file: &TextFile<'_>, value: Option<Spanned<DeValue<'_>>>) -> Result<Identifier, Problem> {
    let at = value.as_ref().map_or(0, |value| value.span().start);
    let name = match value {
        Some(value) => file.read(value)?,
        None => file.name("environment")?,
    };
    if name.0 == HOST {
        let problem = format!("`{HOST}` is the host as it is, and cannot be another environment");
        return Err(file.problem(at, problem));
    }
    Ok(name)
}

/// The values in a table, and in the tables in it: where each is, by its keys with dots between them, and what it is.
fn values<'a>(
    at: usize,
    name: &str,
    value: Spanned<DeValue<'a>>,
) -> Vec<(usize, String, Spanned<DeValue<'a>>)> {
    let span = value.span();
    match value.into_inner() {
        DeValue::Table(table) => {
            let entries = table.into_iter().flat_map(|(key, value)| {
                values(
                    key.span().start,
                    &format!("{name}.{}", key.get_ref()),
                    value,
                )
            });
            entries.collect()
        }
        other => vec![(at, name.to_owned(), Spanned::new(span, other))],
    }
}

/// What the value of this name sets, and to what.
fn read_value<'a>(
    file: &TextFile<'a>,
    at: usize,
    name: &str,
    value: Spanned<DeValue<'a>>,
) -> Result<(Setting, String), Problem> {
    let value_at = value.span().start;
    let setting = match name.split_once('.') {
        Some(("features", feature)) => Setting::parse(feature),
        Some(("params", parameter)) => Setting::parameter(parameter),
        Some(("sysctls", name)) => Setting::file(&format!("/proc/sys/{}", name.replace('.', "/"))),
        Some(("sysfs", path)) => Setting::file(path),
        Some(_) => Setting::parse(name),
        None => Err(format!("`{name}` must be a table")),
    };
    let setting = setting.map_err(|problem| file.problem(at, problem))?;
    let value = file.read::<Scalar>(value)?.to_string();
    let value = setting.value(&value);
    let value = value.map_err(|problem| file.problem(value_at, problem))?;
    Ok((setting, value))
}
