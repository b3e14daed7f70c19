# What the other steps need, and what can be said of the sources alone.
# shellcheck shell=bash

install_packages() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    apt-get install -qy --no-install-recommends linux-source-6.12 make gcc libc6-dev xz-utils rsync binutils uuid-dev kmod \
        python3 python3-venv shellcheck chromium hyperfine debootstrap busybox-static perl parallel cmake meson \
        slurm-wlm munge iproute2 procps openssh-server
    cargo nextest --version 2>/dev/null || cargo install --locked cargo-nextest
}

# Every shell script there is, by its first line or its place.
check_shell() {
    local scripts
    mapfile -t scripts < <(git ls-files -z | xargs -0 awk 'FNR == 1 && /^#!.*sh$/ { print FILENAME }'; ls .ci/steps/*.sh)
    printf '%s\n' "${scripts[@]}"
    [ "${#scripts[@]}" -gt 10 ]
    shellcheck -x -P SCRIPTDIR "${scripts[@]}"
}
