//! What an environment is to be, whatever host it is for.

use std::collections::BTreeMap;
use std::fmt;

use super::feature::{FEATURES, Feature};
use crate::model::case::name::to_identifier;
use crate::model::host;
use crate::model::problem::hint;
use crate::model::value;

/// The name of the environment that is the host as it is.
pub const HOST: &str = "host";

/// An environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Definition {
    /// `environment`: its name, an identifier. By default the file's stem.
    pub name: String,
    /// `description`: what it is for, in a line. By default empty.
    pub description: String,
    /// What it sets, and to what: a feature to `on`, `off`, a word or a number. By default nothing.
    pub wanted: BTreeMap<Setting, String>,
}

/// Something that an environment sets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Setting {
    /// A feature.
    Feature(&'static Feature),
    /// A module's parameter, as `MODULE.PARAMETER`.
    Parameter(String),
    /// How many hugepages there are to be at least, by their size in bytes: on the whole host, or on a NUMA node.
    Hugepages(u64, Option<u32>),
    /// A file of sysfs or of `/proc/sys`, by its absolute path.
    File(String),
}

impl Definition {
    /// The host as it is.
    pub fn host() -> Self {
        Self {
            name: HOST.to_owned(),
            description: "the host as it is".to_owned(),
            wanted: BTreeMap::new(),
        }
    }

    /// What the names of cases in it begin with; nothing for the host as it is.
    pub fn prefix(&self) -> &str {
        if self.name == HOST { "" } else { &self.name }
    }

    /// Raises `free`, the number of free hugepages by their size in bytes, to what there is in this environment.
    pub fn reserve_in(&self, free: &mut BTreeMap<u64, u64>) {
        let mut reserved = BTreeMap::<u64, u64>::new();
        for (setting, wanted) in &self.wanted {
            if let Setting::Hugepages(size, _) = setting {
                *reserved.entry(*size).or_default() += wanted.parse().unwrap_or(0);
            }
        }
        for (size, count) in reserved {
            let free = free.entry(size).or_insert(0);
            *free = count.max(*free);
        }
    }

    /// The environment that options of the command line make up: `sets` are `FEATURE=VALUE`, `hugepages.SIZE=COUNT`,
    /// `hugepages.SIZE.nodeN=COUNT` or `PATH=VALUE`, `params` are `MODULE.PARAMETER=VALUE`. It is named by what it sets.
    ///
    /// # Errors
    /// Everything that is wrong with the options.
    pub fn from_options(sets: &[String], params: &[String]) -> Result<Self, Vec<String>> {
        let mut definition = Self::default();
        let (mut problems, mut names) = (Vec::new(), Vec::new());
        let sets = sets.iter().map(|text| ("--set", text));
        let params = params.iter().map(|text| ("--param", text));
        for (option, text) in sets.chain(params) {
            let mut add = || {
                let (read, form): (fn(&str) -> _, _) = match option {
                    "--param" => (Setting::parameter, "MODULE.PARAMETER=VALUE"),
                    _ => (Setting::parse, "FEATURE=VALUE"),
                };
                let parts = text.split_once('=');
                let (name, value) = parts.ok_or(format!("it is not written as {form}"))?;
                let setting = read(name)?;
                let (name, value) = (setting.to_string(), setting.value(value)?);
                names.push(format!("{}_{value}", name.trim_start_matches('/')));
                definition.want(setting, value)
            };
            if let Err(problem) = add() {
                problems.push(format!("{option} {}: {problem}", text.escape_debug()));
            }
        }
        definition.name = to_identifier(&names.join("_"));
        definition.description = definition.settings().join(", ");
        match problems.is_empty() {
            true => Ok(definition),
            false => Err(problems),
        }
    }

    /// The options of the command line that make it up: `--set`, `tdp=off`, `--param`, `kvm.ignore_msrs=Y`.
    pub fn as_options(&self) -> Vec<String> {
        let options = self.wanted.iter().flat_map(|(setting, value)| {
            let is_param = matches!(setting, Setting::Parameter(..));
            let option = if is_param { "--param" } else { "--set" };
            [option.to_owned(), format!("{setting}={value}")]
        });
        options.collect()
    }

    /// Everything that it sets, a line each: two environments with the same lines are the same.
    pub fn settings(&self) -> Vec<String> {
        let wanted = self.wanted.iter();
        let line = |(setting, value)| format!("{setting}={value}");
        wanted.map(line).collect()
    }

    /// Whether it sets nothing.
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Sets something. A parameter that a feature is on some platform is not set beside that feature.
    ///
    /// # Errors
    /// It is set already.
    pub(super) fn want(&mut self, setting: Setting, value: String) -> Result<(), String> {
        let stands_for = |one: &Setting, other: &Setting| {
            one == other || matches!(one, Setting::Feature(one) if one.is(&other.to_string()))
        };
        let mut known = self.wanted.keys();
        let known = known.find(|known| stands_for(known, &setting) || stands_for(&setting, known));
        if let Some(known) = known {
            return Err(format!("`{setting}` is set already, by `{known}`"));
        }
        self.wanted.insert(setting, value);
        Ok(())
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Feature(feature) => f.write_str(feature.name),
            Self::Parameter(text) | Self::File(text) => f.write_str(text),
            Self::Hugepages(size, None) => write!(f, "hugepages.{}", host::size(*size)),
            Self::Hugepages(size, Some(node)) => {
                write!(f, "hugepages.{}.node{node}", host::size(*size))
            }
        }
    }
}

impl Setting {
    /// What is written as `FEATURE`, `hugepages.SIZE`, `hugepages.SIZE.nodeN` or an absolute path.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(name: &str) -> Result<Self, String> {
        if let Some(pages) = name.strip_prefix("hugepages.") {
            return Self::hugepages(pages);
        }
        if name.starts_with('/') {
            return Self::file(name);
        }
        let feature = FEATURES.iter().find(|feature| feature.name == name);
        feature.map(Self::Feature).ok_or_else(|| {
            let names: Vec<&str> = FEATURES.iter().map(|feature| feature.name).collect();
            format!(
                "unknown feature `{}`{}",
                name.escape_debug(),
                hint(name, &names)
            )
        })
    }

    /// A module's parameter written as `MODULE.PARAMETER`; in a module's name `-` is the same as `_`.
    ///
    /// # Errors
    /// That it is not written so.
    pub(super) fn parameter(text: &str) -> Result<Self, String> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let is_name = |name: &str| !name.is_empty() && name.chars().all(is_plain);
        match text.split_once('.') {
            Some((module, name)) if is_name(module) && is_name(name) => {
                Ok(Self::Parameter(module.replace('-', "_") + "." + name))
            }
            _ => Err(format!(
                "`{}` is not written as MODULE.PARAMETER",
                text.escape_debug()
            )),
        }
    }

    /// Hugepages of a size such as `2M`, or on a node as well: `2M.node0`.
    fn hugepages(pages: &str) -> Result<Self, String> {
        let (size, node) = match pages.split_once('.') {
            Some((size, node)) => (size, Some(node)),
            None => (pages, None),
        };
        let bytes = value::parse_size(size).filter(|bytes| bytes.is_power_of_two());
        let bytes = bytes.ok_or_else(|| {
            format!(
                "the size of a hugepage must be a size such as `2M` (K, M, G or T), not {size:?}"
            )
        })?;
        let number = node.map(|node| {
            let number = node
                .strip_prefix("node")
                .and_then(|number| number.parse().ok());
            number.ok_or_else(|| format!("a NUMA node is written as `node0`, not {node:?}"))
        });
        Ok(Self::Hugepages(bytes, number.transpose()?))
    }

    /// A file of sysfs or of `/proc/sys`, by its absolute path.
    ///
    /// # Errors
    /// It is none of these, or is set in another way.
    pub(super) fn file(path: &str) -> Result<Self, String> {
        let below = path
            .strip_prefix("/sys/")
            .or_else(|| path.strip_prefix("/proc/sys/"));
        let is_name = |name: &str| !name.is_empty() && name != "." && name != "..";
        let is_path = below.is_some_and(|below| below.split('/').all(is_name));
        if !is_path || !path.chars().all(|c| c.is_ascii_graphic() && c != '=') {
            return Err(format!(
                "{path:?} is not the path of a file under /sys or /proc/sys"
            ));
        }
        if path.starts_with("/sys/module/") && path.contains("/parameters/") {
            return Err("a module's parameter is set with `params`".to_owned());
        }
        if path.contains("/nr_hugepages") {
            return Err("the number of hugepages is set with `hugepages`".to_owned());
        }
        Ok(Self::File(path.to_owned()))
    }

    /// The value of this that a text of the user's means: one that can stand in modprobe's arguments and in a file of the
    /// kernel as it is, since the kernel splits arguments at blanks and takes quotes away (`next_arg` in `lib/cmdline.c`).
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn value(&self, text: &str) -> Result<String, String> {
        let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\'' | '\\');
        match self {
            Self::Feature(feature) => {
                let (name, takes) = (feature.name, feature.takes());
                let value = feature.value(text);
                value.ok_or_else(|| format!("`{name}` must be {takes}, not {text:?}"))
            }
            Self::Hugepages(..) => match text.parse::<u32>() {
                Ok(1..) => Ok(text.to_owned()),
                _ => Err(format!(
                    "a number of hugepages is a whole number from 1 on, not {text:?}"
                )),
            },
            Self::Parameter(_) if text == "true" => Ok("Y".to_owned()),
            Self::Parameter(_) if text == "false" => Ok("N".to_owned()),
            Self::File(_) if text == "true" => Ok("1".to_owned()),
            Self::File(_) if text == "false" => Ok("0".to_owned()),
            _ if text.is_empty() => Err("the value is empty".to_owned()),
            _ => match text.chars().find(|&c| !is_plain(c)) {
                None => Ok(text.to_owned()),
                Some(c) => Err(format!(
                    "the value contains {c:?}, which a module's parameter cannot"
                )),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(sets: &[&str], params: &[&str]) -> Result<Definition, Vec<String>> {
        let [sets, params] = [sets, params].map(|texts| {
            texts
                .iter()
                .map(|&text| text.to_owned())
                .collect::<Vec<_>>()
        });
        Definition::from_options(&sets, &params)
    }

    #[test]
    fn an_environment_made_up_on_the_spot_is_named_by_what_it_sets_and_can_be_made_up_again() {
        for (sets, params, name) in [
            (&["nested=false"][..], &[][..], "nested_off"),
            (&[], &["kvm-intel.ept=N"], "kvm_intel_ept_N"),
            (
                &["halt_polling=off", "nx_huge_pages=never"],
                &["kvm.x=-1"],
                "halt_polling_0_nx_huge_pages_never_kvm_x__1",
            ),
            (
                &[
                    "hugepages.2M=64",
                    "hugepages.1G.node1=2",
                    "/sys/kernel/mm/ksm/run=1",
                ],
                &[],
                "hugepages_2M_64_hugepages_1G_node1_2_sys_kernel_mm_ksm_run_1",
            ),
        ] {
            let made = options(sets, params).unwrap();
            assert_eq!(made.name, name);
            let again = made.as_options();
            let (mut sets, mut params) = (Vec::new(), Vec::new());
            for option in again.chunks(2) {
                match option[0].as_str() {
                    "--set" => sets.push(option[1].as_str()),
                    _ => params.push(option[1].as_str()),
                }
            }
            assert_eq!(options(&sets, &params).unwrap().settings(), made.settings());
        }
    }

    #[test]
    fn everything_wrong_with_the_options_is_said_at_once() {
        let problems = options(
            &[
                "tpd=off",
                "tdp=maybe",
                "tdp",
                "halt_polling=on",
                "hugepages.3M=1",
                "hugepages.2M.zero=1",
                "hugepages.2M=0",
                "/etc/passwd=1",
                "/sys/module/kvm/parameters/x=1",
                "pml=off",
                "pml=off",
            ],
            &["ept=N", "kvm.x=a b", "kvm.x="],
        )
        .unwrap_err();
        let expected = [
            "--set tpd=off: unknown feature `tpd`; did you mean `tdp`?",
            "--set tdp=maybe: `tdp` must be `true` or `false`, not \"maybe\"",
            "--set tdp: it is not written as FEATURE=VALUE",
            "--set halt_polling=on: `halt_polling` must be a number, or `false` for 0, not \"on\"",
            "--set hugepages.3M=1: the size of a hugepage must be a size such as `2M` (K, M, G or T), not \"3M\"",
            "--set hugepages.2M.zero=1: a NUMA node is written as `node0`, not \"zero\"",
            "--set hugepages.2M=0: a number of hugepages is a whole number from 1 on, not \"0\"",
            "--set /etc/passwd=1: \"/etc/passwd\" is not the path of a file under /sys or /proc/sys",
            "--set /sys/module/kvm/parameters/x=1: a module's parameter is set with `params`",
            "--set pml=off: `pml` is set already, by `pml`",
            "--param ept=N: `ept` is not written as MODULE.PARAMETER",
            "--param kvm.x=a b: the value contains ' ', which a module's parameter cannot",
            "--param kvm.x=: the value is empty",
        ];
        assert_eq!(problems, expected);
    }

    #[test]
    fn what_a_feature_stands_for_is_not_set_beside_it() {
        let problems = options(&["tdp=off"], &["kvm_intel.ept=1"]).unwrap_err();
        let expected = "--param kvm_intel.ept=1: `kvm_intel.ept` is set already, by `tdp`";
        assert_eq!(problems, [expected]);
        let path = "/sys/kernel/mm/transparent_hugepage/enabled";
        let problems = options(&[&format!("{path}=always"), "huge_pages=off"], &[]).unwrap_err();
        let expected = format!("--set huge_pages=off: `huge_pages` is set already, by `{path}`");
        assert_eq!(problems, [expected]);
    }

    #[test]
    fn hugepages_of_an_environment_are_free_in_it() {
        let made = options(
            &[
                "hugepages.2M=64",
                "hugepages.1G.node0=1",
                "hugepages.1G.node1=2",
            ],
            &[],
        );
        let mut free = BTreeMap::from([(2 << 20, 100)]);
        made.unwrap().reserve_in(&mut free);
        assert_eq!(free, BTreeMap::from([(2 << 20, 100), (1 << 30, 3)]));
    }
}
