//! The program `kvm-tests`.

fn main() {}
