//! Memory that is lent to a guest: the one place, beside the memory slots, that needs `unsafe`.

use std::ffi::c_void;
use std::ptr::{self, NonNull};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Zeroed memory of the host's own, whole pages, for a guest to read and write.
///
/// It is read and written by copying, with no reference into it, because a guest may change it at any time.
pub(crate) struct Memory {
    pointer: NonNull<c_void>,
    size: usize,
}

impl Memory {
    /// Maps `size` bytes.
    pub(crate) fn new(size: usize) -> Self {
        // SAFETY: with a null address and without MAP_FIXED, no existing mapping changes.
        let pointer = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                size,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        };
        let pointer = NonNull::new(pointer.expect("map memory for a guest"))
            .expect("a mapping is never at null");
        Self { pointer, size }
    }

    /// Its address in this process, for a memory slot.
    pub(crate) fn address(&self) -> u64 {
        self.pointer.as_ptr() as u64
    }

    /// Its size in bytes.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Copies `bytes` to `offset`.
    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) {
        let to = self.at(offset, bytes.len());
        // SAFETY: `at` has checked the range, and `bytes` cannot lie in it, as no reference into it exists.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) }
    }

    /// Reads the number at `offset`.
    pub(crate) fn read(&self, offset: usize) -> u64 {
        let from = self.at(offset, size_of::<u64>()).cast::<u64>();
        // SAFETY: `at` has checked the range; any bytes are a number.
        unsafe { from.read_unaligned() }
    }

    fn at(&self, offset: usize, length: usize) -> *mut u8 {
        let inside = offset
            .checked_add(length)
            .is_some_and(|end| end <= self.size);
        assert!(
            inside,
            "{length} bytes at {offset} are outside of {} bytes of guest memory",
            self.size
        );
        // SAFETY: it is inside the mapping, as has just been checked.
        unsafe { self.pointer.as_ptr().cast::<u8>().add(offset) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours. A slot that still refers to it only makes KVM_RUN fail with EFAULT.
        let unmapped = unsafe { munmap(self.pointer.as_ptr(), self.size) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}
