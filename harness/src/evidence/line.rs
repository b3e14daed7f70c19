//! The lines of KTAP (Documentation/dev-tools/ktap.rst), and what else kselftest.h prints among them, each by itself.

use memchr::memchr_iter;

use crate::model::outcome::SubtestResult;

/// A line that says how the test goes.
pub(super) enum Line<'a> {
    /// `TAP version 13`, `KTAP version 1`
    Version,
    /// `1..N`, with what follows `# SKIP`.
    Plan(u64, Option<&'a [u8]>),
    /// `ok …`, `not ok …`
    Result(ResultLine<'a>),
    /// `Bail out! REASON`
    BailOut(&'a [u8]),
    /// `# Subtest: NAME`
    Subtest,
    /// `#  RUN           NAME ...`
    Running(&'a [u8]),
    /// `# Totals: …`: how many there were of each [`SubtestResult`].
    Totals([u64; 5]),
    /// `# Planned tests != run tests (2 != 1)`
    Unfinished,
    /// `# FAILED: 0 / 1 tests passed.`
    SomeFailed,
    /// `#            OK  NAME`: says again what the result says.
    Restated,
}

/// A result line taken apart.
#[derive(Clone, Copy)]
pub(super) struct ResultLine<'a> {
    /// How it went, by word and directive.
    pub(super) result: SubtestResult,
    pub(super) number: Option<u64>,
    /// Empty where there is none.
    pub(super) name: &'a [u8],
    /// What follows the directive; may be empty.
    pub(super) reason: Option<&'a [u8]>,
}

/// Reads a line without its indentation; `None` where it is text for people.
pub(super) fn parse(text: &[u8]) -> Option<Line<'_>> {
    match text.first()? {
        b'o' | b'n' => result(text).map(Line::Result),
        b'1' => plan(text),
        b'#' => comment(text.strip_prefix(b"# ")?),
        b'T' if text.starts_with(b"TAP version ") => Some(Line::Version),
        b'K' if text.starts_with(b"KTAP version ") => Some(Line::Version),
        b'B' => Some(Line::BailOut(text.strip_prefix(b"Bail out!")?)),
        _ => None,
    }
}

/// `ok [N] [- ]NAME [# DIRECTIVE REASON]`. As in Perl's TAP::Parser, number and name may be missing.
fn result(text: &[u8]) -> Option<ResultLine<'_>> {
    let (is_ok, rest) = match text.strip_prefix(b"not ok") {
        Some(rest) => (false, rest),
        None => (true, text.strip_prefix(b"ok")?),
    };
    if matches!(rest.first(), Some(byte) if byte.is_ascii_alphanumeric() || *byte == b'_') {
        return None;
    }
    let rest = rest.trim_ascii();
    let (number, description) = match split_number(rest) {
        Some((number, rest)) if ends_word(rest) => (Some(number), rest.trim_ascii()),
        Some(_) | None => (None, rest),
    };
    let (name, directive, reason) = split_directive(without_dash(description), is_ok);
    let plain = if is_ok {
        SubtestResult::Ok
    } else {
        SubtestResult::NotOk
    };
    Some(ResultLine {
        result: directive.unwrap_or(plain),
        number,
        name,
        reason,
    })
}

fn plan(text: &[u8]) -> Option<Line<'_>> {
    let (planned, rest) = split_number(text.strip_prefix(b"1..")?)?;
    let tail = rest.trim_ascii();
    if !ends_word(rest) || !matches!(tail.first(), None | Some(b'#')) {
        return None;
    }
    let (_, directive, reason) = split_directive(tail, true);
    let is_skip = directive == Some(SubtestResult::Skip);
    Some(Line::Plan(planned, reason.filter(|_| is_skip)))
}

/// What follows `# ` at the beginning of a line.
fn comment(text: &[u8]) -> Option<Line<'_>> {
    if let Some(name) = text.strip_prefix(b" RUN  ") {
        let name = name.trim_ascii();
        return Some(Line::Running(name.strip_suffix(b" ...").unwrap_or(name)));
    }
    if let Some(totals) = text.strip_prefix(b"Totals: ") {
        return Some(Line::Totals(self::totals(totals)));
    }
    let begins = |start: &[u8]| text.starts_with(start);
    if begins(b"Planned tests != run tests") {
        Some(Line::Unfinished)
    } else if begins(b"FAILED: ") && text.trim_ascii_end().ends_with(b" tests passed.") {
        Some(Line::SomeFailed)
    } else if begins(b"Subtest: ") {
        Some(Line::Subtest)
    } else {
        begins(b"       ").then_some(Line::Restated)
    }
}

/// `pass:1 fail:0 xfail:0 xpass:0 skip:0 error:0`, by [`SubtestResult`].
fn totals(text: &[u8]) -> [u64; 5] {
    let mut totals = [0; 5];
    for word in text.split(u8::is_ascii_whitespace) {
        let Some(colon) = memchr::memchr(b':', word) else {
            continue;
        };
        let result = match &word[..colon] {
            b"pass" => SubtestResult::Ok,
            b"fail" | b"error" => SubtestResult::NotOk,
            b"skip" => SubtestResult::Skip,
            b"xfail" => SubtestResult::Todo,
            b"xpass" => SubtestResult::Xpass,
            _ => continue,
        };
        let told = split_number(&word[colon + 1..]).map_or(0, |(number, _)| number);
        let total: &mut u64 = &mut totals[result as usize];
        *total = total.saturating_add(told);
    }
    totals
}

/// The number that `text` begins with, and what follows it.
fn split_number(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = text.split_at(digits);
    let add = |sum: u64, digit: &u8| {
        sum.saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    };
    (digits > 0).then(|| (number.iter().fold(0, add), rest))
}

fn ends_word(rest: &[u8]) -> bool {
    matches!(rest.first(), None | Some(b' ' | b'\t' | b'#'))
}

/// Splits `NAME # DIRECTIVE REASON`, and `NAME # REASON`, which kselftest.h prints too. A `#` may also begin it all.
fn split_directive(
    description: &[u8],
    is_ok: bool,
) -> (&[u8], Option<SubtestResult>, Option<&[u8]>) {
    let mut diagnostic = None;
    for hash in memchr_iter(b'#', description) {
        let (name, after) = (description[..hash].trim_ascii(), &description[hash + 1..]);
        if hash > 0 && !description[hash - 1].is_ascii_whitespace() {
            continue;
        }
        let text = after.trim_ascii();
        let end = text.iter().position(u8::is_ascii_whitespace);
        let (word, reason) = text.split_at(end.unwrap_or(text.len()));
        let directive = directive(word.strip_suffix(b":").unwrap_or(word), is_ok);
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

fn directive(word: &[u8], is_ok: bool) -> Option<SubtestResult> {
    match (&*word.to_ascii_lowercase(), is_ok) {
        (b"skip" | b"skipped", _) => Some(SubtestResult::Skip),
        // kselftest.h prints `ok` for a failure that was expected, TAP `not ok`.
        (b"xfail", _) | (b"todo", false) => Some(SubtestResult::Todo),
        (b"xpass", _) | (b"todo", true) => Some(SubtestResult::Xpass),
        _ => None,
    }
}

fn without_dash(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"- ").map_or(text, <[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::SubtestResult::{NotOk, Ok, Skip, Todo, Xpass};
    use super::*;

    #[test]
    fn every_form_of_result_line_is_read() {
        for (line, number, name, result, reason) in [
            ("ok 1 vm0", Some(1), "vm0", Ok, None),
            ("ok 1 - vm0", Some(1), "vm0", Ok, None),
            ("ok\t1\tvm0", Some(1), "vm0", Ok, None),
            ("ok 1", Some(1), "", Ok, None),
            ("ok", None, "", Ok, None),
            ("ok - no number", None, "no number", Ok, None),
            ("ok 1st", None, "1st", Ok, None),
            ("not ok to do this", None, "to do this", NotOk, None),
            ("not ok\t7", Some(7), "", NotOk, None),
            ("not ok 7# TODO", Some(7), "", Todo, Some("")),
            ("not ok 7 a # exit=1", Some(7), "a", NotOk, Some("exit=1")),
            ("not ok 7 a #  said", Some(7), "a", NotOk, Some("said")),
            ("not ok 7 # error x", Some(7), "error x", NotOk, None),
            ("not ok 7 bug #12", Some(7), "bug #12", NotOk, None),
            ("ok 2 # SKIP no x", Some(2), "", Skip, Some("no x")),
            (
                "ok 2 a # skip: - b # not",
                Some(2),
                "a",
                Skip,
                Some("b # not"),
            ),
            ("ok 2 a #SKIP", Some(2), "a", Skip, Some("")),
            ("not ok 2 a # SKIP why", Some(2), "a", Skip, Some("why")),
            ("not ok 2 a # TODO later", Some(2), "a", Todo, Some("later")),
            ("ok 2 a # XFAIL known", Some(2), "a", Todo, Some("known")),
            ("ok 2 a # XPASS new", Some(2), "a", Xpass, Some("new")),
            ("ok 2 a # TODO later", Some(2), "a", Xpass, Some("later")),
            ("ok 2 # skipping x", Some(2), "skipping x", Ok, None),
        ] {
            let found = super::result(line.as_bytes()).expect(line);
            let text = |bytes| std::str::from_utf8(bytes).expect(line);
            let reason_found = found.reason.map(text);
            let found = (found.number, text(found.name), found.result, reason_found);
            assert_eq!(found, (number, name, result, reason), "{line}");
        }
    }

    #[test]
    fn sentences_are_no_results_and_no_plans() {
        for line in [
            "okay",
            "not okay",
            "ok1",
            "not",
            "",
            "1..",
            "1..x",
            "1..5.",
            "1..5 iterations",
            "1.5",
            "1..-1",
            "# a diagnostic",
            "#Totals: fail:1",
            "TAPE version 13",
        ] {
            assert!(parse(line.as_bytes()).is_none(), "{line}");
        }
    }

    #[test]
    fn totals_are_read_by_their_names() {
        let text = "# Totals: pass:1 fail:2 xfail:3 xpass:4 skip:5 error:6 total:21 x";
        let Some(Line::Totals(totals)) = parse(text.as_bytes()) else {
            panic!("{text}")
        };
        assert_eq!(totals, [1, 8, 5, 3, 4]);
    }
}
