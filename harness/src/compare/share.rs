//! Whether a case fails more often than it did, or whether that may be chance.

/// The probability below which a rise is not taken for chance.
const SIGNIFICANT: f64 = 0.05;

/// Whether `new` = (failures, of how many) is more than chance makes of `old`: Fisher's exact test, one-sided.
pub fn has_risen(old: (usize, usize), new: (usize, usize)) -> bool {
    let (failed, total) = (old.0 + new.0, old.1 + new.1);
    let factorials = ln_factorials(total);
    let choose = |of: usize, count: usize| match of.checked_sub(count) {
        Some(others) => factorials[of] - factorials[count] - factorials[others],
        None => f64::NEG_INFINITY,
    };
    // Of all ways to spread the failures over the iterations: those that give as many to `new`, or more.
    let share = |in_new| {
        (choose(new.1, in_new) + choose(old.1, failed - in_new) - choose(total, failed)).exp()
    };
    let probability: f64 = (new.0..=failed.min(new.1)).map(share).sum();
    probability < SIGNIFICANT
}

/// The logarithms of the factorials of 0 to `last`.
fn ln_factorials(last: usize) -> Vec<f64> {
    let mut logarithms = vec![0.0];
    for number in 1..=u32::try_from(last).unwrap_or(u32::MAX) {
        logarithms.push(logarithms.last().unwrap_or(&0.0) + f64::from(number).ln());
    }
    logarithms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rise_that_chance_explains_is_none() {
        for (old, new) in [
            ((1, 10), (3, 10)),
            ((3, 10), (3, 10)),
            ((9, 10), (1, 10)),
            ((1, 1), (1, 1)),
            ((1, 2), (10, 10)),
        ] {
            assert!(!has_risen(old, new), "{old:?} {new:?}");
        }
    }

    #[test]
    fn a_rise_that_chance_does_not_explain_is_one() {
        for (old, new) in [
            ((1, 10), (9, 10)),
            ((5, 10), (10, 10)),
            ((10, 1000), (40, 1000)),
            ((1, 100), (5, 10)),
        ] {
            assert!(has_risen(old, new), "{old:?} {new:?}");
        }
    }
}
