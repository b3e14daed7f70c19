# In the Arm guest: selftests in environments of a KVM that is built in, so that parameters are written and no module is
# reloaded.
# shellcheck shell=dash
# shellcheck source=kvm-tests/guest/checks.sh
. /checks.sh

quick='get_reg_list guest_print_test hypercalls kvm_binary_stats_test kvm_create_max_vcpus no_vgic_v3 psci_test smccc_filter
    steal_time vcpu_width_config'
state > before

echo "# the statuses of selftests in three environments"
code=0
# shellcheck disable=SC2086 # a list of words
kvm-tests run --selftests /selftests --output /out/statuses --environment host --environment no_huge_pages \
    --environment halt_polling_off $quick > /out/statuses.txt 2>&1 || code=$?
is 'nothing failed' 0 $code
for case in $quick; do
    for environment in '' no_huge_pages:: halt_polling_off::; do
        is "$environment$case" PASSED "$(status /out/statuses "$environment$case::default")"
    done
done
is 'what needs hugepages is skipped' SKIPPED \
    "$(kvm-tests run --selftests /selftests --output /out/skipped page_fault_hugetlb > out.txt 2>&1 || :
    status /out/skipped arm64_tests::page_fault_hugetlb_2m::backing_src_shared_hugetlb)"
same 'three environments'

echo "# every environment that Arm has: its value is there, and gone again"
values '' << 'TABLE'
halt_polling_off /sys/module/kvm/parameters/halt_poll_ns 0
hugetlb /proc/sys/vm/nr_hugepages 1152
no_huge_pages /sys/kernel/mm/transparent_hugepage/enabled always madvise [never]
TABLE

echo "# what is impossible, and what is already so"
impossible apicv_off shadow_mmu tdp_mmu_off
kvm-tests environments > /out/environments.txt
has 'nested is off, as KVM says' /out/environments.txt 'nothing to do: this host is that way already'
code=0
kvm-tests with --set nested=on -- true > out.txt 2>&1 || code=$?
is 'nested=on on a CPU without it' 2 $code
kvm-tests with --set tdp=on -- true || fail 'tdp=on, which Arm always has'
same 'what is impossible'

end
