//! `/dev/kvm`: who may open it. Every loading of the modules makes it anew.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use rustix::fs::XattrFlags;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::program;
use super::root::Root;

/// The device.
pub const PATH: &str = "/dev/kvm";

/// Where the kernel keeps a file's access control list (acl(5)).
const ACL: &str = "system.posix_acl_access";

/// Who may open it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Permissions {
    mode: u32,
    owner: u32,
    group: u32,
    acl: Option<Vec<u8>>,
}

impl Permissions {
    /// Those that hold now; `None` where there is no device.
    pub fn read(root: &Root) -> Option<Self> {
        let metadata = fs::metadata(root.path(PATH)).ok()?;
        let (mode, owner, group) = (metadata.mode() & 0o7777, metadata.uid(), metadata.gid());
        Some(Self {
            mode,
            owner,
            group,
            acl: read_acl(root),
        })
    }

    /// Gives them back to a device that was made anew, if it has others.
    ///
    /// # Errors
    /// What was lost, with the command that would bring it back.
    pub fn put_back(&self, root: &Root) -> Result<(), String> {
        settle(root);
        if Self::read(root).as_ref() == Some(self) {
            return Ok(());
        }
        let path = root.path(PATH);
        // 1. Owner and group: a change of them may clear bits of the mode. 2. The mode. 3. The list, which contains it.
        let put = || -> std::io::Result<()> {
            chown(&path, Some(self.owner), Some(self.group))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(self.mode))?;
            match &self.acl {
                Some(acl) => rustix::fs::setxattr(&path, ACL, acl, XattrFlags::empty())?,
                None => match rustix::fs::removexattr(&path, ACL) {
                    Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => {}
                    Err(error) => return Err(error.into()),
                },
            }
            Ok(())
        };
        let error = put().err().map(|error| format!(": {error}"));
        if error.is_none() && Self::read(root).as_ref() == Some(self) {
            return Ok(());
        }
        Err(format!(
            "{PATH} had owner {}, group {} and mode {:o}{}{}; to set them: chown {0}:{1} {PATH} && chmod {2:o} {PATH}",
            self.owner,
            self.group,
            self.mode,
            if self.acl.is_some() {
                " and an access control list (setfacl)"
            } else {
                ""
            },
            error.unwrap_or_default()
        ))
    }
}

fn read_acl(root: &Root) -> Option<Vec<u8>> {
    let mut acl = vec![0; 4096];
    let length = rustix::fs::getxattr(root.path(PATH), ACL, &mut acl[..]).ok()?;
    acl.truncate(length);
    Some(acl)
}

/// Waits for udev, where it runs: it sets owner and mode of a new device a moment after the kernel has made it, and
/// would undo what was given back before that.
fn settle(root: &Root) {
    if root.path("/run/udev/control").exists()
        && let Some(udevadm) = root.program("udevadm")
    {
        // Whatever comes of it, the permissions are read back.
        drop(program::run(
            &udevadm,
            &["settle", "--timeout=10"],
            root.program_time,
        ));
    }
}
