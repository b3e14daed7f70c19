//! KTAP (Documentation/dev-tools/ktap.rst) in a selftest's output: plans, sub-tests, and what else the protocol has.

use self::line::ResultLine;
use crate::model::outcome::{Subtest, SubtestResult};
use crate::model::printable::printable_within;

mod line;

/// How many sub-tests are kept; and so many failed ones, however late they come.
const KEPT: u64 = 10_000;

/// How deep sub-tests nest before they are taken for other text.
const LEVELS: usize = 8;

/// What is kept of a sub-test's description and of its reason, in bytes.
const NAME: usize = 200;
const REASON: usize = 500;

/// What a selftest said in KTAP.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ktap {
    /// Its sub-tests, nested ones before their parent: the first 10,000, and of the others those that are among the
    /// first 10,000 that failed.
    pub subtests: Vec<Subtest>,
    /// How many there were, by result: exact, whatever was kept.
    pub counts: Counts,
    /// The first plan whose results did not all come.
    pub shortfall: Option<Shortfall>,
    /// What follows `Bail out!`.
    pub bail_out: Option<String>,
    /// What follows `1..0 # SKIP`: empty where there is nothing, or a bare `1..0`.
    pub skip: Option<String>,
    /// The sub-test that kselftest_harness.h began to run and did not end.
    pub running: Option<String>,
}

/// How many sub-tests ended in which way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// `ok`
    pub ok: u64,
    /// `not ok`
    pub not_ok: u64,
    /// Skipped.
    pub skip: u64,
    /// Expected to fail.
    pub todo: u64,
}

/// Fewer results than planned. More are no fault: a child that skips prints a result of its own beside its parent's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortfall {
    /// How many sub-tests the plans announced.
    pub planned: u64,
    /// How many were reported.
    pub reported: u64,
}

impl Ktap {
    /// The failed sub-tests, without those that failed only because one inside them did.
    pub fn failed(&self) -> impl Iterator<Item = &Subtest> {
        let mut inner: Option<&str> = None;
        self.subtests
            .iter()
            .filter(|subtest| subtest.result == SubtestResult::NotOk)
            .filter(move |subtest| {
                let is_outer = inner
                    .and_then(|inner| inner.strip_prefix(subtest.name.as_str()))
                    .is_some_and(|rest| rest.starts_with('/'));
                inner = Some(&subtest.name);
                !is_outer
            })
    }
}

impl Counts {
    /// All of them.
    pub fn total(self) -> u64 {
        self.ok + self.not_ok + self.skip + self.todo
    }

    fn of(&mut self, result: SubtestResult) -> &mut u64 {
        match result {
            SubtestResult::Ok => &mut self.ok,
            SubtestResult::NotOk => &mut self.not_ok,
            SubtestResult::Skip => &mut self.skip,
            SubtestResult::Todo => &mut self.todo,
        }
    }
}

/// Reads KTAP from lines given one by one, with any other text between them.
#[derive(Debug)]
pub struct Reader {
    ktap: Ktap,
    /// The levels of nesting that are open; the first, which is not indented, always is.
    levels: Vec<Level>,
    /// Whether a version line was seen: without it, what is indented is not KTAP.
    has_version: bool,
    /// Indentation and number of a result `ok N # SKIP reason` right before, which may turn out to be a child's.
    nameless_skip: Option<(usize, u64)>,
}

#[derive(Debug, Default)]
struct Level {
    indent: usize,
    planned: u64,
    reported: u64,
    /// How many sub-tests were kept when it was opened.
    first: usize,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            ktap: Ktap::default(),
            levels: vec![Level::default()],
            has_version: false,
            nameless_skip: None,
        }
    }
}

impl Reader {
    /// Takes the next line. Whether it was KTAP's own, and not text for the reader.
    pub fn line(&mut self, line: &[u8]) -> bool {
        let indent = line.iter().take_while(|&&byte| byte == b' ').count();
        let text = &line[indent..];
        match text.first() {
            Some(b'o' | b'n') => {
                line::result(text).is_some_and(|found| self.result(indent, &found))
            }
            Some(b'1') => {
                line::plan(text).is_some_and(|(planned, skip)| self.plan(indent, planned, skip))
            }
            Some(b'#') => self.diagnostic(indent, text),
            Some(b'T' | b'K')
                if text.starts_with(b"TAP version ") || text.starts_with(b"KTAP version ") =>
            {
                self.has_version = true;
                self.open_level(indent).is_some()
            }
            Some(b'B') => match text.strip_prefix(b"Bail out!") {
                Some(reason) => {
                    let reason = printable_within(reason.trim_ascii(), REASON);
                    self.ktap.bail_out.get_or_insert(reason);
                    true
                }
                None => false,
            },
            _ => false,
        }
    }

    /// What was found.
    pub fn finish(mut self) -> Ktap {
        while let Some(level) = self.levels.pop() {
            self.close(&level);
        }
        self.ktap
    }

    fn plan(&mut self, indent: usize, planned: u64, skip: Option<&[u8]>) -> bool {
        let Some(level) = self.open_level(indent) else {
            return false;
        };
        level.planned = level.planned.saturating_add(planned);
        if indent == 0 && planned == 0 {
            let reason = printable_within(skip.unwrap_or_default(), REASON);
            self.ktap.skip.get_or_insert(reason);
        }
        true
    }

    fn result(&mut self, indent: usize, found: &ResultLine<'_>) -> bool {
        let Some(level) = self.open_level(indent) else {
            return false;
        };
        level.reported += 1;
        let place = (level.indent, found.number.unwrap_or(level.reported));
        let name = || match printable_within(found.name, NAME) {
            name if name.is_empty() => place.1.to_string(),
            name => name,
        };
        if indent == 0 {
            self.ktap.running = None;
        }
        if self
            .levels
            .last()
            .is_some_and(|deepest| deepest.indent > indent)
        {
            self.adopt(indent, &name());
        }
        // A child of kselftest_harness.h that skips by itself prints `ok N # SKIP why`, and its parent then
        // `ok N name # SKIP unknown`: the two are one.
        if found.result == SubtestResult::Skip
            && self.nameless_skip.take() == Some(place)
            && let Some(last) = self.ktap.subtests.last_mut()
        {
            last.name = name();
            if let Some(level) = self.open_level(indent) {
                level.reported -= 1;
            }
            return true;
        }
        *self.ktap.counts.of(found.result) += 1;
        let counts = self.ktap.counts;
        let is_kept = counts.total() <= KEPT
            || (found.result == SubtestResult::NotOk && counts.not_ok <= KEPT);
        if is_kept {
            let reason = found.reason.filter(|reason| !reason.is_empty());
            let reason = reason.map(|reason| printable_within(reason, REASON));
            self.ktap.subtests.push(Subtest {
                name: name(),
                result: found.result,
                reason,
            });
        }
        let is_nameless_skip = found.result == SubtestResult::Skip && found.name.is_empty();
        self.nameless_skip = (is_kept && is_nameless_skip).then_some(place);
        true
    }

    /// Takes a line that begins with `#`.
    fn diagnostic(&mut self, indent: usize, text: &[u8]) -> bool {
        if let Some(running) = text.strip_prefix(b"#  RUN  ") {
            let name = running.trim_ascii();
            let name = name.strip_suffix(b" ...").unwrap_or(name);
            self.ktap.running = Some(printable_within(name, NAME));
            return true;
        }
        if text.starts_with(b"# Subtest: ") {
            self.has_version = true;
            return self.open_level(indent).is_some();
        }
        // `#            OK  name` and `#          FAIL  name` say again what the result says.
        text.starts_with(b"# Totals: ")
            || text.starts_with(b"# Planned tests != ")
            || text.starts_with(b"#        ")
    }

    /// The level of lines indented by `indent`, opened where it is deeper than all that are open.
    fn open_level(&mut self, indent: usize) -> Option<&mut Level> {
        let deepest = self.levels.last().map_or(0, |level| level.indent);
        if indent > deepest {
            if !self.has_version || self.levels.len() == LEVELS {
                return None;
            }
            self.levels.push(Level {
                indent,
                first: self.ktap.subtests.len(),
                ..Level::default()
            });
        }
        // Deeper levels stay open until their parent's result comes and names them.
        self.levels.iter_mut().rfind(|level| level.indent <= indent)
    }

    /// Closes what is nested in the sub-test `parent`, whose result came at `indent`.
    fn adopt(&mut self, indent: usize, parent: &str) {
        while let Some(level) = self.levels.pop_if(|level| level.indent > indent) {
            self.close(&level);
            // Levels that lost their parents in between are told apart by nothing: all go to this one.
            if self
                .levels
                .last()
                .is_none_or(|outer| outer.indent <= indent)
            {
                for subtest in &mut self.ktap.subtests[level.first..] {
                    subtest.name = format!("{parent}/{}", subtest.name);
                }
            }
        }
    }

    fn close(&mut self, level: &Level) {
        let &Level {
            planned, reported, ..
        } = level;
        if reported < planned {
            self.ktap
                .shortfall
                .get_or_insert(Shortfall { planned, reported });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::SubtestResult::{NotOk, Ok, Skip};
    use super::*;

    fn read(text: &str) -> Ktap {
        let mut reader = Reader::default();
        text.lines()
            .for_each(|line| _ = reader.line(line.as_bytes()));
        reader.finish()
    }

    fn subtests(ktap: &Ktap) -> Vec<(&str, SubtestResult, Option<&str>)> {
        ktap.subtests
            .iter()
            .map(|s| (s.name.as_str(), s.result, s.reason.as_deref()))
            .collect()
    }

    #[test]
    fn without_a_version_line_indented_text_is_no_ktap() {
        for line in ["  ok 1 indented", "  not ok 1 indented", "  1..7"] {
            let mut reader = Reader::default();
            assert!(!reader.line(line.as_bytes()), "{line}");
            assert_eq!(reader.finish(), Ktap::default(), "{line}");
        }
    }

    #[test]
    fn nested_sub_tests_are_named_by_their_parents() {
        for indent in ["  ", "    "] {
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
ok 2 - last"
                .replace('>', indent);
            let ktap = read(&text);
            let expected = [
                ("outer/inner/leaf", NotOk, None),
                ("outer/inner", NotOk, None),
                ("outer/other", Ok, None),
                ("outer", NotOk, None),
                ("last/again", Skip, Some("why")),
                ("last", Ok, None),
            ];
            assert_eq!(subtests(&ktap), expected);
            assert_eq!(ktap.shortfall, None);
            assert_eq!(
                ktap.failed().map(|s| s.name.as_str()).collect::<Vec<_>>(),
                ["outer/inner/leaf"]
            );
        }
    }

    #[test]
    fn plans_are_added_up_and_only_missing_results_are_a_shortfall() {
        let shortfall = |planned, reported| Some(Shortfall { planned, reported });
        for (text, expected) in [
            ("1..2\nok 1\nok 2", None),
            ("ok 1\nok 2\n1..2", None),
            ("1..1\nok 1\nok 2", None),
            ("1..5\nok 1\nok 2\nok 3", shortfall(5, 3)),
            (
                "1..2\nok 1\nok 2\nTAP version 13\n1..2\nok 1",
                shortfall(4, 3),
            ),
            (
                "1..2\nok 1 # SKIP why\nok 1 a # SKIP unknown",
                shortfall(2, 1),
            ),
            (
                "KTAP version 1\n1..1\n  1..3\n  ok 1\nok 1 a",
                shortfall(3, 1),
            ),
            ("KTAP version 1\n  1..3\n  ok 1", shortfall(3, 1)),
            (
                "1..18446744073709551615\n1..18446744073709551615",
                shortfall(u64::MAX, 0),
            ),
        ] {
            assert_eq!(read(text).shortfall, expected, "{text}");
        }
    }

    #[test]
    fn a_skip_of_all_a_bail_out_and_a_running_sub_test_are_noticed() {
        assert_eq!(
            read("1..0 # SKIP - Requirement not met: x").skip.as_deref(),
            Some("Requirement not met: x")
        );
        assert_eq!(
            read("1..0 # Skipped: x\n1..0 # SKIP y").skip.as_deref(),
            Some("x")
        );
        assert_eq!(read("1..0").skip.as_deref(), Some(""));
        assert_eq!(
            read("Bail out! no memory \nBail out!").bail_out.as_deref(),
            Some("no memory")
        );
        assert_eq!(
            read("#  RUN           a.b ...").running.as_deref(),
            Some("a.b")
        );
        assert_eq!(
            read("#  RUN           a.b ...\n#          FAIL  a.b\nnot ok 1 a.b").running,
            None
        );
    }

    #[test]
    fn a_skip_reported_by_child_and_parent_is_one_sub_test_with_the_childs_reason() {
        let ktap = read(
            "1..2\nok 1 # SKIP - Requirement not met: x\n# Totals: pass:0\nok 1 s.a # SKIP unknown\nok 2 s.b",
        );
        assert_eq!(
            subtests(&ktap),
            [
                ("s.a", Skip, Some("Requirement not met: x")),
                ("s.b", Ok, None)
            ]
        );
        assert_eq!(
            ktap.counts,
            Counts {
                ok: 1,
                skip: 1,
                ..Counts::default()
            }
        );
        let apart = read("ok 1 # SKIP a\nok 2 # SKIP b\nok 2 # SKIP c");
        assert_eq!(apart.counts.skip, 2);
        let nested = read("KTAP version 1\n  ok 1 # SKIP why\nok 1 a # SKIP");
        assert_eq!(
            subtests(&nested),
            [("a/1", Skip, Some("why")), ("a", Skip, None)]
        );
    }

    #[test]
    fn counts_are_exact_beyond_what_is_kept_and_failures_are_kept_longer() {
        let mut reader = Reader::default();
        for number in 1..=3 * KEPT {
            reader.line(format!("ok {number} fine").as_bytes());
        }
        reader.line(b"not ok 30001 bad");
        let ktap = reader.finish();
        assert_eq!(
            ktap.counts,
            Counts {
                ok: 3 * KEPT,
                not_ok: 1,
                ..Counts::default()
            }
        );
        assert_eq!(ktap.subtests.len() as u64, KEPT + 1);
        assert_eq!(ktap.failed().count(), 1);
    }

    #[test]
    fn nesting_too_deep_is_taken_for_other_text() {
        let mut reader = Reader::default();
        reader.line(b"KTAP version 1");
        let taken = (0..1000)
            .filter(|&level| reader.line(format!("{}ok 1 a", " ".repeat(level)).as_bytes()))
            .count();
        assert_eq!(taken, LEVELS);
    }
}
