//! Memory slots are added, moved, replaced and deleted, and the guest sees the effect at once.

use kvm_bindings::{KVM_CAP_READONLY_MEM, KVM_MEM_READONLY};
use kvm_ioctls::VcpuFd;
use rustix::io::Errno;

use super::guest::{self, Exit, FREE, PAGE, Vm, guest_code};
use super::kselftest::{OrFail, Result, Subtests, check_eq};
use super::memory::Memory;

const SLOT: u32 = 1;
const HERE: u64 = FREE;
const THERE: u64 = FREE + (64 << 20);

pub(crate) fn run() -> Result {
    let vm = Vm::new()?;
    let mut subtests = Subtests::plan(2);
    subtests.report("add_move_replace_delete", add_move_replace_delete(&vm));
    subtests.report("readonly", readonly());
    subtests.finish()
}

fn add_move_replace_delete(vm: &Vm) -> Result {
    vm.load(guest_code!("mov rax, [rbx]", "hlt"));
    let mut vcpu = vm.vcpu(0, |_| {})?;
    let (one, other) = (memory_with(0x1111), memory_with(0x2222));

    check_eq!(
        load(&mut vcpu, HERE)?,
        Loaded::Mmio,
        "before there is a slot"
    );
    vm.set_slot(SLOT, 0, HERE, &one)
        .or_fail("KVM_SET_USER_MEMORY_REGION, adding")?;
    check_eq!(
        load(&mut vcpu, HERE)?,
        Loaded::Memory(0x1111),
        "in the slot added"
    );

    let overlap = vm
        .set_slot(SLOT + 1, 0, HERE, &other)
        .map_err(|error| Errno::from_raw_os_error(error.errno()));
    check_eq!(
        overlap,
        Err(Errno::EXIST),
        "adding a slot on top of another"
    );

    vm.set_slot(SLOT, 0, THERE, &one)
        .or_fail("KVM_SET_USER_MEMORY_REGION, moving")?;
    check_eq!(load(&mut vcpu, HERE)?, Loaded::Mmio, "where the slot was");
    check_eq!(
        load(&mut vcpu, THERE)?,
        Loaded::Memory(0x1111),
        "where the slot was moved"
    );

    vm.delete_slot(SLOT)
        .or_fail("KVM_SET_USER_MEMORY_REGION, deleting")?;
    vm.set_slot(SLOT, 0, THERE, &other)
        .or_fail("KVM_SET_USER_MEMORY_REGION, replacing")?;
    check_eq!(
        load(&mut vcpu, THERE)?,
        Loaded::Memory(0x2222),
        "in the slot whose memory was replaced"
    );

    vm.delete_slot(SLOT)
        .or_fail("KVM_SET_USER_MEMORY_REGION, deleting")?;
    check_eq!(
        load(&mut vcpu, THERE)?,
        Loaded::Mmio,
        "where the slot was deleted"
    );
    Ok(())
}

fn readonly() -> Result {
    let vm = Vm::new()?;
    vm.require("KVM_CAP_READONLY_MEM", KVM_CAP_READONLY_MEM)?;
    vm.load(guest_code!("mov rcx, [rbx]", "mov [rbx], rax", "hlt"));
    let memory = memory_with(0x1111);
    vm.set_slot(SLOT, KVM_MEM_READONLY, HERE, &memory)
        .or_fail("KVM_SET_USER_MEMORY_REGION")?;
    let mut vcpu = vm.vcpu(0, |regs| (regs.rax, regs.rbx) = (0x3333, HERE))?;

    let write = Exit::MmioWrite {
        address: HERE,
        data: 0x3333_u64.to_le_bytes().to_vec(),
    };
    check_eq!(
        guest::run(&mut vcpu, &[])?,
        write,
        "the write to read-only memory"
    );
    check_eq!(guest::run(&mut vcpu, &[])?, Exit::Halt, "after the write");
    check_eq!(
        vcpu.get_regs().or_fail("KVM_GET_REGS")?.rcx,
        0x1111,
        "what was read from read-only memory"
    );
    check_eq!(memory.read(0), 0x1111, "read-only memory after the write");
    Ok(())
}

fn memory_with(value: u64) -> Memory {
    let memory = Memory::new(PAGE);
    memory.write(0, &value.to_le_bytes());
    memory
}

/// What became of a load.
#[derive(Debug, PartialEq, Eq)]
enum Loaded {
    Memory(u64),
    Mmio,
}

/// Has the guest load from `address`.
fn load(vcpu: &mut VcpuFd, address: u64) -> Result<Loaded> {
    const REPLY: u64 = 0xdead_beef;
    guest::restart(vcpu, |regs| regs.rbx = address)?;
    let first = guest::run(vcpu, &REPLY.to_le_bytes())?;
    let is_mmio = first == Exit::MmioRead { address, size: 8 };
    let last = if is_mmio {
        guest::run(vcpu, &[])?
    } else {
        first
    };
    check_eq!(last, Exit::Halt, "a load from {address:#x}, then hlt");
    let loaded = vcpu.get_regs().or_fail("KVM_GET_REGS")?.rax;
    if is_mmio {
        check_eq!(loaded, REPLY, "what the guest got for an MMIO read");
        return Ok(Loaded::Mmio);
    }
    Ok(Loaded::Memory(loaded))
}
