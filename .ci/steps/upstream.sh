# The real selftests of Debian's linux-source-6.12, through the program and by hand.
# shellcheck shell=bash

# Those that take more than a second or whose result is not the same each time; all others are compared.
SLOW='access_tracking|demand_paging|dirty_log|fix_hypercall|guest_memfd|hardware_disable|hyperv_clock|kvm_clock|kvm_page_table|max_guest_memory|memslot|mmu_stress|nx_huge_pages|rseq|set_memory_region|steal_time|system_counter_offset|xapic_ipi|tsc_scaling|apic_bus_clock|hyperv_tlb_flush|vmx_preemption'

check_upstream() {
    export KERNEL_SRC=/usr/src/linux-source-6.12.tar.xz
    local listed run=target/kvm-tests/ci
    cargo test --locked -- --list --format terse | grep -E '^[a-z0-9_]+::default: test$' > target/listed
    listed=$(wc -l < target/listed)
    printf '%s selftests listed\n' "$listed"
    [ "$listed" -eq 85 ] || return 1

    mapfile -t fast < <(sed 's/: test$//' target/listed | grep -Ev "^($SLOW)")
    printf 'running %s of them\n' "${#fast[@]}"
    rm -rf "$run"
    # Some fail on most hosts: what counts is that each status is the one that the same program has by hand.
    cargo test --locked -- --exact "${fast[@]}" --output "$run" || [ $? -eq 101 ]
    if pgrep -f "$PWD/target/kvm-tests-kernel/"; then
        printf 'left running\n'
        return 1
    fi
    python3 .ci/compare_by_hand.py "$run/run.json"
    unset KERNEL_SRC
}
