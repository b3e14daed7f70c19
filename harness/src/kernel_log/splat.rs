//! Splats: what the kernel complains of, put together from the records of its log, or from what a console printed.

use std::time::Duration;

use super::kmsg::Record;
use super::owner::{self, Cases, Whose};
use super::pattern::{self, Kind};
use crate::model::outcome::Splat;
use crate::model::text::printable_within;

/// Where nothing is added to a splat for this long, it is at its end: many have no mark there.
pub(super) const GAP: Duration = Duration::from_secs(1);

/// How many lines of a splat are kept; `kernel.log` has all of them.
const LINES: usize = 250;

/// No splat goes on for more lines than this.
const LONGEST: usize = 5000;

/// No kernel writes more splats at once than this.
const MOST_OPEN: usize = 64;

/// What is kept of a line, in bytes.
const LINE: usize = 1000;

/// How many lines before a panic on a console its report may begin, and how many are kept behind it.
const BEFORE: usize = 100;
const BEHIND: usize = 20;

/// Puts splats together.
#[derive(Default)]
pub(super) struct Assembler {
    open: Vec<Open>,
}

/// A splat that has begun.
struct Open {
    caller: Option<String>,
    /// `None` where it has been said only that something comes, not yet what.
    kind: Option<Kind>,
    /// It began with a mark, so another one begins with a mark only.
    is_marked: bool,
    splat: Splat,
    count: usize,
    pid: Option<i32>,
    owner: Whose,
    last_us: u64,
    /// Its case has ended, and has taken it along.
    is_taken: bool,
}

impl Assembler {
    /// Takes note of a record, and returns the splats that have come to their end, with their owners.
    pub(super) fn record(&mut self, record: &Record, cases: &Cases) -> Vec<(Whose, Splat)> {
        let has_ended =
            |open: &Open| Duration::from_micros(record.time_us.saturating_sub(open.last_us)) > GAP;
        let all = std::mem::take(&mut self.open).into_iter();
        let (mut ended, open): (Vec<_>, Vec<_>) = all.partition(has_ended);
        self.open = open;
        // What is written to /dev/kmsg by others is no word of the kernel's.
        if record.is_the_kernels() {
            for line in record.text.lines() {
                let line = printable_within(line.trim_end().as_bytes(), LINE);
                ended.extend(self.line(record, &line, cases));
            }
        }
        finished(ended)
    }

    /// Ends all that have begun.
    pub(super) fn close(&mut self) -> Vec<(Whose, Splat)> {
        finished(std::mem::take(&mut self.open))
    }

    /// What has begun and is of this worker's case, as far as it has come. What follows of it is dropped.
    pub(super) fn take(&mut self, worker: usize) -> Vec<Splat> {
        let open = self.open.iter_mut();
        let of_case = open.filter(|open| open.owner == Whose::Case(worker));
        let taken = of_case.filter_map(|open| {
            let is_new = !std::mem::replace(&mut open.is_taken, true);
            is_new.then(|| open.splat())
        });
        taken.collect()
    }

    fn line(&mut self, record: &Record, line: &str, cases: &Cases) -> Option<Open> {
        let found = pattern::find(line);
        let is_cut = pattern::is_cut(line);
        let is_same = |open: &Open| open.caller == record.caller;
        let same = self.open.iter().position(is_same);
        let begins = found.is_some_and(|(_, kind)| matches!(kind, Kind::Report | Kind::Stall));
        let is_new = match same.map(|index| &self.open[index]) {
            Some(open) => open.kind.is_some() && (is_cut || !open.is_marked && begins),
            None => is_cut || found.is_some(),
        };
        let mut ended = None;
        let mut index = same;
        if is_new {
            let too_many = (self.open.len() >= MOST_OPEN).then_some(0);
            ended = same.or(too_many).map(|index| self.open.remove(index));
            index = Some(self.open.len());
            self.open.push(Open::new(record, is_cut, cases));
        }
        let is_stall = |open: &Open| open.kind == Some(Kind::Stall);
        let index = index.or_else(|| self.open.iter().rposition(is_stall))?;
        let open = &mut self.open[index];
        open.add(line, found, record.time_us);
        open.accuse(line, cases);
        let is_end = pattern::is_end(line, open.kind.unwrap_or(Kind::Report));
        // One that is new has just begun: it does not end with the line that ended another.
        if ended.is_none() && (is_end || open.count >= LONGEST) {
            ended = Some(self.open.remove(index));
        }
        ended
    }
}

fn finished(ended: Vec<Open>) -> Vec<(Whose, Splat)> {
    let told = ended.into_iter().filter(|open| !open.is_taken);
    told.map(|open| (open.owner, open.splat())).collect()
}

impl Open {
    fn new(record: &Record, is_marked: bool, cases: &Cases) -> Self {
        let splat = Splat {
            name: "splat".to_owned(),
            at_us: record.time_us,
            while_running: cases.names(),
            ..Splat::default()
        };
        Self {
            caller: record.caller.clone(),
            kind: None,
            is_marked,
            splat,
            count: 0,
            pid: None,
            owner: Whose::Nobody,
            last_us: record.time_us,
            is_taken: false,
        }
    }

    fn add(&mut self, line: &str, found: Option<(&str, Kind)>, time_us: u64) {
        self.last_us = time_us;
        self.count += 1;
        if let (None, Some((name, kind))) = (self.kind, found) {
            self.kind = Some(kind);
            (self.splat.name, self.splat.title) = (name.to_owned(), line.to_owned());
        }
        if self.splat.lines.len() < LINES {
            self.splat.lines.push(line.to_owned());
        }
    }

    /// Looks for whose it is: the first thread that it names decides; another line may tell that thread's name.
    fn accuse(&mut self, line: &str, cases: &Cases) {
        let culprit = match self.kind {
            Some(Kind::OutOfMemory) => owner::victim(line),
            _ => owner::thread(line),
        };
        let Some(culprit) = culprit else { return };
        let is_same = *self.pid.get_or_insert(culprit.pid) == culprit.pid;
        if is_same && self.owner == Whose::Nobody {
            self.owner = cases.owner(&culprit);
        }
    }

    fn splat(&self) -> Splat {
        let mut splat = self.splat.clone();
        let left_out = self.count - splat.lines.len();
        if left_out > 0 {
            splat.lines.push(format!("({left_out} lines left out)"));
        }
        if splat.title.is_empty() {
            let title = splat.lines.get(1).unwrap_or(&splat.lines[0]);
            splat.title = title.clone();
        }
        if self.owner != Whose::Nobody {
            splat.while_running.clear();
        }
        splat
    }
}

/// The last splat in what a console has printed, with the report that led to it, and the number of its first line, from 1.
pub fn last_splat(printed: &[u8]) -> Option<(usize, Splat)> {
    let lines = printed.split(|&byte| byte == b'\n');
    let lines: Vec<_> = lines
        .map(|line| printable_within(line.trim_ascii(), LINE))
        .collect();
    let lines: Vec<_> = lines.iter().map(|line| without_time(line)).collect();
    let name = |line: &str| pattern::find(line).map(|(name, _)| name);
    let is_panic = |line: &&str| name(line) == Some("kernel panic");
    let last = lines.iter().rposition(is_panic);
    let last = last.or_else(|| lines.iter().rposition(|line| name(line).is_some()))?;
    let from = last.saturating_sub(BEFORE);
    let first = (from..=last).find(|&at| name(lines[at]).is_some())?;
    let until = lines.len().min(last + BEHIND);
    let report = &lines[first..until];
    // `RIP: 0010:nested_svm_vmrun+0x1f/0x2a0 [kvm_amd]`
    let rip = report
        .iter()
        .find_map(|line| line.strip_prefix("RIP: ")?.split_once(':'));
    let rip = rip.map(|(_, place)| format!(", RIP {place}"));
    let splat = Splat {
        name: name(lines[first])?.to_owned(),
        title: format!("{}{}", lines[first], rip.unwrap_or_default()),
        lines: report.iter().map(|line| (*line).to_owned()).collect(),
        ..Splat::default()
    };
    Some((first + 1, splat))
}

/// A line without what the kernel puts before it: `[   12.345678][    T1] `.
fn without_time(mut line: &str) -> &str {
    let is_of_time = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == ' ';
    while let Some((inner, rest)) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        if !inner.chars().all(is_of_time) || !inner.contains(|c: char| c.is_ascii_digit()) {
            break;
        }
        line = rest.trim_start();
    }
    line
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::collection::vec;
    use proptest::prelude::{ProptestConfig, any, prop, proptest};

    use super::*;
    use crate::kernel_log::kmsg::Kmsg;
    use crate::model::host::Root;

    /// Pieces that mean something to the parser, or nearly so.
    const PIECES: &[&str] = &[
        "\n",
        "4,1,1,-;",
        "4,2,18446744073709551615,-,caller=T1;",
        "4,3,1,-,caller=C2;",
        "12,1,1,-;",
        ";",
        ",",
        " K=V\n",
        "------------[ cut here ]------------",
        "WARNING: CPU: 1 PID: 2 at ",
        "WARNING: x at y, CPU#1: a/",
        "\\x0a",
        "\\x1b[31m",
        "\\x",
        "\u{1b}",
        "\u{202e}",
        "CPU: 1 PID: 1 Comm: ",
        " Not tainted",
        "BUG: ",
        "---[ end trace",
        "====================",
        " invoked oom-killer: ",
        "oom-kill:,pid=",
        "Killed process 1 (",
        "INFO: task a:1 blocked for more than ",
        " by task ",
        "watchdog: BUG: soft lockup - CPU#1 [a:",
        "]",
        "/",
        "99999999999999999999",
        "é",
        "\0",
    ];

    /// All that the splats of these bytes say.
    fn splats_of(bytes: &[u8]) -> Vec<Splat> {
        let (mut assembler, cases) = (Assembler::default(), Cases::new(&Root::from_env()));
        let mut splats = Vec::new();
        Kmsg::from_reader(bytes)
            .drain(|record| splats.extend(assembler.record(&record, &cases)))
            .unwrap();
        splats.extend(assembler.close());
        splats.into_iter().map(|(_, splat)| splat).collect()
    }

    /// Texts are harmless, and bounded: a line to 1000 bytes and an ellipsis, a splat to 251 lines.
    fn check(bytes: &[u8]) {
        for splat in splats_of(bytes) {
            assert!(
                splat.lines.len() <= 251 && !splat.lines.is_empty(),
                "{} lines",
                splat.lines.len()
            );
            for line in splat.lines.iter().chain([&splat.title]) {
                assert!(line.len() <= 1003, "{} bytes", line.len());
                assert!(
                    !line.contains(|c: char| c != '\t' && c.is_control())
                        && !line.contains('\u{202e}'),
                    "{line:?}"
                );
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn bytes_of_any_kind_are_read(bytes in vec(any::<u8>(), 0..2000)) {
            check(&bytes);
        }

        #[test]
        fn pieces_in_any_order_are_read(pieces in vec(prop::sample::select(PIECES), 0..200)) {
            check(pieces.concat().as_bytes());
        }
    }

    #[test]
    fn endless_splats_and_lines_take_little_memory_and_time() {
        let begin = Instant::now();
        let mut text = String::from("4,1,1,-;BUG: endless\n");
        text.extend(
            (0..20_000).map(|line| format!("4,{line},1,-;line {line} {}\n", "x".repeat(50))),
        );
        check(text.as_bytes());
        check(format!("4,1,1,-;BUG: {}", "\\x0a[".repeat(100_000)).as_bytes());
        check("4,1,1,-;BUG: \n".repeat(20_000).as_bytes());
        let callers: String = (0..10_000)
            .map(|caller| format!("4,1,1,-,caller=T{caller};BUG: many\n"))
            .collect();
        check(callers.as_bytes());
        // Were the time to grow with the square of the length, it would be minutes.
        assert!(
            begin.elapsed() < Duration::from_secs(60),
            "{:?}",
            begin.elapsed()
        );
    }

    #[test]
    fn a_panic_is_told_by_what_led_to_it() {
        let console = "SeaBIOS\r\n[    1.000000] Booting\r\n[   12.000001][  T312] BUG: kernel NULL pointer dereference, address: 0\r\n\
            [   12.000002] RIP: 0010:nested_svm_vmrun+0x1f/0x2a0 [kvm_amd]\r\n\
            [   12.000003] Kernel panic - not syncing: Fatal exception\r\n";
        let (line, splat) = last_splat(console.as_bytes()).unwrap();
        let title = "BUG: kernel NULL pointer dereference, address: 0, RIP nested_svm_vmrun+0x1f/0x2a0 [kvm_amd]";
        assert_eq!(
            (line, splat.title.as_str(), splat.name.as_str()),
            (3, title, "BUG")
        );
        assert_eq!(splat.lines.len(), 4);
        let asked = "[    9.5] sysrq: Trigger a crash\n[    9.6] Kernel panic - not syncing: sysrq triggered crash\n";
        let (line, splat) = last_splat(asked.as_bytes()).unwrap();
        assert_eq!((line, splat.name.as_str()), (2, "kernel panic"));
        assert_eq!(
            last_splat(b"Welcome to [host 1]\nConnection closed.\n"),
            None
        );
    }
}
