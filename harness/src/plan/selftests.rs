//! The selftests that are there: executables found in directories, never by running them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{self, DirEntry, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Access, access};

use crate::model::arch::Arch;
use crate::model::name::{is_identifier, to_identifier};
use crate::model::text_file::TextFile;
use crate::plan::problem::Problem;

/// The file that an installed tree lists its tests in, one `COLLECTION:NAME` a line
/// (tools/testing/selftests/Makefile, target `install`).
const INSTALLED_LIST: &str = "kselftest-list.txt";

/// The selftests of one or more directories.
#[derive(Debug, Default)]
pub struct Selftests {
    by_name: BTreeMap<String, Selftest>,
    /// Each directory, and how many selftests of it are used.
    pub sources: Vec<(PathBuf, usize)>,
}

/// A KVM selftest executable.
#[derive(Debug, Clone)]
pub struct Selftest {
    /// Its name as an identifier: the file's name without `.sh`.
    pub name: String,
    /// What to run.
    pub program: Program,
    /// Why it cannot run although it is listed: it is missing or not executable.
    pub missing: Option<String>,
    /// The architecture that it was built for, where its place says so.
    pub arch: Option<Arch>,
}

/// The executable of a selftest.
#[derive(Debug, Clone)]
pub enum Program {
    /// A file, by absolute path, and the directory that it is in.
    File {
        /// The file.
        path: Arc<Path>,
        /// Its directory.
        directory: Arc<Path>,
    },
    /// One that is embedded in this program.
    Embedded,
}

impl Selftests {
    /// Those of `directories`; where two have a selftest of the same name, the first directory's is used.
    ///
    /// # Errors
    /// Every directory that cannot be read, that has no selftest, or that has two for one name.
    pub fn find(directories: &[PathBuf]) -> Result<Self, Vec<Problem>> {
        let mut all = Self::default();
        let mut problems = Vec::new();
        for directory in directories {
            match find_in(directory) {
                Ok(found) if found.is_empty() => {
                    problems.push(Problem::of_file(
                        directory,
                        "no selftest found here: neither a list nor an executable",
                    ));
                }
                Ok(found) => all.add(directory, found),
                Err(found_problems) => problems.extend(found_problems),
            }
        }
        if problems.is_empty() {
            Ok(all)
        } else {
            Err(problems)
        }
    }

    /// Those that are embedded in this program.
    pub fn embedded<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let selftest = |name: &str| {
            let selftest = Selftest {
                name: name.to_owned(),
                program: Program::Embedded,
                missing: None,
                arch: None,
            };
            (name.to_owned(), selftest)
        };
        Self {
            by_name: names.into_iter().map(selftest).collect(),
            sources: Vec::new(),
        }
    }

    /// The one called `name`, with or without its `.sh`.
    pub fn get(&self, name: &str) -> Option<&Selftest> {
        self.by_name.get(name.strip_suffix(".sh").unwrap_or(name))
    }

    /// All, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Selftest> {
        self.by_name.values()
    }

    fn add(&mut self, directory: &Path, found: BTreeMap<String, Selftest>) {
        let mut used = 0;
        for (name, selftest) in found {
            if let Entry::Vacant(place) = self.by_name.entry(name) {
                place.insert(selftest);
                used += 1;
            }
        }
        self.sources.push((directory.to_owned(), used));
    }
}

fn find_in(directory: &Path) -> Result<BTreeMap<String, Selftest>, Vec<Problem>> {
    let unreadable = |path: &Path, error: io::Error| {
        vec![Problem::of_file(path, format!("cannot be read: {error}"))]
    };
    let directory = directory
        .canonicalize()
        .map_err(|error| unreadable(directory, error))?;
    let in_tree = directory.join("tools/testing/selftests/kvm");
    let directory = if in_tree.is_dir() { in_tree } else { directory };

    // The list stands beside the directory `kvm` of an installed tree; either of the two may be given.
    let roots = [
        Some(directory.as_path()),
        directory.parent().filter(|_| directory.ends_with("kvm")),
    ];
    for root in roots.into_iter().flatten() {
        let list = root.join(INSTALLED_LIST);
        match fs::read(&list) {
            Ok(text) => return listed(root, &list, &String::from_utf8_lossy(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unreadable(&list, error)),
        }
    }
    built(&directory).map_err(|(path, error)| unreadable(&path, error))
}

/// An installed tree: the list says what there is, and what it says must be there.
fn listed(
    root: &Path,
    list: &Path,
    text: &str,
) -> Result<BTreeMap<String, Selftest>, Vec<Problem>> {
    let mut found = BTreeMap::<String, Selftest>::new();
    let mut problems = Vec::new();
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let start = offset;
        offset += line.len();
        let Some(file_name) = line.trim().strip_prefix("kvm:") else {
            continue;
        };
        if file_name.contains('/') || file_name.starts_with('.') || file_name.is_empty() {
            problems.push(TextFile::new(list, text).problem(
                start,
                format!("`{}` is no file name", file_name.escape_debug()),
            ));
            continue;
        }
        let path = root.join("kvm").join(file_name);
        let selftest = selftest_at(&path, file_name, None, what_is_missing(&path));
        if let Some(twin) = found.get(&selftest.name)
            && !file_name.ends_with(".sh")
            && !is_wrapper(twin)
        {
            let message = format!(
                "`{file_name}` is listed twice, or has the same name as another: `{}`",
                twin.name
            );
            problems.push(TextFile::new(list, text).problem(start, message));
            continue;
        }
        if !found.get(&selftest.name).is_some_and(is_wrapper) {
            found.insert(selftest.name.clone(), selftest);
        }
    }
    if problems.is_empty() {
        Ok(found)
    } else {
        Err(problems)
    }
}

/// An in-tree or `OUTPUT=` build: the executables beside their objects, also in the directory of each architecture.
fn built(directory: &Path) -> Result<BTreeMap<String, Selftest>, (PathBuf, io::Error)> {
    let mut found = BTreeMap::<String, Selftest>::new();
    let arch_directories = Arch::ALL.iter().flat_map(|&arch| {
        let place = move |name: &&str| (directory.join(name), Some(arch));
        arch.directories().iter().map(place)
    });
    for (place, arch) in std::iter::once((directory.to_owned(), None)).chain(arch_directories) {
        let entries = match fs::read_dir(&place) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err((place, error)),
        };
        for entry in entries {
            let entry = entry.map_err(|error| (place.clone(), error))?;
            let path = entry.path();
            let Some(file_name) = path.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            if !is_program(&entry, &path) {
                continue;
            }
            let selftest = selftest_at(&path, file_name, arch, None);
            let replaces = found.get(&selftest.name).is_none_or(|twin| {
                let is_for_this_host =
                    |selftest: &Selftest| selftest.arch.is_none_or(Arch::is_host);
                if selftest.arch == twin.arch {
                    is_wrapper(&selftest)
                } else {
                    is_for_this_host(&selftest)
                }
            });
            if replaces {
                found.insert(selftest.name.clone(), selftest);
            }
        }
    }
    Ok(found)
}

/// Why the file, which should be a selftest, cannot be run.
fn what_is_missing(path: &Path) -> Option<String> {
    match fs::metadata(path) {
        Err(error) => Some(format!("{}: {error}", path.display())),
        Ok(metadata) if !metadata.is_file() => {
            Some(format!("{}: not a regular file", path.display()))
        }
        Ok(_) if access(path, Access::EXEC_OK).is_err() => {
            Some(format!("{}: not executable", path.display()))
        }
        Ok(_) => None,
    }
}

fn selftest_at(
    path: &Path,
    file_name: &str,
    arch: Option<Arch>,
    missing: Option<String>,
) -> Selftest {
    let stem = file_name.strip_suffix(".sh").unwrap_or(file_name);
    let name = if is_identifier(stem) {
        stem.to_owned()
    } else {
        to_identifier(stem)
    };
    let directory = path.parent().unwrap_or(Path::new("/"));
    Selftest {
        name,
        program: Program::File {
            path: path.into(),
            directory: directory.into(),
        },
        missing,
        arch,
    }
}

/// A script that stands beside the selftest that it runs, and runs instead of it.
fn is_wrapper(selftest: &Selftest) -> bool {
    matches!(&selftest.program, Program::File { path, .. } if path.extension().is_some_and(|extension| extension == "sh"))
}

/// An executable regular file, or a link to one, that starts as an ELF program or as a script does.
fn is_program(entry: &DirEntry, path: &Path) -> bool {
    let mut start = [0; 18];
    let is_file = entry
        .file_type()
        .is_ok_and(|kind| kind.is_file() || (kind.is_symlink() && path.is_file()));
    if !is_file || access(path, Access::EXEC_OK).is_err() {
        return false;
    }
    let Ok(length) = File::open(path).and_then(|mut file| file.read(&mut start)) else {
        return false;
    };
    let is_elf = start.starts_with(b"\x7fELF") && length == start.len();
    // e_type, at byte 16 in the file's own byte order: 1 is a relocatable object, 2 and 3 are programs (elf(5)).
    let is_object = start[16] == 1 || start[17] == 1;
    start.starts_with(b"#!") || (is_elf && !is_object)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn put(root: &Path, path: &str, text: &str, mode: u32) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn found(root: &Path) -> Vec<String> {
        let selftests = Selftests::find(&[root.to_owned()]).unwrap();
        let root = root.canonicalize().unwrap();
        let show = |selftest: &Selftest| {
            let Program::File { path, .. } = &selftest.program else {
                panic!("not embedded")
            };
            let missing = if selftest.missing.is_some() {
                " missing"
            } else {
                ""
            };
            format!(
                "{}={}{missing}",
                selftest.name,
                path.strip_prefix(&root).unwrap().display()
            )
        };
        selftests.iter().map(show).collect()
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
        let expected = [
            "a_test=kvm/a_test",
            "gone_test=kvm/gone_test missing",
            "nx_test=kvm/nx_test.sh",
            "plain=kvm/plain missing",
        ];
        assert_eq!(found(root.path()), expected);
        assert_eq!(
            Selftests::find(&[root.path().join("kvm")])
                .unwrap()
                .iter()
                .count(),
            4
        );
    }

    #[test]
    fn a_build_is_its_programs_without_objects_and_libraries() {
        let root = tempfile::tempdir().unwrap();
        let other = if Arch::host() == Some(Arch::S390x) {
            "x86_64"
        } else {
            "s390x"
        };
        let host = Arch::host().unwrap().directories()[0];
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
        put(
            root.path(),
            &format!("{host}/nx_test"),
            "#!/bin/sh\n",
            0o755,
        );
        put(
            root.path(),
            &format!("{host}/nx_test.sh"),
            "#!/bin/sh\n",
            0o755,
        );
        put(
            root.path(),
            &format!("{other}/nx_test"),
            "#!/bin/sh\n",
            0o755,
        );
        put(root.path(), &format!("{other}/memop"), "#!/bin/sh\n", 0o755);
        let expected = [
            "a_test=a_test".to_owned(),
            format!("memop={other}/memop"),
            format!("nx_test={host}/nx_test.sh"),
        ];
        assert_eq!(found(root.path()), expected);
    }

    #[test]
    fn every_directory_without_selftests_is_a_problem() {
        let root = tempfile::tempdir().unwrap();
        let problems =
            Selftests::find(&[root.path().to_owned(), root.path().join("gone")]).unwrap_err();
        assert_eq!(problems.len(), 2);
        assert!(
            problems[1].to_string().contains("No such file"),
            "{}",
            problems[1]
        );
    }
}
