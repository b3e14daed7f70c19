//! The smoke selftests: small KVM selftests inside this program, so that there is something to run without a kernel tree.
//!
//! Each `smoke/*_test.rs` is one selftest; `harness` runs it in a process of its own, by the same contract as upstream's.

use harness::SmokeSelftest;

mod capability_test;
mod device;
mod kselftest;

#[cfg(target_arch = "x86_64")]
mod dirty_log_smoke_test;
#[cfg(target_arch = "x86_64")]
mod guest;
#[cfg(target_arch = "x86_64")]
mod immediate_exit_test;
#[cfg(target_arch = "x86_64")]
mod memory;
#[cfg(target_arch = "x86_64")]
mod memslot_test;
#[cfg(target_arch = "x86_64")]
mod mmio_exit_test;
#[cfg(target_arch = "x86_64")]
mod smp_test;
#[cfg(target_arch = "x86_64")]
mod vcpu_halt_test;
#[cfg(target_arch = "x86_64")]
mod vcpu_regs_test;

/// An entry for a selftest that brings guest code, which so far is written for x86-64 only.
macro_rules! with_guest {
    ($selftest:ident) => {
        (stringify!($selftest), || {
            #[cfg(target_arch = "x86_64")]
            return kselftest::exit_code($selftest::run());
            #[cfg(not(target_arch = "x86_64"))]
            kselftest::exit_code(kselftest::skip("its guest code is for x86-64 only"))
        })
    };
}

/// Every smoke selftest.
pub(crate) const SELFTESTS: &[SmokeSelftest] = &[
    ("capability_test", || {
        kselftest::exit_code(capability_test::run())
    }),
    with_guest!(dirty_log_smoke_test),
    with_guest!(immediate_exit_test),
    with_guest!(memslot_test),
    with_guest!(mmio_exit_test),
    with_guest!(smp_test),
    with_guest!(vcpu_halt_test),
    with_guest!(vcpu_regs_test),
];
