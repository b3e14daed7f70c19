# The oldest Rust that is promised: Debian 13's own compiler, unpacked beside this host's.
# shellcheck shell=bash

check_oldest_rust() {
    local debian=$PWD/target/trixie libraries loader promised
    [ -x "$debian/usr/bin/rustc" ] || .ci/newer-debian --with-dependencies trixie "$debian" rustc cargo
    # Its own loader and libraries: the programs are made for a newer libc than this host's.
    loader=$(find "$debian/usr/lib" -name 'ld-linux*.so.?')
    libraries=$(dirname "$loader")
    printf '#!/bin/sh\nexec "%s" --library-path "%s" "%s/usr/bin/rustc" --sysroot "%s/usr" "$@"\n' \
        "$loader" "$libraries" "$debian" "$debian" > "$debian/rustc"
    chmod +x "$debian/rustc"

    promised=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    "$debian/rustc" --version | tee /dev/stderr | grep -q "^rustc ${promised//./\\.}\."
    # In a check, this cargo does not tell the tests where the program is: they only have to compile.
    env RUSTC="$debian/rustc" CARGO_TARGET_DIR=target/oldest-rust CARGO_BIN_EXE_kvm-tests-runner=/none \
        "$loader" --library-path "$libraries" "$debian/usr/bin/cargo" check --workspace --all-targets --locked
}
