//! `immediate_exit` makes KVM_RUN return before the guest runs, but after what it had begun is completed (KVM's api.rst).

use kvm_bindings::KVM_CAP_IMMEDIATE_EXIT;
use kvm_ioctls::VcpuFd;
use rustix::io::Errno;

use super::guest::{self, CODE, Exit, Vm, guest_code};
use super::kselftest::{OrFail, Result, check_eq};

pub(crate) fn run() -> Result {
    let vm = Vm::new()?;
    vm.require("KVM_CAP_IMMEDIATE_EXIT", KVM_CAP_IMMEDIATE_EXIT)?;
    vm.load(guest_code!("in al, 0x10", "inc al", "hlt"));
    let in_length = guest_code!("in al, 0x10").len() as u64;
    let mut vcpu = vm.vcpu(0, |regs| regs.rax = 0)?;

    check_eq!(
        run_to_no_avail(&mut vcpu)?,
        (CODE, 0),
        "rip and rax, as nothing ran"
    );

    check_eq!(
        guest::run(&mut vcpu, &[0x41])?,
        Exit::In {
            port: 0x10,
            size: 1
        },
        "without immediate_exit"
    );
    check_eq!(
        run_to_no_avail(&mut vcpu)?,
        (CODE + in_length, 0x41),
        "rip and rax, as only the input was completed"
    );

    check_eq!(
        guest::run(&mut vcpu, &[])?,
        Exit::Halt,
        "without immediate_exit"
    );
    check_eq!(
        vcpu.get_regs().or_fail("KVM_GET_REGS")?.rax,
        0x42,
        "rax at last"
    );
    Ok(())
}

/// Runs the vCPU with `immediate_exit`, and gives its rip and rax.
fn run_to_no_avail(vcpu: &mut VcpuFd) -> Result<(u64, u64)> {
    vcpu.set_kvm_immediate_exit(1);
    let result = match vcpu.run() {
        Ok(exit) => Ok(format!("{exit:?}")),
        Err(error) => Err(Errno::from_raw_os_error(error.errno())),
    };
    vcpu.set_kvm_immediate_exit(0);
    check_eq!(result, Err(Errno::INTR), "KVM_RUN with immediate_exit");
    let regs = vcpu.get_regs().or_fail("KVM_GET_REGS")?;
    Ok((regs.rip, regs.rax))
}
