//! The environments that there are: shipped, the user's own, and one made up on the command line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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
        let mut definitions = Self::default();
        let mut paths = BTreeMap::<String, PathBuf>::new();
        let mut problems = Vec::new();
        for (path, text) in files {
            let definition = match read(path, text) {
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

/// Reads the environment in `text`, the file at `path`.
///
/// # Errors
/// Everything that is wrong with it.
fn read(path: &Path, text: &str) -> Result<Definition, Vec<Problem>> {
    let file = TextFile::new(path, text);
    let mut reader = DefinitionReader {
        file: &file,
        definition: Definition::default(),
        problems: Vec::new(),
    };
    let mut table = file.parse()?;
    let name = reader.name(table.remove("environment"));
    reader.definition.name = reader.noted(name).unwrap_or_default();
    for (key, value) in table {
        let read = match key.get_ref().as_ref() {
            "description" => file.read(value).map(|Text(text)| {
                reader.definition.description = text;
            }),
            table if ENVIRONMENT_KEYS.contains(&table) => reader.table(table, value),
            unknown => {
                let (word, hint) = (unknown.escape_debug(), hint(unknown, &ENVIRONMENT_KEYS));
                let at = key.span().start;
                Err(file.problem(at, format!("unknown key `{word}`{hint}")))
            }
        };
        reader.noted(read);
    }
    let mut problems = reader.problems;
    problems.sort_by_key(|problem| problem.place.position);
    match problems.is_empty() {
        true => Ok(reader.definition),
        false => Err(problems),
    }
}

struct DefinitionReader<'f, 'a> {
    file: &'f TextFile<'a>,
    definition: Definition,
    problems: Vec<Problem>,
}

impl<'a> DefinitionReader<'_, 'a> {
    /// What was read; else what is wrong is noted.
    fn noted<T>(&mut self, read: Result<T, Problem>) -> Option<T> {
        read.map_err(|problem| self.problems.push(problem)).ok()
    }

    /// The environment's name: by default it is the stem of its file.
    fn name(&self, value: Option<Spanned<DeValue<'a>>>) -> Result<String, Problem> {
        let at = value.as_ref().map_or(0, |value| value.span().start);
        let Identifier(name) = match value {
            Some(value) => self.file.read(value)?,
            None => self.file.name("environment")?,
        };
        if name == HOST {
            let problem =
                format!("`{HOST}` is the host as it is, and cannot be another environment");
            return Err(self.file.problem(at, problem));
        }
        Ok(name)
    }

    /// The entries of a table: where each is, its key and its value.
    fn entries(
        &self,
        key: &str,
        value: Spanned<DeValue<'a>>,
    ) -> Result<Vec<(usize, String, Spanned<DeValue<'a>>)>, Problem> {
        let at = value.span().start;
        let DeValue::Table(table) = value.into_inner() else {
            return Err(self.file.problem(at, format!("`{key}` must be a table")));
        };
        let entries = table.into_iter();
        let entry = |(key, value): (Spanned<_>, _)| {
            let at = key.span().start;
            (at, String::from(key.into_inner()), value)
        };
        Ok(entries.map(entry).collect())
    }

    fn table(&mut self, table: &str, value: Spanned<DeValue<'a>>) -> Result<(), Problem> {
        for (at, key, value) in self.entries(table, value)? {
            let setting = match table {
                "features" => Setting::parse(&key),
                "params" => Setting::parameter(&key)
                    .map_err(|problem| format!("{problem}, in quotation marks")),
                "sysctls" => sysctl(&key),
                "sysfs" => Setting::file(&key),
                _ if matches!(value.get_ref(), DeValue::Table(_)) => {
                    for (at, node, value) in self.entries(&key, value)? {
                        self.entry(at, Setting::hugepages(&key, Some(&node)), value);
                    }
                    continue;
                }
                _ => Setting::hugepages(&key, None),
            };
            self.entry(at, setting, value);
        }
        Ok(())
    }

    fn entry(&mut self, at: usize, setting: Result<Setting, String>, value: Spanned<DeValue<'a>>) {
        let file = self.file;
        let value_at = value.span().start;
        let value = self.noted(file.read::<Scalar>(value));
        let setting = self.noted(setting.map_err(|problem| file.problem(at, problem)));
        let (Some(setting), Some(value)) = (setting, value) else {
            return;
        };
        let set = match setting.value(&value.to_string()) {
            Ok(value) => self
                .definition
                .want(setting, value)
                .map_err(|problem| (at, problem)),
            Err(problem) => Err((value_at, problem)),
        };
        self.noted(set.map_err(|(at, problem)| file.problem(at, problem)));
    }
}

/// The file of a sysctl: as sysctl(8) has it, `.` separates, and a `/` stands for a `.` in a name; or the other way
/// round, if a `/` comes first.
fn sysctl(name: &str) -> Result<Setting, String> {
    let swap = |c: char| match c {
        '.' => '/',
        '/' => '.',
        c => c,
    };
    let first = name.chars().find(|&c| c == '.' || c == '/');
    let path = match first {
        Some('.') => name.chars().map(swap).collect(),
        _ => name.to_owned(),
    };
    Setting::file(&format!("/proc/sys/{path}")).map_err(|problem| match problem {
        hugepages if hugepages.contains("`hugepages`") => hugepages,
        _ => format!("{name:?} is not the name of a sysctl, such as \"kernel.numa_balancing\""),
    })
}
