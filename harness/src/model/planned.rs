//! A plan: what is to run in all parts together, on whatever machines; and which part of it one process runs.

use std::ffi::OsString;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::case::name::CaseName;
use super::text;

/// What is to run, fixed once for all machines that have a share in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Planned {
    /// The version of the form of what wrote it.
    pub schema_version: u32,
    /// The version of the program that wrote it.
    pub version: String,
    /// The machine that it was made on, such as `x86_64`: selftests are of one kind of machine.
    #[serde(default)]
    pub machine: String,
    /// The options that select the cases and say how they run, as they were given.
    #[serde(with = "text::os_strings")]
    #[schemars(with = "Vec<String>")]
    pub options: Vec<OsString>,
    /// The commit that the selftests were built from, or a hash of them; `None` for those within the program.
    pub selftests_commit: Option<String>,
    /// All cases.
    pub cases: Vec<CaseName>,
}

impl Planned {
    /// Its name: a hash of what it says, so that the same plan has the same name wherever it was made.
    pub fn id(&self) -> String {
        let text = serde_json::to_vec(self).expect("a plan has a form in JSON");
        Fnv::default().with(&text).text()
    }
}

/// A part of a plan: what `--shard` says that one process runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shard {
    /// The cases whose names' hash falls on this number, from 1, of so many.
    Numbered {
        /// Which.
        number: u64,
        /// Of how many.
        of: u64,
    },
    /// The cases in this environment; `host` is the host as it is.
    Environment(String),
}

/// What the environment of this name is called on the command line.
const HOST: &str = "host";

impl Shard {
    /// Whether this case belongs to it. Every machine answers alike.
    pub fn has(&self, case: &CaseName) -> bool {
        match self {
            Self::Numbered { number, of } => {
                let hash = Fnv::default().with(case.to_string().as_bytes());
                hash.number() % of == number - 1
            }
            Self::Environment(_) => self.is_in(case.environment.as_deref().unwrap_or(HOST)),
        }
    }

    /// Whether it has cases in this environment.
    pub fn is_in(&self, environment: &str) -> bool {
        match self {
            Self::Numbered { .. } => true,
            Self::Environment(name) => name == environment,
        }
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(name) = text
            .strip_prefix("environment=")
            .filter(|name| !name.is_empty())
        {
            return Ok(Self::Environment(name.to_owned()));
        }
        let numbers = text.split_once('/');
        let numbers = numbers.and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)));
        match numbers {
            Some((number, of)) if (1..=of).contains(&number) => Ok(Self::Numbered { number, of }),
            _ => Err("should be K/N, such as 1/4 to 4/4, or environment=NAME".to_owned()),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Numbered { number, of } => write!(f, "{number}/{of}"),
            Self::Environment(name) => write!(f, "environment={name}"),
        }
    }
}

/// A hash that is the same on every machine and in every version: FNV-1a, of 64 bits.
#[derive(Debug, Clone, Copy)]
pub struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    /// With these bytes, too.
    #[must_use]
    pub fn with(self, bytes: &[u8]) -> Self {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        Self(bytes.iter().fold(self.0, step))
    }

    /// The number. Its low bits alone tell little apart, so that all are mixed into them.
    pub fn number(self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }

    /// It as text.
    pub fn text(self) -> String {
        format!("{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_case_is_in_one_shard_and_shards_are_of_a_size() {
        let names = (0..1000).map(|number| CaseName::new("suite", format!("variant_{number}")));
        let names: Vec<_> = names.collect();
        for of in [1, 2, 3, 4, 7, 16] {
            let shards = (1..=of).map(|number| Shard::Numbered { number, of });
            let sizes = shards.map(|shard| names.iter().filter(|name| shard.has(name)).count());
            let sizes: Vec<_> = sizes.collect();
            assert_eq!(sizes.iter().sum::<usize>(), names.len());
            let least = names.len() / sizes.len() / 2;
            assert!(sizes.iter().all(|size| *size > least), "{sizes:?}");
        }
    }

    #[test]
    fn what_is_no_shard_is_refused() {
        for text in ["1/1", "4/4", "environment=host"] {
            assert_eq!(text.parse::<Shard>().unwrap().to_string(), text);
        }
        for text in ["", "1", "0/4", "5/4", "1/0", "-1/4", "a/b", "environment="] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_hash_is_the_one_that_others_know() {
        assert_eq!(Fnv::default().text(), "cbf29ce484222325");
        assert_eq!(Fnv::default().with(b"foobar").text(), "85944171f73967e8");
        let in_two = Fnv::default().with(b"foo").with(b"bar");
        assert_eq!(in_two.text(), "85944171f73967e8");
    }
}
