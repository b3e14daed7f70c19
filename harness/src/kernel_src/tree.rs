//! A kernel's tree: what of it the selftests are made of, whether that has changed, and a tree of links to it.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use duct::cmd;

/// Where all selftests are in a tree.
pub(super) const SELFTESTS: &str = "tools/testing/selftests";

/// What is looked at to find out whether selftests are out of date; `ARCH` is the kernel's name of the architecture.
const INPUTS: &[&str] = &[
    "Makefile",
    "arch/ARCH/include/uapi",
    "include/uapi",
    "tools/arch",
    "tools/include",
    "tools/lib",
    SELFTESTS,
];

/// The files and directories whose change makes what was built of a source out of date.
pub(super) fn inputs(source: &Path, srcarch: &str) -> Vec<PathBuf> {
    if !source.is_dir() {
        return vec![source.to_owned()];
    }
    let place = |path: &&str| source.join(path.replace("ARCH", srcarch));
    let places = INPUTS.iter().map(place);
    places.filter(|path| path.exists()).collect()
}

/// How a source differs from what was built of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SourceChange {
    Nothing,
    /// make sees it: C sources that are newer than what was made of them.
    CSources,
    /// make may not see it: makefiles, headers (of which 6.1's makefiles know nothing), files that are older.
    Unknown,
}

/// How these files, and what is below these directories, differ from what was built by the build that made the files
/// `started` and `done`.
pub(super) fn change(inputs: &[PathBuf], started: &Path, done: &Path) -> SourceChange {
    let [started, done] = [started, done].map(|mark| fs::metadata(mark).ok().as_ref().map(changed));
    let changes = inputs.iter().map(|path| change_of(path, started, done));
    changes.max().unwrap_or(SourceChange::Unknown)
}

fn change_of(path: &Path, started: Option<Time>, done: Option<Time>) -> SourceChange {
    let Ok(file) = fs::symlink_metadata(path) else {
        return SourceChange::Nothing;
    };
    if file.is_dir() {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        let written = paths.filter(|path| is_written(path));
        let changes = written.map(|path| change_of(&path, started, done));
        return changes.max().unwrap_or(SourceChange::Nothing);
    }
    let ending = path.extension().unwrap_or_default();
    let is_c = ending == "c" || ending == "S";
    let modified = Some((file.mtime(), file.mtime_nsec()));
    match started {
        Some(started) if changed(&file) < started => SourceChange::Nothing,
        Some(_) if is_c && done.is_some() && modified > done => SourceChange::CSources,
        _ => SourceChange::Unknown,
    }
}

/// Seconds and nanoseconds.
type Time = (i64, i64);

/// When a file was changed in any way: its ctime, which no program can set back.
fn changed(file: &fs::Metadata) -> Time {
    (file.ctime(), file.ctime_nsec())
}

/// Whether people write this, and not a compiler or an editor; or it is a directory.
fn is_written(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let ending = name.rsplit('.').next().unwrap_or_default();
    let is_source = matches!(ending, "Makefile" | "c" | "h" | "S" | "mk" | "sh" | "kvm");
    is_source && !name.starts_with('.') || path.is_dir()
}

/// Makes `links` in `work` look like `tree`: links to everything, but for real directories down to the selftests, which
/// may write in theirs. The exported headers are those of `build` in `work`.
pub(super) fn link(tree: &Path, work: &Path) -> Result<()> {
    let links = work.join("links");
    remove(&links)?;
    let mut directory = PathBuf::new();
    let writable = Path::new(SELFTESTS).join("kvm");
    let mut path = writable.iter();
    loop {
        let next = path.next();
        let (from, to) = (tree.join(&directory), links.join(&directory));
        fs::create_dir_all(&to).with_context(|| format!("create {}", to.display()))?;
        for entry in fs::read_dir(&from).with_context(|| format!("read {}", from.display()))? {
            let name = entry?.file_name();
            if next != Some(&name) && directory.join(&name) != Path::new("usr") {
                symlink(from.join(&name), to.join(&name))
                    .with_context(|| format!("link {name:?} in {}", to.display()))?;
            }
        }
        let Some(next) = next else { break };
        directory.push(next);
    }
    symlink(work.join("build/usr"), links.join("usr")).context("link the exported headers")
}

/// What a source is: the commit of a tree, with `-dirty` where it has changes, or the name of a tarball. Empty where that is
/// not known.
pub(super) fn described(source: &Path) -> String {
    if !source.is_dir() {
        let name = source.file_name().unwrap_or_default();
        return name.to_string_lossy().into_owned();
    }
    let arguments = [
        "describe",
        "--always",
        "--exclude=*",
        "--abbrev=40",
        "--dirty",
    ];
    let git = cmd("git", arguments).dir(source).stderr_null();
    // A repository that the tree happens to lie in is not the kernel's.
    let git = git.env("GIT_CEILING_DIRECTORIES", source.parent().unwrap_or(source));
    git.read().unwrap_or_default()
}

/// Makes an empty file.
pub(super) fn create(path: &Path) -> Result<File> {
    File::create(path).with_context(|| format!("create {}", path.display()))
}

/// Removes a file or a whole directory, if it is there.
pub(super) fn remove(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Err(_) => return Ok(()),
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    }
    .with_context(|| format!("remove {}", path.display()))
}
