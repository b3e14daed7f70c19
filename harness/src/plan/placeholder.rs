//! Placeholders, the parts of a text that stand for a value, and a matrix of values for them.
//!
//! `{name}` is a placeholder, and `{{name}}` stands for the text `{name}`. Everything else stands for itself: `${name}`,
//! `{ list; }`, `{a,b}`, and any brace around something that is not a name.

use std::collections::HashSet;

use toml::Spanned;

use crate::model::case::name;
use crate::model::problem::{Problem, TextFile, excerpt, hint};
use crate::model::value::{Entries, Scalar, Text};

/// The placeholder for the number of CPUs that the runner may use.
pub(super) const NCPUS: &str = "ncpus";

/// Checks that the placeholders of the `text` written `at` are among the `known` ones.
pub(super) fn check(
    file: &TextFile<'_>,
    at: usize,
    text: &str,
    known: &[&str],
) -> Result<(), Problem> {
    let mut names = names(text).into_iter();
    let Some(name) = names.find(|name| !known.contains(name)) else {
        return Ok(());
    };
    let (hint, name) = (hint(name, known), excerpt(name));
    let literal = format!("(for the text itself write `{{{{{name}}}}}`)");
    Err(file.problem(at, format!("no placeholder `{{{name}}}`{hint} {literal}")))
}

/// The names of the placeholders in `text`, in their order.
pub(super) fn names(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    replaced(text, |name| {
        names.push(name);
        None
    });
    names
}

/// `text` with the placeholders that `values` name replaced, and others left as they are.
pub(super) fn fill(text: &str, values: &[(&str, &str)]) -> String {
    replaced(text, |name| {
        let value = values.iter().find(|(known, _)| *known == name);
        value.map(|(_, value)| *value)
    })
}

/// `text` with the `value` of each placeholder in its place, where it has one.
fn replaced<'t, 'v>(text: &'t str, mut value: impl FnMut(&'t str) -> Option<&'v str>) -> String {
    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(brace) = rest.find('{') {
        let (before, braced) = rest.split_at(brace);
        replaced.push_str(before);
        // A variable of the shell stands for itself.
        let literal = name_between(braced, "{{", "}}").filter(|_| !before.ends_with('$'));
        let name = name_between(braced, "{", "}").filter(|_| !before.ends_with('$'));
        let (piece, length) = match (literal, name) {
            (Some(name), _) => (&braced[1..name.len() + 3], name.len() + 4),
            (None, Some(name)) => {
                let length = name.len() + 2;
                (value(name).unwrap_or(&braced[..length]), length)
            }
            (None, None) => ("{", 1),
        };
        replaced.push_str(piece);
        rest = &braced[length..];
    }
    replaced + rest
}

/// Whether `text` can be the name of a placeholder: `[A-Za-z_][A-Za-z0-9_]*`.
pub(super) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && text.chars().all(is_in_name)
}

fn is_in_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn name_between<'a>(text: &'a str, open: &str, close: &str) -> Option<&'a str> {
    let inside = text.strip_prefix(open)?;
    let (name, after) = inside.split_at(inside.find(|c| !is_in_name(c))?);
    (is_name(name) && after.starts_with(close)).then_some(name)
}

/// No test has that many arguments to vary.
const MAX_AXES: usize = 16;

/// How a matrix is written: `{ axis = [value, …], … }`.
pub(super) type Axes = Entries<Spanned<Text>, Spanned<Vec<Spanned<Scalar>>>>;

/// The axes of a test, in the order in which they were written.
#[derive(Debug, Default)]
pub(super) struct Matrix {
    axes: Vec<Axis>,
}

#[derive(Debug)]
struct Axis {
    name: String,
    /// Where its name is written.
    at: usize,
    points: Vec<Point>,
}

/// A value of an axis.
#[derive(Debug)]
struct Point {
    /// What it contributes to the name of a combination: the same on every machine.
    segment: String,
    value: String,
}

impl Matrix {
    /// The one that is written so; `{ncpus}` in a value is `ncpus`.
    pub(super) fn read(
        file: &TextFile<'_>,
        axes: Option<Spanned<Axes>>,
        ncpus: &str,
    ) -> Result<Self, Problem> {
        let Some(axes) = axes else {
            return Ok(Self::default());
        };
        let count = axes.get_ref().0.len();
        if count == 0 || count > MAX_AXES {
            let message = format!("a matrix has 1 to {MAX_AXES} axes, not {count}");
            return Err(file.problem(axes.span().start, message));
        }
        let axes = axes.into_inner().0.into_iter();
        let axes = axes.map(|(name, values)| Axis::read(file, name, &values, ncpus));
        let axes = axes.collect::<Result<_, _>>()?;
        Ok(Self { axes })
    }

    /// The names of the axes.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.axes.iter().map(|axis| axis.name.as_str())
    }

    /// How many combinations there are.
    pub(super) fn count(&self) -> usize {
        let lengths = self.axes.iter().map(|axis| axis.points.len());
        lengths.fold(1, usize::saturating_mul)
    }

    /// Checks that every axis is `used`.
    pub(super) fn check_use(
        &self,
        file: &TextFile<'_>,
        used: &HashSet<&str>,
    ) -> Result<(), Problem> {
        let mut axes = self.axes.iter();
        match axes.find(|axis| !used.contains(axis.name.as_str())) {
            None => Ok(()),
            Some(Axis { name, at, .. }) => {
                let message =
                    format!("the axis `{name}` is never used: nothing contains `{{{name}}}`");
                Err(file.problem(*at, message))
            }
        }
    }

    /// Every combination: its segment of the test's name, such as `backing_src_shmem__vcpus_4`, and the value of each
    /// axis; the last axis changes fastest. Without an axis there is one of nothing.
    pub(super) fn combinations(&self) -> impl Iterator<Item = (Option<String>, Vec<(&str, &str)>)> {
        (0..self.count()).map(|index| {
            let mut rest = index;
            let mut points = Vec::with_capacity(self.axes.len() + 1);
            for axis in self.axes.iter().rev() {
                points.push((axis, &axis.points[rest % axis.points.len()]));
                rest /= axis.points.len();
            }
            points.reverse();
            let segments: Vec<_> = points
                .iter()
                .map(|(_, point)| point.segment.as_str())
                .collect();
            let segment = (!segments.is_empty()).then(|| segments.join("__"));
            let values = points
                .iter()
                .map(|(axis, point)| (axis.name.as_str(), point.value.as_str()));
            (segment, values.collect())
        })
    }
}

impl Axis {
    fn read(
        file: &TextFile<'_>,
        name: Spanned<Text>,
        values: &Spanned<Vec<Spanned<Scalar>>>,
        ncpus: &str,
    ) -> Result<Self, Problem> {
        let at = name.span().start;
        let Text(name) = name.into_inner();
        if !is_name(&name) || name == NCPUS {
            let message = format!("an axis cannot be called \"{}\"", excerpt(&name));
            return Err(file.problem(at, message));
        }
        if values.get_ref().is_empty() {
            let message = format!("the axis `{name}` has no value");
            return Err(file.problem(values.span().start, message));
        }
        let mut points: Vec<Point> = Vec::new();
        let mut seen = HashSet::new();
        for value in values.get_ref() {
            let (at, text) = (value.span().start, value.get_ref().to_string());
            check(file, at, &text, &[NCPUS])?;
            let named = fill(&text, &[(NCPUS, NCPUS)]);
            let segment = name::to_identifier(&format!("{name}_{named}"));
            if !seen.insert(segment.clone()) {
                return Err(file.problem(at, format!("a second value named `{segment}`")));
            }
            let value = fill(&text, &[(NCPUS, ncpus)]);
            points.push(Point { segment, value });
        }
        Ok(Self { name, at, points })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_in_braces_is_a_placeholder() {
        for (text, filled) in [
            ("-v {ncpus} -s {size}", "-v 4 -s {x}"),
            ("{ncpus}{ncpus}", "44"),
            ("{{ncpus}}", "{ncpus}"),
            ("{{{ncpus}}}", "{{ncpus}}"),
            ("{{ncpus},{size}}", "{4,{x}}"),
            ("${ncpus} $${ncpus} ${{ncpus}}", "${ncpus} $${ncpus} ${4}"),
            (
                "f() { true; }; echo {a,b} {1..3} {} {{}} {",
                "f() { true; }; echo {a,b} {1..3} {} {{}} {",
            ),
            ("awk '{{print}}' {é}", "awk '{print}' {é}"),
            ("{unknown}", "{unknown}"),
            ("", ""),
        ] {
            let values = [("ncpus", "4"), ("size", "{x}")];
            assert_eq!(fill(text, &values), filled, "{text}");
        }
        assert_eq!(names("{a} ${b} {{c}} {d}{a}"), ["a", "d", "a"]);
    }
}
