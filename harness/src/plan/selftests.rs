//! The selftests that are there: executables found in directories, never by running them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Access, access};

use crate::kernel_src::{BUILT_FROM, DOES_NOT_COMPILE};
use crate::model::case::KVM;
use crate::model::case::name::{is_identifier, to_identifier};
use crate::model::file;
use crate::model::host::Arch;
use crate::model::planned::Fnv;
use crate::model::problem::{Problem, WrittenAt, nearest};
use crate::model::text::printable;

/// The file that an installed tree lists its tests in, one `COLLECTION:NAME` a line
/// (tools/testing/selftests/Makefile, target `install`).
pub const INSTALLED_LIST: &str = "kselftest-list.txt";

/// The selftests that have another name in newer kernels: the old name and the new one.
const RENAMED: &[(&str, &str)] = &[
    ("get_msr_index_features", "feature_msrs_test"),
    ("vmx_set_nested_state_test", "nested_set_state_test"),
    ("vmx_close_while_nested_test", "nested_close_kvm_test"),
    ("max_guest_memory_test", "mmu_stress_test"),
    ("vmx_dirty_log_test", "nested_dirty_log_test"),
    ("vmx_nested_tsc_scaling_test", "nested_tsc_scaling_test"),
    ("vmx_tsc_adjust_test", "nested_tsc_adjust_test"),
];

/// The selftests of one or more directories.
#[derive(Debug, Default)]
pub(super) struct Selftests {
    by_name: BTreeMap<String, Selftest>,
    /// Each directory, and how many selftests of it are used.
    pub(super) sources: Vec<(PathBuf, usize)>,
}

/// A KVM selftest executable.
#[derive(Debug, Clone)]
pub(super) struct Selftest {
    /// Its name as an identifier: the file's name without `.sh`.
    pub(super) name: String,
    /// The collection of kselftests that it is of.
    pub(super) collection: Arc<str>,
    /// The file, by absolute path; `None` where it is embedded in this program.
    pub(super) file: Option<Arc<Path>>,
    /// Where it is run: the directory of its file.
    pub(super) directory: Arc<Path>,
    /// Why it cannot run although it is there, or should be.
    pub(super) missing: Option<String>,
    /// The architecture that it was built for, where its place says so.
    pub(super) arch: Option<Arch>,
}

impl Selftests {
    /// Those of `directories`, for the architecture `target`; where two have a selftest of the same name, the first
    /// directory's is used. What is there and cannot run is among them, with the reason.
    ///
    /// # Errors
    /// Every directory that cannot be read, or has no selftest.
    pub(super) fn find(
        directories: &[PathBuf],
        target: Option<Arch>,
    ) -> Result<Self, Vec<Problem>> {
        let mut all = Self::default();
        let mut problems = Vec::new();
        for directory in directories {
            match find_in(directory, target) {
                Ok(found) if found.is_empty() => {
                    let message = "no selftest found here: neither a list nor an executable";
                    problems.push(Problem::of_file(directory, message));
                }
                Ok(found) => {
                    let before = all.by_name.len();
                    for (name, selftest) in found {
                        all.by_name.entry(name).or_insert(selftest);
                    }
                    let used = all.by_name.len() - before;
                    all.sources.push((directory.clone(), used));
                }
                Err(found) => problems.extend(found),
            }
        }
        if problems.is_empty() {
            Ok(all)
        } else {
            Err(problems)
        }
    }

    /// Those that are embedded in this program.
    pub(super) fn embedded<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let selftest = |name: &str| Selftest {
            name: name.to_owned(),
            collection: KVM.into(),
            file: None,
            directory: Path::new("/").into(),
            missing: None,
            arch: None,
        };
        let names = names.into_iter();
        Self {
            by_name: names
                .map(|name| (name.to_owned(), selftest(name)))
                .collect(),
            sources: Vec::new(),
        }
    }

    /// These, which are in `directory`.
    pub(super) fn of(selftests: Vec<Selftest>, directory: &Path) -> Self {
        let selftests = selftests.into_iter();
        let by_name = selftests.map(|selftest| (selftest.name.clone(), selftest));
        let by_name: BTreeMap<_, _> = by_name.collect();
        let sources = vec![(directory.to_owned(), by_name.len())];
        Self { by_name, sources }
    }

    /// The one called `name` in the kernel's tree, now or before it was renamed, with or without `.sh`.
    pub(super) fn get(&self, name: &str) -> Option<&Selftest> {
        let name = identifier(name);
        let by_name = |name: &str| self.by_name.get(name);
        by_name(&name).or_else(|| other_names(&name).find_map(by_name))
    }

    /// All, by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Selftest> {
        self.by_name.values()
    }

    /// The files of those that are files, by name.
    pub(super) fn files(&self) -> Vec<Arc<Path>> {
        self.iter()
            .filter_map(|selftest| selftest.file.clone())
            .collect()
    }

    /// The name that `name` may have been meant to be.
    pub(super) fn nearest(&self, name: &str) -> Option<&str> {
        nearest(name, self.by_name.keys().map(String::as_str))
    }

    /// The directory of those that are files.
    pub(super) fn directory(&self) -> Option<Arc<Path>> {
        let mut files = self.iter().filter(|selftest| selftest.file.is_some());
        files.next().map(|selftest| Arc::clone(&selftest.directory))
    }
}

/// The names that the selftest called `name` has in other kernels.
pub(super) fn other_names(name: &str) -> impl Iterator<Item = &str> {
    RENAMED.iter().filter_map(move |&(old, new)| match name {
        _ if name == old => Some(new),
        _ if name == new => Some(old),
        _ => None,
    })
}

/// The name of the selftest whose file has this name.
pub(super) fn identifier(file_name: &str) -> String {
    let stem = file_name.strip_suffix(".sh").unwrap_or(file_name);
    if is_identifier(stem) {
        stem.to_owned()
    } else {
        to_identifier(stem)
    }
}

type Found = BTreeMap<String, Selftest>;

fn find_in(directory: &Path, target: Option<Arch>) -> Result<Found, Vec<Problem>> {
    let unreadable = |path: &Path, error: &io::Error| {
        vec![Problem::of_file(path, format!("cannot be read: {error}"))]
    };
    let directory = directory
        .canonicalize()
        .map_err(|error| unreadable(directory, &error))?;
    let in_tree = directory.join("tools/testing/selftests/kvm");
    let directory = if in_tree.is_dir() { in_tree } else { directory };

    // The list stands beside the directory `kvm` of an installed tree; either of the two may be given.
    let parent = directory.parent().filter(|_| directory.ends_with("kvm"));
    for root in std::iter::once(directory.as_path()).chain(parent) {
        let list = root.join(INSTALLED_LIST);
        match fs::read(&list) {
            Ok(text) => return listed(root, &list, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unreadable(&list, &error)),
        }
    }
    built(&directory, target).map_err(|(path, error)| unreadable(&path, &error))
}

/// An installed tree: the list says what there is, and what it says must be there.
fn listed(root: &Path, list: &Path, text: &[u8]) -> Result<Found, Vec<Problem>> {
    let mut found = Found::new();
    let mut problems = Vec::new();
    let broken = not_compiled(root);
    for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
        let Some(name) = line.trim_ascii().strip_prefix(b"kvm:") else {
            continue;
        };
        if name.is_empty() || name.starts_with(b".") || name.contains(&b'/') {
            let name = name.escape_ascii();
            let place = WrittenAt {
                path: list.into(),
                position: Some((index + 1, 1)),
            };
            problems.push(place.problem(format!("`{name}` is no file name")));
            continue;
        }
        let path = root.join(KVM).join(OsStr::from_bytes(name));
        add(&mut found, Selftest::listed(path, &broken), None);
    }
    if problems.is_empty() {
        Ok(found)
    } else {
        Err(problems)
    }
}

/// What the file says that lists the selftests that do not compile: only a tree that this program has built has it.
pub(super) fn not_compiled(root: &Path) -> Vec<u8> {
    fs::read(root.join(DOES_NOT_COMPILE)).unwrap_or_default()
}

/// An in-tree or `OUTPUT=` build: the executables beside their objects, also in the directory of each architecture.
fn built(directory: &Path, target: Option<Arch>) -> Result<Found, (PathBuf, io::Error)> {
    let mut found = Found::new();
    let of_arch = |&arch: &Arch| {
        let names = arch.directories().iter();
        names.map(move |name| (directory.join(name), Some(arch)))
    };
    let of_arches = Arch::ALL.iter().flat_map(of_arch);
    for (place, arch) in std::iter::once((directory.to_owned(), None)).chain(of_arches) {
        let entries = match fs::read_dir(&place) {
            Ok(entries) => entries.collect::<io::Result<Vec<_>>>(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => Err(error),
        };
        let mut entries = entries.map_err(|error| (place, error))?;
        // An editor's lock is a hidden link to nowhere.
        entries.retain(|entry| !entry.file_name().as_bytes().starts_with(b"."));
        entries.sort_by_key(fs::DirEntry::file_name);
        for path in entries.iter().map(fs::DirEntry::path) {
            let missing = match look_at(&path) {
                Ok(()) => None,
                Err(Unfit::Broken(reason)) => Some(reason),
                Err(Unfit::Other(_)) => continue,
            };
            add(&mut found, Selftest::new(path, missing, arch), target);
        }
    }
    Ok(found)
}

impl Selftest {
    fn new(path: PathBuf, missing: Option<String>, arch: Option<Arch>) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Self {
            name: identifier(&name),
            collection: KVM.into(),
            missing: missing.map(|reason| format!("{}: {reason}", path.display())),
            directory: path.parent().unwrap_or(Path::new("/")).into(),
            file: Some(path.into()),
            arch,
        }
    }

    /// One that a list says must be there; `broken` has those that do not compile.
    pub(super) fn listed(path: PathBuf, broken: &[u8]) -> Self {
        let name = path.file_name().unwrap_or_default().as_bytes();
        let error = |line: &[u8]| {
            let error = line.strip_prefix(name)?.strip_prefix(b": ")?;
            Some(format!("does not compile: {}", printable(error)))
        };
        let error = broken.split(|&byte| byte == b'\n').find_map(error);
        let missing = error.or_else(|| match look_at(&path) {
            Ok(()) => None,
            Err(Unfit::Broken(reason)) => Some(reason),
            Err(Unfit::Other(reason)) => Some(reason.to_owned()),
        });
        Self::new(path, missing, None)
    }

    fn is_script(&self) -> bool {
        let extension = self.file.as_deref().and_then(Path::extension);
        extension.is_some_and(|extension| extension == "sh")
    }

    /// Its file's name without `.sh`.
    fn stem(&self) -> &OsStr {
        let name = self.file.as_deref().and_then(Path::file_name);
        let name = Path::new(name.unwrap_or_default());
        match self.is_script() {
            true => name.file_stem().unwrap_or_default(),
            false => name.as_os_str(),
        }
    }
}

/// Adds a selftest. Of two with the same name the one for `target` is used, the script that wraps its program, or the
/// first; two different ones that only have the same identifier cannot be told apart, and neither is run.
fn add(found: &mut Found, new: Selftest, target: Option<Arch>) {
    let Some(twin) = found.get_mut(&new.name) else {
        found.insert(new.name.clone(), new);
        return;
    };
    let is_for_target = new.arch.is_none_or(|arch| Some(arch) == target);
    if new.stem() != twin.stem() {
        let names = [twin.stem(), new.stem()].map(|stem| format!("`{}`", stem.to_string_lossy()));
        let names = names.join(" and ");
        let message = format!("{names} have the same name here: rename one of them");
        twin.missing = Some(message);
    } else if match new.arch == twin.arch {
        true => new.is_script(),
        false => is_for_target,
    } {
        *twin = new;
    }
}

/// Why a file of a directory of selftests is none that can be run.
enum Unfit {
    /// It should be one, and cannot be run.
    Broken(String),
    /// It is something else.
    Other(&'static str),
}

/// Looks whether a file, which is followed where it is a link, is an ELF program or a script.
fn look_at(path: &Path) -> Result<(), Unfit> {
    let broken = |error: io::Error| Unfit::Broken(error.to_string());
    if !fs::metadata(path).map_err(broken)?.is_file() {
        return Err(Unfit::Other("not a regular file"));
    }
    access(path, Access::EXEC_OK).map_err(|_| Unfit::Other("not executable"))?;
    // What the kernel looks at (BINPRM_BUF_SIZE in include/uapi/linux/binfmts.h).
    let mut start = Vec::with_capacity(256);
    match File::open(path).and_then(|file| file.take(256).read_to_end(&mut start)) {
        // A program may be run by those who may not read it.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
        Err(error) => return Err(broken(error)),
        Ok(0) => return Err(Unfit::Broken("it is empty".to_owned())),
        Ok(_) => {}
    }
    if let Some(line) = start.strip_prefix(b"#!") {
        return interpreter_problem(line).map_or(Ok(()), |problem| Err(Unfit::Broken(problem)));
    }
    // e_type, at byte 16 in the file's own byte order: 1 is a relocatable object, 2 and 3 are programs (elf(5)).
    match start.get(16..18).filter(|_| start.starts_with(b"\x7fELF")) {
        None => Err(Unfit::Other("neither an ELF program nor a script")),
        Some([0, 1] | [1, 0]) => Err(Unfit::Other("an object")),
        Some(_) => Ok(()),
    }
}

/// What is wrong with the interpreter that a script names behind `#!`.
fn interpreter_problem(line: &[u8]) -> Option<String> {
    let line = line.split(|&byte| byte == b'\n').next()?.trim_ascii_start();
    let path = line.split(u8::is_ascii_whitespace).next()?;
    let path = Path::new(OsStr::from_bytes(path));
    let error = access(path, Access::EXEC_OK)
        .err()
        .filter(|_| path.is_absolute())?;
    let error = io::Error::from(error);
    Some(format!("its interpreter {}: {error}", path.display()))
}

/// How much is read of the beginning of a file, where a program's build ID stands, and of its end.
const READ: u64 = 4096;

/// The commit that they were built from, where one place has them all and says so; else a hash of them. Where the tree had
/// changes, both.
pub(super) fn commit_of(directories: &[PathBuf], files: &[Arc<Path>]) -> Option<String> {
    let source = match directories {
        [] => return None,
        [one] => built_from(one).unwrap_or_default(),
        _ => String::new(),
    };
    if !source.is_empty() && !source.ends_with("-dirty") {
        return Some(source);
    }
    let hash = files.iter().fold(Fnv::default(), |hash, file| {
        let name = file.file_name().unwrap_or_default();
        let hash = hash.with(name.as_encoded_bytes());
        // What cannot be read has its name alone.
        hash.with(&ends(file).unwrap_or_default())
    });
    Some(format!("{source} {}", hash.text()).trim_start().to_owned())
}

fn built_from(directory: &Path) -> Option<String> {
    let parent = directory.parent().filter(|_| directory.ends_with("kvm"));
    let mut places = std::iter::once(directory).chain(parent);
    let text = places.find_map(|place| file::read(&place.join(BUILT_FROM)).ok())?;
    Some(printable(text.trim_ascii()))
}

/// A file's length, beginning and end.
fn ends(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut bytes = length.to_le_bytes().to_vec();
    file.by_ref().take(READ).read_to_end(&mut bytes)?;
    file.seek(SeekFrom::Start(length.saturating_sub(READ)))?;
    file.take(READ).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn put(root: &Path, path: &str, text: &str, mode: u32) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    const HOST: Option<Arch> = Some(Arch::X86_64);

    fn find(root: &Path) -> Selftests {
        Selftests::find(&[root.to_owned()], HOST).unwrap()
    }

    /// Each selftest, its file, and why it cannot run.
    fn found(root: &Path) -> Vec<String> {
        let prefix = format!("{}/", root.canonicalize().unwrap().display());
        let show = |selftest: &Selftest| {
            let file = selftest.file.as_ref().unwrap().display().to_string();
            let missing = selftest.missing.iter().map(|reason| format!(" ({reason})"));
            let line = format!("{}={file}{}", selftest.name, missing.collect::<String>());
            line.replace(&prefix, "")
        };
        find(root).iter().map(show).collect()
    }

    #[test]
    fn an_installed_tree_is_what_its_list_says() {
        let root = tempfile::tempdir().unwrap();
        put(
            root.path(),
            INSTALLED_LIST,
            "kvm:a_test\nnet:other\nkvm:nx_test.sh\nkvm:gone_test\nkvm:plain\n",
            0o644,
        );
        put(root.path(), "kvm/a_test", "#!/bin/sh\n", 0o755);
        put(root.path(), "kvm/nx_test.sh", "#!/bin/sh\n", 0o755);
        put(root.path(), "kvm/nx_test", "#!/bin/sh\n", 0o755);
        put(root.path(), "kvm/plain", "#!/bin/sh\n", 0o644);
        let error = "x_test: y\ngone_test: gone_test.c:1: error: x\n";
        put(root.path(), DOES_NOT_COMPILE, error, 0o644);
        let expected = [
            "a_test=kvm/a_test",
            "gone_test=kvm/gone_test (kvm/gone_test: does not compile: gone_test.c:1: error: x)",
            "nx_test=kvm/nx_test.sh",
            "plain=kvm/plain (kvm/plain: not executable)",
        ];
        assert_eq!(found(root.path()), expected);
        assert_eq!(find(&root.path().join("kvm")).iter().count(), 4);
    }

    #[test]
    fn a_build_is_its_programs_without_objects_and_libraries() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "a_test", "#!/bin/sh\n", 0o755);
        put(root.path(), "a_test.c", "int main;", 0o755);
        put(
            root.path(),
            "a_test.o",
            "\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x01\0",
            0o755,
        );
        put(root.path(), "notes", "text", 0o755);
        put(root.path(), "lib/helper", "#!/bin/sh\n", 0o755);
        put(root.path(), "x86/nx_test", "#!/bin/sh\n", 0o755);
        put(root.path(), "x86/nx_test.sh", "#!/bin/sh\n", 0o755);
        put(root.path(), "s390x/nx_test", "#!/bin/sh\n", 0o755);
        put(root.path(), "s390x/memop", "#!/bin/sh\n", 0o755);
        let expected = [
            "a_test=a_test",
            "memop=s390x/memop",
            "nx_test=x86/nx_test.sh",
        ];
        assert_eq!(found(root.path()), expected);
    }

    #[test]
    fn what_cannot_run_is_there_with_its_reason() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        for name in ["a-b", "a_b", "get-reg-list"] {
            put(root.path(), name, "#!/bin/sh\n", 0o755);
        }
        put(root.path(), "empty_test", "", 0o755);
        put(root.path(), "nx.sh", "#! /bin/gone -e\n", 0o755);
        symlink("nowhere", path("dangling_test")).unwrap();
        symlink("loop_test", path("loop_test")).unwrap();
        symlink("nowhere", path(".#edited.c")).unwrap();
        let name = OsStr::from_bytes(b"caf\xe9");
        fs::write(root.path().join(name), "#!/bin/sh\n").unwrap();
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(root.path().join(name), mode).unwrap();
        let expected = [
            "a_b=a-b (`a-b` and `a_b` have the same name here: rename one of them)",
            "caf_=caf\u{fffd}",
            "dangling_test=dangling_test (dangling_test: No such file or directory (os error 2))",
            "empty_test=empty_test (empty_test: it is empty)",
            "get_reg_list=get-reg-list",
            "loop_test=loop_test (loop_test: Too many levels of symbolic links (os error 40))",
            "nx=nx.sh (nx.sh: its interpreter /bin/gone: No such file or directory (os error 2))",
        ];
        assert_eq!(found(root.path()), expected);
    }

    #[test]
    fn a_selftest_is_known_by_the_names_that_it_has_in_any_kernel() {
        let names = ["feature_msrs_test", "nx_huge_pages_test", "get_reg_list"];
        let selftests = Selftests::embedded(names);
        for (name, found) in [
            ("get_msr_index_features", Some("feature_msrs_test")),
            ("feature_msrs_test", Some("feature_msrs_test")),
            ("nx_huge_pages_test.sh", Some("nx_huge_pages_test")),
            ("get-reg-list", Some("get_reg_list")),
            ("nested_set_state_test", None),
        ] {
            let selftest = selftests.get(name).map(|selftest| selftest.name.as_str());
            assert_eq!(selftest, found, "{name}");
        }
        assert_eq!(selftests.nearest("get_reg_lsit"), Some("get_reg_list"));
    }

    #[test]
    fn every_directory_without_selftests_is_a_problem() {
        let root = tempfile::tempdir().unwrap();
        let problems =
            Selftests::find(&[root.path().to_owned(), root.path().join("gone")], HOST).unwrap_err();
        assert_eq!(problems.len(), 2);
        assert!(
            problems[1].to_string().contains("No such file"),
            "{}",
            problems[1]
        );
    }
}
