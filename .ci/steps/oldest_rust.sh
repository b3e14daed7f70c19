# The oldest Rust that is promised: Debian 13's own compiler, unpacked beside this host's.
# shellcheck shell=bash

check_oldest_rust() {
    local debian=$PWD/target/trixie libraries loader promised
    [ -x "$debian/usr/bin/rustc" ] || .ci/newer-debian --with-dependencies trixie "$debian" rustc cargo
    # Its own loader and libraries: the programs are made for a newer libc than this host's. By bash, as other shells drop
    # variables with a dash in their names, by which Cargo tells where a program is.
    loader=$(find "$debian/usr/lib" -name 'ld-linux*.so.?')
    libraries=$(dirname "$loader")
    printf '#!/bin/bash\nexec "%s" --library-path "%s" "%s/usr/bin/rustc" --sysroot "%s/usr" "$@"\n' \
        "$loader" "$libraries" "$debian" "$debian" > "$debian/rustc"
    chmod +x "$debian/rustc"

    promised=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    "$debian/rustc" --version | tee /dev/stderr | grep -q "^rustc ${promised//./\\.}\."
    RUSTC=$debian/rustc CARGO_TARGET_DIR=target/oldest-rust \
        "$loader" --library-path "$libraries" "$debian/usr/bin/cargo" check --workspace --all-targets --locked
}
