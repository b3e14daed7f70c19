//! Everyone who can run a list of programs, and how each is asked to.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::measure::{self, Figures};
use crate::workload::Workload;

/// The role of a bare loop of spawn and wait, which the name of a file with a program on each line and the number of
/// threads follow.
pub(crate) const SPAWN_ALL: &str = "spawn-all";

/// Somebody who runs a list of programs.
pub(crate) struct Contender {
    /// Its name.
    pub(crate) name: &'static str,
    command: MakeCommand,
}

/// Makes the command anew for each round: a `Command` cannot be cloned.
type MakeCommand = Box<dyn Fn(&Workload, usize) -> Command>;

impl Contender {
    /// Runs the whole of `workload`.
    pub(crate) fn run(&self, workload: &Workload, workers: usize) -> Option<Figures> {
        let mut command = (self.command)(workload, workers);
        command.current_dir(workload.directory());
        measure::run(&command)
    }
}

/// Those who are here, the floor first and this project second, and the names of those who are not.
pub(crate) fn all(workload: &Workload, workers: usize) -> (Vec<Contender>, Vec<&'static str>) {
    let mut here = vec![
        Contender { name: "bare posix_spawn loop", command: Box::new(bare) },
        Contender { name: "kvm-tests", command: Box::new(kvm_tests) },
    ];
    let mut absent = Vec::new();
    for (name, prepare) in OTHERS {
        match prepare(workload, workers) {
            Some(command) => here.push(Contender { name, command }),
            None => absent.push(*name),
        }
    }
    (here, absent)
}

/// What gets one ready, once; `None` where it is not installed, or cannot run this many side by side.
type Prepare = fn(&Workload, usize) -> Option<MakeCommand>;

const OTHERS: &[(&str, Prepare)] = &[
    ("xargs -P", xargs),
    ("GNU parallel", parallel),
    ("kselftest's runner.sh", kselftest),
    ("prove -j", prove),
    ("ctest -j", ctest),
    ("meson test", meson),
    ("cargo nextest", nextest),
    ("avocado", avocado),
    ("LTP's kirk", kirk),
];

/// This very program in its other role: see `main`.
fn bare(workload: &Workload, workers: usize) -> Command {
    let list = workload.list("bare.list", "", |_, path| path.display().to_string());
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(SPAWN_ALL).arg(list).arg(workers.to_string());
    command
}

fn kvm_tests(workload: &Workload, workers: usize) -> Command {
    // A stand-in for the host, since these programs need no KVM; the durations of the last round are kept there.
    fs::create_dir_all(workload.directory().join("root/dev")).unwrap();
    fs::write(workload.directory().join("root/dev/kvm"), "").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvm-tests-runner"));
    command.args(["run", "--selftests", "selftests", "--output", "run", "--overwrite", "prog_"]);
    command.args(["--test-threads", &workers.to_string()]);
    command.env("KVM_TESTS_ROOT", workload.directory().join("root"));
    command
}

fn xargs(workload: &Workload, _: usize) -> Option<MakeCommand> {
    let program = find("xargs")?;
    let list = workload.list("xargs.list", "", |_, path| path.display().to_string());
    Some(Box::new(move |_, workers| {
        let mut command = Command::new(&program);
        // It wants a command to add to; env(1) becomes the program itself.
        command.arg("-a").arg(&list).args(["-n1", &format!("-P{workers}"), "env"]);
        command
    }))
}

fn parallel(workload: &Workload, _: usize) -> Option<MakeCommand> {
    let program = find("parallel")?;
    let list = workload.list("parallel.list", "", |_, path| path.display().to_string());
    Some(Box::new(move |_, workers| {
        let mut command = Command::new(&program);
        command.args([&format!("-j{workers}"), "--will-cite", "-a"]).arg(&list);
        command
    }))
}

/// It runs one after another only.
fn kselftest(workload: &Workload, workers: usize) -> Option<MakeCommand> {
    let installed = PathBuf::from(std::env::var_os("KSELFTEST_INSTALL").filter(|_| workers == 1)?);
    let tree = workload.directory().join("kselftest-tree");
    fs::create_dir_all(tree.join("kselftest")).unwrap();
    for file in fs::read_dir(installed.join("kselftest")).unwrap().flatten() {
        fs::copy(file.path(), tree.join("kselftest").join(file.file_name())).unwrap();
    }
    fs::copy(installed.join("run_kselftest.sh"), tree.join("run_kselftest.sh")).unwrap();
    if !tree.join("kvm").exists() {
        std::os::unix::fs::symlink(workload.directory().join("selftests"), tree.join("kvm")).unwrap();
    }
    workload.list("kselftest-tree/kselftest-list.txt", "", |name, _| format!("kvm:{name}"));
    Some(Box::new(move |_, _| Command::new(tree.join("run_kselftest.sh"))))
}

/// It wants TAP, which a shell prints for each program.
fn prove(workload: &Workload, _: usize) -> Option<MakeCommand> {
    let program = find("prove")?;
    let tap = workload.directory().join("tap.sh");
    fs::write(&tap, "\"$1\" && echo 1..1 && echo ok\n").unwrap();
    let list = workload.list("prove.list", "", |_, path| path.display().to_string());
    let list = fs::read_to_string(list).unwrap();
    Some(Box::new(move |_, workers| {
        let mut command = Command::new(&program);
        command.args(["-Q", "-j", &workers.to_string(), "-e"]).arg(format!("/bin/sh {}", tap.display()));
        command.args(list.lines());
        command
    }))
}

fn ctest(workload: &Workload, _: usize) -> Option<MakeCommand> {
    let program = find("ctest")?;
    workload.list("ctest/CTestTestfile.cmake", "", |name, path| {
        format!("add_test({name} \"{}\")", path.display())
    });
    Some(Box::new(move |workload, workers| {
        let mut command = Command::new(&program);
        command.arg("--test-dir").arg(workload.directory().join("ctest"));
        command.args(["-Q", "-j", &workers.to_string()]);
        command
    }))
}

fn meson(workload: &Workload, _: usize) -> Option<MakeCommand> {
    let program = find("meson")?;
    workload.list("meson/meson.build", "project('programs')\n", |name, path| {
        format!("test('{name}', find_program('{}'))", path.display())
    });
    let (source, build) = (workload.directory().join("meson"), workload.directory().join("meson-build"));
    if !build.exists() {
        succeed(Command::new(&program).arg("setup").arg(&build).arg(&source));
    }
    Some(Box::new(move |_, workers| {
        let mut command = Command::new(&program);
        command.arg("test").arg("-C").arg(&build);
        command.args(["--no-rebuild", "--num-processes", &workers.to_string()]);
        command
    }))
}

/// A test binary that becomes the program whose name it is asked for.
fn nextest(workload: &Workload, _: usize) -> Option<MakeCommand> {
    let cargo = find("cargo-nextest").and(find("cargo"))?;
    let package = workload.directory().join("package");
    workload.list("package/list", "", |name, _| format!("{name}: test"));
    fs::create_dir_all(package.join("src")).unwrap();
    fs::write(package.join("src/lib.rs"), "").unwrap();
    fs::write(package.join("main.rs"), NEXTEST_MAIN).unwrap();
    let manifest = "[package]\nname = \"programs\"\nedition = \"2024\"\n[workspace]\n\
                    [[test]]\nname = \"main\"\npath = \"main.rs\"\nharness = false\n";
    fs::write(package.join("Cargo.toml"), manifest).unwrap();
    let build = |command: &mut Command| {
        command.env("CARGO_TARGET_DIR", package.join("target")).arg("--manifest-path");
        command.arg(package.join("Cargo.toml"));
    };
    let mut prepare = Command::new(&cargo);
    build(prepare.args(["test", "--no-run", "--release", "--offline"]));
    succeed(&mut prepare);
    let selftests = workload.directory().join("selftests");
    let (package, target) = (package.join("Cargo.toml"), package.join("target"));
    Some(Box::new(move |_, workers| {
        let mut command = Command::new(&cargo);
        command.args(["nextest", "run", "--release", "--offline", "--manifest-path"]).arg(&package);
        command.args(["--test-threads", &workers.to_string()]);
        command.env("CARGO_TARGET_DIR", &target).env("PROGRAMS", &selftests);
        command
    }))
}

const NEXTEST_MAIN: &str = r#"
use std::os::unix::process::CommandExt;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args.iter().any(|arg| arg == "--list") {
        let ignored = args.iter().any(|arg| arg == "--ignored");
        print!("{}", if ignored { "" } else { include_str!("list") });
    } else {
        let name = args.iter().find(|arg| arg.starts_with("prog_")).expect("a name");
        let directory = std::env::var("PROGRAMS").expect("PROGRAMS");
        panic!("{}", std::process::Command::new(format!("{directory}/{name}")).exec());
    }
}
"#;

fn avocado(workload: &Workload, _: usize) -> Option<MakeCommand> {
    let program = find("avocado")?;
    let list = workload.list("avocado.list", "", |_, path| path.display().to_string());
    let list = fs::read_to_string(list).unwrap();
    Some(Box::new(move |workload, workers| {
        let mut command = Command::new(&program);
        command.args(["run", &format!("--max-parallel-tasks={workers}"), "--disable-sysinfo"]);
        command.arg("--job-results-dir").arg(workload.directory().join("avocado-results"));
        command.args(list.lines());
        command
    }))
}

fn kirk(workload: &Workload, _: usize) -> Option<MakeCommand> {
    let program = find("kirk")?;
    workload.list("ltp/runtest/programs", "", |name, path| format!("{name} {}", path.display()));
    fs::create_dir_all(workload.directory().join("ltp/testcases/bin")).unwrap();
    Some(Box::new(move |workload, workers| {
        let mut command = Command::new(&program);
        command.args(["--run-suite", "programs", "--workers", &workers.to_string(), "--force-parallel"]);
        command.arg("--tmp-dir").arg(workload.directory());
        command.env("LTPROOT", workload.directory().join("ltp"));
        command
    }))
}

fn succeed(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|path| path.is_file())
}
