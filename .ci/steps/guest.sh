# Environments on real kernels, in guests.
# shellcheck shell=bash

# Each guest is emulated by one thread.
check_real_kernels() {
    kvm-tests/guest/install --selftests --arch arm64
    side_by_side prove_x86_64 prove_arm64
}
prove_x86_64() {
    kvm-tests/guest/proof
    grep -qx '# 0 not ok' target/prove_x86_64.txt
}
prove_arm64() {
    kvm-tests/guest/proof --arch arm64
    grep -qx '# 0 not ok' target/prove_arm64.txt
}

# One run in two guests at once, of which one case panics the kernel: all others have their statuses all the same.
check_guests() {
    local selftests kernel here=target/ci-guests
    selftests=$(target/debug/kvm-tests build /usr/src/linux-source-6.12.tar.xz)
    rm -rf "$here"
    mkdir "$here"
    printf '[[test]]\nname = "kernel"\ncommand = "echo c > /proc/sysrq-trigger"\n' > "$here/panics.toml"
    kernel=$(kvm-tests/guest/kernel)
    target/debug/kvm-tests run --kernel "$(echo "$kernel"/boot/vmlinuz-*)" --modules "$kernel" --environment shadow_mmu --environment nested_off \
        --selftests "$selftests" --config "$here/panics.toml" --output "$here/run" \
        svm_vmcall_test pre_fault_memory_test cpuid_test panics:: || [ $? -eq 101 ]
    python3 .ci/guests.py "$here/run"
}
