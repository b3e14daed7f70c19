//! Reads an environment from TOML.

use std::path::Path;

use serde::Deserialize;
use toml::Spanned;
use toml::de::DeValue;

use super::definition::{Definition, HOST, Setting};
use crate::model::problem::{Problem, hint};
use crate::model::text_file::TextFile;
use crate::model::value::{Identifier, Scalar, Text};

/// The keys of an environment's file.
const KEYS: [&str; 7] = [
    "environment",
    "description",
    "features",
    "params",
    "hugepages",
    "sysctls",
    "sysfs",
];

/// Reads the environment in `text`, the file at `path`.
///
/// # Errors
/// Everything that is wrong with it.
pub(super) fn read(path: &Path, text: &str) -> Result<Definition, Vec<Problem>> {
    let file = TextFile::new(path, text);
    let mut table = file.parse()?;
    let mut reader = DefinitionReader {
        file: &file,
        definition: Definition::default(),
        problems: Vec::new(),
    };
    reader.name(table.remove("environment"));
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "description" => {
                let text = reader.value(value);
                reader.definition.description = text.map_or(String::new(), |Text(text)| text);
            }
            table if KEYS.contains(&table) => reader.table(table, value),
            unknown => {
                let problem = format!(
                    "unknown key `{}`{}",
                    unknown.escape_debug(),
                    hint(unknown, &KEYS)
                );
                reader.wrong(key.span().start, problem);
            }
        }
    }
    reader.finish()
}

struct DefinitionReader<'f, 'a> {
    file: &'f TextFile<'a>,
    definition: Definition,
    problems: Vec<Problem>,
}

impl<'a> DefinitionReader<'_, 'a> {
    fn wrong(&mut self, at: usize, problem: impl Into<String>) {
        self.problems.push(self.file.problem(at, problem));
    }

    fn value<T: Deserialize<'a>>(&mut self, value: Spanned<DeValue<'a>>) -> Option<T> {
        let read = self.file.read(value);
        read.map_err(|problem| self.problems.push(problem)).ok()
    }

    /// The environment's name: by default it is the stem of its file.
    fn name(&mut self, value: Option<Spanned<DeValue<'a>>>) {
        let at = value.as_ref().map_or(0, |value| value.span().start);
        let name = match value {
            Some(value) => self.value(value).map(|Identifier(name)| name),
            None => {
                let stem = self.file.path.file_stem().unwrap_or_default();
                match Identifier::new(stem.to_string_lossy().into_owned()) {
                    Ok(Identifier(name)) => Some(name),
                    Err(problem) => {
                        self.wrong(
                            at,
                            format!("{problem}: rename the file, or say `environment = \"…\"`"),
                        );
                        None
                    }
                }
            }
        };
        if name.as_deref() == Some(HOST) {
            self.wrong(
                at,
                format!("`{HOST}` is the host as it is, and cannot be another environment"),
            );
        }
        self.definition.name = name.unwrap_or_default();
    }

    /// The entries of a table.
    fn entries(
        &mut self,
        key: &str,
        value: Spanned<DeValue<'a>>,
    ) -> Vec<(usize, String, Spanned<DeValue<'a>>)> {
        let at = value.span().start;
        let DeValue::Table(table) = value.into_inner() else {
            self.wrong(at, format!("`{key}` must be a table"));
            return Vec::new();
        };
        let entries = table.into_iter();
        let entry = |(key, value): (Spanned<_>, _)| {
            let at = key.span().start;
            (at, String::from(key.into_inner()), value)
        };
        entries.map(entry).collect()
    }

    fn table(&mut self, table: &str, value: Spanned<DeValue<'a>>) {
        for (at, key, value) in self.entries(table, value) {
            let setting = match table {
                "features" => Setting::parse(&key),
                "params" => Setting::parameter(&key)
                    .map_err(|problem| format!("{problem}, in quotation marks")),
                "sysctls" => sysctl(&key),
                "sysfs" => Setting::file(&key),
                _ if matches!(value.get_ref(), DeValue::Table(_)) => {
                    for (at, node, value) in self.entries(&key, value) {
                        self.entry(at, Setting::hugepages(&key, Some(&node)), value);
                    }
                    continue;
                }
                _ => Setting::hugepages(&key, None),
            };
            self.entry(at, setting, value);
        }
    }

    fn entry(&mut self, at: usize, setting: Result<Setting, String>, value: Spanned<DeValue<'a>>) {
        let value_at = value.span().start;
        let value: Option<Scalar> = self.value(value);
        let setting = setting.map_err(|problem| self.wrong(at, problem));
        let (Ok(setting), Some(value)) = (setting, value) else {
            return;
        };
        match setting.value(&value.to_string()) {
            Ok(value) => {
                let set = self.definition.want(setting, value);
                set.unwrap_or_else(|problem| self.wrong(at, problem));
            }
            Err(problem) => self.wrong(value_at, problem),
        }
    }

    fn finish(mut self) -> Result<Definition, Vec<Problem>> {
        self.problems.sort_by_key(|problem| problem.place.position);
        match self.problems.is_empty() {
            true => Ok(self.definition),
            false => Err(self.problems),
        }
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
