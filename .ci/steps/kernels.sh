# Other kernels than 6.12: an old one, as a tree that is not clean and may not be written, and the newest one that Debian
# has, as a tarball. Each is built and listed, and its quick selftests run.
# shellcheck shell=bash

check_kernels() {
    local kernels=target/ci-kernels tree newest began
    rm -rf "$kernels"
    .ci/newer-debian bookworm "$kernels" linux-source-6.1
    newest=$(.ci/newer-debian trixie-backports "$kernels" '/^linux-source-[0-9.]+$/')

    tree=$(realpath "$kernels")/linux-6.1
    mkdir "$tree"
    tar -C "$tree" --strip-components=1 -xf "$kernels/usr/src/linux-source-6.1.tar.xz"
    mkdir -p "$tree"/{include/config,usr/include/linux}
    printf 'CONFIG_KVM=y\n' | tee "$tree/.config" > "$tree/include/config/auto.conf"
    printf '#error out of date\n' > "$tree/usr/include/linux/kvm.h"
    # shellcheck disable=SC2016
    KERNEL_SRC=$tree unshare --mount sh -ec '
        mount --bind "$KERNEL_SRC" "$KERNEL_SRC"
        mount -o remount,bind,ro "$KERNEL_SRC"
        cargo test --locked --no-run'
    KERNEL_SRC=$tree check_kernel 68
    KERNEL_SRC=$tree cargo test --locked -- --exact steal_time::default --output target/kvm-tests/ci-broken --overwrite > target/broken.txt || [ $? -eq 101 ]
    grep '^NO_RUN: .*: does not compile: .*error: ' target/broken.txt

    printf '/* */\n' >> "$tree/tools/testing/selftests/kvm/rseq_test.c"
    began=$SECONDS
    KERNEL_SRC=$tree cargo test --locked --no-run
    printf 'built again after a change in %d s\n' $((SECONDS - began))
    [ $((SECONDS - began)) -lt 60 ]

    KERNEL_SRC=$(realpath "$kernels")/usr/src/$newest.tar.xz check_kernel 100
}

# The table of features beside what the modules of Debian's stable and newest kernels have.
check_parameters() {
    local kernels=target/ci-modules suite
    rm -rf "$kernels"
    for suite in trixie trixie-backports; do
        # Newer packages have the modules apart from the image.
        .ci/newer-debian "$suite" "$kernels/$suite" '/^linux-(image|modules)-[0-9.]+[^ ]*-cloud-amd64$/'
    done
    python3 .ci/parameters.py target/debug/kvm-tests "$kernels/trixie" "$kernels/trixie-backports"
    rm -rf "$kernels"
}

check_kernel() { # AT_LEAST
    local fast count run=target/kvm-tests/ci-kernel
    cargo test --locked -- --list --format terse | grep -E '^[a-z0-9_]+::default: test$' > target/listed-kernel
    count=$(wc -l < target/listed-kernel)
    printf '%s: %d selftests listed\n' "$KERNEL_SRC" "$count"
    [ "$count" -ge "$1" ]
    mapfile -t fast < <(fast_selftests target/listed-kernel)
    rm -rf "$run"
    # Some fail on most hosts, and more where the kernel is another one.
    cargo test --locked -- --exact "${fast[@]}" --output "$run" > target/ci-kernel.txt || [ $? -eq 101 ]
    python3 .ci/compare_by_hand.py "$run/run.json"
}
