//! An access where there is no memory leaves to the host with its address, length, direction and data.

use kvm_ioctls::VcpuFd;

use super::guest::{self, Exit, FREE, Vm, guest_code};
use super::kselftest::{OrFail, Result, Subtests, check_eq};

const VALUE: u64 = 0x8877_6655_4433_2291;
const BEFORE: u64 = 0xaaaa_aaaa_aaaa_aaaa;

pub(crate) fn run() -> Result {
    let vm = Vm::new()?;
    let mut vcpu = vm.vcpu(0, |_| {})?;
    // What a load leaves in rax: 1 and 2 bytes keep the rest, 4 clear it (Intel SDM volume 1, 3.4.1.1).
    let loads = [
        (
            "read_1",
            1,
            guest_code!("mov al, [rbx]", "hlt"),
            0xaaaa_aaaa_aaaa_aa91,
        ),
        (
            "read_2",
            2,
            guest_code!("mov ax, [rbx]", "hlt"),
            0xaaaa_aaaa_aaaa_2291,
        ),
        (
            "read_4",
            4,
            guest_code!("mov eax, [rbx]", "hlt"),
            0x4433_2291,
        ),
        ("read_8", 8, guest_code!("mov rax, [rbx]", "hlt"), VALUE),
        (
            "read_1_sign_extended",
            1,
            guest_code!("movsx rax, byte ptr [rbx]", "hlt"),
            0xffff_ffff_ffff_ff91,
        ),
    ];
    let stores = [
        ("write_1", 1, guest_code!("mov [rbx], al", "hlt")),
        ("write_2", 2, guest_code!("mov [rbx], ax", "hlt")),
        ("write_4", 4, guest_code!("mov [rbx], eax", "hlt")),
        ("write_8", 8, guest_code!("mov [rbx], rax", "hlt")),
    ];
    let mut subtests = Subtests::plan(loads.len() + stores.len());
    for (name, size, code, rax) in loads {
        vm.load(code);
        subtests.report(name, load(&mut vcpu, size, rax));
    }
    for (name, size, code) in stores {
        vm.load(code);
        subtests.report(name, store(&mut vcpu, size));
    }
    subtests.finish()
}

fn load(vcpu: &mut VcpuFd, size: usize, rax: u64) -> Result {
    // An address that is a multiple of no access's length but its own, and not at a page's start.
    let address = FREE + 0x100 + size as u64;
    guest::restart(vcpu, |regs| (regs.rax, regs.rbx) = (BEFORE, address))?;
    check_eq!(
        guest::run(vcpu, &VALUE.to_le_bytes())?,
        Exit::MmioRead { address, size },
        "the load"
    );
    check_eq!(guest::run(vcpu, &[])?, Exit::Halt, "after the load");
    check_eq!(
        vcpu.get_regs().or_fail("KVM_GET_REGS")?.rax,
        rax,
        "rax after a load of {size} bytes"
    );
    Ok(())
}

fn store(vcpu: &mut VcpuFd, size: usize) -> Result {
    let address = FREE + 0x100 + size as u64;
    guest::restart(vcpu, |regs| (regs.rax, regs.rbx) = (VALUE, address))?;
    let write = Exit::MmioWrite {
        address,
        data: VALUE.to_le_bytes()[..size].to_vec(),
    };
    check_eq!(guest::run(vcpu, &[])?, write, "the store");
    check_eq!(guest::run(vcpu, &[])?, Exit::Halt, "after the store");
    Ok(())
}
