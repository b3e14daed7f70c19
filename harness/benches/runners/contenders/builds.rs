//! Those who run the tests of a project that was built before.

use std::fs;
use std::process::Command;

use super::{MakeCommand, find};
use crate::workload::Workload;

pub(super) fn ctest(workload: &Workload, workers: usize) -> Result<MakeCommand, &'static str> {
    let program = find("ctest")?;
    workload.write("ctest/CTestTestfile.cmake", "", |name, path| {
        format!("add_test({name} \"{}\")", path.display())
    });
    let directory = workload.directory().join("ctest");
    Ok(Box::new(move |_| {
        let mut command = Command::new(&program);
        command
            .arg("--test-dir")
            .arg(&directory)
            .args(["-Q", "-j", &workers.to_string()]);
        command
    }))
}

pub(super) fn meson(workload: &Workload, workers: usize) -> Result<MakeCommand, &'static str> {
    let program = find("meson")?;
    workload.write(
        "meson/meson.build",
        "project('programs')\n",
        |name, path| format!("test('{name}', find_program('{}'))", path.display()),
    );
    let (source, build) = (
        workload.directory().join("meson"),
        workload.directory().join("meson-build"),
    );
    if !build.exists() {
        succeed(Command::new(&program).arg("setup").arg(&build).arg(&source));
    }
    Ok(Box::new(move |_| {
        let mut command = Command::new(&program);
        command.arg("test").arg("-C").arg(&build);
        command.args(["--no-rebuild", "--num-processes", &workers.to_string()]);
        command
    }))
}

/// A test binary that becomes the program whose name it is asked for.
pub(super) fn nextest(workload: &Workload, workers: usize) -> Result<MakeCommand, &'static str> {
    let cargo = find("cargo-nextest").and(find("cargo"))?;
    let package = workload.directory().join("package");
    workload.write("package/list", "", |name, _| format!("{name}: test"));
    fs::create_dir_all(package.join("src")).unwrap();
    fs::write(package.join("src/lib.rs"), "").unwrap();
    fs::write(package.join("main.rs"), NEXTEST_MAIN).unwrap();
    let manifest = "[package]\nname = \"programs\"\nedition = \"2024\"\n[workspace]\n\
                    [[test]]\nname = \"main\"\npath = \"main.rs\"\nharness = false\n";
    fs::write(package.join("Cargo.toml"), manifest).unwrap();
    let (manifest, target) = (package.join("Cargo.toml"), package.join("target"));
    let mut build = Command::new(&cargo);
    build
        .args([
            "test",
            "--no-run",
            "--release",
            "--offline",
            "--manifest-path",
        ])
        .arg(&manifest);
    succeed(build.env("CARGO_TARGET_DIR", &target));
    let selftests = workload.selftests().to_owned();
    Ok(Box::new(move |_| {
        let mut command = Command::new(&cargo);
        command.args([
            "nextest",
            "run",
            "--release",
            "--offline",
            "--no-fail-fast",
            "--manifest-path",
        ]);
        command
            .arg(&manifest)
            .args(["--test-threads", &workers.to_string()]);
        command
            .env("CARGO_TARGET_DIR", &target)
            .env("PROGRAMS", &selftests);
        command
    }))
}

fn succeed(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

const NEXTEST_MAIN: &str = r#"
use std::os::unix::process::CommandExt;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args.iter().any(|arg| arg == "--list") {
        let ignored = args.iter().any(|arg| arg == "--ignored");
        print!("{}", if ignored { "" } else { include_str!("list") });
    } else {
        let name = args.iter().skip(1).find(|arg| !arg.starts_with('-')).expect("a name");
        let directory = std::env::var("PROGRAMS").expect("PROGRAMS");
        panic!("{}", std::process::Command::new(format!("{directory}/{name}")).exec());
    }
}
"#;
