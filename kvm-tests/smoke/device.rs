//! `/dev/kvm`, and who may open it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use kvm_bindings::KVM_API_VERSION;
use kvm_ioctls::Kvm;
use rustix::io::Errno;

use super::kselftest::{OrFail, Result, check_eq, error_text, skip};

const PATH: &str = "/dev/kvm";

/// Opens `/dev/kvm`; skips the selftest where there is none, or none for this user.
pub(crate) fn open() -> Result<Kvm> {
    let kvm = match Kvm::new() {
        Err(error) => match Errno::from_raw_os_error(error.errno()) {
            Errno::NOENT | Errno::NXIO | Errno::NODEV => {
                return skip(format!("cannot open {PATH}: {}", error_text(error.errno())));
            }
            Errno::ACCESS | Errno::PERM => {
                return skip(format!(
                    "cannot open {PATH}: {}{}",
                    error_text(error.errno()),
                    permissions()
                ));
            }
            _ => Err(error).or_fail("open /dev/kvm")?,
        },
        Ok(kvm) => kvm,
    };
    check_eq!(
        kvm.get_api_version(),
        KVM_API_VERSION as i32,
        "KVM_GET_API_VERSION, which never changes"
    );
    Ok(kvm)
}

/// Who may open the device: ` (mode 0660, owner 0, group kvm)`.
fn permissions() -> String {
    let Ok(metadata) = fs::metadata(PATH) else {
        return String::new();
    };
    let (mode, owner, gid) = (
        metadata.permissions().mode() & 0o7777,
        metadata.uid(),
        metadata.gid(),
    );
    let group = group_name(gid).unwrap_or_else(|| gid.to_string());
    format!(" (mode {mode:04o}, owner {owner}, group {group})")
}

/// The group's name, by group(5).
fn group_name(gid: u32) -> Option<String> {
    let groups = fs::read_to_string("/etc/group").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(gid)).then(|| name.to_owned())
    })
}
