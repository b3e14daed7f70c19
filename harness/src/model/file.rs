//! Files that others may have written or put in the way: the one way to open, make and replace them.
//!
//! A case may run as root and can put a link, a FIFO or a device in the place of any file of its run. So what is opened
//! here is a regular file, reached without following a link in its last part, and read up to a limit.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

/// The most that is read of a file that others may have written, in bytes: a run of a million cases has less.
pub const MOST: u64 = 4 << 30;

/// The mode of the files that are kept: nobody else writes to them, whatever the umask.
const FILE_MODE: u32 = 0o640;

/// The mode of the directories that are made.
const DIRECTORY_MODE: u32 = 0o755;

/// For how long a lock is waited for: those who take one of ours give it up at once, or keep it as all others do.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long it is until a lock is tried again.
const BRIEF: Duration = Duration::from_millis(5);

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    options.mode(FILE_MODE).custom_flags(flags.bits() as i32);
    options
}

/// Opens a regular file for reading.
///
/// # Errors
/// It cannot be opened, or is something else: a link, a FIFO, a device.
pub fn open(path: &Path) -> io::Result<File> {
    regular(options().read(true).open(path))
}

/// Opens a directory, to lock it.
///
/// # Errors
/// It cannot be opened, or is something else.
pub fn open_directory(path: &Path) -> io::Result<File> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
    options()
        .custom_flags(flags.bits() as i32)
        .read(true)
        .open(path)
}

/// Reads a whole regular file.
///
/// # Errors
/// As [`open`] has them; it is longer than [`MOST`].
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    read_within(path, MOST)
}

/// The same of a file that should have at most so many bytes.
///
/// # Errors
/// As [`open`] has them; it is longer.
pub fn read_within(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let message = format!("it is longer than {most} bytes");
        return Err(io::Error::other(message));
    }
    Ok(bytes)
}

/// Opens the regular file at `place` in the directory `root` for reading. `place` may come from anybody: it must neither lead
/// out of `root` nor through a link.
///
/// # Errors
/// As [`open`] has them; it does lead there.
pub fn open_beneath(root: &Path, place: &Path) -> io::Result<File> {
    let mut path = root.to_owned();
    for part in place.components() {
        let Component::Normal(name) = part else {
            return Err(io::Error::other(OUT));
        };
        if path != root {
            check_directory(&path)?;
        }
        path.push(name);
    }
    open(&path)
}

/// The last bytes of such a file, at most `limit`, and how many there are before them.
///
/// # Errors
/// As [`open_beneath`] has them.
pub fn read_end(root: &Path, place: &Path, limit: usize) -> io::Result<(Vec<u8>, u64)> {
    let mut file = open_beneath(root, place)?;
    let skipped = file.metadata()?.len().saturating_sub(limit as u64);
    file.seek(SeekFrom::Start(skipped))?;
    let mut bytes = Vec::new();
    file.take(limit as u64).read_to_end(&mut bytes)?;
    Ok((bytes, skipped))
}

/// Creates a file, open for reading and writing. It must not exist, not even as a link.
///
/// # Errors
/// As open(2) has them.
pub fn create_new(path: &Path) -> io::Result<File> {
    options().read(true).write(true).create_new(true).open(path)
}

/// Opens a regular file for reading and appending, and creates it where there is none.
///
/// # Errors
/// As [`open`] has them.
pub fn append(path: &Path) -> io::Result<File> {
    regular(options().read(true).append(true).create(true).open(path))
}

/// Writes a file anew, in one step: readers see the old one or the new one. A link in its place is replaced, not followed.
///
/// # Errors
/// It cannot be written; the old one is left as it is.
pub fn replace(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    parent.map_or(Ok(()), check_directory)?;
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = Path::new(&unfinished);
    match fs::remove_file(unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = BufWriter::new(create_new(unfinished)?);
    let written = write(&mut file)
        .and_then(|()| file.flush())
        .and_then(|()| fs::rename(unfinished, path));
    if written.is_err() {
        // What cannot be removed either is overwritten the next time.
        fs::remove_file(unfinished).ok();
    }
    written
}

/// Makes a directory that nobody else can write to, and those above it.
///
/// # Errors
/// One cannot be made.
pub fn make_directories(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .mode(DIRECTORY_MODE)
        .recursive(true)
        .create(path)
}

/// Makes a directory that nobody else can write to.
///
/// # Errors
/// It cannot be made, or exists.
pub fn make_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(DIRECTORY_MODE).create(path)
}

/// Makes the directory `place` below `root`, and those on the way to it. None of these may be a link.
///
/// # Errors
/// One cannot be made, or is something else.
pub fn make_below(root: &Path, place: &Path) -> io::Result<()> {
    check_directory(root)?;
    let mut path = root.to_owned();
    for part in place.components() {
        let Component::Normal(name) = part else {
            return Err(io::Error::other(OUT));
        };
        path.push(name);
        match make_directory(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
        check_directory(&path)?;
    }
    Ok(())
}

fn check_directory(path: &Path) -> io::Result<()> {
    match path.symlink_metadata()? {
        found if found.is_symlink() => Err(io::Error::other(LINK)),
        found if found.is_dir() => Ok(()),
        _ => Err(io::Error::other("it is no directory")),
    }
}

/// Waits for a lock of flock(2) that others may share, which dies with its process. Where there are no locks, everything is
/// free.
///
/// # Errors
/// Somebody keeps it from us. Whoever may read a file can lock it.
pub fn lock_shared(file: &File) -> io::Result<()> {
    wait_for(file, FlockOperation::NonBlockingLockShared, PATIENCE)
}

/// Waits for a lock that nobody else has.
///
/// # Errors
/// As [`lock_shared`] has them.
pub fn lock(file: &File) -> io::Result<()> {
    wait_for(file, FlockOperation::NonBlockingLockExclusive, PATIENCE)
}

fn wait_for(file: &File, operation: FlockOperation, patience: Duration) -> io::Result<()> {
    let start = Instant::now();
    while flock(file, operation) == Err(Errno::WOULDBLOCK) {
        if start.elapsed() > patience {
            return Err(io::Error::other("another process has locked it"));
        }
        thread::sleep(BRIEF);
    }
    Ok(())
}

/// Takes the lock that nobody else has, if that can be had at once; `false` where another process has one.
pub fn try_lock(file: &File) -> bool {
    flock(file, FlockOperation::NonBlockingLockExclusive) != Err(Errno::WOULDBLOCK)
}

/// Gives a lock up.
pub fn unlock(file: &File) {
    flock(file, FlockOperation::Unlock).ok();
}

/// Looks whether `file` is still what is at `path`.
///
/// # Errors
/// It was removed, or something else was put in its place.
pub fn check_in_place(file: &File, path: &Path) -> io::Result<()> {
    open(path)?;
    match is_at(file, path) {
        true => Ok(()),
        false => Err(io::Error::other("another file has been put in its place")),
    }
}

/// Whether `file` is what is at `path`.
pub fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.symlink_metadata()) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

const OUT: &str = "it leads out of the run's directory";

/// The kernel's words for it are about loops.
const LINK: &str = "a symbolic link has been put in its place, and is not followed";

fn regular(opened: io::Result<File>) -> io::Result<File> {
    let file = opened.map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP) => io::Error::other(LINK),
        _ => error,
    })?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no regular file")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_somebody_keeps_is_not_waited_for_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let open = || open_directory(directory.path()).unwrap();
        let (strangers, ours) = (open(), open());
        let wait = |operation| wait_for(&ours, operation, Duration::from_millis(50));
        lock(&strangers).unwrap();
        for operation in [
            FlockOperation::NonBlockingLockShared,
            FlockOperation::NonBlockingLockExclusive,
        ] {
            let told = wait(operation).unwrap_err().to_string();
            assert_eq!(told, "another process has locked it");
        }
        unlock(&strangers);
        lock_shared(&strangers).unwrap();
        wait(FlockOperation::NonBlockingLockShared).unwrap();
    }
}
