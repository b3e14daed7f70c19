//! Where the guest was, where an assertion tells its RIP: by the selftest's own symbols.

use std::path::Path;
use std::time::Duration;

use crate::model::facts::Ended;
use crate::model::text::printable;

/// How long addr2line may take.
const TIME: Duration = Duration::from_secs(5);

/// The function and the line; `None` where no RIP is told, or nothing is known of it.
pub(super) fn describe(ended: &Ended, program: &Path) -> Option<String> {
    let assertion = ended.evidence.assertion.as_ref()?;
    let rip = rip(&assertion.message)?;
    let resolve = duct::cmd!("addr2line", "-f", "-s", "-e", program, &rip);
    let resolve = resolve.stdin_null().stdout_capture().stderr_null();
    // It is not there everywhere.
    let resolving = resolve.unchecked().start().ok()?;
    let Ok(Some(resolved)) = resolving.wait_timeout(TIME) else {
        resolving.kill().ok();
        return None;
    };
    let lines = printable(&resolved.stdout);
    let (function, place) = lines.trim_end().split_once('\n')?;
    (function != "??").then(|| format!("guest RIP {rip}: {function} at {place}"))
}

/// The first address in a message that is called a RIP: `at guest RIP '0x402a3c'`, `rip=0x402a3c`.
fn rip(message: &str) -> Option<String> {
    let message = message.to_ascii_lowercase();
    let mut places = message.match_indices("rip");
    places.find_map(|(at, word)| {
        let is_in_word = message[..at].ends_with(|c: char| c.is_ascii_alphanumeric());
        let rest = message[at + word.len()..].trim_start_matches([' ', ':', '=', '\'', '"', '(']);
        let digits = rest.strip_prefix("0x").filter(|_| !is_in_word)?;
        let end = digits.find(|c: char| !c.is_ascii_hexdigit());
        let digits = &digits[..end.unwrap_or(digits.len())];
        (1..=16)
            .contains(&digits.len())
            .then(|| format!("0x{digits}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_the_rip_where_it_is_called_so() {
        for (message, expected) in [
            (
                "Unhandled exception '0xe' at guest RIP '0x402a3c'",
                Some("0x402a3c"),
            ),
            ("rip=0x40, rsp=0x50", Some("0x40")),
            ("exception 1 rip 0x1 (should be 0x403099)", Some("0x1")),
            ("a trip: 0x40, RIP: none", None),
            ("rip 0x", None),
            ("é", None),
        ] {
            assert_eq!(rip(message).as_deref(), expected, "{message}");
        }
    }
}
