//! `--report`: what is shown of a case when it has ended, by its status.

use std::str::FromStr;

use clap::ValueEnum;

use crate::model::outcome::Status;
use crate::show::tail::{STDERR, STDOUT};

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
    /// The streams that are shown: their names, and the files that keep them in the case's directory.
    pub fn streams(self) -> &'static [(&'static str, &'static str)] {
        const BOTH: &[(&str, &str)] = &[("stdout", STDOUT), ("stderr", STDERR)];
        match self {
            Self::Off | Self::Status => &[],
            Self::Stdout => &BOTH[..1],
            Self::Stderr => &BOTH[1..],
            Self::Full => BOTH,
        }
    }
}

/// The level of every status, in the order of their declaration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown([Level; Status::ALL.len()]);

impl Shown {
    /// What `rules` make of the default, a line for every case: of two for the same status the later one holds.
    pub fn new<'a>(rules: impl IntoIterator<Item = &'a Rule>) -> Self {
        let mut levels = [Level::Status; Status::ALL.len()];
        for rule in rules {
            rule.statuses
                .iter()
                .for_each(|&status| levels[status as usize] = rule.level);
        }
        Self(levels)
    }

    /// The level of `status`.
    pub fn of(self, status: Status) -> Level {
        self.0[status as usize]
    }

    /// Whether a case of `status` is not shown at all.
    pub fn hides(self, status: Status) -> bool {
        self.of(status) == Level::Off
    }

    /// Whether there is a status whose cases are not shown at all.
    pub fn hides_any(self) -> bool {
        Status::ALL.iter().any(|status| self.hides(*status))
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
        let (name, level) = text
            .split_once('=')
            .ok_or("should be STATUS=LEVEL, such as fail=stderr")?;
        let statuses = NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .ok_or_else(|| {
                let known: Vec<_> = NAMES.iter().map(|(known, _)| *known).collect();
                format!("`{name}` is no status: one of {}", known.join(", "))
            })?;
        let level = Level::from_str(level, false).map_err(|_| {
            format!("`{level}` is no level: one of off, status, stdout, stderr, full")
        })?;
        Ok(Self {
            statuses: statuses.1,
            level,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(rules: &[&str]) -> Shown {
        let rules: Vec<Rule> = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        Shown::new(&rules)
    }

    #[test]
    fn later_rules_hold_and_fail_is_every_failure() {
        let shown = shown(&["all=off", "fail=stderr", "no_run=full"]);
        assert_eq!(
            Status::ALL
                .iter()
                .map(|status| shown.of(*status))
                .collect::<Vec<_>>(),
            [
                Level::Off,
                Level::Off,
                Level::Stderr,
                Level::Stderr,
                Level::Full
            ]
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
}
