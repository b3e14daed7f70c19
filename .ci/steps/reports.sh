# The reports, read by the tools that others have: a browser, and the parsers of JUnit, KTAP and JSON.
# shellcheck shell=bash

check_browser() {
    local run
    run=$(realpath target/kvm-tests/ci)
    KVM_TESTS_RUN=$run cargo test --locked -p harness --test it html:: -- --include-ignored
}

check_readers() {
    local venv=target/readers run sources=target/ci-sources
    run=$(realpath target/kvm-tests/ci)
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet junitparser xmlschema jsonschema
    mkdir -p "$sources"
    tar -xJf /usr/src/linux-source-6.12.tar.xz -C "$sources" --strip-components 1 linux-source-6.12/tools/testing/kunit
    PATH="$PWD/$venv/bin:$PATH" KERNEL_SRC="$PWD/$sources" KVM_TESTS_RUN=$run \
        cargo test --locked -p harness --test it reports:: -- --ignored
}
