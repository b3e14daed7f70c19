//! Where the host's files and programs are: really, or in a directory that stands for a host.

use std::env;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use rustix::process::geteuid;

/// The hidden environment variable that names a directory to be used in place of the host's own `/`.
const VARIABLE: &str = "KVM_TESTS_ROOT";

/// The root of the files that make up the host.
#[derive(Debug, Clone)]
pub struct Root {
    directory: PathBuf,
    search: OsString,
    may_change: bool,
}

impl Root {
    /// The host itself, or what [`VARIABLE`] names. That is asked once, and the answer passed on.
    pub fn from_env() -> Self {
        let mut search = env::var_os("PATH").unwrap_or_default();
        // Where distributions keep modprobe, which the PATH of users often lacks.
        search.push(":/usr/sbin:/sbin");
        match env::var_os(VARIABLE).filter(|directory| !directory.is_empty()) {
            Some(directory) => Self::at(Path::new(&directory), search),
            None => Self {
                directory: PathBuf::from("/"),
                search,
                may_change: geteuid().is_root(),
            },
        }
    }

    /// A directory that stands for a host, for those who may write to it; its programs are looked up in `search`, which
    /// is written as PATH is.
    pub fn at(directory: &Path, search: impl Into<OsString>) -> Self {
        Self {
            directory: directory.to_owned(),
            search: search.into(),
            may_change: access(directory, Access::WRITE_OK).is_ok(),
        }
    }

    /// The same, for a user who may change nothing.
    #[cfg(test)]
    pub(super) fn unprivileged(self) -> Self {
        Self {
            may_change: false,
            ..self
        }
    }

    /// What is to be said whenever this is not the host itself.
    pub fn announcement(&self) -> Option<String> {
        let directory = self.directory.display();
        (!self.is_host()).then(|| {
            format!("{VARIABLE}: {directory} stands for this host; the host itself is left alone")
        })
    }

    /// Whether this is the host itself.
    pub fn is_host(&self) -> bool {
        self.directory == Path::new("/")
    }

    /// Whether modules may be loaded and files of the kernel written: by root only.
    pub fn may_change(&self) -> bool {
        self.may_change
    }

    /// Where the host's file of this absolute path is.
    pub fn path(&self, absolute: impl AsRef<Path>) -> PathBuf {
        let absolute = absolute.as_ref();
        self.directory
            .join(absolute.strip_prefix("/").unwrap_or(absolute))
    }

    /// The text of a file, without blanks around it.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(&self, absolute: impl AsRef<Path>) -> io::Result<String> {
        fs::read(self.path(absolute)).map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// The names of what is in a directory, in order; none where it cannot be read.
    pub fn names(&self, absolute: impl AsRef<Path>) -> Vec<String> {
        let entries = fs::read_dir(self.path(absolute)).into_iter().flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    /// Whether a file may be written by its owner: what root can do tells nothing of a file of the kernel.
    pub(super) fn is_writable(&self, absolute: impl AsRef<Path>) -> bool {
        let metadata = fs::metadata(self.path(absolute));
        metadata.is_ok_and(|metadata| metadata.mode() & 0o200 != 0)
    }

    /// Writes a value into a file that is there: in one write(2), as files of the kernel want it.
    ///
    /// # Errors
    /// If there is no such file, or it does not take the value.
    pub fn write(&self, absolute: impl AsRef<Path>, value: &str) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let file = options.write(true).truncate(true);
        file.open(self.path(absolute))?.write_all(value.as_bytes())
    }

    /// The program of this name.
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        let mut places = env::split_paths(&self.search).map(|directory| directory.join(name));
        places.find(|path| {
            path.is_absolute() && path.is_file() && access(path, Access::EXEC_OK).is_ok()
        })
    }
}
