//! `KERNEL_SRC`: the KVM selftests built from the user's kernel source, without writing into it.
//!
//! What the selftests need of the source is copied (or unpacked) into a directory of our own, and built out of that copy
//! with `O=`. So neither headers that an earlier `make headers` left in the tree, nor its objects, have a part in it,
//! and a tree that is read-only, or being built, does just as well.

pub mod stubs;
use std::collections::hash_map::DefaultHasher;
use std::env::{self, consts};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};

use make::Make;
use source::Source;

mod make;
mod mirror;
mod source;
mod tarball;
mod tools;

/// The environment variables that decide what is built: `KERNEL_SRC`, and those that the kernel's makefiles read.
/// No other variable of the user's reaches `make`, but for the few that programs need to run at all.
pub const VARIABLES: &[&str] = &[
    "KERNEL_SRC",
    "CROSS_COMPILE",
    "LLVM",
    "EXTRA_CFLAGS",
    "USERCFLAGS",
    "USERLDFLAGS",
];

/// KVM selftests that have been built.
#[derive(Debug)]
pub struct Built {
    /// The installed tree: `kvm/NAME` for each selftest, and `kselftest-list.txt`.
    pub selftests: PathBuf,
    /// The files and directories of the user's whose change makes them out of date.
    pub watched: Vec<PathBuf>,
}

/// Builds the KVM selftests of `kernel_src` (the value of `KERNEL_SRC`: a kernel tree, or a tarball of one) below `cache`.
/// What is there already is built no second time.
///
/// # Errors
/// If `kernel_src` is neither, a tool is missing, or anything does not compile: then the message starts with the
/// compiler's first error, and says where the whole log is. No selftest is left out because it does not compile; where
/// a kernel's own are broken, `EXTRA_CFLAGS` may help.
pub fn build(kernel_src: &OsStr, cache: &Path) -> Result<Built> {
    let source = Source::parse(kernel_src)?;
    let make = Make::new(kernel_architecture(consts::ARCH))?;
    let work = Work::open(&cache.join(key(&source, &make)))?;

    // 1. The mark goes before anything changes, so that a build that was interrupted is taken up again.
    let done = work.path("done");
    let change = source.compare(&work.path("source"), make.architecture())?;
    if change.is_none() && done.exists() {
        return Ok(work.built(&source, &make));
    }
    remove(&done)?;
    // 2. What make cannot see has changed (its own files, or one is gone): nothing built so far can be trusted.
    //    This comes before the copy, which would leave no trace of the change.
    if change.is_unknown_to_make() {
        remove(&work.path("build"))?;
        remove(&work.path("install"))?;
    }
    change.apply()?;
    // 3. Headers are exported anew from the copy; make then builds what is out of date.
    make.build(&work.directory)?;
    File::create(&done).with_context(|| format!("create {}", done.display()))?;
    Ok(work.built(&source, &make))
}

/// The directory for [`build`]'s `cache`, given a build script's `OUT_DIR`: all profiles share one in the target
/// directory (which has a `CACHEDIR.TAG`), where `cargo clean` removes it.
pub fn cache_directory(out_dir: &Path) -> PathBuf {
    let target = out_dir
        .ancestors()
        .find(|directory| directory.join("CACHEDIR.TAG").exists());
    target.unwrap_or(out_dir).join("kvm-tests-kernel")
}

/// The directory in which one source is built, locked as long as this lives.
struct Work {
    directory: PathBuf,
    _lock: File,
}

impl Work {
    fn open(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
        let path = directory.join("lock");
        let lock = File::create(&path).with_context(|| format!("create {}", path.display()))?;
        flock(&lock, FlockOperation::LockExclusive)
            .with_context(|| format!("lock {}", path.display()))?;
        Ok(Self {
            directory: directory.to_owned(),
            _lock: lock,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn built(&self, source: &Source, make: &Make) -> Built {
        Built {
            selftests: self.path("install"),
            watched: source.watched(make.architecture()),
        }
    }
}

/// What tells one build from another: the source's place, the variables, the architecture and the compiler.
fn key(source: &Source, make: &Make) -> String {
    let mut hasher = DefaultHasher::new();
    source.path().hash(&mut hasher);
    make.architecture().hash(&mut hasher);
    make.compiler_version().hash(&mut hasher);
    variables().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Those of [`VARIABLES`] for make that are set.
fn variables() -> Vec<(OsString, OsString)> {
    VARIABLES[1..]
        .iter()
        .filter_map(|name| Some(((*name).into(), env::var_os(name)?)))
        .collect()
}

/// The kernel's name (its `SRCARCH`) for an architecture that Rust calls `rust`.
fn kernel_architecture(rust: &str) -> &str {
    match rust {
        "x86_64" => "x86",
        "aarch64" => "arm64",
        "s390x" => "s390",
        "riscv64" => "riscv",
        "loongarch64" => "loongarch",
        other => other,
    }
}

/// Removes a file or a whole directory, if it is there.
fn remove(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Err(_) => return Ok(()),
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    }
    .with_context(|| format!("remove {}", path.display()))
}
