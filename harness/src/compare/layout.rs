//! Lines of at most so many columns.

/// Breaks `text` between words into lines of `width` columns; the first begins with `first`, the others are indented as
/// far. A word that is longer stays whole: names and paths are there to be copied.
pub fn wrapped(first: &str, text: &str, width: usize) -> Vec<String> {
    let indent = " ".repeat(first.chars().count());
    let mut lines = Vec::new();
    let mut line = first.to_owned();
    let mut columns = indent.len();
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if columns > indent.len() && columns + 1 + length > width {
            lines.push(std::mem::replace(&mut line, indent.clone()));
            columns = indent.len();
        }
        if columns > indent.len() {
            line.push(' ');
            columns += 1;
        }
        line.push_str(word);
        columns += length;
    }
    lines.push(line.trim_end().to_owned());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words_and_long_words_stay_whole() {
        let lines = wrapped("- ", "a bb c ddddddddddddd e ff", 8);
        assert_eq!(lines, ["- a bb c", "  ddddddddddddd", "  e ff"]);
        assert_eq!(wrapped("- ", "", 8), ["-"]);
    }
}
