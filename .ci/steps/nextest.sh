# The runner's test target under nextest.
# shellcheck shell=bash

# Each of a run of nextest has one directory; prints how many cases it was for, how many have an outcome, and whether it finished.
nextest_counts() { # RUN
    python3 -c '
import json, sys
run = json.load(open(sys.argv[1] + "/run.json"))
print(run["selected"], len({outcome["name"] for outcome in run["outcomes"]}), run["finished"])' "$1"
}

nextest_list() { # STATUS [OPTION]...
    local ignored=$1
    shift
    cargo nextest list --locked --test kvm --run-ignored "$ignored" --message-format json "$@" | python3 -c '
import json, sys
suites = json.load(sys.stdin)["rust-suites"].values()
cases = [(name, case) for suite in suites for name, case in suite["testcases"].items()]
print("\n".join(name for name, case in cases if case["filter-match"]["status"] == "matches"))'
}

check_nextest() {
    local all ignored parts=target/ci-nextest elsewhere
    rm -rf "$parts"
    mkdir "$parts"

    # Listed: nothing is in both parts, and nothing in none.
    nextest_list all | sort > "$parts/all"
    nextest_list only | sort > "$parts/ignored"
    nextest_list all --partition slice:1/2 | sort > "$parts/1"
    nextest_list all --partition slice:2/2 | sort > "$parts/2"
    [ -s "$parts/1" ] && [ -s "$parts/2" ]
    sort "$parts/1" "$parts/2" | cmp - "$parts/all"
    all=$(wc -l < "$parts/all")
    ignored=$(wc -l < "$parts/ignored")
    printf '%s cases, %s of them ignored\n' "$all" "$ignored"
    [ "$ignored" -gt 0 ] && [ "$ignored" -lt "$all" ]

    # Run: one results directory for each run, with the right counts.
    cargo nextest run --locked --profile ci --no-tests fail --test kvm
    [ "$(nextest_counts target/kvm-tests/latest)" = "$((all - ignored)) $((all - ignored)) True" ]
    grep -q "<testsuites .*tests=\"$((all - ignored))\" " target/nextest/ci/junit.xml
    cargo nextest run --locked --profile ci --no-tests fail --test kvm --run-ignored only
    [ "$(nextest_counts target/kvm-tests/latest)" = "$ignored $ignored True" ]
    cargo nextest run --locked --profile ci --no-tests fail --test kvm --run-ignored all --partition slice:2/2
    [ "$(nextest_counts target/kvm-tests/latest)" = "$(wc -l < "$parts/2") $(wc -l < "$parts/2") True" ]

    # Archived, and run where nothing of the source tree and of target/ is to be seen but the manifest that nextest asks for.
    elsewhere=$(mktemp -d)
    cp Cargo.toml "$elsewhere"
    cargo nextest archive --locked --test kvm --archive-file "$elsewhere/kvm.tar.zst"
    # shellcheck disable=SC2016 # expanded by that shell
    unshare --map-root-user --mount sh -ec '
        mount -t tmpfs none "$1"
        cd "$2"
        cargo nextest run --archive-file kvm.tar.zst --workspace-remap "$2" --run-ignored all --no-tests fail' \
        - "$PWD" "$elsewhere"
    [ "$(nextest_counts "$elsewhere/kvm-tests-results/latest")" = "$all $all True" ]
    rm -r "$elsewhere"
}
