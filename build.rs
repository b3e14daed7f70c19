//! Finds out what must be known at build time.

fn main() {}
