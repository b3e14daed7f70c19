//! Known failures as they are written, and which of them hold for which case on this host.

use std::sync::Arc;

use serde::de::{self, Deserialize, Deserializer};
use toml::Spanned;
use toml::de::DeTable;

use super::keys::Pattern;
use crate::environment::HOST;
use crate::model::case::name::CaseName;
use crate::model::host::{Arch, Host};
use crate::model::outcome::known::{Expectation, KnownFailure};
use crate::model::problem::{Problem, TextFile};
use crate::model::time::today;
use crate::model::value::{Glob, OneOrMore, Text};

/// The key whose tables a file of known failures has, and the name of such a file.
pub(super) const KNOWN: &str = "known";

/// The keys of a `[[known]]`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
struct KnownKeys {
    /// The cases: a glob over their names, with or without the environment.
    case: Spanned<Glob>,
    /// In these environments alone, a glob; `host` is the host as it is. By default in any.
    environment: Option<Glob>,
    /// On this architecture alone. By default on any.
    arch: Option<Arch>,
    /// On CPUs of this vendor alone: `intel` is a part of `GenuineIntel`. By default on any.
    vendor: Option<Text>,
    /// With these kernels alone. By default with any.
    kernel: Option<KernelRange>,
    /// What becomes of the cases. By default `fail`.
    #[serde(default)]
    expect: Expectation,
    /// What the failure is known by. By default it is any failure.
    failure: Option<OneOrMore<Pattern>>,
    /// Why they fail.
    reason: Text,
    /// Where there is more about it. By default nowhere.
    link: Option<Text>,
    /// The last day on which it holds. By default it always does.
    until: Option<Day>,
    /// Whether a pass is a failure, where `expect` is `fail`. By default it is told, and is none.
    strict: Option<Spanned<bool>>,
}

/// A known failure, and when it holds.
#[derive(Debug)]
pub(super) struct KnownEntry {
    keys: KnownKeys,
    failure: Arc<KnownFailure>,
}

/// Reads the known failures of a file from the tables of its TOML.
pub(super) fn read<'a>(file: &TextFile<'a>, table: DeTable<'a>) -> (Vec<KnownEntry>, Vec<Problem>) {
    let (read, mut problems) = file.read_tables(table, KNOWN);
    let entries = read.into_iter().map(|keys| KnownEntry::new(file, keys));
    let (entries, wrong): (Vec<_>, Vec<_>) = entries.partition(Result::is_ok);
    problems.extend(wrong.into_iter().filter_map(Result::err));
    (entries.into_iter().flatten().collect(), problems)
}

impl KnownEntry {
    fn new(file: &TextFile<'_>, mut keys: KnownKeys) -> Result<Self, Problem> {
        let strict = keys.strict.take().filter(|strict| *strict.get_ref());
        let in_vain = strict.as_ref().filter(|_| keys.expect != Expectation::Fail);
        if let Some(strict) = in_vain {
            let message = "`strict` is for `expect = \"fail\"` alone: what is flaky may pass, and what crashes never runs";
            return Err(file.problem(strict.span().start, message));
        }
        let parts = keys.failure.take().into_iter();
        let parts = parts.flat_map(|OneOrMore(parts)| parts);
        let failure = KnownFailure {
            case: keys.case.get_ref().0.as_str().to_owned(),
            expect: keys.expect,
            failure: parts.map(|Pattern(part)| part).collect(),
            reason: std::mem::take(&mut keys.reason.0),
            link: keys.link.take().map(|Text(link)| link),
            strict: strict.is_some(),
            place: file.place(keys.case.span().start).to_string(),
        };
        let failure = Arc::new(failure);
        Ok(Self { keys, failure })
    }

    /// Whether it is for this host.
    fn is_for(&self, host: &Host) -> bool {
        let (arch, kernel) = (Arch::from_name(&host.machine), &host.kernel);
        let vendor = host.cpu_vendor.to_lowercase();
        let is_vendor = |Text(part): &Text| vendor.contains(&part.to_lowercase());
        let keys = &self.keys;
        keys.arch.is_none_or(|one| Some(one) == arch)
            && keys.vendor.as_ref().is_none_or(is_vendor)
            && keys.kernel.as_ref().is_none_or(|range| range.has(kernel))
    }

    /// Whether it is for the case that is called so on the host as it is, in an environment.
    fn has(&self, environment: Option<&str>, on_host: &str) -> bool {
        let (keys, Glob(case)) = (&self.keys, self.keys.case.get_ref());
        let is_inside = |Glob(glob): &Glob| glob.matches(environment.unwrap_or(HOST));
        let whole = || environment.map(|environment| format!("{environment}::{on_host}"));
        keys.environment.as_ref().is_none_or(is_inside)
            && (case.matches(on_host) || whole().is_some_and(|whole| case.matches(&whole)))
    }
}

/// The known failures that hold on this host.
#[derive(Debug, Default)]
pub(super) struct KnownFailures {
    hold: Vec<KnownEntry>,
    /// How many there are, for other hosts too.
    all: usize,
    /// What is to be said of those that hold no more.
    pub(super) expired: Vec<String>,
}

impl KnownFailures {
    /// Those of `entries` that hold on `host`.
    pub(super) fn new(entries: Vec<KnownEntry>, host: &Host) -> Self {
        let (all, today) = (entries.len(), today());
        let (mut hold, mut expired) = (Vec::new(), Vec::new());
        for entry in entries.into_iter().filter(|entry| entry.is_for(host)) {
            match &entry.keys.until {
                Some(Day(day)) if *day < today => {
                    let (case, place) = (&entry.failure.case, &entry.failure.place);
                    expired.push(format!(
                        "{place}: {case}: held until {day}, and does no more"
                    ));
                }
                _ => hold.push(entry),
            }
        }
        Self { hold, all, expired }
    }

    /// What is known of a case.
    pub(super) fn of(&self, name: &CaseName) -> Vec<Arc<KnownFailure>> {
        // It is asked of every case: where nothing is known, none needs its name as a text.
        if self.hold.is_empty() {
            return Vec::new();
        }
        let (environment, on_host) = (name.environment.as_deref(), name.on_host());
        let known = self.hold.iter();
        let known = known.filter(|entry| entry.has(environment, &on_host));
        known.map(|entry| Arc::clone(&entry.failure)).collect()
    }

    /// How many hold, in words.
    pub(super) fn describe(&self) -> Option<String> {
        let (hold, all) = (self.hold.len(), self.all);
        (all > 0).then(|| format!("{hold} of {all} known failures hold on this host"))
    }

    /// What is to be said of those that have expired, and of those that none of these cases has, on the host as it is or in one of these environments.
    pub(super) fn notes(&self, cases: &[&CaseName], environments: &[&str]) -> Vec<String> {
        let is_idle = |entry: &&KnownEntry| {
            let mut names = cases.iter().map(|name| name.on_host());
            !names.any(|name| {
                let mut environments = environments.iter().map(|one| Some(*one)).chain([None]);
                environments.any(|environment| entry.has(environment, &name))
            })
        };
        let idle = self.hold.iter().filter(is_idle).map(|entry| {
            let KnownFailure { place, case, .. } = &*entry.failure;
            format!("{place}: {case}: no case is called so")
        });
        self.expired.iter().cloned().chain(idle).collect()
    }
}

/// A day, written as `2027-03-31`.
#[derive(Debug)]
struct Day(jiff::civil::Date);

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match toml::Value::deserialize(deserializer)? {
            toml::Value::String(text) => text,
            other => other.to_string(),
        };
        let wrong = |_| de::Error::custom(format!("{text:?} is no date, as 2027-03-31 is"));
        text.parse().map(Self).map_err(wrong)
    }
}

/// Kernels, written as `>=6.12, <6.16`. Of a kernel's release as many numbers count as stand there: `=6.12` is 6.12.117, too.
#[derive(Debug)]
struct KernelRange(Vec<(String, Vec<u32>)>);

impl KernelRange {
    fn new(text: &str) -> Option<Self> {
        let bound = |part: &str| {
            let (sign, version) = part.split_at(part.find(|c: char| c.is_ascii_digit())?);
            let numbers: Result<_, _> = version.trim().split('.').map(str::parse).collect();
            let sign = Some(sign.trim()).filter(|sign| [">=", "<=", ">", "<", "="].contains(sign));
            Some((sign?.to_owned(), numbers.ok()?))
        };
        text.split(',').map(bound).collect::<Option<_>>().map(Self)
    }

    fn has(&self, release: &str) -> bool {
        let numbers = release.split(|c: char| !c.is_ascii_digit());
        let numbers: Vec<u32> = numbers.map_while(|number| number.parse().ok()).collect();
        let is_in = |(sign, bound): &(String, Vec<u32>)| {
            let order = numbers[..numbers.len().min(bound.len())].cmp(bound);
            match sign.as_str() {
                ">=" => order.is_ge(),
                "<=" => order.is_le(),
                ">" => order.is_gt(),
                "<" => order.is_lt(),
                _ => order.is_eq(),
            }
        };
        !numbers.is_empty() && self.0.iter().all(is_in)
    }
}

impl<'de> Deserialize<'de> for KernelRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Text(text) = Text::deserialize(deserializer)?;
        let wrong = || {
            de::Error::custom(format!(
                "{text:?} is no range of kernels, as \">=6.12, <6.16\" is"
            ))
        };
        Self::new(&text).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_in_a_range_as_far_as_the_range_says() {
        for (range, release, is_in) in [
            (">=6.12, <6.16", "6.12.117-rt1", true),
            (">=6.12, <6.16", "6.15.0-rc3", true),
            (">=6.12, <6.16", "6.16.0-rc1", false),
            (">=6.12,<6.16", "6.8", false),
            ("=6.12", "6.12.117", true),
            ("<=6.12", "6.12.117", true),
            (">6.12", "6.12.117", false),
            (">6.12", "6.13-rc1", true),
            ("=6.12.4", "6.12.117", false),
            (">=6", "not a release", false),
        ] {
            let has = KernelRange::new(range).unwrap().has(release);
            assert_eq!(has, is_in, "{range}: {release}");
        }
        for wrong in ["", "6.12", "~6.12", ">=6.x", ">=6.12,", "=6.12-rc1"] {
            assert!(KernelRange::new(wrong).is_none(), "{wrong}");
        }
    }
}
