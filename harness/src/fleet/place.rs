//! Places: what the command line and places.toml say of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail, ensure};
use serde::Deserialize;
use toml::Spanned;
use toml::de::DeValue;

use crate::model::case::quoted;
use crate::model::file;
use crate::model::problem::{Problem, TextFile, excerpt, hint};
use crate::options::Options;
use crate::plan::{Embedded, PLACES_TOML};

/// What stands in a place's command for the one that is executed there.
const COMMAND: &str = "{}";
const INCOMPLETE: &str = "has no {}, where the command goes that is executed there";

/// The key of a place in places.toml, and what one is called that has no name.
const PLACE: &str = "place";

/// Where a part of a run is executed, one after another; several of one kind before they are numbered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct Place {
    /// Its name, unique in the run.
    pub name: String,
    /// The shell command that executes another one there, which stands for `{}`.
    pub command: String,
    /// How many there are.
    #[serde(default = "one")]
    count: u16,
    /// The directory of the selftests there; by default the same as here.
    #[serde(default)]
    pub selftests: Option<PathBuf>,
    /// This program there; by default where it is here, else the one that the shell there finds.
    #[serde(default)]
    pub program: Option<String>,
    /// What its host is called in the names of cases; `None` where all places are of one kind.
    #[serde(skip)]
    pub label: Option<String>,
}

fn one() -> u16 {
    1
}

impl Place {
    /// The shell command that executes the shell command `there` at this place.
    pub(super) fn command_for(&self, there: &str) -> String {
        self.command.replace(COMMAND, &quoted(there.as_ref()))
    }

    /// What is wrong with it, in words.
    fn check(&self) -> anyhow::Result<()> {
        let Self { name, command, .. } = self;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        let is_name = name.chars().all(is_plain) && name.starts_with(char::is_alphanumeric);
        let name = name.escape_debug();
        ensure!(
            is_name,
            "the name `{name}` should be letters, digits, `_`, `-` and `.`"
        );
        ensure!(self.count > 0, "the place `{name}` is there 0 times");
        let is_whole = command.contains(COMMAND);
        ensure!(is_whole, "the command of the place `{name}` {INCOMPLETE}");
        Ok(())
    }
}

/// The places that `options` ask for; none means that everything runs here.
///
/// # Errors
/// What is wrong with them.
pub fn places(options: &Options, embedded: &Embedded<'_>) -> anyhow::Result<Vec<Place>> {
    let local = embedded
        .local
        .map(|local| Path::new(local).join(PLACES_TOML));
    let local = local.filter(|local| local.exists() && options.has_places());
    let known = match options.places.clone().or(local) {
        Some(path) => read(&path)?,
        None => Vec::new(),
    };
    let places: Vec<_> = match options.place.as_slice() {
        [] => known,
        asked => {
            let asked = asked.iter().map(|text| of_option(text, &known));
            asked.collect::<anyhow::Result<_>>()?
        }
    };
    Ok(numbered(&places))
}

/// `[NAME[*N]=]COMMAND`, or the NAME of one that is `known`.
fn of_option(text: &str, known: &[Place]) -> anyhow::Result<Place> {
    if let Some(place) = known.iter().find(|place| place.name == text) {
        return Ok(place.clone());
    }
    if !text.contains(COMMAND) {
        let names: Vec<_> = known.iter().map(|place| place.name.as_str()).collect();
        bail!("--place '{text}': it {INCOMPLETE}{}", hint(text, &names));
    }
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || "_-.*".contains(c);
    let named = text
        .split_once('=')
        .filter(|(name, _)| name.chars().all(is_of_name));
    let (name, command) = named.unwrap_or((PLACE, text));
    let (name, count) = name.split_once('*').unwrap_or((name, "1"));
    let place = Place {
        name: name.to_owned(),
        command: command.to_owned(),
        count: count.parse().unwrap_or(0),
        ..Place::default()
    };
    let wrong = || format!("--place '{text}' should be NAME*N=COMMAND");
    place.check().with_context(wrong)?;
    Ok(place)
}

/// Each place with a name of its own. Those that are called alike are of one kind.
fn numbered(kinds: &[Place]) -> Vec<Place> {
    let mut counts = BTreeMap::<&str, u32>::new();
    for kind in kinds {
        *counts.entry(&kind.name).or_default() += u32::from(kind.count);
    }
    let mut numbers = BTreeMap::<&str, u32>::new();
    let mut places = Vec::new();
    for kind in kinds {
        for _ in 0..kind.count {
            let number = numbers.entry(&kind.name).or_default();
            *number += 1;
            let mut place = kind.clone();
            if counts[&*kind.name] > 1 {
                place.name = format!("{}-{number}", kind.name);
            }
            place.label = (counts.len() > 1).then(|| kind.name.clone());
            places.push(place);
        }
    }
    places
}

/// The places in a file. Where something is wrong, the first mistake of every table is told.
fn read(path: &Path) -> anyhow::Result<Vec<Place>> {
    let text = file::read(path).with_context(|| format!("read {}", path.display()))?;
    let text = String::from_utf8(text).with_context(|| format!("read {}", path.display()))?;
    let file = TextFile::new(path, &text);
    let told = |problems: Vec<Problem>| {
        let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
        anyhow!(lines.join("\n"))
    };
    let mut table = file.parse().map_err(told)?;
    let (mut places, mut wrong) = (Vec::new(), Vec::new());
    match table.remove(PLACE).map(Spanned::into_inner) {
        Some(DeValue::Array(tables)) => tables.into_iter().for_each(|table| {
            let at = table.span().start;
            let place = file.read(table).and_then(|place: Place| {
                let checked = place.check().map(|()| place);
                checked.map_err(|error| file.problem(at, error.to_string()))
            });
            match place {
                Ok(place) => places.push(place),
                Err(problem) => wrong.push(problem),
            }
        }),
        _ => wrong.push(file.problem(0, "there is no `[[place]]`")),
    }
    wrong.extend(table.keys().map(|key| {
        let hint = hint(key.get_ref(), &[PLACE]);
        file.problem(
            key.span().start,
            format!("unknown key `{}`{hint}", excerpt(key.get_ref())),
        )
    }));
    match wrong.is_empty() {
        true => Ok(places),
        false => Err(told(wrong)),
    }
}
