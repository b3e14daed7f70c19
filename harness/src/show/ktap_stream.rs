//! `--format ktap`: what the kernel's run_kselftest.sh prints (kselftest/runner.sh), each case when it has ended.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::model::case::NO_TIMEOUT;
use crate::model::file;
use crate::model::outcome::{Counts, Exit, Outcome, OutcomeKind, Splat, Status};
use crate::model::text::one_line;
use crate::show::output::{STREAMS, copy_lines};
use crate::show::remaining::Expected;

/// What up to this size is printed of a case goes into one write(2).
const BLOCK: usize = 256 * 1024;

/// Before the first case, of so many.
pub(super) fn begin(total: usize) -> String {
    format!("TAP version 13\n1..{total}\n")
}

/// After the last case; what fails the run beside these is told in comments.
pub(super) fn end(counts: Counts, splats: &[Splat]) -> String {
    let [pass, xfail, xpass, skip, error] = [
        OutcomeKind::Passed,
        OutcomeKind::Known,
        OutcomeKind::Xpass,
        OutcomeKind::Skipped,
        OutcomeKind::NoRun,
    ]
    .map(|kind| counts.of(kind));
    let fail = counts.failures() - error;
    let splat = |one: &Splat| format!("# KERNEL SPLAT: {}\n", one_line(&one.title));
    let splats: String = splats.iter().map(splat).collect();
    format!(
        "{splats}# Totals: pass:{pass} fail:{fail} xfail:{xfail} xpass:{xpass} skip:{skip} error:{error}\n"
    )
}

/// What is said of a case before it runs.
pub(super) fn heading(case: &Expected, log: Option<&Path>) -> String {
    let timeout = log.map_or_else(|| timeout_line(case), |_| String::new());
    format!("{timeout}# selftests: {}\n", title(case))
}

/// All that there is to say of a case that has ended.
pub(super) struct Block<'a> {
    /// It is the `number`th to end.
    pub(super) number: usize,
    pub(super) outcome: &'a Outcome,
    pub(super) case: &'a Expected,
    pub(super) results: &'a Path,
    /// The file to whose end goes what it has printed, or the directory of such files.
    pub(super) log: Option<&'a Path>,
    /// Its heading has been written.
    pub(super) is_begun: bool,
}

impl Block<'_> {
    /// Writes it. Only its last line does not begin with `# `.
    ///
    /// # Errors
    /// `out` cannot be written.
    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(BLOCK, out);
        if !self.is_begun {
            write!(out, "{}", heading(self.case, self.log))?;
        }
        match self.log.map(|log| self.write_log(log)) {
            None => self.copy(&mut out)?,
            Some(Ok(())) => {}
            // That spoils no result.
            Some(Err(error)) => writeln!(out, "# what it printed cannot be written: {error}")?,
        }
        let reason = one_line(self.outcome.first_line());
        if self.outcome.status != Status::Passed {
            writeln!(out, "# {}: {reason}", self.outcome.status.as_str())?;
        }
        let (result, directive) = self.result();
        let (number, title) = (self.number, title(self.case));
        writeln!(out, "{result} {number} selftests: {title}{directive}")?;
        out.flush()
    }

    fn write_log(&self, log: &Path) -> io::Result<()> {
        let mut path = log.to_owned();
        if log.is_dir() {
            path.push(self.case.title.rsplit(": ").next().unwrap_or_default());
            fs::remove_file(&path).ok();
        }
        let mut out = BufWriter::new(file::append(&path)?);
        write!(out, "{}", timeout_line(self.case))?;
        self.copy(&mut out)?;
        out.flush()
    }

    fn copy(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut streams = STREAMS.iter();
        streams
            .try_for_each(|stream| copy_lines(self.outcome, self.results, stream, ("", "# "), out))
    }

    /// The first word of the result and, where there is one, its directive.
    fn result(&self) -> (&'static str, String) {
        // What stands behind the `#` must not begin another directive.
        let why = one_line(&self.outcome.message()).replace('#', "\\x23");
        match (self.outcome.kind(), self.outcome.exit) {
            (OutcomeKind::Passed, _) => ("ok", String::new()),
            (OutcomeKind::Skipped, _) => ("ok", " # SKIP".to_owned()),
            // As kselftest.h prints them: they are no failures.
            (OutcomeKind::Known, _) => ("ok", format!(" # XFAIL {why}")),
            (OutcomeKind::Xpass, _) => ("ok", format!(" # XPASS {why}")),
            (OutcomeKind::TimedOut, _) => {
                let seconds = self.case.timeout.as_secs();
                ("not ok", format!(" # TIMEOUT {seconds} seconds"))
            }
            (OutcomeKind::NoRun, _) => ("not ok", format!(" # ERROR {why}")),
            // As a shell says it.
            (OutcomeKind::Failed, Some(Exit::Code(code @ 1..))) => {
                ("not ok", format!(" # exit={code}"))
            }
            (OutcomeKind::Failed, Some(Exit::Signal { signal, .. })) => {
                ("not ok", format!(" # exit={}", 128 + signal))
            }
            (OutcomeKind::Failed, _) => ("not ok", format!(" # {why}")),
        }
    }
}

/// The case's name, as a TAP line can have it.
fn title(case: &Expected) -> String {
    one_line(&case.title).replace('#', "\\x23")
}

fn timeout_line(case: &Expected) -> String {
    let seconds = if case.timeout == NO_TIMEOUT {
        0
    } else {
        case.timeout.as_secs()
    };
    format!("# timeout set to {seconds}\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::show::stage::outcome;

    #[test]
    fn the_stream_is_the_kernels_and_what_a_test_prints_is_no_result() {
        let results = tempfile::tempdir().unwrap();
        let place = results.path().join("a_test/default");
        std::fs::create_dir_all(&place).unwrap();
        let printed = b"TAP version 13\n1..1\nok 1 sub\nnot ok 9 selftests: kvm: b\n\x1b[1mbold\0\xff\n\nno end";
        std::fs::write(place.join("command.stdout"), printed).unwrap();
        std::fs::write(place.join("command.stderr"), "to stderr\n").unwrap();
        let outcome = |name: &str, status, reason: &str, exit| Outcome {
            exit,
            ..outcome(name, status, reason)
        };
        let signal = Exit::Signal {
            signal: 11,
            core_dumped: true,
        };
        let outcomes = [
            outcome("a_test::default", Status::Passed, "", Some(Exit::Code(0))),
            outcome("s::skips", Status::Skipped, "no moon", Some(Exit::Code(4))),
            outcome(
                "e::s::fails",
                Status::Failed,
                "a.c:7: no",
                Some(Exit::Code(254)),
            ),
            outcome("s::crashes", Status::Failed, "SIGSEGV", Some(signal)),
            outcome("s::lies", Status::Failed, "not ok: #1", Some(Exit::Code(0))),
            outcome(
                "s::hangs",
                Status::TimedOut,
                "too long",
                Some(Exit::Timeout),
            ),
            outcome("s::never", Status::NoRun, "interrupted # SKIP\nnow", None),
        ];
        let mut stream = begin(outcomes.len()).into_bytes();
        for (outcome, number) in outcomes.iter().zip(1..) {
            let case = Expected {
                title: format!("kvm: {}", outcome.name.trim_end_matches("::default")),
                timeout: Duration::from_secs(120),
                ..Expected::default()
            };
            let block = Block {
                number,
                outcome,
                case: &case,
                results: results.path(),
                log: None,
                is_begun: false,
            };
            block.write(&mut stream).unwrap();
        }
        stream.extend_from_slice(
            end(Counts::of_all(outcomes.iter().map(|one| one.status)), &[]).as_bytes(),
        );
        let expected = r"TAP version 13
1..7
# timeout set to 120
# selftests: kvm: a_test
# TAP version 13
# 1..1
# ok 1 sub
# not ok 9 selftests: kvm: b
# bold\x00\xff
# 
# no end
# to stderr
ok 1 selftests: kvm: a_test
# timeout set to 120
# selftests: kvm: s::skips
# SKIPPED: no moon
ok 2 selftests: kvm: s::skips # SKIP
# timeout set to 120
# selftests: kvm: e::s::fails
# FAILED: a.c:7: no
not ok 3 selftests: kvm: e::s::fails # exit=254
# timeout set to 120
# selftests: kvm: s::crashes
# FAILED: SIGSEGV
not ok 4 selftests: kvm: s::crashes # exit=139
# timeout set to 120
# selftests: kvm: s::lies
# FAILED: not ok: #1
not ok 5 selftests: kvm: s::lies # not ok: \x231
# timeout set to 120
# selftests: kvm: s::hangs
# TIMED_OUT: too long
not ok 6 selftests: kvm: s::hangs # TIMEOUT 120 seconds
# timeout set to 120
# selftests: kvm: s::never
# NO_RUN: interrupted # SKIP
not ok 7 selftests: kvm: s::never # ERROR interrupted \x23 SKIP
# Totals: pass:1 fail:4 xfail:0 xpass:0 skip:1 error:1
";
        assert_eq!(String::from_utf8(stream).unwrap(), expected);
    }
}
