//! Sizes of memory, such as `2M`.

/// The bytes of a size: a whole number followed by `K`, `M`, `G` or `T`, which are powers of 1024.
///
/// `None` if it is no such thing, is zero, or does not fit into 64 bits.
pub fn parse(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let shift = match unit {
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    number
        .parse::<u64>()
        .ok()?
        .checked_mul(1 << shift)
        .filter(|&bytes| bytes > 0)
}

/// What [`parse`] takes, in words that follow "must be".
pub const SIZE: &str = "a size such as `2M` (K, M, G or T)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_number_and_a_unit() {
        for (text, bytes) in [
            ("4K", Some(4096)),
            ("2M", Some(2 << 20)),
            ("1G", Some(1 << 30)),
            ("3T", Some(3 << 40)),
            ("0M", None),
            ("", None),
            ("2", None),
            ("M", None),
            ("2m", None),
            ("2MB", None),
            ("-2M", None),
            ("2 M", None),
            ("2é", None),
            ("99999999999T", None),
            ("99999999999999999999K", None),
        ] {
            assert_eq!(parse(text), bytes, "{text}");
        }
    }
}
