# The oldest Rust that is promised: Debian 13's own compiler.
# shellcheck shell=bash

check_oldest_rust() {
    local promised version
    promised=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    version=$(.ci/debian-cargo --version)
    printf '%s, promised %s\n' "$version" "$promised"
    [[ $version == "cargo $promised."* ]] || return 1
    CARGO_TARGET_DIR=target/oldest-rust .ci/debian-cargo check --workspace --all-targets --locked
}
