//! Those who run commands, and know nothing of tests; and kselftest's shell script.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use super::{MakeCommand, find};
use crate::workload::Workload;

pub(super) fn xargs(workload: &Workload, workers: usize) -> Result<MakeCommand, &'static str> {
    let program = find("xargs")?;
    let list = workload.list.clone();
    Ok(Box::new(move |_| {
        let mut command = Command::new(&program);
        // It wants a command to add to; env(1) becomes the program itself.
        command
            .arg("-a")
            .arg(&list)
            .args(["-n1", &format!("-P{workers}"), "env"]);
        command
    }))
}

pub(super) fn parallel(workload: &Workload, workers: usize) -> Result<MakeCommand, &'static str> {
    let program = find("parallel")?;
    let list = workload.list.clone();
    Ok(Box::new(move |_| {
        let mut command = Command::new(&program);
        command
            .args([&format!("-j{workers}"), "--will-cite", "-a"])
            .arg(&list);
        command
    }))
}

/// It runs one after another only.
pub(super) fn kselftest(workload: &Workload, workers: usize) -> Result<MakeCommand, &'static str> {
    if workers > 1 {
        return Err("runs one after another only");
    }
    let installed =
        PathBuf::from(std::env::var_os("KSELFTEST_INSTALL").ok_or("no KSELFTEST_INSTALL")?);
    let tree = workload.directory().join("kselftest-tree");
    if !tree.exists() {
        fs::create_dir_all(tree.join("kselftest")).unwrap();
        for file in fs::read_dir(installed.join("kselftest")).unwrap().flatten() {
            fs::copy(file.path(), tree.join("kselftest").join(file.file_name())).unwrap();
        }
        fs::copy(
            installed.join("run_kselftest.sh"),
            tree.join("run_kselftest.sh"),
        )
        .unwrap();
        symlink(workload.selftests(), tree.join("kvm")).unwrap();
        workload.write("kselftest-tree/kselftest-list.txt", "", |name, _| {
            format!("kvm:{name}")
        });
    }
    Ok(Box::new(move |_| {
        Command::new(tree.join("run_kselftest.sh"))
    }))
}
