# Environments on a real kernel, in a guest.
# shellcheck shell=bash

check_guest() {
    kvm-tests/guest/install --selftests
    kvm-tests/guest/proof | tee target/proof.txt
    grep -qx '# 0 not ok' target/proof.txt
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

check_arm() {
    kvm-tests/guest/install --arch arm64
    kvm-tests/guest/proof --arch arm64 | tee target/proof-arm64.txt
    grep -qx '# 0 not ok' target/proof-arm64.txt
}
