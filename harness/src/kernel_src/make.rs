//! How the kernel's makefiles are asked to build and install the selftests.

use std::env;
use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context, Result};

use super::tools;

/// The architecture and the compiler to build with.
#[derive(Debug)]
pub(super) struct Make {
    architecture: String,
    compiler_version: String,
}

impl Make {
    /// Looks for make and the compiler.
    pub(super) fn new(architecture: &str) -> Result<Self> {
        let compiler = compiler();
        tools::require(&["make", &compiler, "rsync"])?;
        let version = duct::cmd!(&compiler, "--version")
            .stderr_null()
            .unchecked()
            .read();
        let compiler_version = version.with_context(|| format!("run {compiler}"))?;
        Ok(Self {
            architecture: architecture.to_owned(),
            compiler_version,
        })
    }

    /// The kernel's name for the architecture.
    pub(super) fn architecture(&self) -> &str {
        &self.architecture
    }

    /// What tells this compiler from another.
    pub(super) fn compiler_version(&self) -> &str {
        &self.compiler_version
    }

    /// Builds `source` below `work` in `build`, and installs the selftests in `install`.
    pub(super) fn build(&self, work: &Path) -> Result<()> {
        let headers = [work.join("source").into(), "headers".into()];
        self.run(
            "export the kernel's headers",
            work,
            &headers,
            &work.join("headers.log"),
        )?;
        let selftests = [
            work.join("source/tools/testing/selftests").into(),
            "install".into(),
            "TARGETS=kvm".into(),
            // One that does not compile is an error, not left out.
            "FORCE_TARGETS=1".into(),
            assignment("KSFT_INSTALL_PATH", &work.join("install")),
        ];
        self.run(
            "build the KVM selftests",
            work,
            &selftests,
            &work.join("selftests.log"),
        )
    }

    /// Runs make with `args`, whose first is the directory, and products in `work`'s `build`.
    fn run(&self, what: &str, work: &Path, args: &[OsString], log: &Path) -> Result<()> {
        let mut all = vec![
            OsString::from(format!("-j{}", num_cpus::get())),
            // Each job's output in one piece, so that a compiler's message is, too.
            "--output-sync=target".into(),
            "--no-print-directory".into(),
            format!("ARCH={}", self.architecture).into(),
            assignment("O", &work.join("build")),
            "-C".into(),
        ];
        all.extend_from_slice(args);
        let make = duct::cmd("make", all).full_env(tools::environment());
        tools::run(&make, "make", log).with_context(|| what.to_owned())
    }
}

/// `NAME=PATH`, as an argument of make.
fn assignment(name: &str, path: &Path) -> OsString {
    let mut assignment = OsString::from(name);
    assignment.push("=");
    assignment.push(path);
    assignment
}

/// The compiler that tools/testing/selftests/lib.mk takes: clang if `LLVM` is set (`1`, `-18`, or a directory with a
/// slash at its end), else gcc, with `CROSS_COMPILE` before its name.
fn compiler() -> String {
    let variable = |name| env::var(name).unwrap_or_default();
    match variable("LLVM").as_str() {
        "" => format!("{}gcc", variable("CROSS_COMPILE")),
        directory if directory.ends_with('/') => format!("{directory}clang"),
        suffix if suffix.starts_with('-') => format!("clang{suffix}"),
        _ => "clang".to_owned(),
    }
}
