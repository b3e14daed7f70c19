//! `KERNEL_SRC` with a small tree whose makefiles take the same targets and variables as the kernel's.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use harness::kernel_src::{Built, build, cache_directory};
use tempfile::TempDir;

const TOP_MAKEFILE: &str = "
headers:
\tmkdir -p $(O)/usr/include
\tcp -p include/uapi/kvm.h $(O)/usr/include
";

const SELFTESTS_MAKEFILE: &str = "
install:
\tmkdir -p $(O)/kselftest/kvm $(KSFT_INSTALL_PATH)
\t$(MAKE) -C kvm
\trsync -a --checksum $(O)/kselftest/kvm/ $(KSFT_INSTALL_PATH)/kvm --exclude '*.o'
\tcd kvm && ls *.c | sed 's/^/kvm:/; s/.c$$//' > $(KSFT_INSTALL_PATH)/kselftest-list.txt
";

const KVM_MAKEFILE: &str = "
OUT := $(O)/kselftest/kvm
.SECONDARY:
all: $(patsubst %.c,$(OUT)/%,$(wildcard *.c))
$(OUT)/%: $(OUT)/%.o
\tgcc $< -o $@
$(OUT)/%.o: %.c $(O)/usr/include/kvm.h
\tgcc -I $(O)/usr/include -c $< -o $@
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
            ("arch/x86/Kconfig", ""),
            ("arch/arm64/Kconfig", ""),
            ("include/uapi/kvm.h", "#define RESULT 4\n"),
            ("scripts/subarch.include", ""),
            ("tools/arch/x86/Kconfig", ""),
            ("tools/build/Build.include", ""),
            ("tools/include/rbtree.h", ""),
            ("tools/lib/rbtree.c", ""),
            ("tools/scripts/Makefile.include", ""),
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
        build(source.as_os_str(), &self.path("cache")).map_err(|error| format!("{error:#}"))
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

/// When an object, or a log, of the build was made.
fn made(built: &Built, path: &str) -> SystemTime {
    let path = built.selftests.parent().unwrap().join(path);
    fs::metadata(path).unwrap().modified().unwrap()
}

/// Everything below a directory with its time, and content.
fn snapshot(directory: &Path) -> BTreeMap<PathBuf, (SystemTime, Vec<u8>)> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        if path.is_dir() {
            all.extend(snapshot(&path));
            all.insert(path, (modified, Vec::new()));
        } else {
            let content = fs::read(&path).unwrap();
            all.insert(path, (modified, content));
        }
    }
    all
}

const ONE: &str = "build/kselftest/kvm/one_test.o";
const OTHER: &str = "build/kselftest/kvm/other_test.o";
const LOG: &str = "selftests.log";

#[test]
fn a_tree_is_built_and_nothing_is_written_into_it() {
    let fixture = Fixture::new();
    let before = snapshot(&fixture.tree());
    let built = fixture.build();
    assert_eq!(list(&built), "kvm:one_test\nkvm:other_test\n");
    assert_eq!(run(&built, "one_test"), 4);
    assert!(
        built
            .watched
            .contains(&fixture.tree().canonicalize().unwrap().join("include/uapi"))
    );
    assert_eq!(snapshot(&fixture.tree()), before);
}

#[test]
fn what_was_built_in_the_tree_has_no_part_in_it() {
    let fixture = Fixture::new();
    fixture.write("usr/include/kvm.h", "#define RESULT 1\n");
    fixture.write("tools/testing/selftests/kvm/one_test.o", "stale");
    fixture.write("tools/testing/selftests/kvm/one_test", "\x7fELF, and stale");
    fixture.write("arch/x86/include/generated/stale.h", "");
    fixture.write("arch/arm64/include/generated/stale.h", "");
    let built = fixture.build();
    assert_eq!(run(&built, "one_test"), 4);
    let copy = snapshot(&built.selftests.parent().unwrap().join("source"));
    let names: Vec<_> = copy
        .keys()
        .filter_map(|path| path.file_name()?.to_str())
        .collect();
    assert!(names.contains(&"one_test.c"));
    for product in ["one_test", "one_test.o", "generated", "stale.h", "usr"] {
        assert!(!names.contains(&product), "{product} was copied");
    }
}

#[test]
fn nothing_is_done_when_nothing_has_changed() {
    let fixture = Fixture::new();
    let built = fixture.build();
    let before = snapshot(&built.selftests);
    let log = made(&built, LOG);
    let again = fixture.build();
    assert_eq!(again.selftests, built.selftests);
    assert_eq!(snapshot(&again.selftests), before);
    assert_eq!(made(&again, LOG), log);
}

#[test]
fn a_changed_selftest_alone_is_compiled_again_even_if_its_time_is_older() {
    let fixture = Fixture::new();
    let built = fixture.build();
    let (one, other) = (made(&built, ONE), made(&built, OTHER));
    let path = fixture.selftest("one_test.c");
    fs::write(&path, "int main(void) { return 0; }").unwrap();
    let old = SystemTime::now() - Duration::from_secs(1_000_000);
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(old)
        .unwrap();

    let built = fixture.build();
    assert_eq!(run(&built, "one_test"), 0);
    assert_ne!(made(&built, ONE), one);
    assert_eq!(made(&built, OTHER), other);
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
    let built = fixture.build();
    assert_eq!(list(&built), "kvm:one_test\n");
    assert!(!built.selftests.join("kvm/other_test").exists());
}

#[test]
fn a_selftest_that_does_not_compile_fails_the_build_with_the_compilers_words() {
    let fixture = Fixture::new();
    fixture.build();
    fs::write(
        fixture.selftest("one_test.c"),
        "int main(void) { return no_such_name; }",
    )
    .unwrap();
    for _ in 0..2 {
        let error = fixture.try_build(&fixture.tree()).unwrap_err();
        let first = error.lines().next().unwrap();
        let expected = "build the KVM selftests: one_test.c:1:25: error: 'no_such_name' undeclared";
        assert!(first.starts_with(expected), "{error}");
        let log = error
            .split("the whole log is ")
            .nth(1)
            .unwrap()
            .split(", ")
            .next()
            .unwrap();
        assert!(
            fs::read_to_string(log).unwrap().contains("no_such_name"),
            "{error}"
        );
    }
    fs::write(
        fixture.selftest("one_test.c"),
        "int main(void) { return 3; }",
    )
    .unwrap();
    assert_eq!(run(&fixture.build(), "one_test"), 3);
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
    assert_eq!(built.watched, [tarball.canonicalize().unwrap()]);
    let log = made(&built, LOG);
    assert_eq!(made(&fixture.try_build(&tarball).unwrap(), LOG), log);

    fs::remove_file(fixture.selftest("other_test.c")).unwrap();
    pack();
    assert_eq!(
        list(&fixture.try_build(&tarball).unwrap()),
        "kvm:one_test\n"
    );
}

#[test]
fn a_damaged_tarball_is_an_error_that_names_it() {
    let fixture = Fixture::new();
    let tarball = fixture.path("linux.tar.gz");
    fs::write(&tarball, "no gzip").unwrap();
    let error = fixture.try_build(&tarball).unwrap_err();
    let expected = format!("unpack {}: ", tarball.canonicalize().unwrap().display());
    assert!(
        error.starts_with(&expected) && error.contains("not in gzip format"),
        "{error}"
    );
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
    assert_eq!(
        cache_directory(&out_dir),
        target.path().join("kvm-tests-kernel")
    );
}
