//! Tables in Markdown.

use std::time::Duration;

/// Prints a table under `title`.
pub(crate) fn print<const N: usize>(title: &str, heads: [&str; N], rows: &[[String; N]]) {
    println!("\n{title}\n");
    println!("| {} |", heads.join(" | "));
    println!("|---|{}", "--:|".repeat(N - 1));
    for row in rows {
        println!("| {} |", row.join(" | "));
    }
}

/// `0.123 s`
pub(crate) fn seconds(time: Duration) -> String {
    format!("{:.3} s", time.as_secs_f64())
}

/// How many times `other` fits into `one`: `1.23`.
pub(crate) fn ratio(one: Duration, other: Duration) -> String {
    format!("{:.2}", one.as_secs_f64() / other.as_secs_f64())
}

/// `12.3 MB`
pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
