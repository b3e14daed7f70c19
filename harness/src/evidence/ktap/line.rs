//! The lines of KTAP that report results and plans.

use crate::model::outcome::SubtestResult;

/// A result line taken apart.
pub(super) struct ResultLine<'a> {
    /// How it went, by word and directive.
    pub(super) result: SubtestResult,
    pub(super) number: Option<u64>,
    /// Empty where there is none.
    pub(super) name: &'a [u8],
    /// What follows the directive; may be empty.
    pub(super) reason: Option<&'a [u8]>,
}

/// `ok N [- ]NAME [# DIRECTIVE REASON]`. Without a number there must be a ` - ` or nothing more: anything else is a
/// sentence.
pub(super) fn result(text: &[u8]) -> Option<ResultLine<'_>> {
    let (is_ok, rest) = match text.strip_prefix(b"not ok") {
        Some(rest) => (false, rest),
        None => (true, text.strip_prefix(b"ok")?),
    };
    if !matches!(rest.first(), None | Some(b' ' | b'\r')) {
        return None;
    }
    let rest = rest.trim_ascii();
    let (number, description) = match split_number(rest) {
        Some((number, rest)) if rest.first().is_none_or(u8::is_ascii_whitespace) => {
            (Some(number), rest.trim_ascii())
        }
        None if rest.is_empty() || rest.starts_with(b"- ") => (None, rest),
        Some(_) | None => return None,
    };
    let (name, directive, reason) = split_directive(without_dash(description));
    let result = match directive {
        Some(Directive::Skip) => SubtestResult::Skip,
        Some(Directive::Todo) => SubtestResult::Todo,
        // kselftest.h prints `ok` for what passed against expectation, and counts it as a failure.
        Some(Directive::Xpass) => SubtestResult::NotOk,
        None if is_ok => SubtestResult::Ok,
        None => SubtestResult::NotOk,
    };
    Some(ResultLine {
        result,
        number,
        name,
        reason,
    })
}

/// `1..N`, with what follows `# SKIP`.
pub(super) fn plan(text: &[u8]) -> Option<(u64, Option<&[u8]>)> {
    let (planned, rest) = split_number(text.strip_prefix(b"1..")?)?;
    if !matches!(rest.first(), None | Some(b' ' | b'\t' | b'\r' | b'#')) {
        return None;
    }
    let (_, directive, reason) = split_directive(rest.trim_ascii());
    Some((
        planned,
        reason.filter(|_| matches!(directive, Some(Directive::Skip))),
    ))
}

/// The number that `text` begins with, and what follows it.
fn split_number(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = text.split_at(digits);
    Some((std::str::from_utf8(number).ok()?.parse().ok()?, rest))
}

enum Directive {
    Skip,
    Todo,
    Xpass,
}

/// Splits `NAME # DIRECTIVE REASON`, and `NAME # REASON`, which kselftest.h prints too. A `#` may also begin it all.
fn split_directive(description: &[u8]) -> (&[u8], Option<Directive>, Option<&[u8]>) {
    let mut diagnostic = None;
    for hash in memchr::memchr_iter(b'#', description) {
        let (name, after) = (description[..hash].trim_ascii(), &description[hash + 1..]);
        if hash > 0 && !description[hash - 1].is_ascii_whitespace() {
            continue;
        }
        let text = after.trim_ascii();
        let (word, reason) = text.split_at(
            text.iter()
                .position(u8::is_ascii_whitespace)
                .unwrap_or(text.len()),
        );
        let word = word.strip_suffix(b":").unwrap_or(word);
        let is = |names: &[&str]| {
            names
                .iter()
                .any(|name| word.eq_ignore_ascii_case(name.as_bytes()))
        };
        let directive = if is(&["skip", "skipped"]) {
            Some(Directive::Skip)
        } else if is(&["todo", "xfail"]) {
            Some(Directive::Todo)
        } else if is(&["xpass"]) {
            Some(Directive::Xpass)
        } else {
            None
        };
        if directive.is_some() {
            return (name, directive, Some(without_dash(reason.trim_ascii())));
        }
        if diagnostic.is_none() && after.first().is_some_and(u8::is_ascii_whitespace) {
            diagnostic = Some((name, text));
        }
    }
    match diagnostic {
        // `not ok 3 # error NAME`
        Some((b"", text)) => (text, None, None),
        Some((name, text)) => (name, None, Some(text)),
        None => (description, None, None),
    }
}

fn without_dash(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"- ").map_or(text, <[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::SubtestResult::{NotOk, Ok, Skip, Todo};
    use super::*;

    #[test]
    fn every_form_of_result_line_is_read() {
        for (line, expected) in [
            ("ok 1 vm0", (Some(1), "vm0", Ok, None)),
            ("ok 1 - vm0", (Some(1), "vm0", Ok, None)),
            ("ok 1", (Some(1), "", Ok, None)),
            ("ok", (None, "", Ok, None)),
            ("ok - no number\r", (None, "no number", Ok, None)),
            ("not ok 7 a.b", (Some(7), "a.b", NotOk, None)),
            ("not ok 7 a # exit=1", (Some(7), "a", NotOk, Some("exit=1"))),
            ("not ok 7 a #  said", (Some(7), "a", NotOk, Some("said"))),
            (
                "not ok 7 # error broken",
                (Some(7), "error broken", NotOk, None),
            ),
            ("not ok 7 bug #12", (Some(7), "bug #12", NotOk, None)),
            (
                "ok 2 # SKIP no such thing",
                (Some(2), "", Skip, Some("no such thing")),
            ),
            (
                "ok 2 a # skip: - why # not",
                (Some(2), "a", Skip, Some("why # not")),
            ),
            ("ok 2 a #SKIP", (Some(2), "a", Skip, Some(""))),
            ("not ok 2 a # SKIP why", (Some(2), "a", Skip, Some("why"))),
            (
                "not ok 2 a # TODO later",
                (Some(2), "a", Todo, Some("later")),
            ),
            ("ok 2 a # XFAIL known", (Some(2), "a", Todo, Some("known"))),
            (
                "ok 2 a # XPASS unknown",
                (Some(2), "a", NotOk, Some("unknown")),
            ),
            (
                "ok 2 a # skipping is fun",
                (Some(2), "a", Ok, Some("skipping is fun")),
            ),
        ] {
            let found = result(line.as_bytes()).expect(line);
            let text = |bytes| std::str::from_utf8(bytes).unwrap();
            assert_eq!(
                (
                    found.number,
                    text(found.name),
                    found.result,
                    found.reason.map(text)
                ),
                expected,
                "{line}"
            );
        }
    }

    #[test]
    fn sentences_are_no_results_and_no_plans() {
        for line in [
            "ok, done",
            "okay",
            "not okay",
            "ok then",
            "not ok to do this",
            "ok 1st",
            "not",
            "",
        ] {
            assert!(result(line.as_bytes()).is_none(), "{line}");
        }
        for line in [
            "1..",
            "1..x",
            "1..5.",
            "1..99999999999999999999999",
            "1.5",
            "1..-1",
        ] {
            assert!(plan(line.as_bytes()).is_none(), "{line}");
        }
    }
}
