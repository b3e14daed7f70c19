//! Whether a case fails more often than it did, or whether that may be chance.

/// The probability below which a rise is not taken for chance.
const SIGNIFICANT: f64 = 0.05;

/// Whether `new` = (failures, of how many) is more than chance makes of `old`: Fisher's exact test, one-sided.
pub fn has_risen(old: (usize, usize), new: (usize, usize)) -> bool {
    let (failed, total) = (old.0 + new.0, old.1 + new.1);
    // Of all ways to spread the failures over the iterations: those that give as many to `new`, or more.
    let ways = |in_new: usize| {
        (choose(new.1, in_new) + choose(old.1, failed - in_new) - choose(total, failed)).exp()
    };
    let probability: f64 = (new.0..=failed.min(new.1)).map(ways).sum();
    probability < SIGNIFICANT
}

/// The logarithm of the number of ways to choose `count` of `total`.
#[expect(clippy::cast_precision_loss, reason = "no run has 2^52 iterations")]
fn choose(total: usize, count: usize) -> f64 {
    if count > total {
        return f64::NEG_INFINITY;
    }
    (1..=count).map(|step| ((total - count + step) as f64 / step as f64).ln()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rise_that_chance_explains_is_none() {
        for (old, new) in
            [((1, 10), (3, 10)), ((3, 10), (3, 10)), ((9, 10), (1, 10)), ((1, 1), (1, 1)), ((1, 2), (10, 10))]
        {
            assert!(!has_risen(old, new), "{old:?} {new:?}");
        }
    }

    #[test]
    fn a_rise_that_chance_does_not_explain_is_one() {
        for (old, new) in
            [((1, 10), (9, 10)), ((5, 10), (10, 10)), ((10, 1000), (40, 1000)), ((1, 100), (5, 10))]
        {
            assert!(has_risen(old, new), "{old:?} {new:?}");
        }
    }
}
