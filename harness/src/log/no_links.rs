//! The files of a results directory, made and opened without following a symbolic link: a case, which may run as root,
//! can put one in the place of any of them while the run goes on.
//!
//! Absolute paths given here are canonical: what was a link when the run began has been followed then.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path};

use anyhow::Context;
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, renameat, statat, unlinkat,
};
use rustix::io::Errno;

/// A directory that is only a place to look names up in.
const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);

/// The mode of the files that are kept: nobody else writes to them, whatever the umask.
const FILE_MODE: Mode = Mode::from_raw_mode(0o640);

/// The mode of the directories that are made.
const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o755);

/// Creates the file at the absolute `path`, open for reading and appending. It must not exist, not even as a link.
///
/// # Errors
/// As open(2) has them; `ELOOP` where there is a link on the way.
pub fn create_new(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL;
    Ok(open_at(CWD, path, flags, FILE_MODE)?.into())
}

/// Opens the file at the absolute `path` for reading and appending, and creates it where there is none.
///
/// # Errors
/// It cannot be opened, or there is a link on the way.
pub fn append(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE;
    open_at(CWD, path, flags, FILE_MODE)
        .map(File::from)
        .map_err(explained)
}

/// Opens the regular file at `path` for reading: nothing that could block, or never end.
///
/// # Errors
/// It cannot be opened, is no regular file, or there is a link on the way.
pub fn open(path: &Path) -> io::Result<File> {
    regular(open_at(
        CWD,
        path,
        OFlags::RDONLY | OFlags::NONBLOCK,
        Mode::empty(),
    ))
    .map(|(file, _)| file)
}

/// Opens the directory at `path`, which may be a link or have links in it, for [`open_beneath`].
///
/// # Errors
/// As open(2) has them.
pub fn directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(openat(
        CWD,
        path,
        DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// Opens the regular file at `place` in the [`directory`] `root` for reading; returns it with its length in bytes.
///
/// # Errors
/// It cannot be opened, is no regular file, there is a link in `place`, or `place` leads out of `root`.
pub fn open_beneath(root: impl AsFd, place: &Path) -> io::Result<(File, u64)> {
    if place.is_absolute() {
        return Err(Errno::XDEV.into());
    }
    regular(open_at(
        root,
        place,
        OFlags::RDONLY | OFlags::NONBLOCK,
        Mode::empty(),
    ))
}

/// Makes the directory `place` in the absolute `root`, and those on the way to it.
///
/// # Errors
/// One cannot be made, is something else, or there is a link on the way.
pub fn make_directory(root: &Path, place: &Path) -> io::Result<()> {
    // Nearly always the others on the way are there.
    if let (Some(parent), Some(Component::Normal(name))) =
        (place.parent(), place.components().next_back())
        && place
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
        && let Ok(parent) = open_at(CWD, &root.join(parent), DIRECTORY, Mode::empty())
        && mkdirat(&parent, name, DIRECTORY_MODE).is_ok()
    {
        return Ok(());
    }
    let mut directory = open_at(CWD, root, DIRECTORY, Mode::empty()).map_err(explained)?;
    for name in place.components() {
        let Component::Normal(name) = name else {
            return Err(Errno::XDEV.into());
        };
        match mkdirat(&directory, name, DIRECTORY_MODE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        directory =
            open_at(&directory, Path::new(name), DIRECTORY, Mode::empty()).map_err(explained)?;
    }
    Ok(())
}

/// Writes the file at the absolute `path` anew, in one step: readers see the old one or the new one. A link in its place is
/// replaced, and not followed.
///
/// # Errors
/// It cannot be written; the old one is left as it is.
pub fn replace(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> anyhow::Result<()> {
    let failed = || format!("write {}", path.display());
    let (parent, name) = path.parent().zip(path.file_name()).with_context(failed)?;
    let directory = open_at(CWD, parent, DIRECTORY, Mode::empty())
        .map_err(explained)
        .with_context(failed)?;
    let unfinished = [b".", name.as_encoded_bytes(), b".unfinished"].concat();
    let unfinished = unfinished.as_slice();
    match unlinkat(&directory, unfinished, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error).with_context(failed),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(&directory, unfinished, flags, FILE_MODE).with_context(failed)?;
    let mut file = BufWriter::new(File::from(file));
    write(&mut file)
        .and_then(|()| file.flush())
        .and_then(|()| Ok(renameat(&directory, unfinished, &directory, name)?))
        .inspect_err(|_| {
            unlinkat(&directory, unfinished, AtFlags::empty()).ok();
        })
        .with_context(failed)
}

/// Removes the file at the absolute `path`.
///
/// # Errors
/// There is none, or there is a link on the way.
pub fn remove(path: &Path) -> io::Result<()> {
    let (parent, name) = path
        .parent()
        .zip(path.file_name())
        .ok_or(ErrorKind::InvalidInput)?;
    let directory = open_at(CWD, parent, DIRECTORY, Mode::empty()).map_err(explained)?;
    Ok(unlinkat(&directory, name, AtFlags::empty())?)
}

/// Whether `file` is what is at `path`.
pub fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.symlink_metadata()) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

fn regular(opened: Result<OwnedFd, Errno>) -> io::Result<(File, u64)> {
    let file = File::from(opened.map_err(explained)?);
    let found = file.metadata()?;
    if found.is_file() {
        Ok((file, found.len()))
    } else {
        Err(io::Error::other("it is no regular file"))
    }
}

/// The kernel's words for it are about loops.
fn explained(error: Errno) -> io::Error {
    match error {
        Errno::LOOP => {
            io::Error::other("a symbolic link has been put in its place, and is not followed")
        }
        error => error.into(),
    }
}

/// Opens `place` in `directory`, or the absolute path that it is.
fn open_at(
    directory: impl AsFd,
    place: &Path,
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let beneath = if place.is_absolute() {
        ResolveFlags::empty()
    } else {
        ResolveFlags::BENEATH
    };
    match openat2(
        &directory,
        place,
        flags,
        mode,
        beneath | ResolveFlags::NO_SYMLINKS,
    ) {
        // 1. Linux before 5.6 has no openat2(2), and some containers forbid it.
        // 2. A link where a directory is wanted is called no directory.
        Err(Errno::NOSYS | Errno::PERM | Errno::NOTDIR) => walk(directory, place, flags, mode),
        opened => opened,
    }
}

/// The same, a directory at a time.
fn walk(directory: impl AsFd, place: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let start = if place.is_absolute() { "/" } else { "." };
    let step = DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut current = openat(directory, start, step, Mode::empty())?;
    let mut names = place
        .components()
        .filter(|name| *name != Component::RootDir)
        .peekable();
    while let Some(name) = names.next() {
        let Component::Normal(name) = name else {
            return Err(Errno::XDEV);
        };
        let is_last = names.peek().is_none();
        let (flags, mode) = if is_last {
            (flags, mode)
        } else {
            (step, Mode::empty())
        };
        let opened = openat(&current, name, flags, mode);
        current = opened.map_err(|error| link_in_the_way(&current, name.as_ref(), error))?;
    }
    Ok(current)
}

/// Asked for a directory, open(2) calls a link none.
fn link_in_the_way(directory: &OwnedFd, name: &Path, error: Errno) -> Errno {
    let is_link = || {
        let found = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
        found.is_ok_and(|found| rustix::fs::FileType::from_raw_mode(found.st_mode).is_symlink())
    };
    if error == Errno::NOTDIR && is_link() {
        Errno::LOOP
    } else {
        error
    }
}

/// Options for a file that is made beside the results: nobody else writes to it, and no link is followed to it.
pub fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .create(true)
        .mode(FILE_MODE.as_raw_mode())
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    options
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A way to open a place in a directory.
    type Open = fn(&File, &Path, OFlags, Mode) -> Result<OwnedFd, Errno>;

    #[test]
    fn both_ways_follow_no_link_and_lead_to_nothing_outside() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap().join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/file"), "inside").unwrap();
        fs::write(directory.path().join("file"), "outside").unwrap();
        symlink("a", root.join("link")).unwrap();
        symlink("b/file", root.join("a/link")).unwrap();
        let opened = File::open(&root).unwrap();
        let ways: [Open; 2] = [
            |root, place, flags, mode| open_at(root, place, flags, mode),
            |root, place, flags, mode| walk(root, place, flags | OFlags::NOFOLLOW, mode),
        ];
        for open in ways {
            let read = |place: &Path| open(&opened, place, OFlags::RDONLY, Mode::empty()).err();
            assert_eq!(read(Path::new("a/b/file")), None);
            assert_eq!(read(&root.join("a/b/file")), None);
            assert_eq!(read(Path::new("a/absent")), Some(Errno::NOENT));
            assert_eq!(read(Path::new("a/b/file/x")), Some(Errno::NOTDIR));
            assert_eq!(read(Path::new("../file")), Some(Errno::XDEV));
            for place in ["link/b/file", "a/link"].map(Path::new) {
                assert_eq!(read(place), Some(Errno::LOOP), "{}", place.display());
                assert_eq!(
                    read(&root.join(place)),
                    Some(Errno::LOOP),
                    "{}",
                    place.display()
                );
            }
            let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
            assert_eq!(
                open(&opened, Path::new("a/link"), new, FILE_MODE).err(),
                Some(Errno::EXIST)
            );
        }
    }

    #[test]
    fn what_is_replaced_by_a_link_is_written_anew_and_the_target_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let victim = root.join("victim");
        fs::write(&victim, "mine").unwrap();
        for name in ["run.json", ".run.json.unfinished"] {
            symlink(&victim, root.join(name)).unwrap();
        }
        replace(&root.join("run.json"), |file| file.write_all(b"new")).unwrap();
        assert_eq!(fs::read(root.join("run.json")).unwrap(), b"new");
        assert_eq!(fs::read(&victim).unwrap(), b"mine");
        assert!(replace(&root.join("run.json"), |_| Err(io::Error::other("no"))).is_err());
        assert_eq!(fs::read(root.join("run.json")).unwrap(), b"new");
        assert!(!root.join(".run.json.unfinished").exists());
    }

    #[test]
    fn a_pipe_in_the_place_of_a_file_blocks_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().canonicalize().unwrap().join("pipe");
        rustix::fs::mknodat(CWD, &pipe, rustix::fs::FileType::Fifo, FILE_MODE, 0).unwrap();
        assert_eq!(
            open(&pipe).unwrap_err().to_string(),
            "it is no regular file"
        );
    }
}
