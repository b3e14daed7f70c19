# Packages of ours: the static program where there is nothing of this machine, and the .deb.
# shellcheck shell=bash

# Runs a selftest, and the program's own, in a root directory that has nothing but what is in it.
run_in_root() { # ROOT
    mkdir -p "$1/proc" "$1/dev" "$1/tmp" "$1/selftests"
    printf '#!/bin/sh\necho here\n' > "$1/selftests/a_test"
    chmod +x "$1/selftests/a_test"
    # shellcheck disable=SC2016
    unshare --mount sh -euc '
        mount -t proc proc "$0/proc"
        mount --rbind /dev "$0/dev"
        chroot "$0" /usr/bin/kvm-tests run --selftests /selftests --output /one --overwrite
        chroot "$0" /usr/bin/kvm-tests run --exact vcpu_regs_test::default --output /own --overwrite' "$1" > "$1/said"
    [ "$(grep -c '1 PASSED of 1 cases' "$1/said")" = 2 ] || { cat "$1/said"; return 1; }
    grep -qx here "$1/one/a_test/default/command.stdout"
}

check_packages() {
    local target=x86_64-unknown-linux-gnu work=target/ci-packages parts=target/package
    local program=target/$target/release/kvm-tests
    rm -rf "$work"
    mkdir -p "$work/busybox/bin" "$work/busybox/usr/bin" "$parts"

    # As docs/install.md has it.
    RUSTFLAGS='-C target-feature=+crt-static' cargo install --locked --path . --target "$target" --root "$work/installed"
    cmp "$work/installed/bin/kvm-tests" "$program"
    if readelf -d "$program" | grep NEEDED; then
        return 1
    fi

    cp /bin/busybox "$work/busybox/bin/sh"
    cp "$program" "$work/busybox/usr/bin"
    run_in_root "$work/busybox"

    "$program" man > "$parts/kvm-tests.1"
    "$program" man run > "$parts/kvm-tests-run.1"
    local shell
    for shell in bash zsh fish; do
        "$program" completions "$shell" > "$parts/completions.$shell"
    done
    cargo deb --version 2> "$work/version" || cargo install --locked cargo-deb
    cargo deb --no-build --target "$target" --output "$work/kvm-tests.deb"
    debootstrap --variant=minbase bullseye "$work/bullseye" http://deb.debian.org/debian > "$work/debootstrap"
    cp "$work/kvm-tests.deb" "$work/bullseye"
    chroot "$work/bullseye" dpkg -i kvm-tests.deb
    chroot "$work/bullseye" dpkg -L kvm-tests | grep -E '/(bash-completion/completions/kvm-tests|man1/kvm-tests-run\.1\.gz)$'
    run_in_root "$work/bullseye"
}
