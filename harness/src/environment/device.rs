//! `/dev/kvm`: who may open it. Every loading of the modules makes it anew.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use rustix::fs::XattrFlags;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::program;
use super::root::Root;

/// The device.
const PATH: &str = "/dev/kvm";

/// Where the kernel keeps a file's access control list (acl(5)).
const ACL: &str = "system.posix_acl_access";

/// Who may open it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Permissions {
    mode: u32,
    owner: u32,
    group: u32,
    acl: Option<Vec<u8>>,
}

impl Permissions {
    /// Those that hold now; `None` where there is no device.
    pub(super) fn read(root: &Root) -> Option<Self> {
        let path = root.path(PATH);
        let metadata = fs::metadata(&path).ok()?;
        let mut acl = vec![0; 4096];
        let acl = match rustix::fs::getxattr(&path, ACL, &mut acl[..]) {
            Ok(length) => Some(acl[..length].to_vec()),
            Err(_) => None,
        };
        Some(Self {
            mode: metadata.mode() & 0o7777,
            owner: metadata.uid(),
            group: metadata.gid(),
            acl,
        })
    }

    /// Gives them back to a device that was made anew, if it has others.
    ///
    /// # Errors
    /// What was lost, with the command that would bring it back.
    pub(super) fn put_back(&self, root: &Root) -> Result<(), String> {
        // udev, where it runs, sets owner and mode a moment after the kernel has made a device, and would undo what was
        // given back before that. Whatever comes of it, they are read back.
        if root.path("/run/udev/control").exists() {
            program::run(root, "udevadm", &["settle", "--timeout=10"]).ok();
        }
        if Self::read(root).as_ref() == Some(self) {
            return Ok(());
        }
        let set = self.set(root);
        if Self::read(root).as_ref() == Some(self) {
            return Ok(());
        }
        let (owner, group, mode) = (self.owner, self.group, self.mode);
        let acl = self
            .acl
            .as_ref()
            .map_or("", |_| " and an access control list (setfacl)");
        let error = set
            .err()
            .map_or(String::new(), |error| format!(": {error}"));
        Err(format!(
            "{PATH} had owner {owner}, group {group} and mode {mode:o}{acl}{error}; to set them: \
             chown {owner}:{group} {PATH} && chmod {mode:o} {PATH}"
        ))
    }

    fn set(&self, root: &Root) -> io::Result<()> {
        let path = root.path(PATH);
        // 1. Owner and group: a change of them may clear bits of the mode. 2. The mode. 3. The list, which contains it.
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
    }
}
