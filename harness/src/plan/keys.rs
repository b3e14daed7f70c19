//! The keys that a suite of TOML and its tests may have.

use std::collections::HashSet;

use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::placeholder::{self, Axes, Matrix, NCPUS};
use super::suite::{TestEntry, What};
use crate::model::case::Requires;
use crate::model::host::Arch;
use crate::model::problem::{Problem, TextFile};
use crate::model::value::{Count, Entries, Identifier, MAX_COUNT, OneOrMore, Scalar, Text};

/// A week: nobody waits longer for one test.
pub(super) const MAX_TIMEOUT_S: u32 = 7 * 24 * 60 * 60;

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
    args: Option<Spanned<Vec<Spanned<Text>>>>,
    /// Of a test alone: a line for the shell that is run instead of a selftest.
    command: Option<Spanned<ShellLine>>,
    /// Of a test alone: values for placeholders; the test is run with each combination. By default none.
    pub(super) matrix: Option<Spanned<Axes>>,
    /// A line for the shell. Of a suite: run once before its first case; of a test: before it. By default nothing.
    setup: Option<Spanned<ShellLine>>,
    /// The same, run after it whatever came of it.
    teardown: Option<Spanned<ShellLine>>,
    /// A line for the shell, whose failure skips the test. By default nothing.
    precheck: Option<Spanned<ShellLine>>,
    /// Environment variables of all of these, added to the suite's. By default none.
    env: Entries<Variable, Spanned<Text>>,
    /// The seconds after which a test is killed. By default the command line's `--timeout`.
    timeout_s: Option<Count<MAX_TIMEOUT_S>>,
    /// The architecture, or an array of those, that it is for. By default every one.
    arch: Option<OneOrMore<Arch>>,
    /// What the host must have. By default nothing.
    requires: Option<Requires>,
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
    /// Checks that of the keys that only some tables have it has none but the `allowed` ones, and that its placeholders
    /// are known: `{ncpus}`, and the axes of its `matrix`, each of which is used.
    pub(super) fn check(
        &self,
        file: &TextFile<'_>,
        allowed: &[&str],
        matrix: &Matrix,
    ) -> Result<(), Problem> {
        let found = [
            self.suite.as_ref().map(|key| ("suite", key.span())),
            self.name.as_ref().map(|key| ("name", key.span())),
            self.selftest.as_ref().map(|key| ("selftest", key.span())),
            self.args.as_ref().map(|key| ("args", key.span())),
            self.command.as_ref().map(|key| ("command", key.span())),
            self.matrix.as_ref().map(|key| ("matrix", key.span())),
        ];
        let mut found = found.into_iter().flatten();
        if let Some((key, span)) = found.find(|(key, _)| !allowed.contains(key)) {
            let place = match key {
                "suite" => "at the file's top",
                _ => "in a `[[test]]`",
            };
            return Err(file.problem(span.start, format!("`{key}` belongs {place}")));
        }
        let known: Vec<&str> = matrix.names().chain([NCPUS]).collect();
        let mut used = HashSet::new();
        for (at, text) in self.texts() {
            placeholder::check(file, at, text, &known)?;
            used.extend(placeholder::names(text));
        }
        matrix.check_use(file, &used)
    }

    /// Checks what a test is to run, whose table begins `at`, where its suite `has_selftest`.
    pub(super) fn check_what(
        &self,
        file: &TextFile<'_>,
        at: usize,
        has_selftest: bool,
    ) -> Result<(), Problem> {
        let (at, problem) = match (&self.command, &self.selftest, &self.args) {
            (Some(_), Some(_), _) => (at, "both `selftest` and `command`: a test has one of them"),
            (Some(_), None, Some(args)) => (
                args.span().start,
                "`args` go with `selftest`; those of a `command` are a part of its line",
            ),
            (None, None, _) if !has_selftest => (
                at,
                "neither `selftest` nor `command`: a test has one of them",
            ),
            _ => return Ok(()),
        };
        Err(file.problem(at, problem))
    }

    /// The patterns of splats that it ignores.
    pub(super) fn patterns(&self) -> impl Iterator<Item = &String> {
        let patterns = self.kernel_log_ignore.iter();
        patterns.flat_map(|OneOrMore(patterns)| patterns.iter().map(|Pattern(text)| text))
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

    /// What it says, with these `values` for placeholders; where it is silent, what `base` does.
    pub(super) fn over(
        &self,
        file: &TextFile<'_>,
        base: &TestEntry,
        values: &[(&str, &str)],
    ) -> TestEntry {
        let fill = |text: &str| placeholder::fill(text, values);
        let line = |line: &Option<Spanned<ShellLine>>| Some(fill(&line.as_ref()?.get_ref().0));
        let mut test = base.clone();
        if let Some(selftest) = &self.selftest {
            test.place = file.place(selftest.span().start);
            let name = selftest.get_ref().0.clone();
            test.what = What::Selftest {
                name,
                args: Vec::new(),
            };
        }
        if let (What::Selftest { args, .. }, Some(own)) = (&mut test.what, &self.args) {
            *args = own
                .get_ref()
                .iter()
                .map(|arg| fill(&arg.get_ref().0))
                .collect();
        }
        if let Some(command) = &self.command {
            test.place = file.place(command.span().start);
            test.what = What::Shell(fill(&command.get_ref().0));
        }
        test.setup = line(&self.setup).or(test.setup);
        test.teardown = line(&self.teardown).or(test.teardown);
        test.precheck = line(&self.precheck).or(test.precheck);
        for (Variable(name), value) in &self.env.0 {
            test.env.retain(|(known, _)| known != name);
            test.env.push((name.clone(), fill(&value.get_ref().0)));
        }
        self.settings_over(&mut test, fill("{ncpus}").parse().unwrap_or(1));
        test
    }

    fn settings_over(&self, test: &mut TestEntry, ncpus: u32) {
        test.timeout = self.timeout_s.map(Count::seconds).or(test.timeout);
        test.exclusive = self.exclusive.unwrap_or(test.exclusive);
        if let Some(OneOrMore(arch)) = &self.arch {
            test.arch = Some(arch.clone());
        }
        if let Some(requires) = &self.requires {
            test.requires = requires.clone();
        }
        if let Some(weight) = self.weight {
            test.weight = match weight {
                Weight::Slots(slots) => slots,
                Weight::Ncpus => ncpus,
            };
        }
        if let Some(Count(iterations)) = self.iterations {
            test.iterations = iterations;
        }
        if self.kernel_log_ignore.is_some() {
            test.ignored_splats = self.patterns().cloned().collect();
        }
        if let Some(OneOrMore(tags)) = &self.tags {
            let own = tags.iter().map(|Identifier(tag)| tag);
            test.tags = test.tags.iter().chain(own).cloned().collect();
        }
    }
}

/// Makes types of strings for which something holds: what each must be, and whether one is that.
macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident must be $must:literal: $is_right:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub(super) struct $name(pub(super) String);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let is_right: fn(&str) -> bool = $is_right;
                match Text::deserialize(deserializer)? {
                    Text(text) if is_right(&text) => Ok(Self(text)),
                    Text(text) => Err(Scalar::Text(text).wrong($must)),
                }
            }
        }
    )*};
}

texts! {
    /// The name of an executable.
    SelftestName must be "the name of an executable, without its directory or its arguments":
        |text| !matches!(text, "" | "." | "..") && !text.contains(|c: char| c == '/' || c.is_whitespace());
    /// A line for the shell.
    ShellLine must be "a line for the shell": |text| !text.trim().is_empty();
    /// The name of an environment variable.
    Variable must be "the name of a variable": placeholder::is_name;
    /// A part of a line of the kernel's log. An asterisk alone would ignore everything.
    Pattern must be "a part of a line that says something":
        |text| !text.chars().all(|c| c == '*' || c.is_whitespace());
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
