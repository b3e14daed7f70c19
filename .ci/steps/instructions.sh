# What the program itself does for 10,000 cases, in instructions: unlike times, they are the same on a busy machine.
# shellcheck shell=bash

# The figures to compare with, and the compiler that made the program.
INSTRUCTIONS=.ci/instructions.txt
RECORD_INSTRUCTIONS="bash -euc '. .ci/steps/instructions.sh; record_instructions'"

# By how many percent they may grow: from one count to the next they vary by 0.1. Another compiler makes another program.
INSTRUCTIONS_BOUND=5
INSTRUCTIONS_BOUND_OF_ANOTHER_COMPILER=20

check_instructions() {
    count_instructions target/instructions.txt
    compare_instructions target/instructions.txt
}

record_instructions() {
    count_instructions target/instructions.txt
    cp target/instructions.txt "$INSTRUCTIONS"
    cat "$INSTRUCTIONS"
}

MANY=(--selftests selftests --config many.toml many::)

count_instructions() { # FIGURES
    local directory
    cargo build --release --locked -p harness --bin kvm-tests-runner
    # The lengths of paths count: this has the same wherever the sources are.
    directory=$(mktemp -d /tmp/kvm-tests.XXXXXX)
    cp target/release/kvm-tests-runner "$directory/runner"
    rustc --version > "$1"
    (
        cd "$directory" || exit
        make_many
        # What is counted after it knows how long each case took, as any run but the first.
        (alone ./runner run "${MANY[@]}" --output finished) > finished.log 2>&1 || [ $? -eq 101 ]
        count list 0 run "${MANY[@]}" --list
        # 142: ended by modinfo, and so before its first case.
        count plan 142 run "${MANY[@]}" --param kvm.halt_poll_ns=0
        count report 0 report finished
    ) >> "$1"
    rm -r "$directory"
}

# Every tenth fails, and every third of the others is skipped.
make_many() {
    mkdir -p selftests root/dev bin
    : > root/dev/kvm
    awk 'BEGIN {
        split("254 0 0 4 0 0 4 0 0 4", code, " ")
        for (i = 0; i < 10000; i++)
            printf "[[test]]\nname = \"n%d\"\nselftest = \"many_test\"\nargs = [\"%d\", \"%d\"]\n", i, code[i % 10 + 1], i
    }' > many.toml
    cat > selftests/many_test <<'SELFTEST'
#!/bin/sh
printf 'Random seed: 0x6b8b4567\nTesting guest mode: PA-bits:ANY, VA-bits:48,  4K pages\n'
[ "$1" -ne 254 ] || printf '==== Test Assertion Failure ====\n  a.c:7: x == %s\n  pid=1 tid=1 errno=4 - x\nno\n' "$2" >&2
exit "$1"
SELFTEST
    # The first case that needs an environment has this asked; the runner does not catch the signal.
    # shellcheck disable=SC2016 # expanded by that shell
    printf '#!/bin/sh\nkill -ALRM "$PPID"\n' > bin/modinfo
    chmod +x selftests/many_test bin/modinfo
}

# Counts what the program does, without its children, and prints it; fails where it does not end as expected.
count() { # NAME STATUS ARGUMENT...
    local name=$1 expected=$2 status=0
    shift 2
    (alone valgrind --tool=callgrind --callgrind-out-file="$name.callgrind" ./runner "$@") > "$name.log" 2>&1 || status=$?
    if [ "$status" -ne "$expected" ]; then
        tail -n 20 "$name.log"
        printf '%s: exit status %d, not %d\n' "$name" "$status" "$expected"
        return 1
    fi >&2
    awk -v name="$name" '$1 == "totals:" && $2 > 0 { print name, $2; counted = 1 } END { exit !counted }' "$name.callgrind"
}

alone() {
    exec env -i PATH="$PWD/bin:/usr/bin:/bin" KVM_TESTS_ROOT="$PWD/root" "$@"
}

# Says by how much each figure has changed; fails where one has grown by more than the bound, or is not there.
compare_instructions() { # FIGURES
    awk -v bound="$INSTRUCTIONS_BOUND" -v other_bound="$INSTRUCTIONS_BOUND_OF_ANOTHER_COMPILER" -v record="$RECORD_INSTRUCTIONS" '
        FNR == 1 { files++; compiler[files] = $0; next }
        files == 1 { old[$1] = $2; next }
        {
            if (!($1 in old)) {
                printf "%-8s %15d, and no figure to compare it with\n", $1, $2
                grown = 1
                next
            }
            change = ($2 / old[$1] - 1) * 100
            printf "%-8s %15d instructions, were %d: %+.1f %%\n", $1, $2, old[$1], change
            if (change > most) most = change
            if (change < least) least = change
            counted++
        }
        END {
            if (compiler[1] != compiler[2]) {
                printf "compared with figures of %s, this is %s\n", compiler[1], compiler[2]
                bound = other_bound
            }
            if (least < -bound)
                printf "fallen by more than %d %%: keep it so, with %s\n", bound, record
            if (grown || counted == 0 || most > bound) {
                printf "grown by more than %d %%: find out what does more or, where that is worth it, %s\n", bound, record
                exit 1
            }
        }' "$INSTRUCTIONS" "$1"
}
