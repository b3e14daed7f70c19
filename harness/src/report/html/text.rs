//! Words and numbers as the page shows them.
//!
//! maud escapes what would be markup. What markup cannot hold, or what would turn the text around it, is spelled out
//! here first.

use crate::model::outcome::Status;
use crate::model::printable::printable_within;

/// Untrusted text that a page may hold.
pub(super) fn text(untrusted: &str) -> String {
    bytes(untrusted.as_bytes())
}

/// Untrusted bytes, as a page may hold them.
pub(super) fn bytes(untrusted: &[u8]) -> String {
    let text = printable_within(untrusted, usize::MAX);
    if text.is_ascii() || !text.contains(is_noncharacter) {
        return text;
    }
    let spelled = |c: char| {
        if is_noncharacter(c) {
            c.escape_unicode().to_string()
        } else {
            c.to_string()
        }
    };
    text.chars().map(spelled).collect()
}

/// What a document may not hold even escaped (HTML, "noncharacters").
fn is_noncharacter(c: char) -> bool {
    matches!(c, '\u{fdd0}'..='\u{fdef}') || u32::from(c) & 0xfffe == 0xfffe
}

/// The style's class for a status.
pub(super) fn class(status: Status) -> &'static str {
    match status {
        Status::Passed => "passed",
        Status::Skipped => "skipped",
        Status::Failed => "failed",
        Status::TimedOut => "timed-out",
        Status::NoRun => "no-run",
    }
}

/// A duration in the unit that suits it, with about three digits: `46 ms`, `1.63 s`, `2 m 01 s`.
pub(super) fn duration(seconds: f64) -> String {
    // Rounded first, so that no `60 s` comes out of 59.96.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "as saturates"
    )]
    let whole = seconds.round() as u64;
    match seconds {
        _ if whole >= 3600 => format!("{} h {:02} m", whole / 3600, whole / 60 % 60),
        _ if whole >= 100 => format!("{} m {:02} s", whole / 60, whole % 60),
        10.0.. => format!("{seconds:.1} s"),
        0.9995.. => format!("{seconds:.2} s"),
        _ => format!("{:.0} ms", seconds * 1000.0),
    }
}

/// A moment, given in milliseconds since the epoch.
pub(super) fn moment(ms: u64) -> String {
    let timestamp = i64::try_from(ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    timestamp.map_or_else(String::new, |time| {
        time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
    })
}

/// `1 case`, `2 cases`.
pub(super) fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_keep_about_three_digits() {
        for (seconds, shown) in [
            (0.0, "0 ms"),
            (0.0462, "46 ms"),
            (0.9996, "1.00 s"),
            (1.634, "1.63 s"),
            (47.42, "47.4 s"),
            (99.96, "1 m 40 s"),
            (121.2, "2 m 01 s"),
            (3599.7, "1 h 00 m"),
            (7321.0, "2 h 02 m"),
        ] {
            assert_eq!(duration(seconds), shown);
        }
    }

    #[test]
    fn moments_are_in_utc() {
        assert_eq!(moment(1_795_370_071_470), "2026-11-22 17:54:31 UTC");
    }
}
