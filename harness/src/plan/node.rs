//! TOML and JSON as one kind of tree that knows where everything stands.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::plan::source::Source;

/// How deep JSON may be nested: the proposal needs four levels, and every level is one more pass over the text.
const MAX_DEPTH: usize = 16;

/// A value and where it stands.
#[derive(Debug)]
pub struct Node<'a> {
    /// The byte offset of its first character.
    pub at: usize,
    /// What it is.
    pub value: Value<'a>,
}

/// What a node is.
#[derive(Debug)]
pub enum Value<'a> {
    /// A string, with its escapes resolved.
    String(Cow<'a, str>),
    /// A whole number of 64 bits.
    Integer(i64),
    /// `true` or `false`.
    Boolean(bool),
    /// An array.
    Array(Vec<Node<'a>>),
    /// A table (an object, in JSON), in no particular order.
    Table(Vec<Field<'a>>),
    /// Something that no key of ours takes, in words that follow "not".
    Other(&'static str),
}

/// A key and its value.
#[derive(Debug)]
pub struct Field<'a> {
    /// The byte offset of the key.
    pub at: usize,
    /// The key.
    pub key: Cow<'a, str>,
    /// Its value.
    pub node: Node<'a>,
}

impl Value<'_> {
    /// What it is, in words that follow "not".
    pub fn kind(&self) -> &'static str {
        match self {
            Self::String(_) => "a string",
            Self::Integer(_) => "a whole number",
            Self::Boolean(_) => "a boolean",
            Self::Array(_) => "an array",
            Self::Table(_) => "a table",
            Self::Other(kind) => kind,
        }
    }
}

/// Parses TOML; what is wrong is noted, and what can be made out all the same is returned.
pub fn from_toml<'a>(source: &Source<'a>) -> Node<'a> {
    let (table, errors) = DeTable::parse_recoverable(source.text);
    for error in errors {
        source.syntax_error(error.span().map_or(0, |span| span.start), error.message());
    }
    Node {
        at: 0,
        value: Value::Table(toml_fields(table.into_inner(), 0)),
    }
}

/// The fields of a table of TOML that was parsed from `offset` on.
pub(crate) fn toml_fields<'a>(table: DeTable<'a>, offset: usize) -> Vec<Field<'a>> {
    let field = |(key, value): (Spanned<Cow<'a, str>>, _)| Field {
        at: offset + key.span().start,
        key: key.into_inner(),
        node: toml_node(value, offset),
    };
    table.into_iter().map(field).collect()
}

/// Recursion is safe: the parser itself refuses what is nested deeper than 80.
fn toml_node(value: Spanned<DeValue<'_>>, offset: usize) -> Node<'_> {
    let at = offset + value.span().start;
    let value = match value.into_inner() {
        DeValue::String(text) => Value::String(text),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Other("a number beyond 64 bits"),
        },
        DeValue::Float(_) => Value::Other("a floating-point number"),
        DeValue::Boolean(boolean) => Value::Boolean(boolean),
        DeValue::Datetime(_) => Value::Other("a date or time"),
        DeValue::Array(items) => Value::Array(
            items
                .into_iter()
                .map(|item| toml_node(item, offset))
                .collect(),
        ),
        DeValue::Table(table) => Value::Table(toml_fields(table, offset)),
    };
    Node { at, value }
}

/// Parses JSON; `None`, with the problem noted, where it cannot be parsed.
pub fn from_json<'a>(source: &Source<'a>) -> Option<Node<'a>> {
    let raw =
        serde_json::from_str(source.text).map_err(|error| json_error(source, source.text, &error));
    json_node(source, raw.ok()?, 0)
}

fn json_node<'a>(source: &Source<'a>, raw: &'a RawValue, depth: usize) -> Option<Node<'a>> {
    // serde_json borrows a raw value from the text.
    let place = |part: &str| source.place_of(part);
    let text = raw.get();
    let at = place(text);
    let fail = |error: &serde_json::Error| json_error(source, text, error);
    let value = match text.as_bytes().first() {
        Some(b'{' | b'[') if depth == MAX_DEPTH => Value::Other("something nested this deeply"),
        Some(b'{') => {
            let Object(entries) = serde_json::from_str(text)
                .map_err(|error| fail(&error))
                .ok()?;
            let field = |(key, raw): (Cow<'a, str>, &'a RawValue)| {
                let at = match &key {
                    Cow::Borrowed(key) => place(key) - 1,
                    // A key with escapes is no part of the text: its value is the nearest thing that is.
                    Cow::Owned(_) => place(raw.get()),
                };
                Some(Field {
                    at,
                    key,
                    node: json_node(source, raw, depth + 1)?,
                })
            };
            Value::Table(entries.into_iter().filter_map(field).collect())
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text)
                .map_err(|error| fail(&error))
                .ok()?;
            Value::Array(
                items
                    .into_iter()
                    .filter_map(|raw| json_node(source, raw, depth + 1))
                    .collect(),
            )
        }
        Some(b'"') => {
            let Text(text) = serde_json::from_str(text)
                .map_err(|error| fail(&error))
                .ok()?;
            Value::String(text)
        }
        Some(b't') => Value::Boolean(true),
        Some(b'f') => Value::Boolean(false),
        Some(b'n') => Value::Other("null"),
        _ => text.parse().map_or(
            Value::Other("a number that is not whole or beyond 64 bits"),
            Value::Integer,
        ),
    };
    Some(Node { at, value })
}

/// Notes an error of `serde_json`, whose own line and column count from the start of `part`.
fn json_error(source: &Source<'_>, part: &str, error: &serde_json::Error) {
    let at =
        source.place_of(part) + Source::new(source.path, part).offset(error.line(), error.column());
    let message = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    source.syntax_error(at, message.strip_suffix(&place).unwrap_or(&message));
}

/// A JSON string, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A JSON object with its keys in the order of the text, a repeated one included.
struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Deserialize<'a> for Object<'a> {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'a> Visitor<'a> for Entries {
            type Value = Object<'a>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<Object<'a>, M::Error> {
                let mut entries = Vec::new();
                while let Some((Text(key), value)) = map.next_entry()? {
                    entries.push((key, value));
                }
                Ok(Object(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn show(node: &Node<'_>) -> String {
        let value = match &node.value {
            Value::String(text) => format!("{text:?}"),
            Value::Integer(number) => number.to_string(),
            Value::Boolean(boolean) => boolean.to_string(),
            Value::Array(items) => {
                format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(" "))
            }
            Value::Table(fields) => {
                let field =
                    |field: &Field<'_>| format!("{}@{}={}", field.key, field.at, show(&field.node));
                format!(
                    "{{{}}}",
                    fields.iter().map(field).collect::<Vec<_>>().join(" ")
                )
            }
            Value::Other(kind) => (*kind).to_owned(),
        };
        format!("{value}@{}", node.at)
    }

    #[test]
    fn everything_in_toml_and_in_json_knows_its_place() {
        let toml = Source::new(Path::new("f"), "b = [1, \"x\"]\na = { c = true }\n");
        assert_eq!(
            show(&from_toml(&toml)),
            r#"{b@0=[1@5 "x"@8]@4 a@13={c@19=true@23}@17}@0"#
        );
        let json = Source::new(
            Path::new("f"),
            r#" { "b": [1, "x\n"], "a": {"\u0063": true} } "#,
        );
        let tree = r#"{b@3=[1@9 "x\n"@12]@8 a@20={c@36=true@36}@25}@1"#;
        assert_eq!(show(&from_json(&json).unwrap()), tree);
    }

    #[test]
    fn json_that_cannot_be_parsed_is_a_problem_at_its_place() {
        for (text, problem) in [
            ("[1,\n 2", "f:2:2: EOF while parsing a list"),
            (
                "[1,\n  \"\\ud800\"]",
                "f:2:10: unexpected end of hex escape",
            ),
            ("[1] x", "f:1:5: trailing characters"),
            ("", "f:1:1: EOF while parsing a value"),
        ] {
            let source = Source::new(Path::new("f"), text);
            from_json(&source);
            let problems: Vec<String> = source
                .into_problems()
                .iter()
                .map(ToString::to_string)
                .collect();
            assert_eq!(problems, [problem]);
        }
    }

    #[test]
    fn deeply_nested_json_is_cut_off() {
        let text = "[".repeat(100_000) + &"]".repeat(100_000);
        let source = Source::new(Path::new("f"), &text);
        assert!(show(&from_json(&source).unwrap()).contains("[something nested this deeply@16]"));
    }
}
