//! The options that say what is shown, and how: `--format`, `--color`, `--report`.

use std::env;
use std::str::FromStr;

use clap::ValueEnum;

use crate::model::outcome::Status;
use crate::show::output::STREAMS;

/// `--format`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// One line a case
    #[default]
    Pretty,
    /// One character a case
    Terse,
    /// libtest's JSON, one object a line
    Json,
    /// TAP as the kernel's run_kselftest.sh prints it, with each case's output
    Ktap,
}

/// `--color`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Color {
    /// Where it is a terminal, unless NO_COLOR or CLICOLOR_FORCE say otherwise
    #[default]
    Auto,
    /// In any case
    Always,
    /// Not at all
    Never,
}

impl Color {
    /// Whether to colour what goes to a terminal, or to something else. `NO_COLOR` (no-color.org) counts before
    /// `CLICOLOR_FORCE`, and an empty variable is none.
    pub fn is_on(self, is_terminal: bool) -> bool {
        let [no_color, force] = ["NO_COLOR", "CLICOLOR_FORCE"].map(|name| {
            let value = env::var_os(name).filter(|value| !value.is_empty());
            value.is_some_and(|value| name == "NO_COLOR" || value != "0")
        });
        self.is_on_where(is_terminal, no_color, force)
    }

    fn is_on_where(self, is_terminal: bool, no_color: bool, force: bool) -> bool {
        match self {
            Self::Auto => !no_color && (is_terminal || force),
            Self::Always => true,
            Self::Never => false,
        }
    }
}

/// How much is shown of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// Nothing, as long as the run goes on. Its end names every failure all the same.
    Off,
    /// Its line, and for a failure the reason.
    Status,
    /// That, and its standard output.
    Stdout,
    /// That, and its standard error.
    Stderr,
    /// That, and both.
    Full,
}

impl Level {
    /// The streams that are shown: `stdout`, `stderr`.
    pub(super) fn streams(self) -> &'static [&'static str] {
        match self {
            Self::Off | Self::Status => &[],
            Self::Stdout => &STREAMS[..1],
            Self::Stderr => &STREAMS[1..],
            Self::Full => STREAMS,
        }
    }
}

/// What is shown of the cases of every status, where that was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Levels([Option<Level>; Status::ALL.len()]);

impl Levels {
    /// What `rules` say: of two for the same status the later one holds.
    pub fn new<'a>(rules: impl IntoIterator<Item = &'a Rule>) -> Self {
        let mut levels = Self::default();
        for rule in rules {
            let statuses = rule.statuses.iter();
            statuses.for_each(|&status| levels.0[status as usize] = Some(rule.level));
        }
        levels
    }

    /// The level of `status`; by default it is [`Level::Status`].
    pub fn of(self, status: Status) -> Level {
        self.asked(status).unwrap_or(Level::Status)
    }

    /// The level of `status`, where one was asked for.
    pub(super) fn asked(self, status: Status) -> Option<Level> {
        self.0[status as usize]
    }
}

/// One `STATUS=LEVEL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    statuses: &'static [Status],
    level: Level,
}

/// What may be named left of the `=`.
const NAMES: &[(&str, &[Status])] = &[
    ("pass", &[Status::Passed]),
    ("skip", &[Status::Skipped]),
    ("fail", &[Status::Failed, Status::TimedOut, Status::NoRun]),
    ("failed", &[Status::Failed]),
    ("timed_out", &[Status::TimedOut]),
    ("no_run", &[Status::NoRun]),
    ("all", &Status::ALL),
];

impl Rule {
    /// `--nocapture`: everything of every case.
    pub const NO_CAPTURE: Self = Self {
        statuses: &Status::ALL,
        level: Level::Full,
    };

    /// `--show-output`: everything of the cases that passed, too.
    pub const SHOW_OUTPUT: Self = Self {
        statuses: &[Status::Passed],
        level: Level::Full,
    };
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rule = text.split_once('=');
        let (name, level) = rule.ok_or("should be STATUS=LEVEL, such as fail=stderr")?;
        let statuses = NAMES.iter().find(|(known, _)| *known == name);
        let (_, statuses) = statuses.ok_or_else(|| {
            let known: Vec<_> = NAMES.iter().map(|(known, _)| *known).collect();
            format!("`{name}` is no status: one of {}", known.join(", "))
        })?;
        let level = Level::from_str(level, false).map_err(|_| {
            format!("`{level}` is no level: one of off, status, stdout, stderr, full")
        })?;
        Ok(Self { statuses, level })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_rules_hold_and_fail_is_every_failure() {
        let rules = ["all=off", "fail=stderr", "no_run=full"].map(|rule| rule.parse().unwrap());
        let levels = Levels::new(&rules);
        let [off, stderr, full] = [Level::Off, Level::Stderr, Level::Full];
        assert_eq!(
            Status::ALL.map(|status| levels.of(status)),
            [off, off, stderr, stderr, full]
        );
    }

    #[test]
    fn what_is_no_rule_is_refused_with_what_would_be_one() {
        for (text, part) in [
            ("fail", "STATUS=LEVEL"),
            (
                "fial=off",
                "one of pass, skip, fail, failed, timed_out, no_run, all",
            ),
            ("fail=loud", "one of off, status, stdout, stderr, full"),
            ("=", "`` is no status"),
        ] {
            let error = text.parse::<Rule>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn colours_follow_the_option_then_no_color_then_clicolor_force() {
        assert!(Color::Auto.is_on_where(true, false, false));
        assert!(!Color::Auto.is_on_where(false, false, false));
        assert!(Color::Auto.is_on_where(false, false, true));
        assert!(!Color::Auto.is_on_where(true, true, true));
        assert!(Color::Always.is_on_where(false, true, false));
        assert!(!Color::Never.is_on_where(true, false, true));
    }
}
