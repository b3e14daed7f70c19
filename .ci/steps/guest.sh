# Environments on a real kernel, in a guest.
# shellcheck shell=bash

check_guest() {
    kvm-tests/guest/install
    local selftests
    selftests=$(find target/kvm-tests-kernel -maxdepth 2 -path '*/linux-source-6.12*/install')
    KVM_SELFTESTS=$PWD/$selftests kvm-tests/guest/proof | tee target/proof.txt
    grep -qx '# 0 not ok' target/proof.txt
}
