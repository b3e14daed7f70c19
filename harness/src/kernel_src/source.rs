//! Where the kernel's source comes from: a tree, or a tarball.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::mirror::Mirror;
use super::tarball::Unpacking;

/// What the selftests need, as globs that match in every kernel of the last years (tar wants a match of each); `ARCH` is the architecture.
const NEEDED: &[&str] = &[
    "Makefile",
    "scripts",
    "include/uapi",
    "arch/ARCH",
    "tools/arch",
    "tools/build",
    "tools/include",
    "tools/lib/*.c",
    "tools/scripts",
    "tools/testing/selftests/Makefile",
    "tools/testing/selftests/*.*",
    // kvm, kselftest, rseq, and vfio where there is one.
    "tools/testing/selftests/[krv]*",
];

/// What of it is not needed, and large.
const UNNEEDED: &str = "arch/ARCH/boot";

/// What changes when somebody works on the selftests, or takes another kernel version.
const WATCHED: &[&str] = &[
    "Makefile",
    "include/uapi",
    "arch/ARCH/include/uapi",
    "tools/arch/ARCH/include",
    "tools/include",
    "tools/lib/rbtree.c",
    "tools/testing/selftests/Makefile",
    "tools/testing/selftests/lib.mk",
    "tools/testing/selftests/kselftest*",
    "tools/testing/selftests/kvm",
    "tools/testing/selftests/rseq",
];

/// The endings of tarballs' names, with the program that tar runs to unpack each.
const TARBALLS: &[(&str, &str)] = &[
    (".tar.xz", "xz"),
    (".txz", "xz"),
    (".tar.gz", "gzip"),
    (".tgz", "gzip"),
    (".tar.bz2", "bzip2"),
    (".tar.zst", "zstd"),
    (".tar", "tar"),
];

/// A kernel's source.
#[derive(Debug)]
pub(super) enum Source {
    /// The top directory of a tree.
    Tree(PathBuf),
    /// A tarball, with everything in one directory, and the program that unpacks it.
    Tarball(PathBuf, &'static str),
}

impl Source {
    /// What the value of `KERNEL_SRC` stands for.
    pub(super) fn parse(kernel_src: &OsStr) -> Result<Self> {
        let path = Path::new(kernel_src);
        let shown = path.display();
        if kernel_src.as_encoded_bytes().starts_with(b"~") {
            bail!("KERNEL_SRC={shown}: no shell has expanded the ~; write the whole path");
        }
        if path.is_relative() {
            bail!(
                "KERNEL_SRC={shown} is relative, and a build has no directory to start from; write the whole path"
            );
        }
        let path = path
            .canonicalize()
            .with_context(|| format!("find KERNEL_SRC={shown}"))?;
        if path.is_dir() {
            if !path.join("tools/testing/selftests/kvm/Makefile").exists() {
                bail!(
                    "KERNEL_SRC={shown} is no kernel source tree: it has no tools/testing/selftests/kvm/Makefile"
                );
            }
            return Ok(Self::Tree(path));
        }
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        match TARBALLS.iter().find(|(ending, _)| name.ends_with(ending)) {
            Some(&(_, program)) => Ok(Self::Tarball(path, program)),
            None => bail!(
                "KERNEL_SRC={shown} is neither a kernel source tree nor a tarball of one \
                 (.tar.xz, .tar.gz, .tar.zst)"
            ),
        }
    }

    /// The tree's or the tarball's path, with no symbolic links in it.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Tree(path) | Self::Tarball(path, _) => path,
        }
    }

    /// How the source differs from `copy`, where what is needed of it was put before.
    pub(super) fn compare(&self, copy: &Path, architecture: &str) -> Result<Change<'_>> {
        let needed: Vec<_> = NEEDED
            .iter()
            .map(|glob| glob.replace("ARCH", architecture))
            .collect();
        let unneeded = UNNEEDED.replace("ARCH", architecture);
        match self {
            Self::Tree(tree) => Ok(Change::Tree(Mirror::compare(
                tree, copy, &needed, &unneeded,
            )?)),
            Self::Tarball(path, program) => Ok(Change::Tarball(Unpacking::compare(
                path, program, copy, needed, unneeded,
            )?)),
        }
    }

    /// The files and directories to watch for changes.
    pub(super) fn watched(&self, architecture: &str) -> Vec<PathBuf> {
        match self {
            Self::Tree(tree) => WATCHED
                .iter()
                .map(|path| tree.join(path.replace("ARCH", architecture)))
                .filter(|path| path.exists())
                .collect(),
            Self::Tarball(path, _) => vec![path.clone()],
        }
    }
}

/// How a source differs from what was taken of it before.
pub(super) enum Change<'a> {
    /// A tree, file by file.
    Tree(Mirror),
    /// A tarball, as a whole.
    Tarball(Unpacking<'a>),
}

impl Change<'_> {
    /// Whether nothing has changed.
    pub(super) fn is_none(&self) -> bool {
        match self {
            Self::Tree(mirror) => mirror.is_none(),
            Self::Tarball(unpacking) => unpacking.is_none(),
        }
    }

    /// Whether make, which looks at the times of C sources and headers, would not rebuild all that has changed.
    pub(super) fn is_unknown_to_make(&self) -> bool {
        match self {
            Self::Tree(mirror) => mirror.is_unknown_to_make(),
            Self::Tarball(unpacking) => !unpacking.is_none(),
        }
    }

    /// Brings the copy up to date.
    pub(super) fn apply(&self) -> Result<()> {
        match self {
            Self::Tree(mirror) => mirror.apply(),
            Self::Tarball(unpacking) if unpacking.is_none() => Ok(()),
            Self::Tarball(unpacking) => unpacking.unpack(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn error(kernel_src: &str) -> String {
        format!("{:#}", Source::parse(OsStr::new(kernel_src)).unwrap_err())
    }

    #[test]
    fn what_is_no_kernel_source_is_refused_with_the_reason() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap();
        let (empty, notes) = (path.to_str().unwrap(), path.join("notes.txt"));
        fs::write(&notes, "").unwrap();
        assert_eq!(
            error("~/linux"),
            "KERNEL_SRC=~/linux: no shell has expanded the ~; write the whole path"
        );
        assert_eq!(
            error("../linux"),
            "KERNEL_SRC=../linux is relative, and a build has no directory to start from; write the whole path"
        );
        assert_eq!(
            error(empty),
            format!(
                "KERNEL_SRC={empty} is no kernel source tree: it has no tools/testing/selftests/kvm/Makefile"
            )
        );
        assert_eq!(
            error(notes.to_str().unwrap()),
            format!(
                "KERNEL_SRC={empty}/notes.txt is neither a kernel source tree nor a tarball of one \
                 (.tar.xz, .tar.gz, .tar.zst)"
            )
        );
        assert_eq!(
            error(&format!("{empty}/missing")),
            format!("find KERNEL_SRC={empty}/missing: No such file or directory (os error 2)")
        );
    }
}
