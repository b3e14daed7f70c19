//! A tarball of the kernel's source, unpacked again only when it is another.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{remove, tools};

/// What is to be unpacked, and where to.
pub(super) struct Unpacking<'a> {
    tarball: &'a Path,
    program: &'static str,
    copy: PathBuf,
    needed: Vec<String>,
    unneeded: String,
    /// What tells this tarball from another at the same path.
    identity: String,
}

impl<'a> Unpacking<'a> {
    /// Has a look at the tarball; `copy` is the directory that it is unpacked to.
    pub(super) fn compare(
        tarball: &'a Path,
        program: &'static str,
        copy: &Path,
        needed: Vec<String>,
        unneeded: String,
    ) -> Result<Self> {
        let metadata =
            fs::metadata(tarball).with_context(|| format!("read {}", tarball.display()))?;
        let identity = format!(
            "{} {}.{:09} {needed:?}",
            metadata.size(),
            metadata.mtime(),
            metadata.mtime_nsec()
        );
        Ok(Self {
            tarball,
            program,
            copy: copy.to_owned(),
            needed,
            unneeded,
            identity,
        })
    }

    /// Whether this tarball is the one that was unpacked last.
    pub(super) fn is_none(&self) -> bool {
        fs::read_to_string(self.identity_file()).is_ok_and(|unpacked| unpacked == self.identity)
    }

    /// Unpacks what is needed of it.
    pub(super) fn unpack(&self) -> Result<()> {
        let Self { tarball, copy, .. } = self;
        tools::require(&["tar", self.program])?;
        remove(&self.identity_file())?;
        remove(copy)?;
        fs::create_dir_all(copy).with_context(|| format!("create {}", copy.display()))?;
        let mut args: Vec<OsString> = [
            "--extract",
            "--strip-components=1",
            "--no-same-owner",
            "--wildcards",
            "--no-wildcards-match-slash",
            "--file",
        ]
        .map(Into::into)
        .into();
        args.extend([
            tarball.as_os_str().to_owned(),
            "--directory".into(),
            copy.as_os_str().to_owned(),
        ]);
        args.push(format!("--exclude=*/{}", self.unneeded).into());
        args.extend(self.needed.iter().map(|glob| format!("*/{glob}").into()));
        let tar = duct::cmd("tar", args).full_env(tools::environment());
        tools::run(&tar, "tar", &copy.with_extension("log"))
            .with_context(|| format!("unpack {}", tarball.display()))?;
        fs::write(self.identity_file(), &self.identity).context("note which tarball was unpacked")
    }

    fn identity_file(&self) -> PathBuf {
        self.copy.with_extension("tarball")
    }
}
