//! The dirty log marks exactly the pages that the guest wrote since it was last read.

use std::collections::BTreeSet;

use kvm_bindings::KVM_MEM_LOG_DIRTY_PAGES;

use super::guest::{self, Exit, FREE, PAGE, Vm, guest_code};
use super::kselftest::{OrFail, Result, check_eq};
use super::memory::Memory;

const SLOT: u32 = 1;
/// More than one word of the log, and no multiple of its 64 bits.
const PAGES: usize = 150;

pub(crate) fn run() -> Result {
    let vm = Vm::new()?;
    // Writes a byte into each page of a list: rsi points at their addresses, rcx says how many.
    vm.load(guest_code!(
        "4:",
        "lodsq",
        "mov byte ptr [rax], 0x5a",
        "dec rcx",
        "jnz 4b",
        "hlt"
    ));
    let logged = Memory::new(PAGES * PAGE);
    vm.set_slot(SLOT, KVM_MEM_LOG_DIRTY_PAGES, FREE, &logged)
        .or_fail("KVM_SET_USER_MEMORY_REGION")?;
    let list = Memory::new(PAGE);
    let list_address = FREE + (PAGES * PAGE) as u64;
    vm.set_slot(SLOT + 1, 0, list_address, &list)
        .or_fail("KVM_SET_USER_MEMORY_REGION")?;
    let mut vcpu = vm.vcpu(0, |_| {})?;

    let read_log = || -> Result<BTreeSet<usize>> {
        let log = vm
            .fd
            .get_dirty_log(SLOT, PAGES * PAGE)
            .or_fail("KVM_GET_DIRTY_LOG")?;
        let is_dirty = |page: &usize| log[page / 64] >> (page % 64) & 1 == 1;
        Ok((0..log.len() * 64).filter(is_dirty).collect())
    };

    check_eq!(
        read_log()?,
        BTreeSet::new(),
        "the log before the guest has run"
    );
    // The second round writes pages that the first has dirtied, and others: reading the log must have protected them anew.
    for written in [
        BTreeSet::from([0, 1, 63, 64, 100, PAGES - 1]),
        BTreeSet::from([1, 2, 65, 100]),
    ] {
        for (index, page) in written.iter().enumerate() {
            let address = FREE + (page * PAGE) as u64 + 8 * index as u64;
            list.write(8 * index, &address.to_le_bytes());
        }
        guest::restart(&vcpu, |regs| {
            regs.rsi = list_address;
            regs.rcx = written.len() as u64;
        })?;
        check_eq!(
            guest::run(&mut vcpu, &[])?,
            Exit::Halt,
            "the guest writes its pages, then halts"
        );
        for (index, page) in written.iter().enumerate() {
            check_eq!(
                logged.read(page * PAGE + 8 * index) & 0xff,
                0x5a,
                "what the guest wrote to page {page}"
            );
        }
        check_eq!(
            read_log()?,
            written,
            "the pages in the log, and those written"
        );
        check_eq!(
            read_log()?,
            BTreeSet::new(),
            "the log when nothing was written since it was read"
        );
    }
    Ok(())
}
