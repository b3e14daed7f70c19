//! Several vCPUs, each on a thread of its own, count together in the same memory and lose nothing.

use std::sync::Barrier;
use std::thread;

use kvm_bindings::KVM_CAP_MAX_VCPUS;
use kvm_ioctls::VcpuFd;

use super::guest::{self, Exit, FREE, PAGE, Vm, guest_code};
use super::kselftest::{OrFail, Result, check_eq, skip};
use super::memory::Memory;

const VCPUS: u64 = 4;
/// Few enough for a backend that emulates every instruction, and enough for the vCPUs to meet, as they start together.
const ROUNDS: u64 = 10_000;

pub(crate) fn run() -> Result {
    let vm = Vm::new()?;
    let most = vm.fd.check_extension_raw(KVM_CAP_MAX_VCPUS.into());
    if i64::from(most) < VCPUS as i64 {
        return skip(format!("KVM_CAP_MAX_VCPUS is {most}, below {VCPUS}"));
    }
    // The shared counter is at rbx, the vCPU's own, counted without a lock, at rdx.
    vm.load(guest_code!(
        "4:",
        "lock inc qword ptr [rbx]",
        "inc qword ptr [rdx]",
        "dec rcx",
        "jnz 4b",
        "hlt"
    ));
    let counters = Memory::new(PAGE);
    vm.set_slot(1, 0, FREE, &counters)
        .or_fail("KVM_SET_USER_MEMORY_REGION")?;
    let own = |id: u64| 64 * (id + 1);

    let mut vcpus = Vec::new();
    for id in 0..VCPUS {
        vcpus.push(vm.vcpu(id, |regs| {
            (regs.rbx, regs.rcx, regs.rdx) = (FREE, ROUNDS, FREE + own(id));
        })?);
    }
    let start = Barrier::new(vcpus.len());
    let run = |mut vcpu: VcpuFd| {
        start.wait();
        guest::run(&mut vcpu, &[])
    };
    let exits: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = vcpus
            .into_iter()
            .map(|vcpu| scope.spawn(|| run(vcpu)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a vCPU's thread does not panic"))
            .collect()
    });
    for exit in exits {
        check_eq!(exit?, Exit::Halt, "each vCPU counts, then halts");
    }

    check_eq!(counters.read(0), VCPUS * ROUNDS, "the counter of all vCPUs");
    for id in 0..VCPUS {
        check_eq!(
            counters.read(own(id) as usize),
            ROUNDS,
            "the counter of vCPU {id}"
        );
    }
    Ok(())
}
