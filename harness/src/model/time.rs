//! Times: when is the wall clock's, how long is `Instant`'s.

use std::time::{Duration, SystemTime};

use jiff::SignedDuration;

/// Three times as long as last time is slower. What runs beside a case may double its time, as the order of a run changes
/// with the selection.
pub const SLOWER_FACTOR: f64 = 3.0;

/// And this much longer: of a short one a busy machine makes any multiple.
const SLOWER_BY: Duration = Duration::from_secs(2);

/// The wall clock, in milliseconds since the epoch; 0 where the clock is before that.
pub fn now_ms() -> u64 {
    milliseconds(SystemTime::now())
}

/// `time` in milliseconds since the epoch; 0 for what lies before it.
pub fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    whole_ms(since.unwrap_or_default())
}

/// The whole milliseconds of `time`.
pub fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A time in seconds, of which others may have written; none is 0.
pub fn of_seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// A time as people write it: `90`, in seconds, or `45m` or `1h30m`.
///
/// # Errors
/// It is none, or no time at all.
pub fn parse(text: &str) -> Result<Duration, &'static str> {
    let written = || text.parse::<SignedDuration>().ok()?.try_into().ok();
    let time = text.parse().map(Duration::from_secs).ok().or_else(written);
    let time = time.filter(|time| !time.is_zero());
    time.ok_or("should be a time, such as 90 (seconds), 45m or 1h30m")
}

/// Whether something that took `before` is called slower where it takes `now`. The one definition for the display, the
/// reports and the comparison of runs.
pub fn is_slower(before: Duration, now: Duration) -> bool {
    is_slower_by(before, now, SLOWER_FACTOR)
}

/// The same with another factor.
pub fn is_slower_by(before: Duration, now: Duration, factor: f64) -> bool {
    now.as_secs_f64() > before.as_secs_f64() * factor && now.saturating_sub(before) >= SLOWER_BY
}

/// A moment, in milliseconds since the epoch, for calendars; `None` where none has it. It is printed as RFC 3339 has it.
pub fn timestamp(ms: u64) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()
}

/// The same as `2026-11-22 17:54:31 UTC`; empty where no calendar has it.
pub fn utc(ms: u64) -> String {
    let time = timestamp(ms).map(|time| time.strftime("%Y-%m-%d %H:%M:%S UTC"));
    time.map_or_else(String::new, |time| time.to_string())
}

/// Today, as UTC has it; the last day there is where no calendar has it.
pub fn today() -> jiff::civil::Date {
    let now = timestamp(now_ms()).unwrap_or(jiff::Timestamp::MAX);
    now.to_zoned(jiff::tz::TimeZone::UTC).date()
}

/// A time in seconds, as people read it: `0.4 s`, `12 s`.
pub fn seconds(time: Duration) -> String {
    if time < Duration::from_secs(10) {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{} s", time.as_secs())
    }
}

/// A time until an end that is only guessed: `40 s`, `3 min`.
pub fn roughly(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..90 => format!("{seconds} s"),
        seconds @ 90..5400 => format!("{} min", (seconds + 30) / 60),
        _ => format!("{:.1} h", time.as_secs_f64() / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_in_seconds_or_with_its_units() {
        for (text, seconds) in [("90", 90), ("45m", 2700), ("1h30m", 5400), ("2h 5s", 7205)] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "0", "0s", "-5s", "soon", "1y", "99999999999999999999"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
