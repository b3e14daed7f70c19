//! `--changed`: the selftests that a patch series concerns, in a real git repository.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{Fixture, Ran, lines_with};

fn git(tree: &Path, args: &[&str]) {
    let identity = [
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@b",
        "-c",
        "commit.gpgsign=false",
    ];
    let mut git = Command::new("git");
    let done = git
        .args(identity)
        .args(args)
        .current_dir(tree)
        .output()
        .unwrap();
    assert!(done.status.success(), "{args:?}: {done:?}");
}

/// A kernel tree of a few files, committed, and selftests.
fn with_tree() -> Fixture {
    let fixture = Fixture::new();
    let fixture = [
        "svm_vmcall_test",
        "vmx_msrs_test",
        "dirty_log_test",
        "own_test",
    ]
    .into_iter()
    .fold(fixture, |fixture, name| fixture.selftest(name, "exit 0"))
    .file("linux/arch/x86/kvm/svm/svm.c", "")
    .file("linux/arch/arm64/kvm/arm.c", "")
    .file("linux/drivers/net/tun.c", "")
    .file("linux/virt/kvm/dirty_ring.c", "")
    .file("linux/tools/testing/selftests/kvm/lib/kvm_util.c", "")
    .file("linux/tools/testing/selftests/kvm/x86/vmx_msrs_test.c", "");
    let tree = fixture.path().join("linux");
    git(&tree, &["init", "-q", "-b", "main"]);
    commit(&fixture, &[]);
    fixture
}

/// Changes files of the tree, in one commit.
fn commit(fixture: &Fixture, paths: &[&str]) {
    let tree = fixture.path().join("linux");
    for path in paths {
        let text = fs::read_to_string(tree.join(path)).unwrap();
        fs::write(tree.join(path), text + "more\n").unwrap();
    }
    git(&tree, &["add", "-A"]);
    git(&tree, &["commit", "-q", "--allow-empty", "-m", "a"]);
}

/// What is listed, sorted, and the program's words about it.
fn listed(fixture: &Fixture, more: &[&str]) -> (Vec<String>, Ran) {
    let common = [
        "--list",
        "--format",
        "terse",
        "--selftests",
        "selftests",
        "--kernel-tree",
        "linux",
    ];
    let ran = Ran::of(fixture.command(&[&common, more].concat()).output().unwrap());
    let names = lines_with(&ran.stdout, ": test").into_iter();
    let names = names
        .map(|line| line.split("::").next().unwrap().to_owned())
        .collect();
    (names, ran)
}

#[test]
fn a_patch_series_chooses_the_selftests_that_it_concerns_and_says_why() {
    let fixture = with_tree();
    commit(&fixture, &["arch/x86/kvm/svm/svm.c", "drivers/net/tun.c"]);
    commit(
        &fixture,
        &["tools/testing/selftests/kvm/x86/vmx_msrs_test.c"],
    );
    let (names, ran) = listed(&fixture, &["--changed", "HEAD~2..", "--config", "x86.toml"]);
    assert_eq!(ran.code, Some(2), "a file that is not there: {names:?}");

    let fixture = fixture.file(
        "x86.toml",
        "[[changed]]\npaths = 'arch/x86/kvm/svm/*'\nselftests = 'svm_*'\n",
    );
    let (names, ran) = listed(&fixture, &["--changed", "HEAD~2..", "--config", "x86.toml"]);
    assert_eq!(
        names,
        ["svm_vmcall_test", "vmx_msrs_test"],
        "{}",
        ran.stderr
    );
    for said in [
        "changed: 2 files in HEAD~2.. of linux: 2 of 4 cases",
        "changed: arch/x86/kvm/svm/svm.c: svm_*",
        "changed: tools/testing/selftests/kvm/x86/vmx_msrs_test.c: vmx_msrs_test",
        "changed: 1 other file: no selftest known for it here",
    ] {
        assert_eq!(lines_with(&ran.stderr, said).len(), 1, "{}", ran.stderr);
    }
    // Only the last commit; and what is not committed.
    assert_eq!(
        listed(&fixture, &["--changed", "HEAD~1.."]).0,
        ["vmx_msrs_test"]
    );
    fs::write(
        fixture
            .path()
            .join("linux/tools/testing/selftests/kvm/lib/kvm_util.c"),
        "x",
    )
    .unwrap();
    assert_eq!(
        listed(&fixture, &["--changed", "HEAD~1.."]).0,
        ["vmx_msrs_test"]
    );
    assert_eq!(
        listed(&fixture, &["--changed", "HEAD"]).0.len(),
        4,
        "the library"
    );

    let ran = fixture.run(&["--changed", "HEAD~1..", "--kernel-tree", "linux"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.contains("1 PASSED of 1 cases"), "{}", ran.stdout);
    assert_eq!(
        lines_with(&ran.stderr, "  changed      1 file in HEAD~1..").len(),
        1
    );

    // New files, too, but those that git ignores.
    commit(&fixture, &[]);
    let new = "linux/tools/testing/selftests/kvm/own_test.c";
    let fixture = fixture
        .file(new, "")
        .file("linux/.gitignore", "*.o\n")
        .file("linux/tools/testing/selftests/kvm/dirty_log_test.o", "");
    assert_eq!(listed(&fixture, &["--changed", "HEAD"]).0, ["own_test"]);
    assert_eq!(listed(&fixture, &["--changed", "HEAD~1.."]).0.len(), 4);
}

#[test]
fn what_git_does_not_know_and_what_concerns_nothing_is_said_and_nothing_runs() {
    let fixture = with_tree();
    commit(&fixture, &["drivers/net/tun.c", "arch/arm64/kvm/arm.c"]);
    fs::create_dir_all(fixture.path().join("copy/tools/testing/selftests/kvm")).unwrap();
    for (more, said) in [
        (
            &["--changed", "nowhere..", "--kernel-tree", "linux"][..],
            "--changed nowhere..: linux: git: fatal: bad revision 'nowhere..'",
        ),
        (
            &["--changed=--output=x", "--kernel-tree", "linux"],
            "bad revision '--output=x'",
        ),
        (
            &["--changed", "HEAD", "--kernel-tree", "copy"],
            "--changed: copy is no git checkout: git: fatal: not a git repository",
        ),
        (
            &["--changed", "HEAD", "--kernel-tree", "selftests"],
            "--changed: selftests is no kernel tree: it has no tools/testing/selftests/kvm",
        ),
        (
            &["--changed", "HEAD"],
            "--changed: where is the kernel tree? Give --kernel-tree DIR",
        ),
        (
            &["--changed", "HEAD~1..", "--kernel-tree", "linux"],
            "error: 2 other files: no selftest known for it here",
        ),
        (&["--kernel-tree", "linux"], "--changed <REV..>"),
    ] {
        let ran = fixture.run(more);
        assert_eq!(ran.code, Some(2), "{more:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(said), "{more:?}: {}", ran.stderr);
        assert!(!fixture.results().exists());
    }
    let fixture = fixture.file("bad.toml", "[[changed]]\npaths = '['\nselftests = 'x'\n");
    let ran = fixture.run(&["--config", "bad.toml"]);
    assert_eq!(ran.code, Some(2));
    assert!(
        ran.stderr.contains(r#"bad.toml:2:9: "[" is no glob"#),
        "{}",
        ran.stderr
    );
}
