//! What an environment is to be, whatever host it is for.

use std::collections::BTreeMap;

use super::feature::{FEATURES, Feature};
use crate::model::host;
use crate::model::name::to_identifier;
use crate::model::problem::hint;

/// The name of the environment that is the host as it is.
pub const HOST: &str = "host";

/// An environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Definition {
    /// `environment`: its name, an identifier. By default the file's stem.
    pub name: String,
    /// `description`: what it is for, in a line. By default empty.
    pub description: String,
    /// `features`: what each is to be: `on`, `off`, a word or a number. By default none.
    pub features: BTreeMap<&'static str, Placed<String>>,
    /// `params`: the values of raw parameters, by module and name. By default none.
    pub params: BTreeMap<(String, String), Placed<String>>,
    /// `hugepages`: how many there are to be at least, by their size in bytes. By default none.
    pub hugepages: BTreeMap<u64, Placed<Pages>>,
    /// `sysctls` and `sysfs`: the values of files, by absolute path. By default none.
    pub files: BTreeMap<String, Placed<String>>,
}

/// Something, and where it was said: `FILE:LINE:COLUMN`, or the option of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed<T> {
    /// What was said.
    pub value: T,
    /// Where.
    pub place: String,
}

/// A number of hugepages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pages {
    /// On the whole host.
    Total(u64),
    /// On each of these NUMA nodes.
    Nodes(BTreeMap<u32, u64>),
}

impl Definition {
    /// What the names of cases in it begin with; nothing for the host as it is.
    pub fn prefix(&self) -> &str {
        if self.name == HOST { "" } else { &self.name }
    }

    /// The host as it is.
    pub fn host() -> Self {
        Self {
            name: HOST.to_owned(),
            description: "the host as it is".to_owned(),
            ..Self::default()
        }
    }

    /// Raises `free`, the number of free hugepages by their size in bytes, to what there is in this environment.
    pub fn reserve_in(&self, free: &mut BTreeMap<u64, u64>) {
        for (&size, pages) in &self.hugepages {
            let count = match &pages.value {
                Pages::Total(count) => *count,
                Pages::Nodes(nodes) => nodes.values().sum(),
            };
            let free = free.entry(size).or_insert(0);
            *free = count.max(*free);
        }
    }

    /// The environment that options of the command line make up: `sets` are `FEATURE=VALUE`, `params` are
    /// `MODULE.PARAMETER=VALUE`. It is named by what it sets.
    ///
    /// # Errors
    /// Everything that is wrong with the options.
    pub fn from_options(sets: &[String], params: &[String]) -> Result<Self, Vec<String>> {
        let mut definition = Self::default();
        let mut problems = Vec::new();
        let mut names = Vec::new();
        for option in sets {
            let place = format!("--set {}", option.escape_debug());
            match read_set(option) {
                Ok((feature, value)) => {
                    names.push(format!("{}_{value}", feature.name));
                    let twin = definition.features.insert(
                        feature.name,
                        Placed {
                            value,
                            place: place.clone(),
                        },
                    );
                    if twin.is_some() {
                        problems.push(format!("{place}: `{}` is set twice", feature.name));
                    }
                }
                Err(problem) => problems.push(format!("{place}: {problem}")),
            }
        }
        for option in params {
            let place = format!("--param {}", option.escape_debug());
            match read_param(option) {
                Ok((key, value)) => {
                    names.push(format!("{}_{}_{value}", key.0, key.1));
                    let twin = definition.params.insert(
                        key,
                        Placed {
                            value,
                            place: place.clone(),
                        },
                    );
                    if twin.is_some() {
                        problems.push(format!("{place}: it is set twice"));
                    }
                }
                Err(problem) => problems.push(format!("{place}: {problem}")),
            }
        }
        problems.extend(
            definition
                .contradictions()
                .into_iter()
                .map(|(place, problem)| format!("{place}: {problem}")),
        );
        definition.name = to_identifier(&names.join("_"));
        definition.description = definition.settings().join(", ");
        if problems.is_empty() {
            Ok(definition)
        } else {
            Err(problems)
        }
    }

    /// Everything that it sets, a line each: two environments with the same lines are the same.
    pub fn settings(&self) -> Vec<String> {
        let features = self
            .features
            .iter()
            .map(|(name, value)| format!("{name}={}", value.value));
        let params = self
            .params
            .iter()
            .map(|((module, name), value)| format!("{module}.{name}={}", value.value));
        let hugepages = self
            .hugepages
            .iter()
            .map(|(&size, pages)| match &pages.value {
                Pages::Total(count) => format!("{count} hugepages of {}", host::size(size)),
                Pages::Nodes(nodes) => {
                    let nodes: Vec<String> = nodes
                        .iter()
                        .map(|(node, count)| format!("{count} on node{node}"))
                        .collect();
                    format!("hugepages of {}: {}", host::size(size), nodes.join(", "))
                }
            });
        let files = self
            .files
            .iter()
            .map(|(path, value)| format!("{path}={}", value.value));
        features
            .chain(params)
            .chain(hugepages)
            .chain(files)
            .collect()
    }

    /// Whether it sets nothing.
    pub fn is_empty(&self) -> bool {
        self.settings().is_empty()
    }

    /// Where a feature and something raw contradict each other on some platform: the place and what is wrong.
    pub fn contradictions(&self) -> Vec<(String, String)> {
        super::target::contradictions(self)
    }
}

/// A value that can stand in modprobe's arguments and in a file of the kernel as it is: the kernel splits arguments at
/// blanks, and takes quotes away (`next_arg` in `lib/cmdline.c`).
///
/// # Errors
/// What is wrong with it.
pub fn check_value(value: &str) -> Result<(), String> {
    if value.is_empty() {
        return Err("the value is empty".to_owned());
    }
    let wrong = |c: char| !c.is_ascii_graphic() || matches!(c, '"' | '\'' | '\\');
    match value.chars().find(|&c| wrong(c)) {
        Some(c) => Err(format!(
            "the value contains `{}`, which a module's parameter cannot",
            c.escape_debug()
        )),
        None => Ok(()),
    }
}

/// A feature by its name.
///
/// # Errors
/// That there is none, with the nearest one that there is.
pub fn feature(name: &str) -> Result<&'static Feature, String> {
    Feature::named(name).ok_or_else(|| {
        let names: Vec<&str> = FEATURES.iter().map(|feature| feature.name).collect();
        let hint = hint(name, &names);
        format!("unknown feature `{}`{hint}", name.escape_debug())
    })
}

/// A module's parameter written as `MODULE.PARAMETER`; in a module's name `-` is the same as `_`.
///
/// # Errors
/// That it is not written so.
pub fn parameter(text: &str) -> Result<(String, String), String> {
    let is_name = |name: &str| {
        !name.is_empty()
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
    };
    match text.split_once('.') {
        Some((module, name)) if is_name(module) && is_name(name) => {
            Ok((module.replace('-', "_"), name.to_owned()))
        }
        _ => Err(format!(
            "`{}` is not written as MODULE.PARAMETER",
            text.escape_debug()
        )),
    }
}

fn read_set(option: &str) -> Result<(&'static Feature, String), String> {
    let (name, text) = option
        .split_once('=')
        .ok_or("it is not written as FEATURE=VALUE")?;
    let feature = feature(name)?;
    let value = feature.of_text(text);
    let value = value.ok_or_else(|| {
        format!(
            "`{name}` must be {}, not `{}`",
            feature.takes(),
            text.escape_debug()
        )
    })?;
    Ok((feature, value))
}

fn read_param(option: &str) -> Result<((String, String), String), String> {
    let (name, value) = option
        .split_once('=')
        .ok_or("it is not written as MODULE.PARAMETER=VALUE")?;
    let key = parameter(name)?;
    check_value(value)?;
    Ok((key, value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(sets: &[&str], params: &[&str]) -> Result<Definition, Vec<String>> {
        let owned = |options: &[&str]| {
            options
                .iter()
                .map(|&option| option.to_owned())
                .collect::<Vec<_>>()
        };
        Definition::from_options(&owned(sets), &owned(params))
    }

    #[test]
    fn an_environment_made_up_on_the_spot_is_named_by_what_it_sets() {
        assert_eq!(options(&["nested=false"], &[]).unwrap().name, "nested_off");
        assert_eq!(
            options(&[], &["kvm-intel.ept=N"]).unwrap().name,
            "kvm_intel_ept_N"
        );
        let both = options(&["halt_polling=off", "nx_huge_pages=never"], &["kvm.x=-1"]).unwrap();
        assert_eq!(both.name, "halt_polling_0_nx_huge_pages_never_kvm_x__1");
        assert_eq!(
            both.settings(),
            ["halt_polling=0", "nx_huge_pages=never", "kvm.x=-1"]
        );
    }

    #[test]
    fn everything_wrong_with_the_options_is_said_at_once() {
        let problems = options(
            &["tpd=off", "tdp=maybe", "tdp", "halt_polling=on"],
            &["ept=N", "kvm.x=a b", "kvm.x="],
        )
        .unwrap_err();
        let expected = [
            "--set tpd=off: unknown feature `tpd`; did you mean `tdp`?",
            "--set tdp=maybe: `tdp` must be `true` or `false`, not `maybe`",
            "--set tdp: it is not written as FEATURE=VALUE",
            "--set halt_polling=on: `halt_polling` must be a number, or `false` for 0, not `on`",
            "--param ept=N: `ept` is not written as MODULE.PARAMETER",
            "--param kvm.x=a b: the value contains ` `, which a module's parameter cannot",
            "--param kvm.x=: the value is empty",
        ];
        assert_eq!(problems, expected);
    }

    #[test]
    fn a_feature_and_a_parameter_that_contradict_each_other_are_a_problem() {
        let problems = options(&["tdp=off"], &["kvm_intel.ept=1"]).unwrap_err();
        assert_eq!(
            problems,
            [
                "--param kvm_intel.ept=1: `kvm_intel.ept` is what the feature `tdp` is on Intel, which --set tdp=off sets to off"
            ]
        );
        assert!(options(&["tdp=off"], &["kvm_intel.ept=0", "kvm_amd.npt=N"]).is_ok());
    }
}
