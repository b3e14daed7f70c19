//! `KERNEL_SRC`: the KVM selftests built from the user's kernel source, without writing into it.
//!
//! The whole tree is there for the kernel's makefiles, whatever they ask for. kbuild exports the headers out of the tree
//! (`O=`). The selftests are made in a directory of links to the tree, since their makefiles write beside themselves, and
//! prefer headers that an earlier `make headers` left in the tree.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

use crate::model::host::Arch;
use make::Make;
use tree::{SELFTESTS, SourceChange, create, remove};

pub use make::{DOES_NOT_COMPILE, VARIABLES};

mod make;
mod tree;

/// The file beside the selftests that says what they were built from: a commit (`-dirty` where the tree had changes), or
/// a tarball's name.
pub const BUILT_FROM: &str = "built-from";

/// KVM selftests that have been built.
#[derive(Debug)]
pub struct Built {
    /// The installed tree: `kvm/NAME` for each selftest, `kselftest-list.txt`, and [`DOES_NOT_COMPILE`].
    pub selftests: PathBuf,
    /// The files and directories whose change makes them out of date, for a build script to watch.
    pub watched: Vec<PathBuf>,
}

/// Builds the KVM selftests of `kernel_src` (the value of `KERNEL_SRC`: a kernel tree, or a tarball of one) below
/// `cache`, for `architecture` (Rust's name, as in `CARGO_CFG_TARGET_ARCH`). Nothing is done if nothing has changed.
/// `say` is told what is being done, and every few seconds that it still is.
///
/// # Errors
/// If `kernel_src` is neither, a program is missing, or no selftest compiles: then the message names the packages to
/// install, has the compiler's first lines, and says where the whole log is.
pub fn build(
    kernel_src: &OsStr,
    cache: &Path,
    architecture: &str,
    say: &dyn Fn(&str),
) -> Result<Built> {
    let source = find(kernel_src)?;
    let known = Arch::from_name(architecture).and_then(|arch| arch.directories().last());
    let srcarch = known.copied().unwrap_or(architecture);
    let variables = make::variables(architecture)?;
    let work = cache.join(directory_name(&source, srcarch, &variables));
    let _lock = lock(&work)?;
    let [started, done, unpacked] = ["started", "done", "source"].map(|name| work.join(name));
    let mut built = Built {
        selftests: work.join("install"),
        watched: tree::inputs(&source, srcarch),
    };

    // 1. What has changed. The mark goes before anything does, so that an interrupted build is taken up again.
    let change = tree::change(&built.watched, &started, &done);
    built.watched.push(done.clone());
    if change == SourceChange::Nothing && done.exists() {
        return Ok(built);
    }
    if change == SourceChange::Unknown {
        remove(&work.join("build"))?;
    }
    remove(&done)?;
    remove(&started)?;
    create(&started)?;
    // 2. The build. A tarball's tree does not stay: it is a hundred times larger than what is made of it.
    let mut tree = &source;
    let make = Make {
        work: &work,
        srcarch,
        variables,
        say,
    };
    if !source.is_dir() {
        make.unpack(&source, &unpacked)?;
        tree = &unpacked;
    }
    tree::link(tree, &work)?;
    make.build(tree)?;
    fs::write(built.selftests.join(BUILT_FROM), tree::described(&source))?;
    make.clear(&unpacked)?;
    // 3. To Cargo, what is newer than a build script's start is a reason to run it again: this is one only if removed.
    create(&done)?
        .set_modified(SystemTime::UNIX_EPOCH)
        .with_context(|| format!("write {}", done.display()))?;
    Ok(built)
}

/// [`build`]s for this machine when the program runs: in Cargo's target directory where the program lies in one, else in
/// the user's cache. Returns where the selftests are.
///
/// # Errors
/// As [`build`] has them; there is no place for a cache.
pub(crate) fn build_here(kernel_src: &Path) -> Result<PathBuf> {
    let source = std::path::absolute(kernel_src).context("find the current directory")?;
    let program = std::env::current_exe().unwrap_or_default();
    let cache = match cache_directory(&program) {
        cache if cache.starts_with(&program) => users_cache()?,
        cache => cache,
    };
    let say = |what: &str| eprintln!("{:>12} {what}", "KVM");
    let built = build(source.as_os_str(), &cache, std::env::consts::ARCH, &say)?;
    Ok(built.selftests)
}

fn users_cache() -> Result<PathBuf> {
    let directory = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let home = || directory("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = directory("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    let cache = cache.context("there is no place for what is built: set XDG_CACHE_HOME")?;
    Ok(cache.join("kvm-tests-kernel"))
}

/// The directory for [`build`]'s `cache`, given a build script's `OUT_DIR`: all profiles share one in the target
/// directory (which has a `CACHEDIR.TAG`), where `cargo clean` removes it.
pub fn cache_directory(out_dir: &Path) -> PathBuf {
    let target = out_dir
        .ancestors()
        .find(|directory| directory.join("CACHEDIR.TAG").exists());
    target.unwrap_or(out_dir).join("kvm-tests-kernel")
}

/// The tree or the tarball that the value of `KERNEL_SRC` stands for, with no symbolic links in its path.
fn find(kernel_src: &OsStr) -> Result<PathBuf> {
    let path = Path::new(kernel_src);
    let shown = path.display();
    if kernel_src.as_encoded_bytes().starts_with(b"~") {
        bail!("KERNEL_SRC={shown}: no shell has expanded the ~; write the whole path");
    }
    if path.is_relative() {
        bail!("KERNEL_SRC={shown} is relative to no known directory; write the whole path");
    }
    let path = path
        .canonicalize()
        .with_context(|| format!("find KERNEL_SRC={shown}"))?;
    if path.is_dir() && !path.join(SELFTESTS).join("kvm/Makefile").exists() {
        bail!("KERNEL_SRC={shown} is no kernel source tree: it has no {SELFTESTS}/kvm/Makefile");
    }
    Ok(path)
}

/// A name for each build: the source's, the architecture's, and a hash of the source's place and the variables. A
/// directory that takes another's place has a number of its own: what is in it may be older than what was built.
fn directory_name(source: &Path, srcarch: &str, variables: &[(OsString, OsString)]) -> String {
    let mut hasher = DefaultHasher::new();
    let number = fs::metadata(source).ok().filter(fs::Metadata::is_dir);
    (source, number.map(|tree| tree.ino()), variables).hash(&mut hasher);
    let name = source.file_name().unwrap_or_default().to_string_lossy();
    format!("{name}-{srcarch}-{:016x}", hasher.finish())
}

/// Makes the directory of a build, and keeps other builds out of it as long as the file is open.
fn lock(work: &Path) -> Result<File> {
    fs::create_dir_all(work).with_context(|| format!("create {}", work.display()))?;
    let file = create(&work.join("lock"))?;
    flock(&file, FlockOperation::LockExclusive)
        .with_context(|| format!("lock {}", work.display()))?;
    Ok(file)
}

/// Rust source for IDEs: a `#[test]` function for each of `names`, in modules as they have them. rust-analyzer and IntelliJ find
/// tests only as such functions. The target is built with `harness = false`, so rustc drops them, and the program runs the
/// cases instead.
pub fn stubs<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut source = String::new();
    let mut modules = BTreeMap::<_, Vec<_>>::new();
    for name in names {
        match name.split_once("::") {
            Some((module, rest)) => modules.entry(module).or_default().push(rest),
            None => source += &format!("#[test] fn {name}() {{}}\n"),
        }
    }
    for (module, names) in modules {
        source += &format!("mod {module} {{\n{}}}\n", stubs(names));
    }
    source
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_kernel_source_is_refused_with_the_reason() {
        let directory = tempfile::tempdir().unwrap();
        let empty = directory.path().canonicalize().unwrap();
        let empty = empty.to_str().unwrap();
        let no_tree = format!(" is no kernel source tree: it has no {SELFTESTS}/kvm/Makefile");
        for (kernel_src, expected) in [
            (
                "~/linux",
                ": no shell has expanded the ~; write the whole path",
            ),
            (
                "../linux",
                " is relative to no known directory; write the whole path",
            ),
            (empty, &no_tree),
            (
                &format!("{empty}/x"),
                ": No such file or directory (os error 2)",
            ),
        ] {
            let error = format!("{:#}", find(OsStr::new(kernel_src)).unwrap_err());
            let error = error.trim_start_matches("find ").to_owned();
            assert_eq!(error, format!("KERNEL_SRC={kernel_src}{expected}"));
        }
    }

    #[test]
    fn names_become_modules_and_functions() {
        let source = stubs(["b::default", "a::x", "a::x::y_1", "a::z"]);
        let lines: Vec<_> = source.lines().collect();
        let expected = [
            "mod a {",
            "#[test] fn x() {}",
            "#[test] fn z() {}",
            "mod x {",
            "#[test] fn y_1() {}",
            "}",
            "}",
            "mod b {",
            "#[test] fn default() {}",
            "}",
        ];
        assert_eq!(lines, expected);
    }
}
