//! Targets: what a definition comes down to on a platform, value by value.

use super::Refusal;
use super::definition::{Definition, Placed};
use super::feature::{FEATURES, Feature, Knob, ON, Values, Word};
use super::hugepages;
use super::module::{Module, Presence, parameter_path};
use super::platform::{Platform, VENDOR_MODULES, Vendor};
use super::root::Root;
use super::value::{self, Kind};
use crate::model::problem::hint;

/// One value that is to be.
#[derive(Debug, Clone)]
pub struct Target {
    /// What is to have it.
    pub knob: Place,
    /// The value, as it is written.
    pub to: String,
    /// What reads back as this value.
    pub reads: Reads,
    /// The feature that is turned on by it: the CPU may lack it, and then only reading back tells.
    pub turns_on: Option<&'static str>,
}

/// What is to have a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A parameter of a module.
    Parameter(String, String),
    /// A file, by its absolute path.
    File(String),
    /// A file that holds a number of hugepages, by its absolute path.
    Hugepages(String),
}

/// What reads back as a value.
#[derive(Debug, Clone)]
pub enum Reads {
    /// The same value in any spelling.
    Same(Kind),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// The same words with any blanks between them, or the same number.
    Text,
    /// This number or a greater one.
    AtLeast,
}

impl Target {
    /// Whether a value that was read is the one that is to be.
    pub fn agrees(&self, read: &str) -> bool {
        match &self.reads {
            Reads::Same(kind) => kind.same(&self.to, read),
            Reads::OneOf(words) => words.contains(&read),
            Reads::Text => {
                self.to.split_whitespace().eq(read.split_whitespace())
                    || Kind::of_value(&self.to).same(&self.to, read)
            }
            Reads::AtLeast => {
                let number = |text: &str| text.parse::<u64>().ok();
                number(read)
                    .zip(number(&self.to))
                    .is_some_and(|(read, to)| read >= to)
            }
        }
    }

    /// Its file.
    pub fn path(&self) -> String {
        match &self.knob {
            Place::Parameter(module, name) => parameter_path(module, name),
            Place::File(path) | Place::Hugepages(path) => path.clone(),
        }
    }

    /// What it is called.
    pub fn label(&self) -> String {
        match &self.knob {
            Place::Parameter(module, name) => format!("{module}.{name}"),
            Place::File(path) | Place::Hugepages(path) => path.clone(),
        }
    }

    /// What is there now; `None` where nothing can be read.
    pub fn now(&self, root: &Root) -> Option<String> {
        root.read(self.path())
            .ok()
            .map(|text| chosen(&text).to_owned())
    }
}

/// The word in brackets, in a file that shows all choices (`always [madvise] never`), or else all of it.
pub fn chosen(text: &str) -> &str {
    let mut words = text.split_whitespace();
    let chosen = words.find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
    chosen
        .filter(|_| text.split_whitespace().count() > 1)
        .unwrap_or(text)
}

/// Works out what a definition comes down to here.
///
/// # Errors
/// Why that is not possible.
pub fn resolve(
    root: &Root,
    platform: &Platform,
    definition: &Definition,
) -> Result<Vec<Target>, Refusal> {
    // What is impossible comes first: no mending of the definition would help.
    let features = definition
        .features
        .iter()
        .map(|(name, value)| of_feature(root, platform, name, value));
    let mut targets: Vec<Target> = features
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .flatten()
        .collect();
    let (mut params, mut refused) = (Vec::new(), None);
    for ((module, name), value) in &definition.params {
        match of_parameter(platform, module, name, value) {
            Ok(target) => params.push(target),
            Err(Refusal::Impossible(reason)) => return Err(Refusal::Impossible(reason)),
            Err(other) => refused = refused.or(Some(other)),
        }
    }
    if let Some(refused) = refused {
        return Err(refused);
    }
    // A feature may stand for the same parameter: they agree, or the definition would not have been taken.
    params.retain(|target| !targets.iter().any(|known| known.knob == target.knob));
    targets.extend(params);
    for (&size, pages) in &definition.hugepages {
        targets.extend(hugepages::targets(root, size, pages)?);
    }
    for (path, value) in &definition.files {
        root.read(path)
            .map_err(|error| Refusal::Refused(format!("{}: read {path}: {error}", value.place)))?;
        let knob = Place::File(path.clone());
        targets.push(Target {
            knob,
            to: value.value.clone(),
            reads: Reads::Text,
            turns_on: None,
        });
    }
    Ok(targets)
}

/// Where a feature and a raw value contradict each other on some platform: the place and what is wrong.
pub fn contradictions(definition: &Definition) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for feature in FEATURES {
        let Some(wanted) = definition.features.get(feature.name) else {
            continue;
        };
        for &vendor in Vendor::KNOWN {
            let raw = match feature.knob(vendor) {
                Knob::Parameter(module, name) => {
                    let value = definition.params.get(&(module.to_owned(), name.to_owned()));
                    value.map(|value| (format!("{module}.{name}"), value))
                }
                Knob::File(path) => definition
                    .files
                    .get(path)
                    .map(|value| (path.to_owned(), value)),
                Knob::Always | Knob::Boot(_) | Knob::None => None,
            };
            if let Some((label, raw)) = raw
                && !means_the_same(feature, &wanted.value, &raw.value)
                && !found.iter().any(|(place, _)| *place == raw.place)
            {
                let (name, place, value) = (feature.name, &wanted.place, &wanted.value);
                let message = format!(
                    "`{label}` is what the feature `{name}` is on {vendor}, which {place} sets to {value}"
                );
                found.push((raw.place.clone(), message));
            }
        }
    }
    found
}

fn means_the_same(feature: &Feature, wanted: &str, raw: &str) -> bool {
    match feature.values {
        Values::Switch => value::switch(raw) == Some(wanted == ON),
        Values::Number => Kind::of_value(wanted).same(wanted, raw),
        Values::Words(words) => {
            let word = words.iter().find(|word| word.name == wanted);
            word.is_some_and(|word| word.write == raw || word.reads == [raw])
        }
    }
}

fn of_feature(
    root: &Root,
    platform: &Platform,
    name: &'static str,
    wanted: &Placed<String>,
) -> Result<Option<Target>, Refusal> {
    let impossible = |reason: String| Err(Refusal::Impossible(reason));
    let Some(feature) = Feature::named(name) else {
        return impossible(format!("there is no feature {name}"));
    };
    let (vendor, on) = (platform.vendor, wanted.value == ON);
    match feature.knob(vendor) {
        Knob::None if vendor == Vendor::Unknown => {
            let module = &platform.top().name;
            impossible(format!(
                "`{name}` is not known for the vendor module {module}"
            ))
        }
        Knob::None => impossible(format!("{vendor} has no `{name}`")),
        Knob::Always if on => Ok(None),
        Knob::Always => impossible(format!("`{name}` is always on with {vendor}")),
        Knob::Boot(parameter) => {
            let booted = platform
                .boot
                .split_whitespace()
                .any(|word| word == parameter);
            match (on, booted) {
                (true, false) => impossible(format!(
                    "`{name}` needs the kernel to be booted with {parameter}"
                )),
                (false, true) => impossible(format!(
                    "`{name}` is on: the kernel was booted with {parameter}"
                )),
                _ => Ok(None),
            }
        }
        Knob::File(path) => {
            if let Err(error) = root.read(path) {
                return impossible(format!("`{name}`: read {path}: {error}"));
            }
            let (to, reads) = spell(feature, &wanted.value, Kind::Text);
            Ok(Some(Target {
                knob: Place::File(path.to_owned()),
                to,
                reads,
                turns_on: None,
            }))
        }
        Knob::Parameter(module, parameter) => {
            let Some(module) = platform
                .module(module)
                .filter(|module| module.presence != Presence::Absent)
            else {
                let lacks = platform.lacks.clone();
                return impossible(
                    lacks.unwrap_or_else(|| format!("this kernel has no module {module}")),
                );
            };
            if !module.is_live()
                && let Some(lacks) = &platform.lacks
            {
                return impossible(lacks.clone());
            }
            let Some(known) = module.parameters.get(parameter) else {
                let module = &module.name;
                return impossible(format!(
                    "`{name}`: this kernel's {module} has no parameter {parameter}"
                ));
            };
            let (to, reads) = spell(feature, &wanted.value, known.kind);
            let knob = Place::Parameter(module.name.clone(), parameter.to_owned());
            Ok(Some(Target {
                knob,
                to,
                reads,
                turns_on: on.then_some(name),
            }))
        }
    }
}

/// How a feature's value is written, and what it reads back as.
fn spell(feature: &Feature, wanted: &str, kind: Kind) -> (String, Reads) {
    let word = |words: &'static [Word]| words.iter().find(|word| word.name == wanted);
    match feature.values {
        Values::Words(words) => match word(words) {
            Some(word) => (word.write.to_owned(), Reads::OneOf(word.reads)),
            None => (wanted.to_owned(), Reads::Text),
        },
        Values::Switch => (kind.spell(wanted == ON).to_owned(), Reads::Same(kind)),
        Values::Number => (wanted.to_owned(), Reads::Same(kind)),
    }
}

fn of_parameter(
    platform: &Platform,
    module: &str,
    name: &str,
    wanted: &Placed<String>,
) -> Result<Target, Refusal> {
    let place = &wanted.place;
    let refused = |reason: String| Err(Refusal::Refused(format!("{place}: {reason}")));
    let found: Option<&Module> = platform
        .module(module)
        .filter(|module| module.presence != Presence::Absent);
    let Some(found) = found else {
        if VENDOR_MODULES.contains(&module) || module == "kvm" {
            return Err(Refusal::Impossible(format!(
                "{place}: {module} is not a module of this host ({platform})"
            )));
        }
        return refused(format!(
            "{module} is no module of KVM's here; only those can be set"
        ));
    };
    if !found.is_live()
        && let Some(lacks) = &platform.lacks
    {
        return Err(Refusal::Impossible(lacks.clone()));
    }
    let Some(known) = found.parameters.get(name) else {
        let names: Vec<&str> = found.parameters.keys().map(String::as_str).collect();
        let hint = hint(name, &names);
        return refused(format!("{module} has no parameter `{name}`{hint}"));
    };
    let to = wanted.value.clone();
    let knob = Place::Parameter(module.to_owned(), name.to_owned());
    // A parameter with words of its own reads back as its feature says.
    let feature = FEATURES
        .iter()
        .find(|feature| feature.is_parameter(platform.vendor, module, name));
    if let Some(Values::Words(words)) = feature.map(|feature| &feature.values)
        && let Some(word) = words.iter().find(|word| word.write == to)
    {
        return Ok(Target {
            knob,
            to,
            reads: Reads::OneOf(word.reads),
            turns_on: None,
        });
    }
    if !known.kind.takes(&to) {
        return refused(format!(
            "`{module}.{name}` takes {}, not `{}`",
            known.kind.describe(),
            to.escape_debug()
        ));
    }
    Ok(Target {
        knob,
        to,
        reads: Reads::Same(known.kind),
        turns_on: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_in_brackets_is_the_value() {
        assert_eq!(
            [
                chosen("always [madvise] never"),
                chosen("a b"),
                chosen("[x]")
            ],
            ["madvise", "a b", "[x]"]
        );
    }
}
