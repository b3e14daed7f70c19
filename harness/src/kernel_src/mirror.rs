//! A copy of parts of a tree that is kept the same as the tree, without what has been built there.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::remove;

/// How a tree differs from its copy. Paths are relative to both.
#[derive(Debug)]
pub(super) struct Mirror {
    tree: PathBuf,
    copy: PathBuf,
    /// In the tree, and not the same in the copy.
    changed: Vec<PathBuf>,
    /// Only in the copy.
    gone: Vec<PathBuf>,
}

impl Mirror {
    /// Compares what `needed` (globs) matches in the tree, but for `unneeded`, with the copy, by content: times say
    /// little in a tree whose branch is switched.
    pub(super) fn compare(
        tree: &Path,
        copy: &Path,
        needed: &[String],
        unneeded: &str,
    ) -> Result<Self> {
        let mut in_tree = BTreeSet::new();
        let is_wanted = |path: &Path| !path.starts_with(unneeded) && !is_product(&tree.join(path));
        for glob in needed {
            let pattern = format!("{}/{glob}", glob::Pattern::escape(&tree.to_string_lossy()));
            for path in glob::glob(&pattern).context("expand what is needed of a kernel tree")? {
                let path = path.context("read a kernel tree")?;
                // A part that is a symbolic link to a directory elsewhere is followed; links within a part are copied.
                if path.is_dir() {
                    walk(tree, path.strip_prefix(tree)?, &is_wanted, &mut in_tree)?;
                } else if let relative = path.strip_prefix(tree)?
                    && is_wanted(relative)
                {
                    in_tree.insert(relative.to_owned());
                }
            }
        }
        let mut in_copy = BTreeSet::new();
        if copy.exists() {
            walk(copy, Path::new(""), &|_| true, &mut in_copy)?;
        }
        let mut changed = Vec::new();
        for path in &in_tree {
            if !in_copy.contains(path) || !is_same(&tree.join(path), &copy.join(path))? {
                changed.push(path.clone());
            }
        }
        let gone = in_copy.difference(&in_tree).cloned().collect();
        Ok(Self {
            tree: tree.to_owned(),
            copy: copy.to_owned(),
            changed,
            gone,
        })
    }

    /// Whether the copy is up to date.
    pub(super) fn is_none(&self) -> bool {
        self.changed.is_empty() && self.gone.is_empty()
    }

    /// Whether more has changed than C sources and headers.
    pub(super) fn is_unknown_to_make(&self) -> bool {
        let is_source = |path: &PathBuf| {
            matches!(
                path.extension().and_then(OsStr::to_str),
                Some("c" | "h" | "S")
            )
        };
        !self.gone.is_empty() || !self.changed.iter().all(is_source)
    }

    /// Brings the copy up to date. What is copied gets the present time, so that make sees it change even if the tree
    /// now has an older version.
    pub(super) fn apply(&self) -> Result<()> {
        for path in self.gone.iter().chain(&self.changed) {
            remove(&self.copy.join(path))?;
        }
        for path in &self.changed {
            let (from, to) = (self.tree.join(path), self.copy.join(path));
            copy_one(&from, &to)
                .with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
        }
        Ok(())
    }
}

fn copy_one(from: &Path, to: &Path) -> std::io::Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    if from.is_symlink() {
        symlink(fs::read_link(from)?, to)
    } else {
        fs::copy(from, to).map(drop)
    }
}

/// Adds the files and symbolic links below `top`/`directory` to `found`, relative to `top`.
fn walk(
    top: &Path,
    directory: &Path,
    is_wanted: &dyn Fn(&Path) -> bool,
    found: &mut BTreeSet<PathBuf>,
) -> Result<()> {
    let whole = top.join(directory);
    let read = || format!("read {}", whole.display());
    for entry in fs::read_dir(&whole).with_context(read)? {
        let entry = entry.with_context(read)?;
        let path = directory.join(entry.file_name());
        if !is_wanted(&path) {
            continue;
        }
        if entry.file_type().with_context(read)?.is_dir() {
            walk(top, &path, is_wanted, found)?;
        } else {
            found.insert(path);
        }
    }
    Ok(())
}

/// Whether both are the same: links to the same place, or files with the same content.
fn is_same(one: &Path, other: &Path) -> Result<bool> {
    if one.is_symlink() || other.is_symlink() {
        return Ok(fs::read_link(one).ok() == fs::read_link(other).ok());
    }
    let read = |path: &Path| fs::read(path).with_context(|| format!("read {}", path.display()));
    Ok(read(one)? == read(other)?)
}

/// Whether a build made it: what the kernel's .gitignore names, as far as it turns up in the parts needed.
fn is_product(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    match path.extension().and_then(OsStr::to_str) {
        Some("a" | "cmd" | "d" | "ko" | "mod" | "o" | "order" | "so") => true,
        None if name == "generated" => path.is_dir(),
        None => is_elf(path),
        Some(_) => false,
    }
}

fn is_elf(path: &Path) -> bool {
    use std::io::Read;
    let mut magic = [0; 4];
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file())
        && fs::File::open(path)
            .and_then(|mut file| file.read_exact(&mut magic))
            .is_ok()
        && magic == *b"\x7fELF"
}
