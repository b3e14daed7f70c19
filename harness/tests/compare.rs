//! `kvm-tests compare` and `--baseline`: what they make of two runs.

#![expect(clippy::unwrap_used, reason = "these are tests")]

mod support;

#[path = "compare/kinds.rs"]
mod kinds;
#[path = "compare/made.rs"]
mod made;
#[path = "compare/real.rs"]
mod real;
#[path = "compare/told.rs"]
mod told;
