//! What this KVM can do: each capability is a sub-test, and an optional one that is missing is skipped.

use super::device;
use super::kselftest::{OrFail, Result, Subtests, check, skip};

/// Name, number, and the least value that every KVM has; 0 where it is optional.
type Capability = (&'static str, u32, i32);

macro_rules! capabilities {
    ($($least:literal: $($name:ident)+;)+) => {
        &[$($((stringify!($name), kvm_bindings::$name, $least),)+)+]
    };
}

/// Those at 1 are unconditional in virt/kvm/kvm_main.c; the least number of slots is the kernel's old private default.
const CAPABILITIES: &[Capability] = capabilities! {
    1: KVM_CAP_USER_MEMORY KVM_CAP_DESTROY_MEMORY_REGION_WORKS KVM_CAP_JOIN_MEMORY_REGIONS_WORKS
       KVM_CAP_CHECK_EXTENSION_VM KVM_CAP_NR_VCPUS KVM_CAP_MAX_VCPUS;
    32: KVM_CAP_NR_MEMSLOTS;
    0: KVM_CAP_BINARY_STATS_FD KVM_CAP_COALESCED_MMIO KVM_CAP_DEVICE_CTRL KVM_CAP_DIRTY_LOG_RING
       KVM_CAP_DIRTY_LOG_RING_ACQ_REL KVM_CAP_GUEST_MEMFD KVM_CAP_HALT_POLL KVM_CAP_IMMEDIATE_EXIT KVM_CAP_IOEVENTFD
       KVM_CAP_IRQCHIP KVM_CAP_IRQFD KVM_CAP_IRQ_ROUTING KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 KVM_CAP_MAX_VCPU_ID
       KVM_CAP_MEMORY_ATTRIBUTES KVM_CAP_MP_STATE KVM_CAP_MULTI_ADDRESS_SPACE KVM_CAP_NESTED_STATE KVM_CAP_ONE_REG
       KVM_CAP_READONLY_MEM KVM_CAP_SET_GUEST_DEBUG KVM_CAP_SIGNAL_MSI KVM_CAP_SYNC_MMU KVM_CAP_SYNC_REGS
       KVM_CAP_USER_MEMORY2 KVM_CAP_VCPU_EVENTS KVM_CAP_VM_TYPES KVM_CAP_XSAVE2;
};

pub(crate) fn run() -> Result {
    let kvm = device::open()?;
    let vm = kvm.create_vm().or_fail("KVM_CREATE_VM")?;
    let mut subtests = Subtests::plan(CAPABILITIES.len());
    for &(name, number, least) in CAPABILITIES {
        let value = vm.check_extension_raw(number.into());
        println!("# {name} = {value}");
        subtests.report(name, judge(name, value, least));
    }
    subtests.finish()
}

fn judge(name: &str, value: i32, least: i32) -> Result {
    check!(
        value >= least,
        "KVM_CHECK_EXTENSION({name}) is {value}, below the {least} that every KVM has"
    );
    if value == 0 {
        skip(format!("{name} is missing"))
    } else {
        Ok(())
    }
}
