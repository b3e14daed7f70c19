//! What is wrong with the files that the user gave: every problem with its place.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// How many characters of a text messages show.
const MAX_EXCERPT: usize = 80;

/// Where something is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenAt {
    /// The file, or directory, as the user would name it.
    pub path: Arc<Path>,
    /// Line and column, both from 1, where there is text to point at.
    pub position: Option<(usize, usize)>,
}

impl WrittenAt {
    /// What is wrong there: one sentence, lower case, without a full stop.
    pub fn problem(&self, message: impl Into<String>) -> Problem {
        Problem {
            place: self.clone(),
            message: message.into(),
        }
    }
}

impl From<&Path> for WrittenAt {
    fn from(path: &Path) -> Self {
        Self {
            path: path.into(),
            position: None,
        }
    }
}

impl fmt::Display for WrittenAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        match self.position {
            Some((line, column)) => write!(f, ":{line}:{column}"),
            None => Ok(()),
        }
    }
}

/// One thing wrong with a file, or a directory, that the user gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: WrittenAt,
    /// One sentence, lower case, without a full stop.
    pub message: String,
}

impl Problem {
    /// A problem of the whole file or directory.
    pub fn of_file(path: &Path, message: impl Into<String>) -> Self {
        WrittenAt::from(path).problem(message)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// The start of a text, fit for a message: no control characters, not too long.
pub fn excerpt(text: &str) -> String {
    excerpt_within(text, MAX_EXCERPT)
}

/// The same, of at most `limit` characters.
pub fn excerpt_within(text: &str, limit: usize) -> String {
    let mut characters = text.chars();
    let escape = |c: char| match c {
        '"' | '\'' | '\\' => c.to_string(),
        c => c.escape_debug().to_string(),
    };
    let mut excerpt: String = characters.by_ref().take(limit).map(escape).collect();
    if characters.next().is_some() {
        excerpt.push('…');
    }
    excerpt
}

/// What to say after an unknown word: the known one nearest to it or, where none is near, all of them.
pub fn hint(word: &str, known: &[&str]) -> String {
    if let Some(nearest) = nearest(word, known.iter().copied()) {
        return format!("; did you mean `{nearest}`?");
    }
    let all: Vec<String> = known.iter().map(|known| format!("`{known}`")).collect();
    if all.is_empty() {
        String::new()
    } else {
        format!("; known here: {}", all.join(", "))
    }
}

/// The one of the `known` words that `word` may have been meant to be.
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let distance = |known: &str| strsim::damerau_levenshtein(word, known);
    known
        .into_iter()
        // Nothing near is that much longer, and the time to compare grows with the length.
        .filter(|known| word.len() <= 2 * known.len() + 1)
        .map(|known| (distance(known), known))
        .filter(|(distance, known)| *distance <= known.len().max(3) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}
