# In the guest: each part runs the real program on the real modules, and compares the host before and after.
# shellcheck shell=dash
# shellcheck source=kvm-tests/guest/checks.sh
. /checks.sh

chmod 640 /dev/kvm
chown 0:36 /dev/kvm
state > before

echo "# the statuses of selftests in four environments"
code=0
kvm-tests run --selftests /selftests --output /out/statuses --environment host --environment shadow_mmu \
    --environment nested_off --environment shadow_mmu_no_nested svm_vmcall_test svm_int_ctl_test hyperv_svm_test \
    pre_fault_memory_test smaller_maxphyaddr_emulation_test cpuid_test set_sregs_test > /out/statuses.txt 2>&1 || code=$?
is 'nothing failed' 0 $code
while read -r case host shadow nested both; do
    is "$case on the host" "$host" "$(status /out/statuses "$case::default")"
    is "$case in shadow_mmu" "$shadow" "$(status /out/statuses "shadow_mmu::$case::default")"
    is "$case in nested_off" "$nested" "$(status /out/statuses "nested_off::$case::default")"
    is "$case in shadow_mmu_no_nested" "$both" "$(status /out/statuses "shadow_mmu_no_nested::$case::default")"
done << 'TABLE'
svm_vmcall_test PASSED PASSED SKIPPED SKIPPED
svm_int_ctl_test PASSED PASSED SKIPPED SKIPPED
hyperv_svm_test PASSED PASSED SKIPPED SKIPPED
pre_fault_memory_test PASSED SKIPPED PASSED SKIPPED
smaller_maxphyaddr_emulation_test SKIPPED PASSED SKIPPED PASSED
cpuid_test PASSED PASSED PASSED PASSED
set_sregs_test PASSED PASSED PASSED PASSED
TABLE
same 'four environments'

echo "# the reason for which a selftest is skipped"
for parameter in tdp_mmu eager_page_split; do
    code=0
    kvm-tests with ${parameter}_off -- "$(find /selftests -name dirty_log_page_splitting_test)" > out.txt 2>&1 || code=$?
    is "dirty_log_page_splitting_test in ${parameter}_off" 4 $code
    has "it is skipped for $parameter" out.txt "get_kvm_param_bool(\"$parameter\")"
    same "${parameter}_off"
done

echo "# with"
code=0
kvm-tests with shadow_mmu -- sh -c 'cat /sys/module/kvm_amd/parameters/npt /sys/module/kvm/parameters/tdp_mmu; exit 7' > out.txt 2>&1 || code=$?
is "with returns the command's status" 7 $code
is 'with: npt is off, and what is derived from it' 'N N' "$(grep -x N out.txt | tr '\n' ' ' | sed 's/ $//')"
same 'with'
kvm-tests with --set nx_huge_pages=never -- cat /sys/module/kvm/parameters/nx_huge_pages > out.txt 2>&1 || fail 'with --set'
has 'the one-way nx_huge_pages=never' out.txt never
same 'nx_huge_pages=never'
kvm-tests with hugetlb -- cat /proc/sys/vm/nr_hugepages > out.txt 2>&1 || fail 'with hugetlb'
has 'hugepages are reserved' out.txt 1152
same 'hugetlb'

echo "# every shipped environment: its value is there, and gone again"
values /sys/module/ << 'TABLE'
apicv_off kvm_amd/parameters/avic N
eager_page_split_off kvm/parameters/eager_page_split N
emulation_prefix kvm/parameters/force_emulation_prefix 1
halt_polling_off kvm/parameters/halt_poll_ns 0
nested_off kvm_amd/parameters/nested 0
no_huge_pages ../kernel/mm/transparent_hugepage/enabled always madvise [never]
nx_huge_pages_forced kvm/parameters/nx_huge_pages Y
pmu_off kvm/parameters/enable_pmu N
shadow_mmu kvm_amd/parameters/npt N
shadow_mmu_no_nested kvm_amd/parameters/nested 0
tdp_mmu_off kvm/parameters/tdp_mmu N
virt_at_load_off kvm/parameters/enable_virt_at_load N
vmware_backdoor kvm/parameters/enable_vmware_backdoor Y
TABLE
impossible allow_smaller_maxphyaddr ept_ad_off hugetlb_1g pml_off preemption_timer_off shadow_vmcs_off unrestricted_guest_off

echo "# what is refused, before anything is changed"
# shellcheck disable=SC2217 # holding it open is all that it is for
sleep 1000 < /dev/kvm &
holder=$!
code=0
kvm-tests with shadow_mmu -- true > out.txt 2>&1 || code=$?
is 'a module in use' 2 $code
has 'it names the holder' out.txt "$holder"
kill $holder
wait $holder || :
same 'a module in use'
code=0
kvm-tests with --param kvm_amd.bogus=1 -- true > out.txt 2>&1 || code=$?
is 'an unknown parameter' 2 $code
has 'it names the parameter' out.txt bogus
same 'an unknown parameter'
code=0
kvm-tests with --param kvm.halt_poll_ns=moon -- true > out.txt 2>&1 || code=$?
is 'a bad value' 2 $code
same 'a bad value'
kvm-tests environments > /out/environments.txt
same 'environments only looks'
kvm-tests run --selftests /selftests --environment '*' --dry-run cpuid_test > /out/dry_run.txt
has 'a dry run plans' /out/dry_run.txt 'kvm_amd.npt=N'
same 'a dry run'

echo "# a user's modprobe.d and parameters set by hand stay"
echo 'options kvm_amd vls=0' > /etc/modprobe.d/mine.conf
modprobe -r kvm_amd
modprobe kvm_amd vgif=0
chmod 640 /dev/kvm
chown 0:36 /dev/kvm
state > before
is 'modprobe.d holds' 0 "$(parameter vls)"
kvm-tests with nested_off -- cat /sys/module/kvm_amd/parameters/nested /sys/module/kvm_amd/parameters/vls \
    /sys/module/kvm_amd/parameters/vgif > out.txt 2>&1 || fail 'with nested_off'
is 'nested, vls and vgif in nested_off' '0 0 0' "$(grep -x 0 out.txt | tr '\n' ' ' | sed 's/ $//')"
same 'modprobe.d'

echo "# interruption"
runs() { # COMMAND: whether a process has exactly this command line
    for file in /proc/[0-9]*/cmdline; do
        if [ "$({ tr '\0' ' ' < "$file"; } 2> /dev/null)" = "$1 " ]; then return 0; fi
    done
    return 1
}
begun() { # wait until the command runs, for which the environment must have been entered
    until runs "$1"; do sleep 0.1; done
}
gone() {
    while runs "$1"; do sleep 0.1; done
}
kvm-tests with shadow_mmu -- sleep 1001 > out.txt 2>&1 &
runner=$!
begun 'sleep 1001'
kill -TERM $runner
code=0
wait $runner || code=$?
is "SIGTERM ends the command, and its status is the command's" 143 $code
same 'SIGTERM'

cat > slow.toml << 'SUITE'
[[test]]
name = "sleeps"
command = "sleep 1002"
SUITE
kvm-tests run --selftests /selftests --config slow.toml --environment shadow_mmu --output /out/interrupted slow:: > out.txt 2>&1 &
runner=$!
begun 'sleep 1002'
kill -INT $runner
code=0
wait $runner || code=$?
is 'SIGINT in a run' 130 $code
is 'what it interrupted did not run' NO_RUN "$(status /out/interrupted shadow_mmu::slow::sleeps)"
same 'SIGINT'

killed_in_shadow_mmu() { # RUN: a run that is killed while a case sleeps, whose process dies with it
    kvm-tests run --selftests /selftests --config slow.toml --environment shadow_mmu --output "$1" slow:: > out.txt 2>&1 &
    runner=$!
    begun 'sleep 1002'
    kill -KILL $runner
    wait $runner || :
    gone 'sleep 1002'
}
killed_in_shadow_mmu /out/killed
ok 'SIGKILL: the selftest dies with the runner'
is 'SIGKILL leaves the environment' N "$(parameter npt)"
kvm-tests restore > out.txt 2>&1 || fail 'restore'
has 'restore says what it did' out.txt shadow_mmu
same 'SIGKILL and restore'

killed_in_shadow_mmu /out/killed2
kvm-tests run --selftests /selftests --output /out/next cpuid_test > out.txt 2>&1 || fail 'the next run'
has 'the next start says what happened' out.txt 'killed run'
same 'SIGKILL and the next start'

echo "# a clock that jumps, and a log that overruns, while a case runs"
cat > faults.toml << 'SUITE'
[[test]]
name = "clock"
command = "date -s @$(($(date +%s) + 31536000)); sleep 0.5; date -s @$(($(date +%s) - 63072000)); sleep 1004"
timeout_s = 3
[[test]]
name = "log"
command = "touch /tmp/proof/log_begun; until [ -e /tmp/proof/log_over ]; do sleep 0.1; done"
SUITE
code=0
kvm-tests run --selftests /selftests --config faults.toml --output /out/clock faults::clock > out.txt 2>&1 || code=$?
is 'a hanging case fails the run' 101 $code
is 'it times out though the clock went back a year' TIMED_OUT "$(status /out/clock faults::clock)"
is 'its duration is that of its timeout' 3 "$(sed -n 's/.*"started_ms":[0-9]*,"duration_s":\([0-9]*\).*/\1/p' /out/clock/run.json)"

kvm-tests run --selftests /selftests --config faults.toml --output /out/log faults::log > out.txt 2>&1 &
runner=$!
until [ -e log_begun ]; do sleep 0.1; done
echo 'the first' > /dev/kmsg
until grep -qF 'the first' /out/log/kernel.log; do sleep 0.1; done
kill -STOP $runner
line=$(printf '%0900d' 0)
count=0
while [ $count -lt 2000 ]; do echo "$line" > /dev/kmsg; count=$((count + 1)); done
kill -CONT $runner
touch log_over
code=0
wait $runner || code=$?
is 'a case in an overrun log is none the worse' PASSED "$(status /out/log faults::log)"
has 'the log is said to be incomplete' out.txt 'KERNEL LOG NOT COMPLETE'
same 'the clock and the log'

end
