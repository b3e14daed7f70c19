//! Registers read back as they were set, and the guest has them.

use super::guest::{self, CODE, Exit, FREE, PAGE, Vm, guest_code};
use super::kselftest::{OrFail, Result, Subtests, check_eq};
use super::memory::Memory;

pub(crate) fn run() -> Result {
    let vm = Vm::new()?;
    let mut subtests = Subtests::plan(2);
    subtests.report("general_purpose", general_purpose(&vm));
    subtests.report("segment_bases_and_cr2", segment_bases_and_cr2());
    subtests.finish()
}

fn general_purpose(vm: &Vm) -> Result {
    let code = guest_code!(
        "inc rax", "inc rbx", "inc rcx", "inc rdx", "inc rsi", "inc rdi", "inc rsp", "inc rbp",
        "inc r8", "inc r9", "inc r10", "inc r11", "inc r12", "inc r13", "inc r14", "inc r15",
        "hlt",
    );
    vm.load(code);
    // Different ones, each with a carry between its halves.
    let value = |index: u64| index << 56 | 0xffff_ffff;
    let mut vcpu = vm.vcpu(0, |regs| {
        (regs.rax, regs.rbx, regs.rcx, regs.rdx) = (value(0), value(1), value(2), value(3));
        (regs.rsi, regs.rdi, regs.rsp, regs.rbp) = (value(4), value(5), value(6), value(7));
        (regs.r8, regs.r9, regs.r10, regs.r11) = (value(8), value(9), value(10), value(11));
        (regs.r12, regs.r13, regs.r14, regs.r15) = (value(12), value(13), value(14), value(15));
    })?;
    let read = |vcpu: &kvm_ioctls::VcpuFd| -> Result<[u64; 17]> {
        let r = vcpu.get_regs().or_fail("KVM_GET_REGS")?;
        Ok([
            r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rsp, r.rbp, r.r8, r.r9, r.r10, r.r11,
            r.r12, r.r13, r.r14, r.r15, r.rip,
        ])
    };
    let expected = |add: u64, rip: u64| -> [u64; 17] {
        std::array::from_fn(|index| {
            if index == 16 {
                rip
            } else {
                value(index as u64) + add
            }
        })
    };
    check_eq!(
        read(&vcpu)?,
        expected(0, CODE),
        "the registers as they were set"
    );
    check_eq!(
        guest::run(&mut vcpu, &[])?,
        Exit::Halt,
        "the guest increments them, then halts"
    );
    check_eq!(
        read(&vcpu)?,
        expected(1, CODE + code.len() as u64),
        "the registers after the guest"
    );
    Ok(())
}

fn segment_bases_and_cr2() -> Result {
    let vm = Vm::new()?;
    vm.load(guest_code!(
        "mov rax, fs:[8]",
        "mov rbx, gs:[8]",
        "mov rcx, cr2",
        "mov cr2, rax",
        "hlt"
    ));
    let memory = Memory::new(PAGE);
    memory.write(0x108, &0xf5f5_u64.to_le_bytes());
    memory.write(0x208, &0x6565_u64.to_le_bytes());
    vm.set_slot(1, 0, FREE, &memory)
        .or_fail("KVM_SET_USER_MEMORY_REGION")?;
    let mut vcpu = vm.vcpu(0, |_| {})?;

    let mut set = vcpu.get_sregs().or_fail("KVM_GET_SREGS")?;
    (set.fs.base, set.gs.base, set.cr2) = (FREE + 0x100, FREE + 0x200, 0xc2c2_c2c2);
    vcpu.set_sregs(&set).or_fail("KVM_SET_SREGS")?;
    check_eq!(
        vcpu.get_sregs().or_fail("KVM_GET_SREGS")?,
        set,
        "the special registers as they were set"
    );
    check_eq!(
        guest::run(&mut vcpu, &[])?,
        Exit::Halt,
        "the guest reads them, then halts"
    );

    let regs = vcpu.get_regs().or_fail("KVM_GET_REGS")?;
    check_eq!(
        (regs.rax, regs.rbx, regs.rcx),
        (0xf5f5, 0x6565, 0xc2c2_c2c2),
        "fs:[8], gs:[8] and cr2 in the guest"
    );
    check_eq!(
        vcpu.get_sregs().or_fail("KVM_GET_SREGS")?.cr2,
        0xf5f5,
        "cr2 as the guest set it"
    );
    Ok(())
}
