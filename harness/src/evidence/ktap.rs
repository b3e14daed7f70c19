//! KTAP in a selftest's output: plans, sub-tests, and whether they add up.

use super::line::{Line, ResultLine, parse};
use crate::model::facts::Ktap;
use crate::model::outcome::{Subtest, SubtestResult};
use crate::model::text::printable_within;

/// How many sub-tests are kept; and so many failed ones, however late they come.
const KEPT: u64 = 10_000;

/// How deep sub-tests nest before they are taken for other text.
const LEVELS: usize = 8;

/// What is kept of a sub-test's description and of its reason, in bytes.
const NAME: usize = 200;
const REASON: usize = 500;

/// Reads KTAP from lines given one by one, with any other text between them.
pub(super) struct KtapReader {
    ktap: Ktap,
    /// The levels of nesting that are open; the first, which is not indented, always is.
    levels: Vec<Nesting>,
    /// Whether a version line was seen: without it, what is indented is not KTAP.
    has_version: bool,
    /// A child of kselftest_harness.h that skips by itself prints `ok N # SKIP why`, and then its parent
    /// `ok N name # SKIP unknown`: the two are one. The indentation of such a first line, when it is right before.
    nameless_skip: Option<usize>,
    /// Or it prints `1..0 # SKIP why`: the reason.
    child_skip: Option<String>,
}

/// One list of sub-tests: what stands between a plan or version line and the next one of the same indentation.
#[derive(Default)]
struct Nesting {
    indent: usize,
    has_version: bool,
    planned: Option<u64>,
    reported: u64,
    /// Its plan came after results: so it is complete.
    is_complete: bool,
    /// It said that it did not run what it had planned, and nothing came after that.
    is_unfinished: bool,
    /// How many sub-tests were kept when it was opened.
    first: usize,
}

impl Default for KtapReader {
    fn default() -> Self {
        Self {
            ktap: Ktap::default(),
            levels: vec![Nesting::default()],
            has_version: false,
            nameless_skip: None,
            child_skip: None,
        }
    }
}

impl KtapReader {
    /// Takes the next line. Whether it was KTAP's own, and not text for people.
    pub(super) fn line(&mut self, line: &[u8]) -> bool {
        let indent = line.iter().take_while(|&&byte| byte == b' ').count();
        let Some(line) = parse(&line[indent..]) else {
            return false;
        };
        match line {
            Line::Version | Line::Subtest => self.begin(indent, &line),
            Line::Plan(planned, skip) => self.plan(indent, planned, skip),
            Line::Result(found) => self.result(indent, &found),
            _ => self.remark(indent, &line),
        }
        .is_some()
    }

    /// What was found.
    pub(super) fn finish(mut self) -> Ktap {
        while let Some(level) = self.levels.pop() {
            self.close(&level);
        }
        Ktap {
            skip: self.ktap.skip.or(self.child_skip),
            ..self.ktap
        }
    }

    fn begin(&mut self, indent: usize, line: &Line<'_>) -> Option<()> {
        self.has_version = true;
        let level = self.level(indent)?;
        if let Line::Version = line {
            let is_used = level.planned.is_some() || level.reported > 0;
            let level = if is_used { self.restart(indent) } else { level };
            level.has_version = true;
        }
        Some(())
    }

    fn plan(&mut self, indent: usize, planned: u64, skip: Option<&[u8]>) -> Option<()> {
        let level = self.level(indent)?;
        let reason = || printable_within(skip.unwrap_or_default(), REASON);
        let to_come = level.planned.map(|planned| planned > level.reported);
        if planned == 0 && skip.is_some() && to_come == Some(true) {
            self.child_skip = Some(reason());
            return Some(());
        }
        let level = match to_come {
            Some(_) => self.restart(indent),
            None => level,
        };
        level.planned = Some(planned);
        level.is_complete = level.reported > 0;
        if indent == 0 && planned == 0 {
            self.ktap.skip.get_or_insert_with(reason);
        }
        Some(())
    }

    fn result(&mut self, indent: usize, found: &ResultLine<'_>) -> Option<()> {
        // Without a number, what is indented is more likely a sentence.
        if indent > 0 && found.number.is_none() {
            return None;
        }
        let level = self.level(indent)?;
        let (indent, reported) = (level.indent, level.reported);
        let is_skip = found.result == SubtestResult::Skip;
        let is_nameless_skip = is_skip && found.name.is_empty();
        let is_told_again = is_skip && found.number == Some(reported) && !is_nameless_skip;
        let mut is_kept = false;
        match self.ktap.subtests.last_mut() {
            Some(last) if is_told_again && self.nameless_skip == Some(indent) => {
                last.name = printable_within(found.name, NAME);
            }
            _ => is_kept = self.add(indent, found),
        }
        self.nameless_skip = (is_nameless_skip && is_kept).then_some(indent);
        if indent == 0 && !is_nameless_skip {
            self.ktap.running = None;
        }
        Some(())
    }

    /// Adds a sub-test to the level that is open at `indent`; returns whether it is kept.
    fn add(&mut self, indent: usize, found: &ResultLine<'_>) -> bool {
        let said = self.child_skip.take();
        let is_skip = found.result == SubtestResult::Skip;
        let Some(level) = self.level(indent) else {
            return false;
        };
        level.reported += 1;
        level.is_unfinished = false;
        let (expected, is_complete) = (level.reported, level.is_complete);
        let number = found.number.unwrap_or(expected);
        // ksft_exit_skip() of Linux 6.12 counts itself twice.
        let is_counted_twice = is_skip && found.name.is_empty() && number == expected + 1;
        if is_complete {
            self.mismatch(|| "reported sub-tests after the plan that ended them".to_owned());
        } else if number != expected && !is_counted_twice {
            self.mismatch(|| format!("reported sub-test {number} where {expected} was to come"));
        }
        let name = || match printable_within(found.name, NAME) {
            name if name.is_empty() => number.to_string(),
            name => name,
        };
        let deepest = self.levels.last().map_or(0, |level| level.indent);
        if deepest > indent {
            self.close_deeper(indent, Some(&name()));
        }
        let count = &mut self.ktap.counts[found.result as usize];
        *count += 1;
        let is_bad = matches!(found.result, SubtestResult::NotOk | SubtestResult::Xpass);
        let is_kept = (is_bad && *count <= KEPT) || self.ktap.counts.iter().sum::<u64>() <= KEPT;
        if is_kept {
            let reason = || Some(printable_within(found.reason?, REASON));
            let reason = said.filter(|_| is_skip).or_else(reason);
            self.ktap.subtests.push(Subtest {
                name: name(),
                result: found.result,
                reason: reason.filter(|reason| !reason.is_empty()),
            });
        }
        is_kept
    }

    /// Takes what is neither version, plan nor result.
    fn remark(&mut self, indent: usize, line: &Line<'_>) -> Option<()> {
        match line {
            Line::BailOut(reason) => {
                let reason = printable_within(reason.trim_ascii(), REASON);
                self.ktap.bail_out.get_or_insert(reason);
            }
            Line::Running(name) => self.ktap.running = Some(printable_within(name, NAME)),
            Line::Unfinished if indent == 0 => self.levels[0].is_unfinished = true,
            Line::Totals(told) if indent == 0 => self.totals(told),
            Line::SomeFailed if indent == 0 && self.ktap.count(SubtestResult::NotOk) == 0 => {
                let how = || "says that tests failed, and reported none".to_owned();
                self.ktap.contradiction.get_or_insert_with(how);
            }
            _ => {}
        }
        Some(())
    }

    /// Compares what the totals tell with what was reported. More of a kind may have been: nested ones are not in them.
    fn totals(&mut self, told: &[u64; 5]) {
        for (result, word) in [
            (SubtestResult::NotOk, "failed"),
            (SubtestResult::Xpass, "passed unexpectedly"),
            (SubtestResult::Ok, "passed"),
            (SubtestResult::Skip, "were skipped"),
            (SubtestResult::Todo, "failed as expected"),
        ] {
            let (told, seen) = (told[result as usize], self.ktap.count(result));
            if told > seen {
                let how = || format!("says that {told} sub-tests {word}, and reported {seen}");
                self.ktap.contradiction.get_or_insert_with(how);
            }
        }
    }

    fn mismatch(&mut self, how: impl FnOnce() -> String) {
        self.ktap.mismatch.get_or_insert_with(how);
    }

    /// The level of lines indented by `indent`, opened where it is deeper than all that are open.
    fn level(&mut self, indent: usize) -> Option<&mut Nesting> {
        let deepest = self.levels.last().map_or(0, |level| level.indent);
        if indent > deepest {
            if !self.has_version || self.levels.len() == LEVELS {
                return None;
            }
            self.open(indent);
        }
        // Deeper levels stay open until their parent's result comes and names them.
        self.levels.iter_mut().rfind(|level| level.indent <= indent)
    }

    fn open(&mut self, indent: usize) -> &mut Nesting {
        let place = self.levels.len();
        self.levels.push(Nesting {
            indent,
            first: self.ktap.subtests.len(),
            ..Nesting::default()
        });
        &mut self.levels[place]
    }

    /// Ends the list at `indent`, which is open, and begins another one.
    fn restart(&mut self, indent: usize) -> &mut Nesting {
        self.close_deeper(indent, None);
        let indent = match self.levels.pop() {
            Some(level) => {
                self.close(&level);
                level.indent
            }
            None => 0,
        };
        self.open(indent)
    }

    /// Closes what is nested in the sub-test `parent`, whose result came at `indent`.
    fn close_deeper(&mut self, indent: usize, parent: Option<&str>) {
        while let Some(level) = self.levels.pop() {
            if level.indent <= indent {
                self.levels.push(level);
                return;
            }
            self.close(&level);
            // Levels that lost their parents in between are told apart by nothing: all go to this one.
            let outer = self.levels.last().map_or(0, |outer| outer.indent);
            if let Some(parent) = parent.filter(|_| outer <= indent) {
                for subtest in &mut self.ktap.subtests[level.first..] {
                    subtest.name = format!("{parent}/{}", subtest.name);
                }
            }
        }
    }

    fn close(&mut self, level: &Nesting) {
        let reported = level.reported;
        match level.planned {
            Some(planned) if planned != reported => {
                self.mismatch(|| format!("planned {planned} sub-tests, reported {reported}"));
            }
            None if level.has_version && reported == 0 && level.indent == 0 => {
                self.mismatch(|| "began KTAP, and reported nothing".to_owned());
            }
            Some(_) | None if level.is_unfinished => {
                self.mismatch(|| "says that it did not run what it had planned".to_owned());
            }
            Some(_) | None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::SubtestResult::{NotOk, Ok, Skip};
    use super::*;

    fn read(text: &str) -> Ktap {
        let mut reader = KtapReader::default();
        for line in text.lines() {
            reader.line(line.as_bytes());
        }
        reader.finish()
    }

    fn subtests(ktap: &Ktap) -> Vec<(&str, SubtestResult, Option<&str>)> {
        let subtests = ktap.subtests.iter();
        let parts = subtests.map(|one| (one.name.as_str(), one.result, one.reason.as_deref()));
        parts.collect()
    }

    #[test]
    fn without_a_version_line_indented_text_is_no_ktap() {
        for line in ["  ok 1 indented", "  not ok 1 indented", "  1..7"] {
            assert_eq!(read(line), Ktap::default(), "{line}");
        }
    }

    #[test]
    fn nested_sub_tests_are_named_by_their_parents() {
        let text = "\
KTAP version 1
1..2
>KTAP version 1
># Subtest: outer
>1..2
>>KTAP version 1
>>1..1
>>not ok 1 leaf
># note
>not ok 1 - inner
>ok 2 - other
not ok 1 - outer
>ok 1 - again # SKIP why
>ok then
ok 2 - last";
        for indent in ["  ", "    "] {
            let ktap = read(&text.replace('>', indent));
            let expected = [
                ("outer/inner/leaf", NotOk, None),
                ("outer/inner", NotOk, None),
                ("outer/other", Ok, None),
                ("outer", NotOk, None),
                ("last/again", Skip, Some("why")),
                ("last", Ok, None),
            ];
            assert_eq!(subtests(&ktap), expected);
            assert_eq!(ktap.mismatch, None);
        }
    }

    #[test]
    fn results_that_do_not_fit_their_plan_are_told() {
        for (text, expected) in [
            ("1..2\nok 1\nok 2", None),
            ("ok 1\nok 2\n1..2", None),
            ("ok\nok name", None),
            ("1..2\nok\nok name", None),
            ("TAP version 13\nok 1", None),
            ("TAP version 13\nTAP version 13\n1..1\nok 1", None),
            ("1..1\nok 1\n1..1\nok 1", None),
            ("1..1\nok 1\n1..0 # SKIP the second program", None),
            ("1..0 # SKIP\nTAP version 13\n1..1\nok 1", None),
            ("1..1\nok 1\nok 2", Some("planned 1 sub-tests, reported 2")),
            ("1..0\nok 1", Some("planned 0 sub-tests, reported 1")),
            ("1..5\nok 1\nok 2", Some("planned 5 sub-tests, reported 2")),
            (
                "1..2\nok 1\nok 2\nTAP version 13\n1..2\nok 1",
                Some("planned 2 sub-tests, reported 1"),
            ),
            (
                "1..2\nok 1 # SKIP why\nok 1 a # SKIP unknown",
                Some("planned 2 sub-tests, reported 1"),
            ),
            (
                "KTAP version 1\n1..1\n  1..3\n  ok 1\nok 1 a",
                Some("planned 3 sub-tests, reported 1"),
            ),
            (
                "KTAP version 1\n  1..3\n  ok 1",
                Some("planned 3 sub-tests, reported 1"),
            ),
            (
                "1..99999999999999999999999",
                Some("planned 18446744073709551615 sub-tests, reported 0"),
            ),
            (
                "1..2\nok 1\nok 1",
                Some("reported sub-test 1 where 2 was to come"),
            ),
            (
                "ok 1\nok 3",
                Some("reported sub-test 3 where 2 was to come"),
            ),
            (
                "ok 1\n1..2\nok 2",
                Some("reported sub-tests after the plan that ended them"),
            ),
            ("TAP version 13", Some("began KTAP, and reported nothing")),
            (
                "ok 1\n# Planned tests != run tests (2 != 1)",
                Some("says that it did not run what it had planned"),
            ),
            ("# Planned tests != run tests (2 != 1)\nok 1", None),
        ] {
            assert_eq!(read(text).mismatch.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn totals_that_tell_of_more_than_was_reported_contradict_it() {
        for (text, expected) in [
            ("ok 1\nnot ok 2\n# Totals: pass:1 fail:0 error:1", None),
            (
                "ok 1\n# Totals: pass:1 fail:3 xfail:0 error:1",
                Some("says that 4 sub-tests failed, and reported 0"),
            ),
            (
                "not ok 1\n# Totals: pass:2 fail:1",
                Some("says that 2 sub-tests passed, and reported 0"),
            ),
            ("ok 1 # SKIP x\n# Totals: skip:1", None),
            ("1..1\nok 1 x # XPASS\n# Totals: xpass:1", None),
            (
                "# FAILED: 0 / 1 tests passed.",
                Some("says that tests failed, and reported none"),
            ),
            ("not ok 1 a\n# FAILED: 0 / 1 tests passed.", None),
        ] {
            assert_eq!(read(text).contradiction.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_skip_of_all_a_bail_out_and_a_running_sub_test_are_noticed() {
        let skip = |text| read(text).skip;
        assert_eq!(skip("1..0 # SKIP - no x").as_deref(), Some("no x"));
        assert_eq!(
            skip("1..0 # Skipped: x\n1..0 # SKIP y").as_deref(),
            Some("x")
        );
        assert_eq!(skip("1..0").as_deref(), Some(""));
        assert_eq!(skip("1..2\nok 1\n1..0 # SKIP x").as_deref(), Some("x"));
        let bail_out = read("Bail out! no memory \nBail out!").bail_out;
        assert_eq!(bail_out.as_deref(), Some("no memory"));
        let running = "#  RUN           a.b ...\n#          FAIL  a.b\n";
        assert_eq!(read(running).running.as_deref(), Some("a.b"));
        assert_eq!(read(&format!("{running}not ok 1 a.b")).running, None);
    }

    #[test]
    fn a_skip_reported_by_child_and_parent_is_one_sub_test_with_the_childs_reason() {
        // The first as Linux 6.1 prints it, the second as 6.12 does, the third as its library and 7.3 do.
        for child in [
            "ok 1 # SKIP - no x\n# Totals: pass:0 skip:1",
            "ok 2 # SKIP - no x\n# Planned tests != run tests (2 != 1)\n# Totals: pass:0 skip:1",
            "1..0 # SKIP - no x\n#            OK  s.a",
        ] {
            let ktap = read(&format!("1..2\n{child}\nok 1 s.a # SKIP unknown\nok 2 s.b"));
            let expected = [("s.a", Skip, Some("no x")), ("s.b", Ok, None)];
            assert_eq!(subtests(&ktap), expected, "{child}");
            assert_eq!((ktap.mismatch, ktap.contradiction), (None, None));
        }
        let apart = read("ok 1 # SKIP a\nok 2 # SKIP b\nok 3 c # SKIP");
        assert_eq!((apart.count(Skip), apart.mismatch), (3, None));
        let nested = read("KTAP version 1\n  ok 1 # SKIP why\nok 1 a # SKIP");
        let expected = [("a/1", Skip, Some("why")), ("a", Skip, None)];
        assert_eq!(subtests(&nested), expected);
    }

    #[test]
    fn counts_are_exact_beyond_what_is_kept_and_failures_are_kept_longer() {
        let mut reader = KtapReader::default();
        for number in 1..=3 * KEPT {
            reader.line(format!("ok {number} fine").as_bytes());
        }
        reader.line(b"not ok 30001 bad");
        let ktap = reader.finish();
        assert_eq!(
            (ktap.count(Ok), ktap.count(NotOk), ktap.mismatch),
            (3 * KEPT, 1, None)
        );
        let last = ktap.subtests.last().map(|last| last.result);
        assert_eq!((ktap.subtests.len() as u64, last), (KEPT + 1, Some(NotOk)));
    }

    #[test]
    fn nesting_too_deep_is_taken_for_other_text() {
        let mut reader = KtapReader::default();
        reader.line(b"KTAP version 1");
        let is_taken =
            |level: &usize| reader.line(format!("{}ok 1 a", " ".repeat(*level)).as_bytes());
        assert_eq!((0..1000).filter(is_taken).count(), LEVELS);
    }
}
