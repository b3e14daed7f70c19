# What proofs in the guest check with; `end` is their last command. Sourced.
# shellcheck shell=dash
set -eu

failures=0
mkdir -p /out /tmp/proof
cd /tmp/proof

ok() { echo "ok: $1"; }
fail() { echo "NOT OK: $1"; failures=$((failures + 1)); }
is() { # NAME WANTED FOUND
    if [ "$2" = "$3" ]; then ok "$1"; else fail "$1: wanted '$2', found '$3'"; fi
}
has() { # NAME FILE TEXT
    if grep -qF -- "$3" "$2"; then ok "$1"; else fail "$1: no '$3' in:"; cat "$2"; fi
}

# Everything that must be as it was: parameters, modules with their references, the device.
state() {
    for file in /sys/module/kvm/parameters/* /sys/module/kvm_amd/parameters/*; do
        [ -r "$file" ] && echo "$file $(cat "$file")"
    done
    grep -E '^kvm' /proc/modules | cut -d' ' -f1-3
    stat -c '%a %u %g' /dev/kvm
    cat /proc/sys/kernel/tainted /sys/kernel/mm/transparent_hugepage/enabled /proc/sys/vm/nr_hugepages
    ls -A /run
}
same() { # NAME: the state is that of the file `before`
    state > after
    if diff before after > difference; then ok "$1: the host is as it was"; else fail "$1: the host has changed"; cat difference; fi
}
parameter() { cat "/sys/module/kvm_amd/parameters/$1"; }
values() { # DIRECTORY, and on stdin ENVIRONMENT FILE VALUE: the value is there in the environment, and gone again
    while read -r environment file value; do
        kvm-tests with "$environment" -- cat "$1$file" > out.txt 2>&1 || fail "with $environment"
        is "$environment" "$value" "$(tail -n 1 out.txt)"
        same "$environment"
    done
}
impossible() { # ENVIRONMENT...
    for environment; do
        code=0
        kvm-tests with "$environment" -- true > out.txt 2>&1 || code=$?
        is "$environment is impossible here" 2 $code
        same "$environment"
    done
}
status() { # RUN CASE: run.json is one line, in which every outcome begins with its name
    tr '{' '\n' < "$1/run.json" | sed -n "s/^\"name\":\"$2\",.*\"status\":\"\([A-Z_]*\)\".*/\1/p"
}
end() {
    echo "# $failures not ok"
    cat /proc/uptime > /out/uptime
    [ "$failures" -eq 0 ]
}
