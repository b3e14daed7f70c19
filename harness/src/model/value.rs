//! The kinds of values that keys of the configuration have, each with its own words for what it must be.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::Deserialize;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{self, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};

use crate::model::case::name;

/// A segment of a name becomes a directory of the results, and Linux's names of files end at 255 bytes (NAME_MAX in
/// `include/uapi/linux/limits.h`); this leaves room for what is put after it.
const MAX_NAME: usize = 200;

/// More than any machine has CPUs, or any run has patience.
pub const MAX_COUNT: u32 = 1_000_000;

/// A string, a whole number or a boolean: what a key may have that takes more than one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scalar {
    /// A string without NUL, which no command line and no file of the kernel's can have.
    Text(String),
    /// A whole number of 64 bits.
    Number(i64),
    /// `true` or `false`.
    Boolean(bool),
}

impl Scalar {
    /// The error that it must be something else: `must` is what.
    pub fn wrong<E: de::Error>(&self, must: &str) -> E {
        let found = match self {
            Self::Text(text) => de::Unexpected::Str(text),
            Self::Number(number) => de::Unexpected::Signed(*number),
            Self::Boolean(boolean) => de::Unexpected::Bool(*boolean),
        };
        E::invalid_value(found, &must)
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => write!(f, "{number}"),
            Self::Boolean(boolean) => write!(f, "{boolean}"),
        }
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScalarVisitor;
        impl Visitor<'_> for ScalarVisitor {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a whole number or a boolean")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Scalar, E> {
                self.visit_string(text.to_owned())
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Scalar, E> {
                if text.contains('\0') {
                    return Err(E::invalid_value(
                        de::Unexpected::Str(&text),
                        &"a string without NUL",
                    ));
                }
                Ok(Scalar::Text(text))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Scalar, E> {
                Ok(Scalar::Number(number))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Scalar, E> {
                let beyond = || E::custom(format!("{number} is beyond 64 bits"));
                Ok(Scalar::Number(number.try_into().map_err(|_| beyond())?))
            }

            fn visit_bool<E: de::Error>(self, boolean: bool) -> Result<Scalar, E> {
                Ok(Scalar::Boolean(boolean))
            }
        }
        deserializer.deserialize_any(ScalarVisitor)
    }
}

/// A string without NUL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text(pub String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Scalar::deserialize(deserializer)? {
            Scalar::Text(text) => Ok(Self(text)),
            other => Err(other.wrong("a string")),
        }
    }
}

/// A segment of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identifier(pub String);

impl Identifier {
    /// `text` as one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: String) -> Result<Self, String> {
        let length = text.len();
        if length > MAX_NAME {
            Err(format!(
                "a name of {length} bytes; at most {MAX_NAME} are allowed"
            ))
        } else if name::is_identifier(&text) {
            Ok(Self(text))
        } else {
            let better = name::to_identifier(&text);
            Err(format!(
                "the name {text:?} is no identifier; `{better}` would be one"
            ))
        }
    }

    /// The one that stands for a name of a foreign format.
    ///
    /// # Errors
    /// It is too long.
    pub fn foreign(text: &str) -> Result<Self, String> {
        Self::new(name::to_identifier(text))
    }
}

impl<'de> Deserialize<'de> for Identifier {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Text(text) = Text::deserialize(deserializer)?;
        Self::new(text).map_err(de::Error::custom)
    }
}

/// A whole number from 1 to `MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count<const MAX: u32>(pub u32);

impl<const MAX: u32> Count<MAX> {
    /// This many seconds.
    pub fn seconds(self) -> Duration {
        Duration::from_secs(self.0.into())
    }
}

impl<'de, const MAX: u32> Deserialize<'de> for Count<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Scalar::deserialize(deserializer)?;
        let number = match value {
            Scalar::Number(number) => u32::try_from(number).ok(),
            _ => None,
        };
        match number.filter(|number| (1..=MAX).contains(number)) {
            Some(number) => Ok(Self(number)),
            None => Err(value.wrong(&format!("a whole number from 1 to {MAX}"))),
        }
    }
}

/// A size of memory in bytes, written as `2M`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Scalar::deserialize(deserializer)?;
        let bytes = match &value {
            Scalar::Text(text) => parse_size(text),
            _ => None,
        };
        bytes.map(Self).ok_or_else(|| value.wrong(SIZE))
    }
}

/// The size in bytes of a hugepage, written as `2M`: a power of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PageSize(pub u64);

impl<'de> Deserialize<'de> for PageSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Text(text) = Text::deserialize(deserializer)?;
        let bytes = parse_size(&text).filter(|bytes| bytes.is_power_of_two());
        let problem = || format!("{text:?} is no size of a hugepage, as \"2M\" and \"1G\" are");
        bytes.map(Self).ok_or_else(|| de::Error::custom(problem()))
    }
}

/// A table whose keys are the user's own, in the order of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entries<K, V>(pub Vec<(K, V)>);

impl<K, V> Default for Entries<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, K: Deserialize<'de>, V: Deserialize<'de>> Deserialize<'de> for Entries<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor<K, V>(PhantomData<(K, V)>);
        impl<'de, K: Deserialize<'de>, V: Deserialize<'de>> Visitor<'de> for EntriesVisitor<K, V> {
            type Value = Entries<K, V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(EntriesVisitor(PhantomData))
    }
}

/// A number of hugepages for each of their sizes in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Entries<PageSize, Count<{ u32::MAX }>>")]
pub struct Pages(pub BTreeMap<u64, u64>);

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

/// A glob.
#[derive(Debug, Clone)]
pub struct Glob(pub glob::Pattern);

impl<'de> Deserialize<'de> for Glob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Text(text) = Text::deserialize(deserializer)?;
        let wrong = |error| de::Error::custom(format!("{text:?} is no glob: {error}"));
        glob::Pattern::new(&text).map(Self).map_err(wrong)
    }
}

/// An array with something in it, or one value alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneOrMore<T>(pub Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMore<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMoreVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrMoreVisitor<T> {
            type Value = OneOrMore<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, or an array of them")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(OneOrMore(vec![T::deserialize(text.into_deserializer())?]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, values: A) -> Result<Self::Value, A::Error> {
                let values = Vec::deserialize(SeqAccessDeserializer::new(values))?;
                if values.is_empty() {
                    return Err(de::Error::invalid_length(0, &"one value or more"));
                }
                Ok(OneOrMore(values))
            }
        }
        deserializer.deserialize_any(OneOrMoreVisitor(PhantomData))
    }
}

/// The bytes of a size: a whole number followed by `K`, `M`, `G` or `T`, which are powers of 1024.
///
/// `None` if it is no such thing, is zero, or does not fit into 64 bits.
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let shift = match unit {
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    number
        .parse::<u64>()
        .ok()?
        .checked_mul(1 << shift)
        .filter(|&bytes| bytes > 0)
}

/// What [`parse_size`] takes, in words that follow "must be".
pub const SIZE: &str = "a size such as `2M` (K, M, G or T)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_number_and_a_unit() {
        for (text, bytes) in [
            ("4K", Some(4096)),
            ("2M", Some(2 << 20)),
            ("1G", Some(1 << 30)),
            ("3T", Some(3 << 40)),
            ("0M", None),
            ("", None),
            ("2", None),
            ("M", None),
            ("2m", None),
            ("2MB", None),
            ("-2M", None),
            ("2 M", None),
            ("2é", None),
            ("99999999999T", None),
            ("99999999999999999999K", None),
        ] {
            assert_eq!(parse_size(text), bytes, "{text}");
        }
    }
}
