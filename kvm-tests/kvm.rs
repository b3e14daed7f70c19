//! The test target `kvm`.

fn main() {}
