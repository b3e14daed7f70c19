# The oldest Rust that is promised: Debian 13's own compiler.
# shellcheck shell=bash

check_oldest_rust() {
    local promised
    promised=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    .ci/debian-cargo --version | tee /dev/stderr | grep -q "^cargo ${promised//./\\.}\."
    CARGO_TARGET_DIR=target/oldest-rust .ci/debian-cargo check --workspace --all-targets --locked
}
