//! `KERNEL_SRC` with a small tree whose makefiles take the same targets and variables as the kernel's.

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use harness::kernel_src::{Built, build, cache_directory};
use tempfile::TempDir;

use crate::support::{self, Ran};

const TOP_MAKEFILE: &str = "
headers:
\tmkdir -p $(KBUILD_OUTPUT)/usr/include
\tcp -p include/uapi/kvm.h $(KBUILD_OUTPUT)/usr/include
\techo \"arch $(ARCH), compiler $(CROSS_COMPILE)gcc\"
";

/// As the kernel's do: it installs what there is, lists what there should be, and asks git for the version.
const SELFTESTS_MAKEFILE: &str = "
OUT := $(KBUILD_OUTPUT)/kselftest/kvm
install: all
\tmkdir -p $(KSFT_INSTALL_PATH)/kvm
\trsync -a $(OUT)/*_test $(KSFT_INSTALL_PATH)/kvm
\tcd kvm && ls *.c | sed 's/^/kvm:/; s/.c$$//' > $(KSFT_INSTALL_PATH)/kselftest-list.txt
\tgit describe --always > $(KSFT_INSTALL_PATH)/VERSION || rm $(KSFT_INSTALL_PATH)/VERSION
all:
\tmkdir -p $(OUT)
\t$(MAKE) -C kvm OUT=$(OUT)
";

/// As the kernel's, it writes into its own directory, prefers headers in the tree, and knows no dependency on headers.
const KVM_MAKEFILE: &str = "
.SECONDARY:
all: $(patsubst %.c,$(OUT)/%,$(wildcard *.c))
\ttouch .tmp
$(OUT)/%: $(OUT)/%.o
\tgcc $< -o $@
$(OUT)/%.o: %.c
\tgcc -I ../../../../usr/include -I $(KBUILD_OUTPUT)/usr/include -c $< -o $@
";

const SELFTEST: &str = "#include <kvm.h>\nint main(void) { return RESULT; }\n";

/// A kernel tree, and the directory that things are built in.
struct Fixture {
    directory: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let fixture = Self {
            directory: TempDir::new().unwrap(),
        };
        for (path, text) in [
            ("Makefile", TOP_MAKEFILE),
            ("include/uapi/kvm.h", "#define RESULT 4\n"),
            ("tools/testing/selftests/Makefile", SELFTESTS_MAKEFILE),
            ("tools/testing/selftests/lib.mk", ""),
            ("tools/testing/selftests/kvm/Makefile", KVM_MAKEFILE),
            ("tools/testing/selftests/kvm/one_test.c", SELFTEST),
            ("tools/testing/selftests/kvm/other_test.c", SELFTEST),
        ] {
            fixture.write(path, text);
        }
        fixture
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn tree(&self) -> PathBuf {
        self.path("linux-6.12")
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.tree().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn selftest(&self, name: &str) -> PathBuf {
        self.tree().join("tools/testing/selftests/kvm").join(name)
    }

    fn try_build(&self, source: &Path) -> Result<Built, String> {
        build(source.as_os_str(), &self.path("cache"), ARCH, &|_| {})
            .map_err(|error| format!("{error:#}"))
    }

    fn build(&self) -> Built {
        self.try_build(&self.tree()).unwrap()
    }
}

/// The exit code of a selftest that was built.
fn run(built: &Built, name: &str) -> i32 {
    let path = built.selftests.join("kvm").join(name);
    std::process::Command::new(path)
        .status()
        .unwrap()
        .code()
        .unwrap()
}

fn list(built: &Built) -> String {
    fs::read_to_string(built.selftests.join("kselftest-list.txt")).unwrap()
}

/// When a product of the build was made.
fn made(built: &Built, path: &str) -> SystemTime {
    let path = built.selftests.parent().unwrap().join(path);
    fs::metadata(path).unwrap().modified().unwrap()
}

fn broken(built: &Built) -> String {
    fs::read_to_string(built.selftests.join("does-not-compile")).unwrap()
}

fn set_modified(path: &Path, time: SystemTime) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(time).unwrap();
}

/// Everything below a directory with its time, and content.
fn snapshot(directory: &Path) -> BTreeMap<PathBuf, (SystemTime, Vec<u8>)> {
    let mut all = BTreeMap::new();
    let modified = fs::metadata(directory).unwrap().modified().unwrap();
    all.insert(directory.to_owned(), (modified, Vec::new()));
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(snapshot(&path));
        } else {
            let modified = fs::metadata(&path).unwrap().modified().unwrap();
            let content = fs::read(&path).unwrap();
            all.insert(path, (modified, content));
        }
    }
    all
}

const ONE: &str = "build/kselftest/kvm/one_test.o";
const OTHER: &str = "build/kselftest/kvm/other_test.o";

#[test]
fn a_tree_is_built_and_nothing_is_written_into_it() {
    let fixture = Fixture::new();
    let before = snapshot(&fixture.tree());
    let built = fixture.build();
    assert_eq!(list(&built), "kvm:one_test\nkvm:other_test\n");
    assert_eq!(
        (run(&built, "one_test"), broken(&built)),
        (4, String::new())
    );
    let tree = fixture.tree().canonicalize().unwrap();
    assert!(built.watched.contains(&tree.join("include/uapi")));
    assert!(snapshot(&fixture.tree()) == before);
}

#[test]
fn what_was_built_in_the_tree_has_no_part_in_it() {
    let fixture = Fixture::new();
    fixture.write("usr/include/kvm.h", "#define RESULT 1\n");
    fixture.write("tools/testing/selftests/kvm/one_test.o", "stale");
    fixture.write("tools/testing/selftests/kvm/one_test", "\x7fELF, and stale");
    fixture.write(".config", "CONFIG_KVM=y\n");
    assert_eq!(run(&fixture.build(), "one_test"), 4);
}

#[test]
fn no_other_repository_around_a_build_is_taken_for_the_kernels() {
    let fixture = Fixture::new();
    for arguments in [
        &["init", "-q"][..],
        &["commit", "-q", "--allow-empty", "-m", "x"],
    ] {
        let identity = ["-c", "user.name=x", "-c", "user.email=x"];
        let git = duct::cmd("git", identity.iter().chain(arguments));
        git.dir(fixture.directory.path()).run().unwrap();
    }
    assert!(!fixture.build().selftests.join("VERSION").exists());
}

#[test]
fn nothing_is_done_when_nothing_has_changed() {
    let fixture = Fixture::new();
    let built = fixture.build();
    let before = snapshot(&built.selftests);
    assert_eq!(fixture.build().selftests, built.selftests);
    assert!(snapshot(&built.selftests) == before);
    // Cargo runs a build script again for a file that is newer than the script's start, or gone.
    let work = built.selftests.parent().unwrap();
    let ours = built.watched.iter().filter(|path| path.starts_with(work));
    let times = ours.map(|path| fs::metadata(path).unwrap().modified().unwrap());
    assert_eq!(times.collect::<Vec<_>>(), [SystemTime::UNIX_EPOCH]);
}

#[test]
fn a_changed_selftest_alone_is_compiled_again() {
    let fixture = Fixture::new();
    let built = fixture.build();
    let (one, other) = (made(&built, ONE), made(&built, OTHER));
    let path = fixture.selftest("one_test.c");
    fs::write(&path, "int main(void) { return 0; }").unwrap();
    // What is written within one tick of the kernel's clock has the same time as what was there before.
    set_modified(&path, SystemTime::now());
    let built = fixture.build();
    assert_eq!(run(&built, "one_test"), 0);
    assert_ne!(made(&built, ONE), one);
    assert_eq!(made(&built, OTHER), other);
}

#[test]
fn a_selftest_that_is_replaced_by_an_older_one_is_compiled_again() {
    let fixture = Fixture::new();
    fixture.build();
    let path = fixture.selftest("one_test.c");
    fs::write(&path, "int main(void) { return 0; }").unwrap();
    set_modified(&path, SystemTime::now() - Duration::from_secs(1_000_000));
    assert_eq!(run(&fixture.build(), "one_test"), 0);
}

#[test]
fn a_changed_header_reaches_the_selftests() {
    let fixture = Fixture::new();
    fixture.build();
    fixture.write("include/uapi/kvm.h", "#define RESULT 7\n");
    let built = fixture.build();
    assert_eq!((run(&built, "one_test"), run(&built, "other_test")), (7, 7));
}

#[test]
fn a_changed_makefile_rebuilds_everything() {
    let fixture = Fixture::new();
    let built = fixture.build();
    let one = made(&built, ONE);
    fixture.write("tools/testing/selftests/lib.mk", "# changed");
    assert_ne!(made(&fixture.build(), ONE), one);
}

#[test]
fn a_removed_selftest_is_gone_from_what_is_installed() {
    let fixture = Fixture::new();
    fixture.build();
    fs::remove_file(fixture.selftest("other_test.c")).unwrap();
    fixture.write(
        "tools/testing/selftests/kvm/Makefile",
        &format!("{KVM_MAKEFILE}\n"),
    );
    let built = fixture.build();
    assert_eq!(list(&built), "kvm:one_test\n");
    assert!(!built.selftests.join("kvm/other_test").exists());
}

#[test]
fn a_selftest_that_does_not_compile_is_told_and_the_others_are_built() {
    let fixture = Fixture::new();
    fixture.build();
    let path = fixture.selftest("one_test.c");
    fs::write(&path, "int main(void) { return no_such_name; }").unwrap();
    // Newer than all that was built: make has objects of the source as it was.
    set_modified(&path, SystemTime::now() + Duration::from_secs(2));
    for _ in 0..2 {
        let built = fixture.build();
        let told = broken(&built);
        let expected = "one_test: one_test.c:1:25: error: 'no_such_name' undeclared";
        assert!(
            told.starts_with(expected) && told.lines().count() == 1,
            "{told}"
        );
        assert_eq!(list(&built), "kvm:one_test\nkvm:other_test\n");
        assert_eq!(run(&built, "other_test"), 4);
        // The one from before it was broken would pass for it.
        assert!(!built.selftests.join("kvm/one_test").exists());
    }
    fs::write(&path, "int main(void) { return 3; }").unwrap();
    let built = fixture.build();
    assert_eq!(
        (run(&built, "one_test"), broken(&built)),
        (3, String::new())
    );
}

#[test]
fn where_no_selftest_compiles_the_error_is_the_package_and_the_compilers_message() {
    let fixture = Fixture::new();
    fixture.write(
        "include/uapi/kvm.h",
        "#include <uuid/uuid.h.gone>\n#include <no/uuid/uuid.h>\n",
    );
    let error = fixture.try_build(&fixture.tree()).unwrap_err();
    let lines: Vec<_> = error.lines().collect();
    assert_eq!(
        lines[0], "build the KVM selftests: `apt install uuid-dev` (Debian)",
        "{error}"
    );
    assert!(
        lines[1].contains("fatal error: uuid/uuid.h.gone: No such file"),
        "{error}"
    );
    assert!(lines.len() <= 12, "{error}");
    let log = lines
        .last()
        .unwrap()
        .strip_prefix("(the whole log is ")
        .unwrap();
    let log = fs::read_to_string(log.trim_end_matches(')')).unwrap();
    assert!(log.contains("other_test.c"), "{log}");
}

#[test]
fn a_tarball_is_built_and_another_in_its_place_too() {
    let fixture = Fixture::new();
    let tarball = fixture.path("linux-source.tar.gz");
    let pack = || {
        let directory = fixture.directory.path();
        duct::cmd!("tar", "-C", directory, "-czf", &tarball, "linux-6.12")
            .run()
            .unwrap();
    };
    pack();
    let built = fixture.try_build(&tarball).unwrap();
    assert_eq!(list(&built), "kvm:one_test\nkvm:other_test\n");
    assert_eq!(built.watched[0], tarball.canonicalize().unwrap());
    let one = made(&built, ONE);
    assert_eq!(made(&fixture.try_build(&tarball).unwrap(), ONE), one);

    fs::remove_file(fixture.selftest("other_test.c")).unwrap();
    pack();
    let built = fixture.try_build(&tarball).unwrap();
    assert_eq!(list(&built), "kvm:one_test\n");
    assert!(!built.selftests.join("../source").exists());
}

#[test]
fn a_damaged_tarball_is_an_error_that_names_it() {
    let fixture = Fixture::new();
    let tarball = fixture.path("linux.tar.gz");
    fs::write(&tarball, "no gzip").unwrap();
    let error = fixture.try_build(&tarball).unwrap_err();
    let expected = format!("unpack {}: ", tarball.canonicalize().unwrap().display());
    let reason = "tar: This does not look like a tar archive";
    assert!(
        error.starts_with(&expected) && error.contains(reason),
        "{error}"
    );
}

#[test]
fn another_architecture_is_built_by_its_compiler() {
    let fixture = Fixture::new();
    let other = if ARCH == "riscv64" {
        "s390x"
    } else {
        "riscv64"
    };
    let build = || {
        let tree = fixture.tree();
        build(tree.as_os_str(), &fixture.path("cache"), other, &|_| {})
    };
    // Neither is likely to be there.
    let error = build().unwrap_err().to_string();
    let expected = format!(
        "cannot build the KVM selftests before `apt install gcc-{other}-linux-gnu` (Debian)"
    );
    assert_eq!(error, expected);
}

#[test]
fn two_builds_at_once_wait_for_each_other() {
    let fixture = Fixture::new();
    std::thread::scope(|scope| {
        let builds: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| list(&fixture.build())))
            .collect();
        for build in builds {
            assert_eq!(build.join().unwrap(), "kvm:one_test\nkvm:other_test\n");
        }
    });
}

#[test]
fn all_profiles_share_a_cache_in_the_target_directory() {
    let target = TempDir::new().unwrap();
    let out_dir = target.path().join("debug/build/kvm-tests-0123/out");
    assert_eq!(cache_directory(&out_dir), out_dir.join("kvm-tests-kernel"));
    fs::write(target.path().join("CACHEDIR.TAG"), "").unwrap();
    let expected = target.path().join("kvm-tests-kernel");
    assert_eq!(cache_directory(&out_dir), expected);
}

#[test]
fn an_installed_program_builds_and_runs_the_selftests_of_a_tree() {
    let (fixture, place) = (Fixture::new(), support::Fixture::new());
    let tree = fixture.tree();
    let tree = tree.to_str().unwrap();
    let program = |arguments: &[&str]| {
        let mut program = place.program(arguments);
        program.env("XDG_CACHE_HOME", place.path().join("cache"));
        Ran::of(program.output().unwrap())
    };
    let ran = program(&["build", tree]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let built = PathBuf::from(ran.stdout.trim_end());
    assert!(built.join("kvm/one_test").exists() && built.starts_with(place.path()));
    assert!(ran.stderr.contains("KVM build"), "{}", ran.stderr);

    let ran = program(&["run", "--kernel-src", tree, "--output", "run"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(
        ran.stdout.contains("2 SKIPPED of 2 cases"),
        "{}",
        ran.stdout
    );
    assert!(ran.stderr.contains("(--kernel-src)") && !ran.stderr.contains("KVM build"));
    // It goes on with what was built then.
    let ran = program(&["run", "--resume", "run"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);

    let ran = program(&["build", "nowhere"]);
    assert_eq!(ran.code, Some(2));
    assert!(
        ran.stderr.contains("nowhere: No such file"),
        "{}",
        ran.stderr
    );
}
