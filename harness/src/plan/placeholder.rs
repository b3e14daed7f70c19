//! Placeholders: the parts of a text whose values are known only later.
//!
//! `{name}` is a placeholder, and `{{name}}` stands for the text `{name}`. Everything else stands for itself: `${name}`,
//! `{ list; }`, `{a,b}`, and any brace around something that is not a name.

use std::ops::Range;

/// The placeholder for the number of CPUs that the runner may use, known only when it runs.
pub const NCPUS: &str = "ncpus";

/// A text with placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Its text, in which each placeholder is its bare name.
    text: String,
    /// Where in `text` the placeholders are; most texts have none.
    placeholders: Vec<Range<usize>>,
}

/// A part of a template.
enum Piece<'a> {
    Text(&'a str),
    Placeholder(&'a str),
}

impl Template {
    /// Reads a text in which `{name}` is a placeholder.
    pub fn parse(text: &str) -> Self {
        let mut template = Self::literal(String::with_capacity(text.len()));
        let mut rest = text;
        while let Some(brace) = rest.find('{') {
            let (before, from_brace) = rest.split_at(brace);
            template.text.push_str(before);
            if before.ends_with('$') {
                template.text.push('{');
                rest = &from_brace[1..];
            } else if let Some((name, after)) = name_between(from_brace, "{{", "}}") {
                template.text.extend(["{", name, "}"]);
                rest = after;
            } else if let Some((name, after)) = name_between(from_brace, "{", "}") {
                template.push(&Piece::Placeholder(name));
                rest = after;
            } else {
                template.text.push('{');
                rest = &from_brace[1..];
            }
        }
        template.text.push_str(rest);
        template
    }

    /// A text that stands for itself, whatever is in it.
    pub fn literal(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            placeholders: Vec::new(),
        }
    }

    fn push(&mut self, piece: &Piece<'_>) {
        let (Piece::Text(text) | Piece::Placeholder(text)) = piece;
        let begin = self.text.len();
        self.text.push_str(text);
        if matches!(piece, Piece::Placeholder(_)) {
            self.placeholders.push(begin..self.text.len());
        }
    }

    fn pieces(&self) -> Vec<Piece<'_>> {
        let mut pieces = Vec::with_capacity(2 * self.placeholders.len() + 1);
        let mut reached = 0;
        for place in &self.placeholders {
            pieces.push(Piece::Text(&self.text[reached..place.start]));
            pieces.push(Piece::Placeholder(&self.text[place.clone()]));
            reached = place.end;
        }
        pieces.push(Piece::Text(&self.text[reached..]));
        pieces
    }

    /// The names of its placeholders, in order, repeated ones included.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.placeholders
            .iter()
            .map(|place| &self.text[place.clone()])
    }

    /// How many bytes it takes.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// The text in which the placeholders named in `values` are replaced, and others are left for later.
    pub fn bind(&self, values: &[(&str, &Template)]) -> Self {
        if self.placeholders.is_empty() {
            return self.clone();
        }
        let mut bound = Self::literal(String::new());
        for piece in self.pieces() {
            let value = match piece {
                Piece::Text(_) => None,
                Piece::Placeholder(name) => values.iter().find(|(known, _)| *known == name),
            };
            match value {
                None => bound.push(&piece),
                Some((_, value)) => value.pieces().iter().for_each(|piece| bound.push(piece)),
            }
        }
        bound
    }

    /// The finished text. A placeholder that `values` does not name is left as it was written.
    pub fn expand(self, values: &[(&str, &str)]) -> String {
        if self.placeholders.is_empty() {
            return self.text;
        }
        let mut text = String::with_capacity(self.text.len());
        for piece in self.pieces() {
            match piece {
                Piece::Text(part) => text.push_str(part),
                Piece::Placeholder(name) => match values.iter().find(|(known, _)| *known == name) {
                    Some((_, value)) => text.push_str(value),
                    None => text.extend(["{", name, "}"]),
                },
            }
        }
        text
    }
}

/// The name at the start of `text` between `open` and `close`, and what follows.
fn name_between<'a>(text: &'a str, open: &str, close: &str) -> Option<(&'a str, &'a str)> {
    let inside = text.strip_prefix(open)?;
    let end = inside.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
    let (name, rest) = inside.split_at(end);
    Some((name, rest.strip_prefix(close)?)).filter(|(name, _)| is_name(name))
}

/// Whether `text` can be the name of a placeholder: `[A-Za-z_][A-Za-z0-9_]*`.
pub fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_in_braces_is_a_placeholder() {
        for (text, expanded) in [
            ("-v {ncpus} -s {size}", "-v 4 -s 1G"),
            ("{ncpus}{ncpus}", "44"),
            ("{{ncpus}}", "{ncpus}"),
            ("{{{ncpus}}}", "{{ncpus}}"),
            ("{{ncpus},{size}}", "{4,1G}"),
            ("${ncpus} $${ncpus} ${{ncpus}}", "${ncpus} $${ncpus} ${4}"),
            (
                "f() { true; }; echo {a,b} {1..3} {} {{}} {",
                "f() { true; }; echo {a,b} {1..3} {} {{}} {",
            ),
            ("awk '{{print}}' {é}", "awk '{print}' {é}"),
            ("{unknown}", "{unknown}"),
            ("", ""),
        ] {
            assert_eq!(
                Template::parse(text).expand(&[("ncpus", "4"), ("size", "1G")]),
                expanded,
                "{text}"
            );
        }
    }

    #[test]
    fn a_bound_value_never_makes_a_new_placeholder() {
        let values = [
            ("open", &Template::parse("{")),
            ("dollar", &Template::parse("$")),
            ("n", &Template::parse("{ncpus}")),
        ];
        let bound = Template::parse("{open}ncpus} {dollar}{ncpus} {n} {{n}}").bind(&values);
        assert_eq!(bound.names().collect::<Vec<_>>(), ["ncpus", "ncpus"]);
        assert_eq!(bound.expand(&[("ncpus", "4")]), "{ncpus} $4 4 {n}");
    }

    #[test]
    fn a_literal_stands_for_itself() {
        let text = "${X} {ncpus} {{ncpus}}";
        assert_eq!(Template::literal(text).expand(&[("ncpus", "4")]), text);
    }
}
