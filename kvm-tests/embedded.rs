//! What both programs carry with them, as `build.rs` found it.

use harness::Embedded;

use crate::smoke;

include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// The smoke selftests, the shipped suites and environments, and where to find the user's own.
pub(crate) static EMBEDDED: Embedded = Embedded {
    selftests: smoke::SELFTESTS,
    suites: SUITES,
    environments: ENVIRONMENTS,
    built_selftests: option_env!("KVM_TESTS_BUILT_SELFTESTS"),
    local: Some(concat!(env!("CARGO_MANIFEST_DIR"), "/kvm-tests/local")),
};
