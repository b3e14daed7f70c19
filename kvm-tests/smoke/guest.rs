//! A guest in 64-bit mode, set up by the host alone: it needs no firmware, and works where real mode does not.

use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, kvm_regs, kvm_segment, kvm_userspace_memory_region,
};
use kvm_ioctls::{VcpuExit, VcpuFd, VmFd};

use super::device;
use super::kselftest::{OrFail, Result, skip};
use super::memory::Memory;

/// The size of a page of guest memory in bytes.
pub(crate) const PAGE: usize = 0x1000;
/// The guest address from which memory slots are the selftest's own, up to the [`END`].
pub(crate) const FREE: u64 = 0x10_0000;
/// The guest address where the page tables end: virtual addresses up to here are physical ones.
pub(crate) const END: u64 = 1 << 30;
/// The guest address of the code.
pub(crate) const CODE: u64 = 0x4000;

/// The slot of the memory that holds page tables, code and stacks; a selftest's own slots start after it.
const SLOT: u32 = 0;
const SIZE: usize = 0x2_0000;
const PML4: u64 = 0x1000;
const PDPT: u64 = 0x2000;
const PAGE_DIRECTORY: u64 = 0x3000;
const TASK_STATE: u64 = 0x5000;
/// The first vCPU's stack; each has a page.
const STACKS: u64 = 0x8000;

/// The most vCPUs that there are stacks for.
pub(crate) const MAX_VCPUS: u64 = (SIZE as u64 - STACKS) / PAGE as u64;

/// A virtual machine whose guest runs the code given to [`Vm::load`] at [`CODE`], at privilege level 0 in 64-bit
/// mode. It has no interrupt controller and no exception handlers: an exception in the guest is `Exit::Other`, a shutdown.
pub(crate) struct Vm {
    /// KVM's file descriptor of it.
    pub(crate) fd: VmFd,
    cpuid: CpuId,
    memory: Memory,
}

impl Vm {
    /// Makes a virtual machine with page tables.
    pub(crate) fn new() -> Result<Self> {
        let kvm = device::open()?;
        let vm = Self {
            fd: kvm.create_vm().or_fail("KVM_CREATE_VM")?,
            cpuid: kvm
                .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
                .or_fail("KVM_GET_SUPPORTED_CPUID")?,
            memory: Memory::new(SIZE),
        };
        vm.set_slot(SLOT, 0, 0, &vm.memory)
            .or_fail("KVM_SET_USER_MEMORY_REGION")?;
        vm.write_page_tables();
        Ok(vm)
    }

    /// Skips the selftest unless this virtual machine has the capability `number`, called `name`.
    pub(crate) fn require(&self, name: &str, number: u32) -> Result {
        if self.fd.check_extension_raw(number.into()) > 0 {
            Ok(())
        } else {
            skip(format!("{name} is missing"))
        }
    }

    /// Puts the guest's code in place.
    pub(crate) fn load(&self, code: &[u8]) {
        assert!(code.len() <= PAGE, "the guest's code fits a page");
        self.memory.write(CODE as usize, code);
    }

    /// Adds or changes a memory slot: `memory` at the guest address `address`, with `KVM_MEM_…` flags.
    pub(crate) fn set_slot(
        &self,
        slot: u32,
        flags: u32,
        address: u64,
        memory: &Memory,
    ) -> std::result::Result<(), kvm_ioctls::Error> {
        self.set_region(slot, flags, address, memory.address(), memory.size())
    }

    /// Deletes a memory slot.
    pub(crate) fn delete_slot(&self, slot: u32) -> std::result::Result<(), kvm_ioctls::Error> {
        self.set_region(slot, 0, 0, 0, 0)
    }

    fn set_region(
        &self,
        slot: u32,
        flags: u32,
        guest_phys_addr: u64,
        userspace_addr: u64,
        size: usize,
    ) -> std::result::Result<(), kvm_ioctls::Error> {
        let region = kvm_userspace_memory_region {
            slot,
            flags,
            guest_phys_addr,
            memory_size: size as u64,
            userspace_addr,
        };
        // SAFETY: the guest gets only what a `Memory` owns, which nothing refers to, and which leaves the guest when unmapped.
        unsafe { self.fd.set_user_memory_region(region) }
    }

    /// Makes vCPU `id` (below [`MAX_VCPUS`]), about to run the code, with its other registers as `set` leaves them.
    pub(crate) fn vcpu(&self, id: u64, set: impl FnOnce(&mut kvm_regs)) -> Result<VcpuFd> {
        assert!(id < MAX_VCPUS, "every vCPU has a stack");
        let vcpu = self.fd.create_vcpu(id).or_fail("KVM_CREATE_VCPU")?;
        vcpu.set_cpuid2(&self.cpuid).or_fail("KVM_SET_CPUID2")?;
        enter_long_mode(&vcpu)?;
        restart(&vcpu, |regs| {
            regs.rsp = STACKS + (id + 1) * PAGE as u64;
            set(regs);
        })?;
        Ok(vcpu)
    }

    /// Maps the first GiB of virtual addresses to the same physical ones, in pages of 2 MiB.
    fn write_page_tables(&self) {
        const PRESENT_WRITABLE: u64 = 0b11;
        const LARGE: u64 = 1 << 7;
        let write =
            |address: u64, entry: u64| self.memory.write(address as usize, &entry.to_le_bytes());
        write(PML4, PDPT | PRESENT_WRITABLE);
        write(PDPT, PAGE_DIRECTORY | PRESENT_WRITABLE);
        for (index, page) in (0..END).step_by(2 << 20).enumerate() {
            write(
                PAGE_DIRECTORY + 8 * index as u64,
                page | LARGE | PRESENT_WRITABLE,
            );
        }
    }
}

/// Sends a vCPU back to the code's first instruction, with its other registers as `set` changes them.
pub(crate) fn restart(vcpu: &VcpuFd, set: impl FnOnce(&mut kvm_regs)) -> Result {
    let mut regs = vcpu.get_regs().or_fail("KVM_GET_REGS")?;
    regs.rip = CODE;
    // Bit 1 is always set, and interrupts stay off (Intel SDM volume 1, 3.4.3).
    regs.rflags = 1 << 1;
    set(&mut regs);
    vcpu.set_regs(&regs).or_fail("KVM_SET_REGS")
}

/// Sets the control and segment registers as an operating system would have them in 64-bit mode (AMD APM volume 2, chapter 14).
fn enter_long_mode(vcpu: &VcpuFd) -> Result {
    const CR0_PROTECTED_NUMERIC_ERROR_PAGING: u64 = 1 << 31 | 1 << 5 | 1;
    const CR4_PHYSICAL_ADDRESS_EXTENSION: u64 = 1 << 5;
    const EFER_LONG_MODE_ENABLED_ACTIVE: u64 = 1 << 8 | 1 << 10;
    let data = kvm_segment {
        limit: !0,
        selector: 0x10,
        type_: 3,
        present: 1,
        db: 1,
        s: 1,
        g: 1,
        ..Default::default()
    };
    let code = kvm_segment {
        selector: 0x8,
        type_: 11,
        db: 0,
        l: 1,
        ..data
    };
    let task = kvm_segment {
        base: TASK_STATE,
        limit: 0x67,
        selector: 0x18,
        type_: 11,
        present: 1,
        ..Default::default()
    };

    let mut sregs = vcpu.get_sregs().or_fail("KVM_GET_SREGS")?;
    sregs.cr0 = CR0_PROTECTED_NUMERIC_ERROR_PAGING;
    sregs.cr3 = PML4;
    sregs.cr4 |= CR4_PHYSICAL_ADDRESS_EXTENSION;
    sregs.efer |= EFER_LONG_MODE_ENABLED_ACTIVE;
    (sregs.cs, sregs.tr) = (code, task);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.ldt = kvm_segment {
        unusable: 1,
        ..Default::default()
    };
    vcpu.set_sregs(&sregs).or_fail("KVM_SET_SREGS")
}

/// Why a vCPU came back to the host.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It executed `hlt`.
    Halt,
    /// It read a port.
    In { port: u16, size: usize },
    /// It wrote a port.
    Out { port: u16, data: Vec<u8> },
    /// It read where there is no memory.
    MmioRead { address: u64, size: usize },
    /// It wrote where there is no memory, or only memory to read.
    MmioWrite { address: u64, data: Vec<u8> },
    /// None of these, as kvm-ioctls shows it.
    Other(String),
}

/// Runs a vCPU until it comes back; a read of it gets the bytes of `reply`.
pub(crate) fn run(vcpu: &mut VcpuFd, reply: &[u8]) -> Result<Exit> {
    let answer = |data: &mut [u8]| {
        data.iter_mut()
            .zip(reply)
            .for_each(|(to, from)| *to = *from);
        data.len()
    };
    Ok(match vcpu.run().or_fail("KVM_RUN")? {
        VcpuExit::Hlt => Exit::Halt,
        VcpuExit::IoIn(port, data) => Exit::In {
            port,
            size: answer(data),
        },
        VcpuExit::IoOut(port, data) => Exit::Out {
            port,
            data: data.to_vec(),
        },
        VcpuExit::MmioRead(address, data) => Exit::MmioRead {
            address,
            size: answer(data),
        },
        VcpuExit::MmioWrite(address, data) => Exit::MmioWrite {
            address,
            data: data.to_vec(),
        },
        other => Exit::Other(format!("{other:?}")),
    })
}

/// The machine code of the instructions given, for a guest to run. Its own labels are `4` to `9`.
macro_rules! guest_code {
    ($($instruction:literal),+ $(,)?) => {{
        let (start, end): (*const u8, *const u8);
        // SAFETY: the host jumps over the guest's instructions, and only takes the addresses where they start and end.
        unsafe {
            std::arch::asm!(
                "lea {start}, [rip + 2f]",
                "lea {end}, [rip + 3f]",
                "jmp 3f",
                "2:",
                $($instruction,)+
                "3:",
                start = out(reg) start,
                end = out(reg) end,
                options(nomem, nostack, preserves_flags),
            );
        }
        // SAFETY: both addresses lie in this program's code, which is readable and never changes.
        let code: &'static [u8] = unsafe { std::slice::from_raw_parts(start, end.addr() - start.addr()) };
        code
    }};
}

pub(crate) use guest_code;
