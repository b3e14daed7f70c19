//! Placeholders: the parts of a text whose values are known only later.
//!
//! `{name}` is a placeholder, and `{{name}}` stands for the text `{name}`. Everything else stands for itself: `${name}`,
//! `{ list; }`, `{a,b}`, and any brace around something that is not a name.

/// The placeholder for the number of CPUs that the runner may use, known only when it runs.
pub const NCPUS: &str = "ncpus";

/// A text with placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Placeholder(String),
}

impl Template {
    /// Reads a text in which `{name}` is a placeholder.
    pub fn parse(text: &str) -> Self {
        let mut template = Self(Vec::new());
        let mut rest = text;
        while let Some(brace) = rest.find('{') {
            let (before, from_brace) = rest.split_at(brace);
            template.push_text(before);
            if before.ends_with('$') {
                template.push_text("{");
                rest = &from_brace[1..];
            } else if let Some((name, after)) = name_between(from_brace, "{{", "}}") {
                template.push_text(&format!("{{{name}}}"));
                rest = after;
            } else if let Some((name, after)) = name_between(from_brace, "{", "}") {
                template.0.push(Piece::Placeholder(name.to_owned()));
                rest = after;
            } else {
                template.push_text("{");
                rest = &from_brace[1..];
            }
        }
        template.push_text(rest);
        template
    }

    /// A text that stands for itself, whatever is in it.
    pub fn literal(text: impl Into<String>) -> Self {
        Self(vec![Piece::Text(text.into())])
    }

    fn push_text(&mut self, text: &str) {
        match self.0.last_mut() {
            Some(Piece::Text(last)) => last.push_str(text),
            _ if text.is_empty() => {}
            _ => self.0.push(Piece::Text(text.to_owned())),
        }
    }

    /// The names of its placeholders, in order, repeated ones included.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Placeholder(name) => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// How many bytes it takes.
    pub fn bytes(&self) -> usize {
        self.0.iter().map(|(Piece::Text(text) | Piece::Placeholder(text))| text.len()).sum()
    }

    /// The text in which the placeholders named in `values` are replaced, and others are left for later.
    pub fn bind(&self, values: &[(&str, &Template)]) -> Self {
        let mut bound = Self(Vec::with_capacity(self.0.len()));
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => bound.push_text(text),
                Piece::Placeholder(name) => match values.iter().find(|(known, _)| known == name) {
                    None => bound.0.push(piece.clone()),
                    Some((_, value)) => {
                        for piece in &value.0 {
                            match piece {
                                Piece::Text(text) => bound.push_text(text),
                                Piece::Placeholder(_) => bound.0.push(piece.clone()),
                            }
                        }
                    }
                },
            }
        }
        bound
    }

    /// The finished text. A placeholder that `values` does not name is left as it was written.
    pub fn expand(&self, values: &[(&str, &str)]) -> String {
        let text = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Placeholder(name) => match values.iter().find(|(known, _)| known == name) {
                Some((_, value)) => (*value).to_owned(),
                None => format!("{{{name}}}"),
            },
        };
        self.0.iter().map(text).collect()
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
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
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
            ("f() { true; }; echo {a,b} {1..3} {} {{}} {", "f() { true; }; echo {a,b} {1..3} {} {{}} {"),
            ("awk '{{print}}' {é}", "awk '{print}' {é}"),
            ("{unknown}", "{unknown}"),
            ("", ""),
        ] {
            assert_eq!(Template::parse(text).expand(&[("ncpus", "4"), ("size", "1G")]), expanded, "{text}");
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
