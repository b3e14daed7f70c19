//! Places: what the command line and places.toml say of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail, ensure};
use serde::Deserialize;
use toml::Spanned;

use crate::model::case::quoted;
use crate::model::file;
use crate::model::problem::{Problem, TextFile, hint};
use crate::options::Options;
use crate::plan::{Embedded, PLACES_TOML};

/// What stands in a place's command for the one that is executed there.
const COMMAND: &str = "{}";

/// What a place is called that has no name.
const UNNAMED: &str = "place";

/// Where a part of a run is executed, one after another; several of one kind before they are numbered.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
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
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        let is_name =
            self.name.chars().all(is_plain) && self.name.starts_with(char::is_alphanumeric);
        let name = self.name.escape_debug();
        ensure!(
            is_name,
            "the name `{name}` should be letters, digits, `_`, `-` and `.`"
        );
        ensure!(self.count > 0, "the place `{name}` is there 0 times");
        let missing = "has no {}, where the command goes that is executed there";
        ensure!(
            self.command.contains(COMMAND),
            "the command of the place `{name}` {missing}"
        );
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
        let missing = "it has no {}, where the command goes that is executed there";
        bail!("--place '{text}': {missing}{}", hint(text, &names));
    }
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || "_-.*".contains(c);
    let named = text
        .split_once('=')
        .filter(|(name, _)| name.chars().all(is_of_name));
    let (name, command) = named.unwrap_or((UNNAMED, text));
    let (name, count) = name.split_once('*').unwrap_or((name, "1"));
    let place = Place {
        name: name.to_owned(),
        command: command.to_owned(),
        count: count.parse().unwrap_or(0),
        selftests: None,
        program: None,
        label: None,
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

/// The places in a file.
fn read(path: &Path) -> anyhow::Result<Vec<Place>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, expecting = "a table")]
    struct PlacesFile {
        place: Vec<Spanned<Place>>,
    }
    let text = file::read(path).with_context(|| format!("read {}", path.display()))?;
    let text = String::from_utf8(text).with_context(|| format!("read {}", path.display()))?;
    let file = TextFile::new(path, &text);
    let told = |problems: Vec<Problem>| {
        let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
        anyhow!(lines.join("\n"))
    };
    let read = file.parse().map_err(told)?;
    let read: PlacesFile = file
        .read_table(read)
        .map_err(|problem| told(vec![problem]))?;
    let wrong = read.place.iter().filter_map(|place| {
        let error = place.get_ref().check().err()?;
        Some(file.problem(place.span().start, error.to_string()))
    });
    let wrong: Vec<_> = wrong.collect();
    match wrong.is_empty() {
        true => Ok(read.place.into_iter().map(Spanned::into_inner).collect()),
        false => Err(told(wrong)),
    }
}
