//! `--kernel`: guests of this host as places, booted by a stand-in for virtme-ng.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::statuses;
use crate::support::fake_host::FakeHost;
use crate::support::{Fixture, Ran, Status};

/// Two selftests, a tree that is built, and a vng that notes its arguments and executes the last one here.
fn fixture() -> Fixture {
    let fixture = Fixture::new()
        .selftest("a_test", "exit 0")
        .selftest("fail_test", "exit 1")
        .file(
            "known.toml",
            "[[known]]\ncase = \"fail_test::default\"\nreason = \"old\"\n",
        )
        .file("linux/vmlinux", "")
        .file("bare/README", "");
    program(
        &fixture,
        "vng",
        "echo \"$*\" >>vng.log\nfor last do :; done\ncd / && exec sh -c \"$last\"",
    );
    fixture
}

/// Puts a shell script into the directory that is searched first.
fn program(fixture: &Fixture, name: &str, script: &str) {
    let path = fixture.path().join("bin").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The command with these arguments, which finds the fixture's programs.
fn command(fixture: &Fixture, arguments: &[&str]) -> Command {
    let mut command = fixture.command(&["--selftests", "selftests", "--output", "run"]);
    let bin = fixture.path().join("bin");
    command
        .args(arguments)
        .env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
    command
}

fn log(fixture: &Fixture) -> String {
    fs::read_to_string(fixture.path().join("vng.log")).unwrap_or_default()
}

#[test]
fn a_kernel_is_booted_in_guests_that_are_places() {
    let fixture = fixture();
    // What is relative here is found there, too.
    let arguments = ["--kernel", "linux", "--known", "known.toml"];
    let ran = Ran::of(command(&fixture, &arguments).output().unwrap());
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    let names = statuses(&fixture);
    assert_eq!(names["a_test::default"], Status::Passed);
    let place = fixture.record().first()["place"].clone();
    assert!(place.as_str().unwrap().starts_with("guest"), "{place}");
    assert!(
        ran.stderr
            .contains("emulated (TCG), as there is no nested KVM here"),
        "{}",
        ran.stderr
    );
    let tree = fixture.path().join("linux");
    let asked = format!(
        "-r {} --user root --cpus 2 --memory 4G --disable-kvm",
        tree.display()
    );
    assert!(log(&fixture).contains(&asked), "{}", log(&fixture));
}

#[test]
fn a_guest_has_the_kvm_of_a_host_whose_kvm_nests() {
    let fixture = fixture();
    let host = FakeHost::intel();
    let mut command = command(&fixture, &["--kernel", "linux", "a_test"]);
    let ran = Ran::of(
        command
            .env("KVM_TESTS_ROOT", host.path(""))
            .output()
            .unwrap(),
    );
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    assert!(
        ran.stderr
            .contains("with the KVM of this host, which nests"),
        "{}",
        ran.stderr
    );
    assert!(
        !log(&fixture).contains("--disable-kvm"),
        "{}",
        log(&fixture)
    );
}

#[test]
fn a_kernel_is_built_where_that_is_wanted() {
    let fixture = fixture();
    program(
        &fixture,
        "make",
        "echo CC vmlinux\n[ \"$1\" = -C ] && touch \"$2/vmlinux\"",
    );
    let ran = Ran::of(
        command(&fixture, &["--kernel", "bare", "--build", "a_test"])
            .output()
            .unwrap(),
    );
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stderr.contains("CC vmlinux") && !ran.stdout.contains("CC vmlinux"));
    program(&fixture, "make", "echo no rule >&2; exit 2");
    let ran = Ran::of(
        command(&fixture, &["--kernel", "bare", "--build", "--overwrite"])
            .output()
            .unwrap(),
    );
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("no rule") && ran.stderr.contains("error: build "),
        "{}",
        ran.stderr
    );
}

#[test]
fn what_cannot_be_booted_is_said_before_anything_runs() {
    let fixture = fixture();
    for (arguments, expected) in [
        (
            ["--kernel", "bare"].as_slice(),
            "no kernel is built there (--build has make do that); an image needs --modules",
        ),
        (
            &["--kernel", "bare/bzImage", "--modules", "bare"],
            "there is no such image",
        ),
        // Its modules are not where virtme-ng looks for them.
        (
            &["--kernel", "linux/vmlinux", "--modules", "bare"],
            "nothing here boots it: install virtme-ng (vng)",
        ),
        (
            &["--kernel", "linux", "--place", "sh -c {}"],
            "cannot be used with",
        ),
        (&["--modules", "bare"], "--kernel <TREE>"),
    ] {
        let ran = Ran::of(command(&fixture, arguments).output().unwrap());
        assert_eq!(ran.code, Some(2), "{}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{}", ran.stderr);
        assert!(!fixture.results().exists() && log(&fixture).is_empty());
    }
}
