# Environments on a real kernel, in a guest.
# shellcheck shell=bash

check_guest() {
    kvm-tests/guest/install
    local selftests
    selftests=$(find target/kvm-tests-kernel -maxdepth 2 -path '*/linux-source-6.12*/install')
    KVM_SELFTESTS=$PWD/$selftests kvm-tests/guest/proof | tee target/proof.txt
    grep -qx '# 0 not ok' target/proof.txt
}

check_arm() {
    kvm-tests/guest/install --arch arm64
    kvm-tests/guest/proof --arch arm64 | tee target/proof-arm64.txt
    grep -qx '# 0 not ok' target/proof-arm64.txt
}
