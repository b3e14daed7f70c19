//! Memory that is free goes back to the kernel.

/// Gives back what is free, wherever it lies: glibc's malloc keeps it by itself, in pieces that are too small for the large
/// objects that follow.
pub fn give_back() {
    // SAFETY: malloc_trim(3) may be called at any time, by any thread.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0)
    };
}
