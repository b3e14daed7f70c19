//! Which part of a plan one process runs: `--shard`.

use std::fmt;
use std::str::FromStr;

use super::hash::Fnv;
use crate::model::name::CaseName;

/// A part of a plan.
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
}
