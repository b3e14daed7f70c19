//! `kvm-tests compare` and `--baseline`: what they make of two runs.

mod kinds;
mod made;
mod real;
mod told;
