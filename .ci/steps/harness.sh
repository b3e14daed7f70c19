# The tests of the harness: those of everybody, and those that take longer or need more than a compiler.
# shellcheck shell=bash

# In seconds, on two cores: what `cargo test -p harness` may take behind a `cargo test`.
LINKED_IN=60
TESTED_IN=120

check_harness() {
    local begin=$SECONDS linked tested
    cargo test --locked -p harness --no-run
    linked=$((SECONDS - begin)) begin=$SECONDS
    harness_tests
    tested=$((SECONDS - begin))
    printf 'linked in %d s, promised %d; tested in %d s, promised %d\n' "$linked" $LINKED_IN "$tested" $TESTED_IN
    [ "$linked" -le $LINKED_IN ] && [ "$tested" -le $TESTED_IN ] || printf 'SLOWER THAN PROMISED\n'
}

# How many inputs each property is tried with; more of them with the same command and another number.
HOSTILE_INPUTS=2000

# A longer search for input that breaks those who read it: never a panic, in bounded time and memory.
check_hostile_input() {
    local modules
    # The modules of the end-to-end tests that have properties.
    mapfile -t modules < <(grep -rl 'proptest! {' harness/tests/it | sed -E 's|^harness/tests/it/([a-z0-9_]+).*|\1::|' | sort -u)
    [ "${#modules[@]}" -gt 0 ]
    cargo test --locked -p harness --no-run
    export PROPTEST_CASES=$HOSTILE_INPUTS
    # The memory is that of each test program, with its threads.
    (ulimit -v 4194304 && timeout 600 cargo test --locked -p harness --lib)
    (ulimit -v 4194304 && timeout 1200 cargo test --locked -p harness --test it -- "${modules[@]}") | tee target/ci-tests
    grep -q '^test result: ok\. [1-9]' target/ci-tests
    unset PROPTEST_CASES
}

# The tests that are ignored for want of what CI has; what a report is read by is in .ci/steps/prepare.sh and here.
check_ignored() {
    local venv=target/readers run selftests
    run=$(realpath target/kvm-tests/ci)
    selftests=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["parts"][0]["part"]["selftests"][0])' "$run/run.json")
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet junitparser xmlschema jsonschema kcidb-io tmt
    unpack_kernel_tools
    # Not the one that overwrites all that this host's kernel has logged.
    PATH="$PWD/$venv/bin:$PATH" KERNEL_SRC="$PWD/target/ci-sources" KVM_SELFTESTS=$selftests KVM_TESTS_RUN=$run \
        harness_tests --test it -- --ignored --skip a_log_that_overruns
    harness_tests --lib -- --ignored traced_or_frozen
}

# Of the kernel's tree, what reads KTAP and what runs kselftests.
unpack_kernel_tools() {
    local tools=linux-source-6.12/tools/testing
    [ -d target/ci-sources ] || {
        mkdir -p target/ci-sources.new
        tar -xJf /usr/src/linux-source-6.12.tar.xz -C target/ci-sources.new --strip-components 1 \
            "$tools/kunit" "$tools/selftests/kselftest" "$tools/selftests/run_kselftest.sh"
        mv target/ci-sources.new target/ci-sources
    }
}

# Not all that it knows of is installed here; 50 programs are enough to see who is ahead.
check_runners() {
    unpack_kernel_tools
    KSELFTEST=$PWD/target/ci-sources/tools/testing/selftests harness/benches/runners 50 3
}
