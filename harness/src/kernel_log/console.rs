//! What a console says of the kernel's end.

use super::pattern::find;
use crate::model::outcome::Splat;
use crate::model::text::printable_within;

/// How many lines before the panic its report may begin, and how many are kept behind it.
const BEFORE: usize = 100;
const BEHIND: usize = 20;

/// What is kept of a line, in bytes.
const LINE: usize = 1000;

/// The last splat in what a console has printed, with the report that led to it, and the number of its first line, from 1.
pub fn last_splat(printed: &[u8]) -> Option<(usize, Splat)> {
    let lines = printed.split(|&byte| byte == b'\n');
    let lines: Vec<_> = lines
        .map(|line| printable_within(line.trim_ascii(), LINE))
        .collect();
    let lines: Vec<_> = lines.iter().map(|line| without_time(line)).collect();
    let name = |line: &str| find(line).map(|(name, _)| name);
    let is_panic = |line: &&str| name(line) == Some("kernel panic");
    let last = lines.iter().rposition(is_panic);
    let last = last.or_else(|| lines.iter().rposition(|line| name(line).is_some()))?;
    let from = last.saturating_sub(BEFORE);
    let first = from
        + lines[from..=last]
            .iter()
            .position(|line| name(line).is_some())?;
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
        at_us: 0,
        lines: report.iter().map(|line| (*line).to_owned()).collect(),
        while_running: Vec::new(),
        host: None,
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
    use super::*;

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
