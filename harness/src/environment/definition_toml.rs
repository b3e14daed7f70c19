//! Reads an environment from TOML.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::definition::{Definition, HOST, Pages, Placed, check_value, feature, parameter};
use crate::model::host;
use crate::model::name;
use crate::model::size;
use crate::plan::fields::{Fields, Item, quoted, short_enough};
use crate::plan::files::EnvironmentSource;
use crate::plan::node::{self, Value};
use crate::plan::problem::Problem;
use crate::plan::source::Source;

/// Reads an environment.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read(file: &EnvironmentSource) -> Result<Definition, Vec<Problem>> {
    let source = Source::new(&file.path, &file.text);
    let root = node::from_toml(&source);
    let definition = Reader { source: &source }.definition(Item::root(&source, root));
    let problems = source.into_problems();
    match definition {
        Some(definition) if problems.is_empty() => Ok(definition),
        _ => Err(problems),
    }
}

struct Reader<'s, 'a> {
    source: &'s Source<'a>,
}

/// Entries of a table, by key; where each of them stands; and whether a key was there twice in another spelling.
type Places<K> = BTreeMap<K, usize>;

impl<'s, 'a> Reader<'s, 'a> {
    fn definition(&self, root: Item<'s, 'a>) -> Option<Definition> {
        let mut fields = root.fields()?;
        let named = fields.take("environment", |item| Some((item.at, item.identifier())));
        let (at, name) = named.unwrap_or_else(|| (0, self.name_of_file().map(Cow::Owned)));
        if name.as_deref() == Some(HOST) {
            self.source.problem(
                at,
                format!("`{HOST}` is the host as it is, and cannot be another environment"),
            );
        }
        let mut definition = Definition {
            name: name.unwrap_or_default().into_owned(),
            description: fields
                .take("description", Item::text)
                .unwrap_or_default()
                .into_owned(),
            ..Definition::default()
        };
        let mut places = BTreeMap::new();
        if let Some(item) = fields.take("features", Some) {
            self.features(item, &mut definition, &mut places);
        }
        if let Some(item) = fields.take("params", Some) {
            self.params(item, &mut definition, &mut places);
        }
        if let Some(item) = fields.take("hugepages", Some) {
            self.hugepages(item, &mut definition);
        }
        for key in ["sysctls", "sysfs"] {
            if let Some(item) = fields.take(key, Some) {
                self.files(item, key, &mut definition, &mut places);
            }
        }
        fields.finish();
        for (place, problem) in definition.contradictions() {
            self.source
                .problem(places.get(&place).copied().unwrap_or_default(), problem);
        }
        Some(definition)
    }

    fn name_of_file(&self) -> Option<String> {
        let stem = self.source.path.file_stem()?.to_string_lossy();
        if !name::is_identifier(&stem) {
            let better = name::to_identifier(&stem);
            let message = format!(
                "the file's name is no identifier; rename it, or say `environment = \"{better}\"`"
            );
            self.source.problem(0, message);
            return None;
        }
        short_enough(self.source, 0, stem.into_owned())
    }

    fn features(
        &self,
        item: Item<'s, 'a>,
        definition: &mut Definition,
        places: &mut Places<String>,
    ) {
        for (name, at, item) in item.fields().into_iter().flat_map(Fields::entries) {
            let feature = match feature(&name) {
                Ok(feature) => feature,
                Err(problem) => {
                    self.source.problem(at, problem);
                    continue;
                }
            };
            let value = match &item.value {
                Value::Boolean(on) => feature.of_bool(*on),
                Value::String(word) => feature.of_word(word),
                Value::Integer(number) => u32::try_from(*number)
                    .ok()
                    .and_then(|number| feature.of_number(number)),
                _ => None,
            };
            if let Some(value) = value.or_else(|| item.wrong(&feature.takes())) {
                definition
                    .features
                    .insert(feature.name, self.placed(at, value, places));
            }
        }
    }

    fn params(&self, item: Item<'s, 'a>, definition: &mut Definition, places: &mut Places<String>) {
        for (name, at, item) in item.fields().into_iter().flat_map(Fields::entries) {
            let key = parameter(&name).map_err(|problem| {
                self.source
                    .problem(at, format!("{problem}, in quotation marks"));
            });
            if let (Ok(key), Some(value)) = (key, self.value(item, "Y", "N"))
                && definition
                    .params
                    .insert(key, self.placed(at, value, places))
                    .is_some()
            {
                self.source
                    .problem(at, format!("{} is set twice", quoted(&name)));
            }
        }
    }

    fn files(
        &self,
        item: Item<'s, 'a>,
        key: &str,
        definition: &mut Definition,
        places: &mut Places<String>,
    ) {
        for (name, at, item) in item.fields().into_iter().flat_map(Fields::entries) {
            let path = match key {
                "sysctls" => sysctl_path(&name),
                _ => sysfs_path(&name),
            };
            let path = path.map_err(|problem| self.source.problem(at, problem));
            if let (Ok(path), Some(value)) = (path, self.value(item, "1", "0"))
                && definition
                    .files
                    .insert(path, self.placed(at, value, places))
                    .is_some()
            {
                self.source
                    .problem(at, format!("{} is set twice", quoted(&name)));
            }
        }
    }

    /// The value of a raw parameter or a file.
    fn value(&self, item: Item<'s, 'a>, on: &str, off: &str) -> Option<String> {
        let at = item.at;
        let value = match &item.value {
            Value::Boolean(true) => on.to_owned(),
            Value::Boolean(false) => off.to_owned(),
            Value::Integer(number) => number.to_string(),
            Value::String(_) => item.text()?.into_owned(),
            _ => return item.wrong("a string, a whole number, `true` or `false`"),
        };
        check_value(&value)
            .map_err(|problem| self.source.problem(at, problem))
            .ok()?;
        Some(value)
    }

    fn hugepages(&self, item: Item<'s, 'a>, definition: &mut Definition) {
        for (name, at, item) in item.fields().into_iter().flat_map(Fields::entries) {
            let Some(bytes) = size::parse(&name).filter(|bytes| bytes.is_power_of_two()) else {
                let message = format!(
                    "the size of a hugepage must be a size such as `2M` (K, M, G or T), not {}",
                    quoted(&name)
                );
                self.source.problem(at, message);
                continue;
            };
            let count = |item: Item<'s, 'a>| item.number(1..=u32::MAX).map(u64::from);
            let pages = match &item.value {
                Value::Table(_) => {
                    let entries = item.fields().into_iter().flat_map(Fields::entries);
                    let nodes = entries
                        .filter_map(|(name, at, item)| Some((self.node(&name, at)?, count(item)?)));
                    Some(Pages::Nodes(nodes.collect()))
                }
                Value::Integer(_) => count(item).map(Pages::Total),
                _ => item.wrong("a number of pages, or a table such as `{ node0 = 64 }`"),
            };
            if let Some(pages) = pages
                && definition
                    .hugepages
                    .insert(
                        bytes,
                        Placed {
                            value: pages,
                            place: self.place(at),
                        },
                    )
                    .is_some()
            {
                self.source.problem(
                    at,
                    format!("hugepages of {} are set twice", host::size(bytes)),
                );
            }
        }
    }

    fn node(&self, name: &str, at: usize) -> Option<u32> {
        let number = name
            .strip_prefix("node")
            .and_then(|number| number.parse().ok());
        if number.is_none() {
            self.source.problem(
                at,
                format!("a NUMA node is written as `node0`, not {}", quoted(name)),
            );
        }
        number
    }

    fn placed<T>(&self, at: usize, value: T, places: &mut Places<String>) -> Placed<T> {
        let place = self.place(at);
        places.insert(place.clone(), at);
        Placed { value, place }
    }

    fn place(&self, at: usize) -> String {
        let (line, column) = self.source.positions().of(at);
        format!("{}:{line}:{column}", self.source.path.display())
    }
}

/// The file of a sysctl: as sysctl(8) has it, `.` separates, and a `/` stands for a `.` in a name; or the other way
/// round, if a `/` comes first.
fn sysctl_path(name: &str) -> Result<String, String> {
    let swap = |c: char| match c {
        '.' => '/',
        '/' => '.',
        c => c,
    };
    let dots_separate = name
        .find(['.', '/'])
        .is_some_and(|first| name[first..].starts_with('.'));
    let path: Cow<'_, str> = if dots_separate {
        name.chars().map(swap).collect::<String>().into()
    } else {
        name.into()
    };
    if !is_path(&path) {
        return Err(format!(
            "{} is not the name of a sysctl, such as \"kernel.numa_balancing\"",
            quoted(name)
        ));
    }
    if path.starts_with("vm/nr_hugepages") {
        return Err("the number of hugepages is set with `hugepages`".to_owned());
    }
    Ok(format!("/proc/sys/{path}"))
}

fn sysfs_path(name: &str) -> Result<String, String> {
    let Some(path) = name.strip_prefix("/sys/").filter(|path| is_path(path)) else {
        return Err(format!(
            "{} is not the path of a file under /sys",
            quoted(name)
        ));
    };
    if path.starts_with("module/") && path.contains("/parameters/") {
        return Err("a module's parameter is set with `params`".to_owned());
    }
    if path.ends_with("/nr_hugepages") {
        return Err("the number of hugepages is set with `hugepages`".to_owned());
    }
    Ok(name.to_owned())
}

fn is_path(path: &str) -> bool {
    let is_name = |name: &str| !name.is_empty() && name != "." && name != "..";
    path.split('/').all(is_name) && path.chars().all(|c| c.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::feature::TRANSPARENT_HUGE_PAGES;

    fn read_text(text: &str) -> Result<Definition, Vec<String>> {
        let file = EnvironmentSource {
            path: "environments/shadow.toml".into(),
            text: text.to_owned(),
        };
        read(&file).map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn an_environment_says_what_it_sets() {
        let definition = read_text(
            r#"
description = "all of it"
features = { tdp = false, nx_huge_pages = "never", halt_polling = 0, huge_pages = false }
params = { "kvm-intel.ple_gap" = 128, "kvm.ignore_msrs" = true }
hugepages = { "2M" = 64, "1G" = { node0 = 1, node1 = 2 } }
sysctls = { "kernel.numa_balancing" = false, "net/ipv4/conf/eth0.1/arp_filter" = 1 }
sysfs = { "/sys/kernel/mm/ksm/run" = "0" }
"#,
        )
        .unwrap();
        assert_eq!(definition.name, "shadow");
        let expected = [
            "halt_polling=0",
            "huge_pages=off",
            "nx_huge_pages=never",
            "tdp=off",
            "kvm.ignore_msrs=Y",
            "kvm_intel.ple_gap=128",
            "64 hugepages of 2M",
            "hugepages of 1G: 1 on node0, 2 on node1",
            "/proc/sys/kernel/numa_balancing=0",
            "/proc/sys/net/ipv4/conf/eth0.1/arp_filter=1",
            "/sys/kernel/mm/ksm/run=0",
        ];
        assert_eq!(definition.settings(), expected);
        assert_eq!(
            definition.hugepages[&(2 << 20)].place,
            "environments/shadow.toml:5:15"
        );
    }

    #[test]
    fn everything_wrong_is_said_at_once_with_its_place() {
        let problems = read_text(
            r#"environment = "host"
descripton = "x"
features = { tpd = false, tdp = "off", halt_polling = true, nested = false }
params = { ept = "N", "kvm.x" = "a b", "kvm_amd.nested" = 1, "kvm.y" = [1] }
hugepages = { "3M" = 1, "2M" = 0, "4M" = { zero = 1 } }
sysctls = { "vm.nr_hugepages" = 1, "../x" = 1 }
sysfs = { "/sys/../etc/passwd" = 1, "/etc/passwd" = 1, "/sys/module/kvm/parameters/x" = 1 }
"#,
        )
        .unwrap_err();
        let place = "environments/shadow.toml";
        let expected = [
            format!("{place}:1:15: `host` is the host as it is, and cannot be another environment"),
            format!("{place}:2:1: unknown key `descripton`; did you mean `description`?"),
            format!("{place}:3:14: unknown feature `tpd`; did you mean `tdp`?"),
            format!("{place}:3:33: `tdp` must be `true` or `false`, not \"off\""),
            format!(
                "{place}:3:55: `halt_polling` must be a number, or `false` for 0, not a boolean"
            ),
            format!("{place}:4:12: `ept` is not written as MODULE.PARAMETER, in quotation marks"),
            format!("{place}:4:33: the value contains ` `, which a module's parameter cannot"),
            format!(
                "{place}:4:40: `kvm_amd.nested` is what the feature `nested` is on AMD, which {place}:3:61 sets to off"
            ),
            format!(
                "{place}:4:72: `kvm.y` must be a string, a whole number, `true` or `false`, not an array"
            ),
            format!(
                "{place}:5:15: the size of a hugepage must be a size such as `2M` (K, M, G or T), not \"3M\""
            ),
            format!("{place}:5:32: `2M` must be a whole number from 1 to 4294967295, not 0"),
            format!("{place}:5:44: a NUMA node is written as `node0`, not \"zero\""),
            format!("{place}:6:13: the number of hugepages is set with `hugepages`"),
            format!(
                "{place}:6:36: \"../x\" is not the name of a sysctl, such as \"kernel.numa_balancing\""
            ),
            format!("{place}:7:11: \"/sys/../etc/passwd\" is not the path of a file under /sys"),
            format!("{place}:7:37: \"/etc/passwd\" is not the path of a file under /sys"),
            format!("{place}:7:56: a module's parameter is set with `params`"),
        ];
        assert_eq!(problems, expected);
    }

    #[test]
    fn transparent_huge_pages_cannot_be_set_twice() {
        let text = format!(
            "features = {{ huge_pages = \"never\" }}\nsysfs = {{ \"{TRANSPARENT_HUGE_PAGES}\" = \"always\" }}\n"
        );
        let problems = read_text(&text).unwrap_err();
        assert_eq!(problems.len(), 1);
        assert!(
            problems[0].starts_with("environments/shadow.toml:2:11: "),
            "{}",
            problems[0]
        );
    }
}
