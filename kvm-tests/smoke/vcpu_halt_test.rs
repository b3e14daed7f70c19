//! A vCPU runs up to `hlt`, and its port I/O carries the data both ways.

use super::guest::{self, Exit, Vm, guest_code};
use super::kselftest::{OrFail, Result, check_eq};

pub(crate) fn run() -> Result {
    let vm = Vm::new()?;
    vm.load(guest_code!(
        "in al, 0x10",
        "inc al",
        "out 0x11, al",
        "mov dx, 0x1234",
        "in ax, dx",
        "inc ax",
        "out dx, ax",
        "in eax, dx",
        "inc eax",
        "out dx, eax",
        "hlt",
        "mov eax, 0x600d",
        "hlt",
    ));
    let mut vcpu = vm.vcpu(0, |_| {})?;

    check_eq!(
        guest::run(&mut vcpu, &[0x41])?,
        Exit::In {
            port: 0x10,
            size: 1
        },
        "in al"
    );
    check_eq!(
        guest::run(&mut vcpu, &[])?,
        Exit::Out {
            port: 0x11,
            data: vec![0x42]
        },
        "out al"
    );
    check_eq!(
        guest::run(&mut vcpu, &[0xff, 0x01])?,
        Exit::In {
            port: 0x1234,
            size: 2
        },
        "in ax"
    );
    check_eq!(
        guest::run(&mut vcpu, &[])?,
        Exit::Out {
            port: 0x1234,
            data: vec![0x00, 0x02]
        },
        "out ax"
    );
    check_eq!(
        guest::run(&mut vcpu, &[0xff, 1, 2, 3])?,
        Exit::In {
            port: 0x1234,
            size: 4
        },
        "in eax"
    );
    check_eq!(
        guest::run(&mut vcpu, &[])?,
        Exit::Out {
            port: 0x1234,
            data: vec![0, 2, 2, 3]
        },
        "out eax"
    );
    check_eq!(guest::run(&mut vcpu, &[])?, Exit::Halt, "the first hlt");

    check_eq!(
        guest::run(&mut vcpu, &[])?,
        Exit::Halt,
        "the hlt after the one that it was resumed from"
    );
    let regs = vcpu.get_regs().or_fail("KVM_GET_REGS")?;
    check_eq!(regs.rax, 0x600d, "rax, set between the two hlt");
    Ok(())
}
