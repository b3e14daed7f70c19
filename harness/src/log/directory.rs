//! The directory that keeps a run: made, found again, and never mistaken for another one.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::journal::{FILES, JOURNALS};
use super::read;
use crate::model::event::Part;
use crate::model::file;
use crate::model::time::timestamp;

/// Where a new run is kept.
#[derive(Debug, Clone)]
pub enum Destination {
    /// Here, which the user chose.
    At {
        /// The directory.
        path: PathBuf,
        /// The run in it, if there is one, is replaced.
        overwrite: bool,
    },
    /// In this directory, under a name of its own, with `latest` pointing at it.
    In(PathBuf),
}

/// The directory of a run that goes on. As long as this lives, others know that it does.
#[derive(Debug)]
pub struct RunDirectory {
    root: PathBuf,
    /// Its journals' directory, locked: by it others know whether the run goes on.
    journals: File,
    /// The link that is to point at it, once its first line is on the disk.
    latest: Option<PathBuf>,
}

impl RunDirectory {
    /// Makes a new one for `part`.
    ///
    /// # Errors
    /// It cannot be made, or there is something already.
    pub fn create(place: &Destination, part: &Part) -> anyhow::Result<Self> {
        match place {
            Destination::At { path, overwrite } => Self::create_at(path, *overwrite),
            Destination::In(parent) => Self::create_in(parent, part),
        }
    }

    fn create_at(path: &Path, overwrite: bool) -> anyhow::Result<Self> {
        let old = match overwrite && path.symlink_metadata().is_ok() {
            true => Some(put_aside(path)?),
            false => None,
        };
        if let Some(parent) = path.parent() {
            file::make_directories(parent)
                .with_context(|| format!("make the directory {}", parent.display()))?;
        }
        let Some(directory) = Self::make(path)? else {
            bail!(
                "{} exists already: choose another directory for --output, or add --overwrite (or go on with the \
                 run in it: --resume)",
                path.display()
            );
        };
        if let Some(old) = old {
            fs::remove_dir_all(&old).with_context(|| format!("remove {}", old.display()))?;
        }
        Ok(directory)
    }

    fn create_in(parent: &Path, part: &Part) -> anyhow::Result<Self> {
        file::make_directories(parent)
            .with_context(|| format!("make the directory {}", parent.display()))?;
        let time = name_of_time(part.started_ms);
        let numbered = (2_u32..).map(|number| format!("{time}-{number}"));
        for name in std::iter::once(time.clone()).chain(numbered) {
            let path = parent.join(name);
            if let Some(directory) = Self::make(&path)? {
                return Ok(Self {
                    latest: Some(parent.join("latest")),
                    ..directory
                });
            }
        }
        bail!("there are too many runs in {}", parent.display())
    }

    /// Makes a directory; `None` where there is something already.
    fn make(path: &Path) -> anyhow::Result<Option<Self>> {
        match file::make_directory(path) {
            Ok(()) => Self::open(path)?.locked().map(Some),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(None),
            Err(error) => {
                Err(error).with_context(|| format!("make the directory {}", path.display()))
            }
        }
    }

    /// Opens the directory of a run that has ended early, to go on with it.
    ///
    /// # Errors
    /// There is no run, or it has not ended.
    pub fn reopen(root: &Path) -> anyhow::Result<Self> {
        if !read::is_run(root) {
            bail!("{} is not the directory of a run", root.display());
        }
        let directory = Self::open(root)?;
        if !file::try_lock(&directory.journals) {
            bail!(
                "the run in {} has not ended: wait for it, or end it",
                root.display()
            );
        }
        Ok(directory)
    }

    /// Opens the directory of a run to which other processes of the same run of nextest write.
    ///
    /// # Errors
    /// It is not there.
    pub fn join(root: &Path) -> anyhow::Result<Self> {
        Self::open(root)?.locked()
    }

    /// Others who look see that the run goes on.
    fn locked(self) -> anyhow::Result<Self> {
        let doing = || format!("use {}", self.root.join(JOURNALS).display());
        file::lock_shared(&self.journals).with_context(doing)?;
        Ok(self)
    }

    fn open(root: &Path) -> anyhow::Result<Self> {
        let root = root
            .canonicalize()
            .with_context(|| format!("find the directory {}", root.display()))?;
        let path = root.join(JOURNALS);
        file::make_below(&root, Path::new(JOURNALS))
            .with_context(|| format!("make the directory {}", path.display()))?;
        let journals =
            file::open_directory(&path).with_context(|| format!("open {}", path.display()))?;
        Ok(Self {
            root,
            journals,
            latest: None,
        })
    }

    /// The directory's absolute path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Points `latest` at it: the run is one by now.
    pub fn begun(&self) {
        let (Some(latest), Some(name)) = (&self.latest, self.root.file_name()) else {
            return;
        };
        // It is a help, and no run is worse for what somebody has put in its place.
        point_at(latest, name).ok();
    }
}

/// Whether the run in a directory goes on at this moment.
pub fn is_in_use(root: &Path) -> bool {
    let journals = file::open_directory(&root.join(JOURNALS));
    journals.is_ok_and(|journals| !file::try_lock(&journals))
}

/// Renames a run that is to be replaced, so that its name is free; refuses where it is none, or has not ended.
fn put_aside(path: &Path) -> anyhow::Result<PathBuf> {
    let refuse = format!("refuse to overwrite {}", path.display());
    // Locked before it is looked at: another run may be about to begin in its place.
    let journals = file::open_directory(&path.join(JOURNALS));
    let has_ended = journals.as_ref().is_ok_and(|journals| {
        file::try_lock(journals) && file::is_at(journals, &path.join(JOURNALS))
    });
    if !read::is_run(path) {
        bail!("{refuse}: it is not the directory of a run");
    }
    if let Some(foreign) = foreign_entry(path)? {
        bail!("{refuse}: {} is not of a run", foreign.to_string_lossy());
    }
    if !has_ended {
        bail!("{refuse}: the run in it has not ended: wait for it, or end it");
    }
    let mut old = path.canonicalize()?.into_os_string();
    old.push(format!(".old-{}", std::process::id()));
    fs::rename(path, &old).with_context(|| format!("rename {}", path.display()))?;
    Ok(old.into())
}

/// Something in a run's directory that no run has made.
fn foreign_entry(path: &Path) -> anyhow::Result<Option<OsString>> {
    let ours = read::top_directories(path)?;
    let is_behind = |rest: &[u8]| {
        // `kernel.log.1` of a merged run, and what was about to be written.
        let is_number = rest.iter().skip(1).all(u8::is_ascii_digit);
        rest.is_empty() || rest == b".unfinished" || (rest[0] == b'.' && is_number)
    };
    let is_file = |name: &OsStr| {
        let rest = |file: &&str| name.as_encoded_bytes().strip_prefix(file.as_bytes());
        FILES.iter().filter_map(rest).any(is_behind)
    };
    let is_ours = |name: &OsStr| is_file(name) || ours.contains(name);
    for entry in fs::read_dir(path).with_context(|| format!("read {}", path.display()))? {
        let name = entry?.file_name();
        if !is_ours(&name) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

fn name_of_time(ms: u64) -> String {
    let time = timestamp(ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    time.strftime("%Y-%m-%dT%H-%M-%SZ").to_string()
}

/// Points a link at `name`, in one step: it is never missing.
fn point_at(link: &Path, name: &OsStr) -> io::Result<()> {
    let mut unfinished = link.as_os_str().to_owned();
    unfinished.push(format!(".{}", std::process::id()));
    fs::remove_file(&unfinished).ok();
    symlink(name, &unfinished)?;
    fs::rename(&unfinished, link).inspect_err(|_| {
        fs::remove_file(&unfinished).ok();
    })
}
