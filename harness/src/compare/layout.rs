//! Lines of at most so many columns.

/// Breaks `text` between words into lines of `width` columns; the first begins with `label`, the others with `hang`
/// spaces. A word that is longer stays whole: names and paths are there to be copied.
pub fn wrapped(label: &str, hang: usize, text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = label.to_owned();
    let mut columns = label.chars().count();
    let mut space = "";
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if !space.is_empty() && columns + 1 + length > width {
            lines.push(std::mem::replace(&mut line, " ".repeat(hang)));
            (columns, space) = (hang, "");
        }
        line.push_str(space);
        line.push_str(word);
        columns += space.len() + length;
        space = " ";
    }
    lines.push(line.trim_end().to_owned());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words_and_long_words_stay_whole() {
        let lines = wrapped("- ", 3, "a bb c ddddddddddddd e ff", 8);
        assert_eq!(lines, ["- a bb c", "   ddddddddddddd", "   e ff"]);
        assert_eq!(wrapped("- ", 2, "", 8), ["-"]);
    }
}
