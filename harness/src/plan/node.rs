//! TOML and JSON as one kind of tree that knows where everything stands.

use std::borrow::Cow;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::plan::source::Source;

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
