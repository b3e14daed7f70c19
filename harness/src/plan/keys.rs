//! The keys that a suite of TOML and its tests may have.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::placeholder::{self, Axes, Matrix, Mistake, NCPUS};
use super::suite::Settings;
use crate::model::arch::Arch;
use crate::model::case::Requires;
use crate::model::value::{Count, Entries, Identifier, OneOrMore, PageSize, Scalar, Size, Text};

/// A week: nobody waits longer for one test.
pub(super) const MAX_TIMEOUT_S: u32 = 7 * 24 * 60 * 60;

/// More than any machine has CPUs, or any run has patience.
const MAX_COUNT: u32 = 1_000_000;

/// Every key of a suite and of its tests. What a suite sets holds for its tests unless they say otherwise.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct Keys {
    /// Of a suite alone: its name, an identifier. By default the file's stem.
    pub(super) suite: Option<Spanned<Identifier>>,
    /// Of a test alone: its name in the suite, an identifier.
    pub(super) name: Option<Spanned<Identifier>>,
    /// The executable that is run with `args`, without a shell.
    pub(super) selftest: Option<Spanned<SelftestName>>,
    /// Of a test alone: the arguments of its selftest. By default none.
    pub(super) args: Option<Spanned<Vec<Spanned<Text>>>>,
    /// Of a test alone: a line for the shell that is run instead of a selftest.
    pub(super) command: Option<Spanned<Line>>,
    /// Of a test alone: values for placeholders; the test is run with each combination. By default none.
    pub(super) matrix: Option<Spanned<Axes>>,
    /// A line for the shell. Of a suite: run once before its first case; of a test: before it. By default nothing.
    pub(super) setup: Option<Spanned<Line>>,
    /// The same, run after it whatever came of it.
    pub(super) teardown: Option<Spanned<Line>>,
    /// A line for the shell, whose failure skips the test. By default nothing.
    pub(super) precheck: Option<Spanned<Line>>,
    /// Environment variables of all of these, added to the suite's. By default none.
    pub(super) env: Entries<Variable, Spanned<Text>>,
    /// The seconds after which a test is killed. By default the command line's `--timeout`.
    timeout_s: Option<Count<MAX_TIMEOUT_S>>,
    /// The architecture, or an array of those, that it is for. By default every one.
    arch: Option<OneOrMore<Arch>>,
    /// What the host must have. By default nothing.
    requires: Option<RequiresKeys>,
    /// Whether nothing else runs beside it. By default false.
    exclusive: Option<bool>,
    /// How many of the run's slots it takes, or `"{ncpus}"`. By default 1.
    weight: Option<Weight>,
    /// How often it runs in one run. By default once.
    iterations: Option<Count<MAX_COUNT>>,
    /// The kernel's splats that are no failure of it, each known by a part of one of its lines. By default none.
    kernel_log_ignore: Option<OneOrMore<Pattern>>,
    /// Words to choose it by, added to the suite's. By default none.
    tags: Option<OneOrMore<Identifier>>,
}

impl Keys {
    /// Checks what a suite says, but for its tests.
    pub(super) fn check_of_suite(&self) -> Result<(), Mistake> {
        let misplaced = [
            self.name.as_ref().map(|key| ("name", key.span())),
            self.args.as_ref().map(|key| ("args", key.span())),
            self.command.as_ref().map(|key| ("command", key.span())),
            self.matrix.as_ref().map(|key| ("matrix", key.span())),
        ];
        if let Some((key, span)) = misplaced.into_iter().flatten().next() {
            return Err((span.start, format!("`{key}` is a key of a `[[test]]`")));
        }
        self.check_placeholders(&[NCPUS])
    }

    /// Checks what a test of `suite` says, whose table begins `at`.
    pub(super) fn check_of_test(
        &self,
        at: usize,
        suite: &Self,
        matrix: &Matrix,
    ) -> Result<(), Mistake> {
        let is_lacking = self.selftest.is_none() && suite.selftest.is_none();
        let mistake = match (&self.suite, &self.command, &self.args) {
            (Some(suite), _, _) => (suite.span().start, "`suite` is a key of the whole file"),
            (_, Some(_), _) if self.selftest.is_some() => {
                (at, "both `selftest` and `command`: a test has one of them")
            }
            (_, Some(_), Some(args)) => (
                args.span().start,
                "`args` go with `selftest`; those of a `command` are a part of its line",
            ),
            (_, None, _) if is_lacking => (
                at,
                "neither `selftest` nor `command`: a test has one of them",
            ),
            _ => {
                let known: Vec<&str> = matrix.names().chain([NCPUS]).collect();
                self.check_placeholders(&known)?;
                let used = self.texts().flat_map(|(_, text)| placeholder::names(text));
                return matrix.check_use(&used.collect());
            }
        };
        Err((mistake.0, mistake.1.to_owned()))
    }

    /// Checks what is said about the case that a selftest has without any suite.
    pub(super) fn check_of_default(&self) -> Result<(), Mistake> {
        let selftest = self.selftest.as_ref().map(Spanned::span);
        if let Some(span) = selftest.or(self.suite.as_ref().map(Spanned::span)) {
            return Err((
                span.start,
                "its table's name says what it is for".to_owned(),
            ));
        }
        self.check_of_suite()
    }

    fn check_placeholders(&self, known: &[&str]) -> Result<(), Mistake> {
        let mut texts = self.texts();
        texts.try_for_each(|(at, text)| placeholder::check(text, at, known))
    }

    /// Everything that may have placeholders, and where it is written.
    fn texts(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = [&self.command, &self.setup, &self.teardown, &self.precheck];
        let lines = lines.into_iter().flatten();
        let lines = lines.map(|line| (line.span().start, line.get_ref().0.as_str()));
        let args = self.args.iter().flat_map(Spanned::get_ref);
        let env = self.env.0.iter().map(|(_, value)| value);
        let texts = args.chain(env);
        lines.chain(texts.map(|text| (text.span().start, text.get_ref().0.as_str())))
    }

    /// What it sets, and what its `suite` does where it is silent.
    pub(super) fn settings(&self, suite: &Settings, ncpus: u32) -> Settings {
        let timeout = self.timeout_s.map(Count::seconds);
        let arch = self.arch.as_ref().map(|OneOrMore(arch)| arch.clone());
        let requires = self.requires.as_ref().map(RequiresKeys::requires);
        let patterns = self
            .kernel_log_ignore
            .as_ref()
            .map(|OneOrMore(patterns)| patterns.iter().map(|Pattern(text)| text.clone()).collect());
        let tags = self.tags.as_ref().map(|OneOrMore(tags)| {
            let own = tags.iter().map(|Identifier(tag)| tag.clone());
            suite.tags.iter().cloned().chain(own).collect()
        });
        Settings {
            timeout: timeout.or(suite.timeout),
            arch: arch.or_else(|| suite.arch.clone()),
            requires: requires.unwrap_or_else(|| suite.requires.clone()),
            exclusive: self.exclusive.unwrap_or(suite.exclusive),
            weight: match self.weight {
                None => suite.weight,
                Some(Weight::Slots(slots)) => slots,
                Some(Weight::Ncpus) => ncpus,
            },
            iterations: self
                .iterations
                .map_or(suite.iterations, |Count(count)| count),
            ignored_splats: patterns.unwrap_or_else(|| Arc::clone(&suite.ignored_splats)),
            tags: tags.unwrap_or_else(|| Arc::clone(&suite.tags)),
        }
    }
}

/// `requires`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
struct RequiresKeys {
    /// CPUs that the runner may use. By default any number.
    cpus: Option<Count<MAX_COUNT>>,
    /// Memory, such as `"2G"`. By default none.
    memory: Option<Size>,
    /// Free hugepages: their size, and how many. By default none.
    hugepages: Pages,
}

impl RequiresKeys {
    fn requires(&self) -> Requires {
        Requires {
            cpus: self.cpus.map(|Count(cpus)| cpus.into()),
            memory: self.memory.map(|Size(bytes)| bytes),
            hugepages: self.hugepages.0.clone(),
        }
    }
}

/// A number of hugepages for each of their sizes in bytes.
#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "Entries<PageSize, Count<{ u32::MAX }>>")]
struct Pages(BTreeMap<u64, u64>);

impl TryFrom<Entries<PageSize, Count<{ u32::MAX }>>> for Pages {
    type Error = &'static str;

    fn try_from(entries: Entries<PageSize, Count<{ u32::MAX }>>) -> Result<Self, &'static str> {
        let mut pages = BTreeMap::new();
        for (PageSize(size), Count(count)) in entries.0 {
            if pages.insert(size, count.into()).is_some() {
                return Err("hugepages of one size are required twice");
            }
        }
        Ok(Self(pages))
    }
}

/// The name of an executable.
#[derive(Debug)]
pub(super) struct SelftestName(pub(super) String);

impl<'de> Deserialize<'de> for SelftestName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let is_in_path = |c: char| c == '/' || c.is_whitespace();
        let is_name = |text: &str| !matches!(text, "" | "." | "..") && !text.contains(is_in_path);
        let must = "the name of an executable, without its directory or its arguments";
        text_that(deserializer, is_name, must).map(Self)
    }
}

/// A line for the shell.
#[derive(Debug)]
pub(super) struct Line(pub(super) String);

impl<'de> Deserialize<'de> for Line {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let is_filled = |text: &str| !text.trim().is_empty();
        text_that(deserializer, is_filled, "a line for the shell").map(Self)
    }
}

/// The name of an environment variable.
#[derive(Debug)]
pub(super) struct Variable(pub(super) String);

impl<'de> Deserialize<'de> for Variable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text_that(deserializer, placeholder::is_name, "the name of a variable").map(Self)
    }
}

/// A part of a line of the kernel's log.
#[derive(Debug)]
struct Pattern(String);

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // An asterisk alone would ignore everything.
        let says_something = |text: &str| !text.chars().all(|c| c == '*' || c.is_whitespace());
        text_that(
            deserializer,
            says_something,
            "a part of a line of the kernel's log",
        )
        .map(Self)
    }
}

fn text_that<'de, D: Deserializer<'de>>(
    deserializer: D,
    is_right: impl Fn(&str) -> bool,
    must: &str,
) -> Result<String, D::Error> {
    let Text(text) = Text::deserialize(deserializer)?;
    if is_right(&text) {
        Ok(text)
    } else {
        Err(Scalar::Text(text).wrong(must))
    }
}

/// How many slots a test takes: a number, or `"{ncpus}"` for as many as there are CPUs.
#[derive(Debug, Clone, Copy)]
enum Weight {
    Slots(u32),
    Ncpus,
}

impl<'de> Deserialize<'de> for Weight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Scalar::deserialize(deserializer)?;
        let weight = match &value {
            Scalar::Text(text) if text == "{ncpus}" => Some(Self::Ncpus),
            Scalar::Number(number) => u32::try_from(*number)
                .ok()
                .filter(|slots| (1..=MAX_COUNT).contains(slots))
                .map(Self::Slots),
            _ => None,
        };
        let must = || format!("a whole number from 1 to {MAX_COUNT}, or \"{{ncpus}}\"");
        weight.ok_or_else(|| value.wrong(&must()))
    }
}

/// A file that has nothing but patterns of splats that count for no case.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct KernelLogKeys {
    kernel_log_ignore: OneOrMore<Pattern>,
}

impl KernelLogKeys {
    /// The patterns.
    pub(super) fn patterns(self) -> impl Iterator<Item = String> {
        let OneOrMore(patterns) = self.kernel_log_ignore;
        patterns.into_iter().map(|Pattern(text)| text)
    }
}
