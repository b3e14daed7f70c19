//! The kernel's taint mask (/proc/sys/kernel/tainted).

/// The flags by bit: the letter, and what it tells (Documentation/admin-guide/tainted-kernels.rst).
const FLAGS: [(char, &str); 20] = [
    ('P', "a proprietary module was loaded"),
    ('F', "a module was loaded by force"),
    ('S', "the kernel runs out of its hardware's specification"),
    ('R', "a module was unloaded by force"),
    ('M', "the processor reported a machine check"),
    ('B', "a bad page was found"),
    ('U', "user space asked for it"),
    ('D', "the kernel died: an Oops or a BUG"),
    ('A', "an ACPI table was overridden"),
    ('W', "the kernel warned"),
    ('C', "a staging driver was loaded"),
    ('I', "a firmware's bug was worked around"),
    ('O', "an out-of-tree module was loaded"),
    ('E', "an unsigned module was loaded"),
    ('L', "a soft lockup occurred"),
    ('K', "the kernel was patched while it ran"),
    ('X', "the distribution set it"),
    ('T', "the layout of structures is randomized"),
    ('N', "an in-kernel test was run"),
    ('J', "user space used a debug operation of fwctl"),
];

/// The flags that a splat sets: B, D, W and L.
const OF_SPLATS: u64 = 1 << 5 | 1 << 7 | 1 << 9 | 1 << 14;

/// The mask with its letters: `512 (W)`; `no` where it is 0.
pub fn show(mask: u64) -> String {
    let letters: String = flags(mask).map(|(letter, _)| letter).collect();
    match (mask, letters.as_str()) {
        (0, _) => "no".to_owned(),
        (_, "") => mask.to_string(),
        _ => format!("{mask} ({letters})"),
    }
}

/// What each letter of the mask means: `W: the kernel warned`.
pub fn meanings(mask: u64) -> impl Iterator<Item = String> {
    flags(mask).map(|(letter, meaning)| format!("{letter}: {meaning}"))
}

/// Whether a splat must have set what is in `after` and was not in `before`.
pub fn tells_of_splat(before: u64, after: u64) -> bool {
    after & !before & OF_SPLATS != 0
}

fn flags(mask: u64) -> impl Iterator<Item = (char, &'static str)> {
    FLAGS
        .into_iter()
        .enumerate()
        .filter(move |(bit, _)| mask >> bit & 1 == 1)
        .map(|(_, flag)| flag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taint_is_shown_as_the_kernel_shows_it() {
        assert_eq!(
            [show(0), show(512), show(4097), show(1 << 40)],
            ["no", "512 (W)", "4097 (PO)", "1099511627776"]
        );
        assert_eq!(
            meanings(512 + 4096).collect::<Vec<_>>(),
            [
                "W: the kernel warned",
                "O: an out-of-tree module was loaded"
            ]
        );
    }

    #[test]
    fn a_warning_tells_of_a_splat_and_a_module_does_not() {
        assert!(tells_of_splat(0, 512) && tells_of_splat(4096, 4096 + 128));
        assert!(!tells_of_splat(512, 512) && !tells_of_splat(0, 4096) && !tells_of_splat(512, 0));
    }
}
