//! libtest's forms: pretty, terse and JSON, as libtest and libtest-mimic print them.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::model::outcome::{Counts, Outcome, OutcomeKind, Status};
use crate::model::text::{one_line, plural, printable, printable_within};
use crate::show::failures::details;
use crate::show::options::Format;
use crate::show::output::{STREAMS, end_of};

/// The most that one event has, in bytes of JSON: readers hold it in memory, and a case may print gigabytes.
const EVENT_LIMIT: usize = 60 * 1024;

/// The most of the command that repeats a case, in bytes; run.json has the whole.
const REPRODUCE_LIMIT: usize = 8 * 1024;

/// How libtest's lines are printed.
pub(super) struct Libtest {
    pub(super) format: Format,
    pub(super) is_coloured: bool,
    /// The standard error goes to the same place: a case's line has its reason, too.
    pub(super) is_joined: bool,
    /// The longest name of a case, in characters.
    pub(super) name_width: usize,
    pub(super) results: PathBuf,
    /// In JSON, the output of cases that passed is shown.
    pub(super) shows_passed: bool,
}

impl Libtest {
    /// Before the first case, of so many.
    pub(super) fn title(&self, count: usize, shuffle_seed: Option<u64>) -> String {
        if self.format != Format::Json {
            return format!("\nrunning {}\n", plural(count, "test"));
        }
        let mut line = json!({"type": "suite", "event": "started", "test_count": count});
        if let Some(seed) = shuffle_seed {
            line["shuffle_seed"] = seed.into();
        }
        format!("{line}\n")
    }

    /// A case begins; only JSON tells.
    pub(super) fn started(name: &str) -> String {
        let line = json!({"type": "test", "event": "started", "name": name});
        format!("{line}\n")
    }

    /// A case has ended.
    pub(super) fn ended(&self, outcome: &Outcome) -> String {
        let (colour, word, character) = match outcome.kind() {
            OutcomeKind::Passed | OutcomeKind::Xpass => (GREEN, "ok", "."),
            OutcomeKind::Skipped | OutcomeKind::Known => (YELLOW, "ignored", "i"),
            OutcomeKind::Failed | OutcomeKind::TimedOut | OutcomeKind::NoRun => {
                (RED, "FAILED", "F")
            }
        };
        match self.format {
            Format::Json => return self.event(outcome),
            Format::Terse => return self.coloured(colour, character),
            Format::Pretty | Format::Ktap => {}
        }
        let (name, width) = (one_line(&outcome.name), self.name_width);
        let reason = one_line(&outcome.message());
        let word = match outcome.kind() {
            OutcomeKind::Passed | OutcomeKind::Xpass => self.coloured(colour, word),
            OutcomeKind::Skipped | OutcomeKind::Known => {
                self.coloured(colour, &format!("{word} ({reason})"))
            }
            _ if !self.is_joined => self.coloured(colour, word),
            OutcomeKind::Failed => format!("{} ({reason})", self.coloured(colour, word)),
            kind => format!(
                "{} ({}: {reason})",
                self.coloured(colour, word),
                kind.as_str()
            ),
        };
        format!("test {name:<width$} ... {word}\n")
    }

    fn coloured(&self, colour: &str, text: &str) -> String {
        match self.is_coloured {
            true => format!("{colour}{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    /// After the last case: what failed, but for JSON, and how many there were; `has_failed` says that the run has, perhaps by
    /// something else than these cases.
    pub(super) fn end(
        &self,
        (counts, has_failed): (Counts, bool),
        failures: &[&Outcome],
        filtered_out: usize,
        time: Duration,
    ) -> String {
        let (seconds, failed) = (time.as_secs_f64(), counts.failures());
        let passed = counts.of(OutcomeKind::Passed) + counts.of(OutcomeKind::Xpass);
        let ignored = counts.of(OutcomeKind::Skipped) + counts.of(OutcomeKind::Known);
        if self.format == Format::Json {
            let event = if has_failed { "failed" } else { "ok" };
            let line = json!({
                "type": "suite", "event": event, "passed": passed, "failed": failed, "ignored": ignored,
                "measured": 0, "filtered_out": filtered_out, "exec_time": seconds,
            });
            return format!("{line}\n");
        }
        let result = match has_failed {
            false => self.coloured(GREEN, "ok"),
            true => self.coloured(RED, "FAILED"),
        };
        let counted = format!("{passed} passed; {failed} failed; {ignored} ignored; 0 measured");
        let rest = format!("{filtered_out} filtered out; finished in {seconds:.2}s");
        let failures = self.failures(failures);
        format!("{failures}\ntest result: {result}. {counted}; {rest}\n\n")
    }

    fn failures(&self, failures: &[&Outcome]) -> String {
        if failures.is_empty() {
            return String::new();
        }
        let blocks = failures.iter().map(|outcome| {
            let (status, first) = (outcome.status.as_str(), one_line(outcome.first_line()));
            let (name, details) = (one_line(&outcome.name), details(outcome, &self.results));
            format!(
                "---- {name} ----\n{status}: {first}\n{}\n\n",
                details.join("\n")
            )
        });
        let names = failures
            .iter()
            .map(|outcome| format!("    {}\n", one_line(&outcome.name)));
        let (blocks, names): (String, String) = (blocks.collect(), names.collect());
        format!("\nfailures:\n\n{blocks}\nfailures:\n{names}")
    }

    /// The event of a case's end, with as much of what it printed as there is room for.
    fn event(&self, outcome: &Outcome) -> String {
        let mut room = EVENT_LIMIT;
        loop {
            // A character may take more room in JSON than in a file.
            let line = self.event_within(outcome, room).to_string();
            if line.len() <= EVENT_LIMIT || room == 0 {
                return line + "\n";
            }
            room = room / 8 * 7;
        }
    }

    fn event_within(&self, outcome: &Outcome, room: usize) -> Value {
        let known = outcome.known.as_ref().map(ToString::to_string);
        let reason = known.or(outcome.reason.clone()).unwrap_or_default();
        let reason = printable(reason.as_bytes());
        let mut line =
            json!({"type": "test", "name": outcome.name, "exec_time": outcome.duration_s});
        let heading = match outcome.kind() {
            OutcomeKind::Skipped | OutcomeKind::Known => {
                return json!({"type": "test", "name": outcome.name, "event": "ignored", "message": reason});
            }
            OutcomeKind::Passed | OutcomeKind::Xpass => String::new(),
            OutcomeKind::Failed | OutcomeKind::TimedOut | OutcomeKind::NoRun => {
                let shown = |command: &str| printable_within(command.as_bytes(), REPRODUCE_LIMIT);
                let reproduce = outcome.reproduce_line(shown).map(|line| line + "\n");
                let reproduce = reproduce.unwrap_or_default();
                format!("{}: {reason}\n{reproduce}", outcome.status.as_str())
            }
        };
        let is_failure = outcome.kind().is_failure();
        line["event"] = if is_failure { "failed" } else { "ok" }.into();
        if is_failure || self.shows_passed {
            let ends = STREAMS.iter().map(|stream| {
                let end = end_of(outcome, &self.results, stream, room / STREAMS.len());
                let heading = format!("--- command.{stream}\n");
                if end.is_empty() {
                    end
                } else {
                    heading + &end + "\n"
                }
            });
            line["stdout"] = (heading + &ends.collect::<String>()).into();
        }
        if outcome.status == Status::TimedOut {
            line["reason"] = "time limit exceeded".into();
        }
        line
    }
}

const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const RED: &str = "\x1b[31m";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::outcome::Splat;
    use crate::show::stage::outcome;

    fn libtest(format: Format) -> Libtest {
        Libtest {
            format,
            is_coloured: false,
            is_joined: false,
            name_width: 12,
            results: PathBuf::from("/r"),
            shows_passed: false,
        }
    }

    fn five() -> [Outcome; 5] {
        [
            outcome("a::passes", Status::Passed, ""),
            outcome("a::skips", Status::Skipped, "no moon\nat all"),
            outcome("a::fails", Status::Failed, "a.c:7: wanted 2\ngot 3"),
            outcome("a::hangs", Status::TimedOut, "timeout of 1 s"),
            outcome("a::never", Status::NoRun, "no such\x1b[31m file"),
        ]
    }

    fn counts() -> Counts {
        Counts::of_all(Status::ALL)
    }

    #[test]
    fn the_pretty_form_is_libtest_mimics() {
        let libtest = libtest(Format::Pretty);
        let outcomes = five();
        let failures: Vec<_> = outcomes.iter().skip(2).collect();
        let mut text = libtest.title(5, None);
        text += &outcomes
            .iter()
            .map(|one| libtest.ended(one))
            .collect::<String>();
        text += &libtest.end((counts(), true), &failures, 9, Duration::from_millis(66));
        let expected = "
running 5 tests
test a::passes    ... ok
test a::skips     ... ignored (no moon)
test a::fails     ... FAILED
test a::hangs     ... FAILED
test a::never     ... FAILED

failures:

---- a::fails ----
FAILED: a.c:7: wanted 2
got 3
output:    /r/a/fails
reproduce: cd /s && /s/a_test

---- a::hangs ----
TIMED_OUT: timeout of 1 s
output:    /r/a/hangs
reproduce: cd /s && /s/a_test

---- a::never ----
NO_RUN: no such file
reproduce: cd /s && /s/a_test


failures:
    a::fails
    a::hangs
    a::never

test result: FAILED. 1 passed; 3 failed; 1 ignored; 0 measured; 9 filtered out; finished in 0.07s

";
        assert_eq!(text, expected);
        let passed = Counts::of_all([Status::Passed]);
        let expected = "\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\n";
        assert_eq!(
            libtest.end((passed, false), &[], 0, Duration::ZERO),
            expected
        );
        assert_eq!(libtest.title(1, None), "\nrunning 1 test\n");
    }

    #[test]
    fn where_nothing_else_says_it_a_failures_line_has_its_reason_and_only_words_are_coloured() {
        let libtest = Libtest {
            is_joined: true,
            is_coloured: true,
            ..libtest(Format::Pretty)
        };
        let lines: String = five().iter().map(|one| libtest.ended(one)).collect();
        let expected = "\
test a::passes    ... \x1b[32mok\x1b[0m
test a::skips     ... \x1b[33mignored (no moon)\x1b[0m
test a::fails     ... \x1b[31mFAILED\x1b[0m (a.c:7: wanted 2)
test a::hangs     ... \x1b[31mFAILED\x1b[0m (TIMED_OUT: timeout of 1 s)
test a::never     ... \x1b[31mFAILED\x1b[0m (NO_RUN: no such file)
";
        assert_eq!(lines, expected);
    }

    #[test]
    fn the_terse_form_has_a_character_for_each() {
        let libtest = libtest(Format::Terse);
        let line: String = five().iter().map(|one| libtest.ended(one)).collect();
        assert_eq!(line, ".iFFF");
    }

    #[test]
    fn a_splat_is_told_by_its_first_line_its_place_and_the_file() {
        let title = "WARNING: CPU: 0 PID: 7 at dirty_ring.c:225".to_owned();
        let splat = Splat {
            host: None,
            name: "WARNING".to_owned(),
            title: title.clone(),
            at_us: 1,
            lines: [
                "",
                "Modules linked in: kvm",
                " RIP: 0010:kvm_dirty_ring_reset+0x1/0x2",
                "Call Trace:",
            ]
            .map(str::to_owned)
            .to_vec(),
            while_running: Vec::new(),
        };
        let told = |reason: &str| {
            let mut one = outcome("a::b", Status::Failed, reason);
            one.splats = vec![splat.clone()];
            details(&one, "/r".as_ref()).join("\n")
        };
        let rest = "kernel: RIP: 0010:kvm_dirty_ring_reset+0x1/0x2\nkernel:    /r/kernel.log\noutput:    /r/a/b\nreproduce: cd /s && /s/a_test";
        assert_eq!(told(&format!("kernel: {title}")), rest);
        assert_eq!(told("exit code 1"), format!("kernel: {title}\n{rest}"));
    }

    #[test]
    fn json_has_an_event_for_each_end() {
        let libtest = libtest(Format::Json);
        let mut text = libtest.title(5, Some(7)) + &Libtest::started("a::passes");
        text += &five()
            .iter()
            .map(|one| libtest.ended(one))
            .collect::<String>();
        text += &libtest.end((counts(), true), &[], 9, Duration::from_millis(500));
        let expected = r#"{"event":"started","shuffle_seed":7,"test_count":5,"type":"suite"}
{"event":"started","name":"a::passes","type":"test"}
{"event":"ok","exec_time":0.5,"name":"a::passes","type":"test"}
{"event":"ignored","message":"no moon\nat all","name":"a::skips","type":"test"}
{"event":"failed","exec_time":0.5,"name":"a::fails","stdout":"FAILED: a.c:7: wanted 2\ngot 3\nreproduce: cd /s && /s/a_test\n","type":"test"}
{"event":"failed","exec_time":0.5,"name":"a::hangs","reason":"time limit exceeded","stdout":"TIMED_OUT: timeout of 1 s\nreproduce: cd /s && /s/a_test\n","type":"test"}
{"event":"failed","exec_time":0.5,"name":"a::never","stdout":"NO_RUN: no such file\nreproduce: cd /s && /s/a_test\n","type":"test"}
{"event":"failed","exec_time":0.5,"failed":3,"filtered_out":9,"ignored":1,"measured":0,"passed":1,"type":"suite"}
"#;
        assert_eq!(text, expected);
    }

    #[test]
    fn no_event_is_longer_than_60_kib_and_none_is_far_shorter_than_it_must_be() {
        let results = tempfile::tempdir().unwrap();
        let libtest = Libtest {
            results: results.path().to_owned(),
            ..libtest(Format::Json)
        };
        let place = results.path().join("a/b");
        std::fs::create_dir_all(&place).unwrap();
        let mut one = outcome("a::b", Status::Failed, &"\"".repeat(9000));
        one.reproduce = "\\".repeat(20_000);
        for character in ["x", "\"", "\\", "\x01", "\n", "é", "\u{202e}"] {
            let printed = character.repeat(300_000) + "\nthe end\n";
            for stream in STREAMS {
                std::fs::write(place.join(format!("command.{stream}")), &printed).unwrap();
            }
            let line = libtest.ended(&one);
            assert!(
                line.len() <= EVENT_LIMIT + 1,
                "{character:?}: {}",
                line.len()
            );
            assert!(
                line.len() > EVENT_LIMIT / 5 * 4,
                "{character:?}: {}",
                line.len()
            );
            assert_eq!(line.matches(r"\nthe end\n").count(), 2, "{character:?}");
        }
    }
}
