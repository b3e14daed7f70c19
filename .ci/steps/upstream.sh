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

    local fast
    mapfile -t fast < <(fast_selftests target/listed)
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

# Where KERNEL_SRC has them built.
built_selftests() {
    find target/kvm-tests-kernel -maxdepth 2 -path '*/linux-source-6.12*/install'
}

fast_selftests() { # LIST
    sed 's/: test$//' "$1" | grep -Ev "^($SLOW)"
}

# The same again, read as JSON by others: nothing changed. With one of them failing otherwise, that alone is told, also where
# everything that failed at first is known.
check_comparison() {
    local fast selftests first=target/kvm-tests/ci again=target/kvm-tests/ci-again otherwise=target/kvm-tests/ci-otherwise
    local copy=target/ci-otherwise tools=target/ci-tools replaced
    mapfile -t fast < <(fast_selftests target/listed)
    cargo install --quiet --locked --debug --root "$tools" cargo2junit@0.1.15 junitify@0.1.18
    rm -rf "$again" "$otherwise"

    export KERNEL_SRC=/usr/src/linux-source-6.12.tar.xz
    cargo test --locked -- --exact "${fast[@]}" --output "$again" --format json > target/ci-again.json || [ $? -eq 101 ]
    python3 .ci/json_readers.py target/ci-again.json "$again/run.json" "$tools/bin"
    python3 .ci/comparison.py check "$first" "$again"

    selftests=$(built_selftests)
    replaced=$(python3 .ci/comparison.py replace "$first" "$selftests" "$copy")
    target/debug/kvm-tests known --from "$first" > target/ci-known.toml
    cargo test --locked -- --exact "${fast[@]}" --output "$otherwise" --selftests "$copy" --known target/ci-known.toml || [ $? -eq 101 ]
    python3 .ci/comparison.py check "$first" "$otherwise" "$replaced"
    python3 .ci/comparison.py known "$otherwise" "$replaced"
    unset KERNEL_SRC
}

# What CIs call, ./run_kselftest.sh of an installed tree, is this program: they find every case, and each ends as with
# the kernel's own script. Of the quick ones.
check_kselftest() {
    local built list tree=target/ci-kselftest
    built=$(built_selftests)
    rm -rf "$tree"
    cp -a "$built" "$tree"
    cargo run --locked --quiet -- kselftest --install "$tree"
    # The list is edited, as CIs do it.
    list=target/ci-kselftest-list
    grep -Ev "^kvm:($SLOW)" "$built/kselftest-list.txt" | tee "$list" > "$tree/kselftest-list.txt"
    run_kselftest "$tree/run_kselftest.sh" target/ci-kselftest-ours
    run_kselftest "$tree/run_kselftest.sh.orig" target/ci-kselftest-theirs
    python3 .ci/kselftest.py "$list" target/ci-kselftest-ours target/ci-kselftest-theirs
    cargo run --locked --quiet -- kselftest --uninstall "$tree"
    cmp "$tree/run_kselftest.sh" "$built/run_kselftest.sh"
}

# The newest script exits with 1 where tests failed, that of 6.12 with 0.
run_kselftest() { # SCRIPT OUTPUT
    "$1" -c kvm < /dev/null > "$2" || [ $? -eq 1 ]
}
