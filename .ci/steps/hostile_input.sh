# A longer search for input that breaks those who read it: never a panic, in bounded time and memory.
# shellcheck shell=bash

# How many inputs each property is tried with; more of them with the same command and another number.
HOSTILE_INPUTS=2000

check_hostile_input() {
    local tests=(plan::files:: untrusted_results:: output_parsers::)
    cargo test --locked -p harness --lib --test it --no-run
    # The memory is that of each test program, with its threads.
    (ulimit -v 4194304 && PROPTEST_CASES=$HOSTILE_INPUTS timeout 1200 cargo test --locked -p harness --lib --test it -- "${tests[@]}")
}
