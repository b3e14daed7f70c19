//! A directory that stands for the host, since programs that do not use KVM need none.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Makes `command` run in `directory`, and take what is in `directory`/root for the host.
pub(crate) fn use_host_in<'a>(directory: &Path, command: &'a mut Command) -> &'a mut Command {
    let root = directory.join("root");
    fs::create_dir_all(root.join("dev")).unwrap();
    fs::write(root.join("dev/kvm"), "").unwrap();
    command.current_dir(directory).env("KVM_TESTS_ROOT", root)
}
