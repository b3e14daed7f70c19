//! `kvm-tests build`: the selftests of a kernel tree, as `KERNEL_SRC` has them built.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::kernel_src;
use crate::show::print;

/// What to build.
#[derive(Debug, Clone, Args)]
pub struct BuildOptions {
    /// A kernel tree, or a tarball of one
    #[arg(value_name = "KERNEL_SRC")]
    pub kernel_src: PathBuf,
}

/// Builds the selftests, and says where they are.
///
/// # Errors
/// They cannot be built.
pub fn build(options: &BuildOptions) -> anyhow::Result<ExitCode> {
    let selftests = kernel_src::build_here(&options.kernel_src)?;
    print(&format!("{}\n", selftests.display()))?;
    eprintln!(
        "run them with: kvm-tests run --kernel-src {}",
        options.kernel_src.display()
    );
    Ok(ExitCode::SUCCESS)
}
