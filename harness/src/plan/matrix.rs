//! A matrix: one test written for every combination of values.

use std::collections::{HashMap, HashSet};

use crate::model::name;
use crate::plan::fields::{Item, quoted};
use crate::plan::node::Value;
use crate::plan::placeholder::{self, NCPUS, Template};
use crate::plan::source::Source;

/// No test has that many arguments to vary.
const MAX_AXES: usize = 16;

/// The axes of a test, in the order in which they were written. Without any, there is one combination, of nothing.
#[derive(Debug, Default)]
pub struct Matrix {
    axes: Vec<Axis>,
}

#[derive(Debug)]
struct Axis {
    name: String,
    at: usize,
    points: Vec<Point>,
}

/// A value of an axis.
#[derive(Debug)]
struct Point {
    /// What it contributes to the name of a combination: the same on every machine.
    segment: String,
    value: Template,
}

/// One value for every axis.
#[derive(Debug)]
pub struct Combination<'m> {
    /// Its segment of the test's name, such as `backing_src_shmem__vcpus_4`; `None` without an axis.
    pub segment: Option<String>,
    /// The axes with their values.
    pub values: Vec<(&'m str, &'m Template)>,
}

impl Matrix {
    /// Reads `{ axis = [value, …], … }`. A value is a string, a whole number, or a boolean, and may contain `{ncpus}`.
    pub fn read(item: Item<'_, '_>) -> Option<Self> {
        let fields = item.fields()?;
        let (source, at) = (fields.source, fields.at);
        let mut axes = Vec::new();
        for (name, at, values) in fields.entries() {
            if !placeholder::is_name(&name) || name == NCPUS {
                source.problem(at, format!("an axis cannot be called {}", quoted(&name)));
            } else {
                let points = read_points(&name, values).unwrap_or_default();
                axes.push(Axis {
                    name: name.into_owned(),
                    at,
                    points,
                });
            }
        }
        if axes.len() > MAX_AXES {
            source.problem(
                at,
                format!(
                    "a matrix of {} axes; at most {MAX_AXES} are allowed",
                    axes.len()
                ),
            );
            axes.truncate(MAX_AXES);
        }
        if axes.is_empty() {
            source.lacking(at, "a matrix without an axis");
        }
        Some(Self { axes })
    }

    /// The names of the axes.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.axes.iter().map(|axis| axis.name.as_str())
    }

    /// How many combinations there are.
    pub fn count(&self) -> usize {
        self.axes
            .iter()
            .fold(1, |product, axis| product.saturating_mul(axis.points.len()))
    }

    /// Notes every axis that is not `used`.
    pub fn check_use(&self, source: &Source<'_>, used: &HashSet<&str>) {
        for axis in self
            .axes
            .iter()
            .filter(|axis| !used.contains(axis.name.as_str()))
        {
            source.lacking(
                axis.at,
                format!(
                    "the axis `{0}` is never used: nothing contains `{{{0}}}`",
                    axis.name
                ),
            );
        }
    }

    /// Every combination; the last axis changes fastest.
    pub fn combinations(&self) -> impl Iterator<Item = Combination<'_>> {
        (0..self.count()).map(|index| {
            let mut rest = index;
            let mut points: Vec<&Point> = Vec::with_capacity(self.axes.len());
            for axis in self.axes.iter().rev() {
                points.push(&axis.points[rest % axis.points.len()]);
                rest /= axis.points.len();
            }
            points.reverse();
            let segments: Vec<&str> = points.iter().map(|point| point.segment.as_str()).collect();
            Combination {
                segment: (!segments.is_empty()).then(|| segments.join("__")),
                values: self
                    .names()
                    .zip(points.iter().map(|point| &point.value))
                    .collect(),
            }
        })
    }
}

fn read_points(axis: &str, item: Item<'_, '_>) -> Option<Vec<Point>> {
    if matches!(&item.value, Value::Array(values) if values.is_empty()) {
        return item.wrong("an array with at least one value");
    }
    let mut points = Vec::new();
    let mut lines = HashMap::new();
    for item in item.list("an array of values")? {
        let (source, at) = (item.source, item.at);
        let value = match &item.value {
            Value::Integer(number) => Template::literal(number.to_string()),
            Value::Boolean(boolean) => Template::literal(boolean.to_string()),
            Value::String(_) => match item.template(&[NCPUS]) {
                Some(value) => value,
                None => continue,
            },
            _ => {
                item.wrong::<()>("a string, a whole number, or a boolean");
                continue;
            }
        };
        let segment = name::to_identifier(&format!(
            "{axis}_{}",
            value.clone().expand(&[(NCPUS, NCPUS)])
        ));
        let line = source.line(at);
        if let Some(first) = lines.insert(segment.clone(), line) {
            source.problem(
                at,
                format!("a second value named `{segment}`; the first is in line {first}"),
            );
        } else {
            points.push(Point { segment, value });
        }
    }
    Some(points)
}
