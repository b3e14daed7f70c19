//! `--install` and `--uninstall`: the run_kselftest.sh of an installed tree that calls this program.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::model::case::quoted;
use crate::model::file;
use crate::show::print;

/// The second line of the script, by which it is known.
const MARK: &str = "# Written by `kvm-tests kselftest --install`; `--uninstall` puts the kernel's own script back.";

/// Makes the script of `tree` call this program, and keeps the kernel's own.
///
/// # Errors
/// There is none, or it cannot be replaced.
pub(super) fn install(tree: &Path) -> anyhow::Result<()> {
    let [script, original] = paths(tree)?;
    let before = read(&script)?;
    let exe = std::env::current_exe().context("find this program")?;
    let program = exe
        .to_str()
        .with_context(|| format!("{} is not UTF-8", exe.display()))?;
    let after = text(program);
    if before == after.as_bytes() {
        return print(&format!("{} calls {program} already\n", script.display()));
    }
    if !is_ours(&before) {
        // Copied, so that there is a script at any time.
        fs::copy(&script, &original).with_context(|| format!("write {}", original.display()))?;
    }
    let next = script.with_extension("sh.new");
    let write = || {
        file::replace(&next, |out| out.write_all(after.as_bytes()))?;
        fs::set_permissions(&next, fs::Permissions::from_mode(0o755))?;
        fs::rename(&next, &script)
    };
    write().with_context(|| format!("write {}", script.display()))?;
    print(&format!("{} calls {program} now\n", script.display()))
}

/// Puts the kernel's own script back.
///
/// # Errors
/// It is not there any more, or cannot be put back.
pub(super) fn uninstall(tree: &Path) -> anyhow::Result<()> {
    let [script, original] = paths(tree)?;
    if !is_ours(&read(&script)?) {
        return print(&format!(
            "{} is the kernel's own already\n",
            script.display()
        ));
    }
    let context = || format!("put {} back", original.display());
    fs::rename(&original, &script).with_context(context)?;
    print(&format!("{} is the kernel's own again\n", script.display()))
}

/// The script, and the kernel's own where that is kept.
fn paths(tree: &Path) -> anyhow::Result<[PathBuf; 2]> {
    let names = ["run_kselftest.sh", "run_kselftest.sh.orig"];
    let tree = tree.canonicalize();
    let tree = tree.context("find the installed tree")?;
    Ok(names.map(|name| tree.join(name)))
}

fn read(script: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(script)
        .with_context(|| format!("read {}: is this an installed tree?", script.display()))
}

fn is_ours(text: &[u8]) -> bool {
    let mut lines = text.split(|&byte| byte == b'\n');
    lines.nth(1) == Some(MARK.as_bytes())
}

fn text(program: &str) -> String {
    let program = quoted(OsStr::new(program));
    format!(
        r#"#!/bin/sh
{MARK}
program={program}
if [ ! -x "$program" ]; then
    echo "$0: $program is gone. The kernel's own script is $0.orig." >&2
    exit 1
fi
exec "$program" kselftest --tree "$(dirname "$0")" "$@"
"#
    )
}
