//! Reads the keys of a table one by one, and notes everything that is wrong with them.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use crate::model::name;
pub use crate::model::problem::{excerpt, hint};
use crate::plan::node::{Field, Node, Value};
use crate::plan::source::Source;

/// A segment of a name becomes a directory of the results, and Linux's names of files end at 255 bytes (NAME_MAX in
/// `include/uapi/linux/limits.h`); this leaves room for what is put after it.
const MAX_NAME: usize = 200;

/// About as many keys as a table of ours can have.
const KEYS: usize = 16;

/// A table of which each key is taken once; what is left in the end is unknown.
#[derive(Debug)]
pub struct Fields<'s, 'a> {
    /// The file that it stands in.
    pub source: &'s Source<'a>,
    /// The byte offset of the table.
    pub at: usize,
    fields: Vec<Field<'a>>,
    known: Vec<&'static str>,
}

impl<'s, 'a> Fields<'s, 'a> {
    fn new(source: &'s Source<'a>, at: usize, mut fields: Vec<Field<'a>>) -> Self {
        fields.sort_by(|one, other| one.key.cmp(&other.key).then(one.at.cmp(&other.at)));
        fields.dedup_by(|later, first| {
            let repeated = later.key == first.key;
            if repeated {
                let line = source.line(first.at);
                let key = quoted(&later.key);
                source.problem(
                    later.at,
                    format!("a second key {key}; the first is in line {line}"),
                );
            }
            repeated
        });
        Self {
            source,
            at,
            fields,
            known: Vec::with_capacity(KEYS),
        }
    }

    /// Takes the value of `key` and has it read; `None` if it is not there, or if the reader found it wrong.
    pub fn take<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(Item<'s, 'a>) -> Option<T>,
    ) -> Option<T> {
        self.known.push(key);
        let index = self.fields.iter().position(|field| field.key == key)?;
        read(Item::of_field(self.source, self.fields.swap_remove(index)))
    }

    /// Everything not yet taken, for a table whose keys are the user's own: each key with its place and its value, in
    /// the order of the text.
    pub fn entries(mut self) -> impl Iterator<Item = (Cow<'a, str>, usize, Item<'s, 'a>)> {
        self.fields.sort_by_key(|field| field.at);
        let source = self.source;
        self.fields
            .into_iter()
            .map(move |field| (field.key.clone(), field.at, Item::of_field(source, field)))
    }

    /// Notes every key that was not taken.
    pub fn finish(self) {
        for field in &self.fields {
            let hint = hint(&field.key, &self.known);
            self.source.problem(
                field.at,
                format!("unknown key `{}`{hint}", excerpt(&field.key)),
            );
        }
    }
}

/// A value on its way to be read.
#[derive(Debug)]
pub struct Item<'s, 'a> {
    /// The file that it stands in.
    pub source: &'s Source<'a>,
    label: Label<'a>,
    /// The byte offset of the value.
    pub at: usize,
    /// The value.
    pub value: Value<'a>,
}

/// What messages call a value.
#[derive(Debug, Clone)]
enum Label<'a> {
    Root,
    Key(Cow<'a, str>),
}

impl<'s, 'a> Item<'s, 'a> {
    /// The whole file.
    pub fn root(source: &'s Source<'a>, node: Node<'a>) -> Self {
        Self {
            source,
            label: Label::Root,
            at: node.at,
            value: node.value,
        }
    }

    fn of_field(source: &'s Source<'a>, Field { key, node, .. }: Field<'a>) -> Self {
        Self {
            source,
            label: Label::Key(key),
            at: node.at,
            value: node.value,
        }
    }

    /// Notes what this value `must` be instead, and answers `None`.
    pub fn wrong<T>(&self, must: &str) -> Option<T> {
        let label = match &self.label {
            Label::Root => "the file".to_owned(),
            Label::Key(key) => format!("`{key}`"),
        };
        let found = match &self.value {
            Value::String(text) => quoted(text),
            Value::Integer(number) => number.to_string(),
            Value::Array(items) if items.is_empty() => "an empty one".to_owned(),
            value => value.kind().to_owned(),
        };
        self.source
            .problem(self.at, format!("{label} must be {must}, not {found}"));
        None
    }

    /// A string, which may be a part of a command line and so cannot hold a NUL.
    pub fn text(self) -> Option<Cow<'a, str>> {
        match self.value {
            Value::String(text) if !text.contains('\0') => Some(text),
            Value::String(_) => self.wrong("a string without NUL"),
            _ => self.wrong("a string"),
        }
    }

    /// A whole number in `range`.
    pub fn number(self, range: RangeInclusive<u32>) -> Option<u32> {
        match self.value {
            Value::Integer(number) => u32::try_from(number)
                .ok()
                .filter(|number| range.contains(number)),
            _ => None,
        }
        .or_else(|| {
            self.wrong(&format!(
                "a whole number from {} to {}",
                range.start(),
                range.end()
            ))
        })
    }

    /// A table.
    pub fn fields(self) -> Option<Fields<'s, 'a>> {
        match self.value {
            Value::Table(fields) => Some(Fields::new(self.source, self.at, fields)),
            _ => self.wrong("a table"),
        }
    }

    /// A segment of a name: an identifier, as written by us.
    pub fn identifier(self) -> Option<Cow<'a, str>> {
        let (source, at) = (self.source, self.at);
        let text = self.text()?;
        if !name::is_identifier(&text) {
            let better = excerpt(&name::to_identifier(&text));
            let text = quoted(&text);
            source.problem(
                at,
                format!("the name {text} is no identifier; `{better}` would be one"),
            );
            return None;
        }
        short_enough(source, at, text)
    }
}

/// The same in quotation marks.
pub fn quoted(text: &str) -> String {
    format!("\"{}\"", excerpt(text))
}

/// Checks the length of a segment of a name.
pub fn short_enough<N: AsRef<str>>(source: &Source<'_>, at: usize, name: N) -> Option<N> {
    let length = name.as_ref().len();
    if length > MAX_NAME {
        source.problem(
            at,
            format!("a name of {length} bytes; at most {MAX_NAME} are allowed"),
        );
        return None;
    }
    Some(name)
}
