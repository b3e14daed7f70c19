# A run on a cluster: Slurm's daemons on this one box, with two nodes of which one dies.
# shellcheck shell=bash

check_slurm() {
    local run=target/kvm-tests/ci-slurm selftests cases
    selftests=$(built_selftests)
    target/debug/kvm-tests run --selftests "$selftests" --list --format terse | grep -E '^[a-z0-9_]+::default: test$' > target/listed-slurm
    mapfile -t cases < <(fast_selftests target/listed-slurm)
    rm -rf "$run"
    unshare --pid --mount-proc --uts --net --fork --kill-child .ci/slurm-lab "$selftests" "$run" "${cases[@]}"
}
