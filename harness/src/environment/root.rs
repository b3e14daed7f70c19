//! Where the host's files and programs are: really, or in a directory that stands for a host.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The hidden environment variable that names a directory to be used in place of the host's own `/`.
pub const VARIABLE: &str = "KVM_TESTS_ROOT";

/// How long a program of the host, such as modprobe, may take before it is killed and counts as failed.
pub const PROGRAM_TIME: Duration = Duration::from_secs(60);

/// How long a module may stay in use by something that is about to end: the kernel drops a VM's last references a
/// moment after its process has gone.
pub const SETTLE_TIME: Duration = Duration::from_secs(3);

/// The root of the files that make up the host.
#[derive(Debug, Clone)]
pub struct Root {
    directory: PathBuf,
    search: OsString,
    may_change: bool,
    /// How long a program of the host may take.
    pub program_time: Duration,
    /// How long a module may stay in use by something that is about to end.
    pub settle_time: Duration,
}

impl Root {
    /// The host's own files, or those under the directory that [`VARIABLE`] names.
    pub fn from_env() -> Self {
        let mut search = std::env::var_os("PATH").unwrap_or_default();
        // Where distributions keep modprobe, which the PATH of users often lacks.
        search.push(":/usr/sbin:/sbin");
        match std::env::var_os(VARIABLE).filter(|directory| !directory.is_empty()) {
            Some(directory) => Self::at(Path::new(&directory), search),
            None => {
                let may_change = rustix::process::geteuid().is_root();
                Self {
                    may_change,
                    ..Self::at(Path::new("/"), search)
                }
            }
        }
    }

    /// A directory that stands for a host; its programs are looked up in `search`, written as PATH is.
    pub fn at(directory: &Path, search: impl Into<OsString>) -> Self {
        Self {
            directory: directory.to_owned(),
            search: search.into(),
            may_change: true,
            program_time: PROGRAM_TIME,
            settle_time: SETTLE_TIME,
        }
    }

    /// The same, for a user who may change nothing.
    #[must_use]
    pub fn unprivileged(self) -> Self {
        Self {
            may_change: false,
            ..self
        }
    }

    /// The same, with other limits of time.
    #[must_use]
    pub fn with_times(self, program_time: Duration, settle_time: Duration) -> Self {
        Self {
            program_time,
            settle_time,
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

    /// Writes a value into a file that is there: in one write(2), as files of the kernel want it.
    ///
    /// # Errors
    /// If there is no such file, or it does not take the value.
    pub fn write(&self, absolute: impl AsRef<Path>, value: &str) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(self.path(absolute))?;
        file.write_all(value.as_bytes())
    }

    /// The program of this name.
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        let mut places = std::env::split_paths(&self.search).map(|directory| directory.join(name));
        places.find(|path| {
            path.is_absolute()
                && path.is_file()
                && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
        })
    }
}
