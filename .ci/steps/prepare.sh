# What the other steps need, and what can be said of the sources alone.
# shellcheck shell=bash

install_packages() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    apt-get install -qy --no-install-recommends linux-source-6.12 make gcc libc6-dev xz-utils rsync binutils \
        python3 python3-venv shellcheck chromium valgrind
    cargo nextest --version 2>/dev/null || cargo install --locked cargo-nextest
}

# No older Rust can be fetched here: clippy's incompatible_msrv watches our own code, and this every dependency.
check_msrv() {
    cargo metadata --format-version 1 --locked | python3 -c '
import json, sys
version = lambda text: tuple(int(part) for part in (text + ".0.0").split(".")[:3])
packages = json.load(sys.stdin)["packages"]
ours = next(package["rust_version"] for package in packages if package["name"] == "kvm-tests")
newer = [package["id"] for package in packages if version(package["rust_version"] or "1") > version(ours)]
if newer:
    sys.exit(f"need more than Rust {ours}: {newer}")
print(f"{len(packages)} packages do with Rust {ours}")'
}

check_shell() {
    shellcheck -x -P SCRIPTDIR .ci/run .ci/steps/*.sh kvm-tests/guest/{run,init,install,kernel,selftests,proof} kvm-tests/guest/*.sh
}
