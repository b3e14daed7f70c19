//! How the kernel's makefiles are asked for headers and selftests, and what is said when they fail.

use std::env::{self, consts};
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use duct::{Expression, cmd};

use super::tree::{SELFTESTS, create, remove};
use crate::model::text::printable_within;

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

/// The file beside the installed selftests that has a line `NAME: ERROR` for each that is listed but does not compile.
pub const DOES_NOT_COMPILE: &str = "does-not-compile";

/// How often a program that takes long is said to be still at it.
const PROGRESS: Duration = Duration::from_secs(5);

/// How many lines of a log an error shows.
const LINES: usize = 10;

/// What a compiler or tar does not find, and the Debian package that has it.
const PACKAGES: &[(&str, &str)] = &[
    ("uuid/uuid.h", "uuid-dev"),
    ("sys/types.h", "libc6-dev"),
    ("xz:", "xz-utils"),
    ("zstd:", "zstd"),
];

/// The programs that build selftests in a directory.
pub(super) struct Make<'a> {
    /// The directory.
    pub(super) work: &'a Path,
    /// The kernel's name of the architecture.
    pub(super) srcarch: &'a str,
    /// What [`variables`] gave.
    pub(super) variables: Vec<(OsString, OsString)>,
    /// Is told what is being done.
    pub(super) say: &'a dyn Fn(&str),
}

impl Make<'_> {
    /// Unpacks all of a tarball into `directory`.
    pub(super) fn unpack(&self, tarball: &Path, directory: &Path) -> Result<()> {
        self.clear(directory)?;
        fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
        // `o`: as the user's own.
        let tar = cmd!("tar", "--strip-components=1", "-oxf", tarball).dir(directory);
        self.must(&tar, &format!("unpack {}", tarball.display()))
    }

    /// Removes a tree that was unpacked, where there is one: on some disks that takes minutes.
    pub(super) fn clear(&self, directory: &Path) -> Result<()> {
        if !directory.exists() {
            return Ok(());
        }
        self.must(&cmd!("rm", "-rf", directory), "remove the unpacked tree")
    }

    /// Builds the selftests of `tree`, which the work's `links` look like, and puts them into its `install`.
    pub(super) fn build(&self, tree: &Path) -> Result<()> {
        self.must(&make(tree, &["headers"]), "export the kernel's headers")?;

        let (what, new) = ("build the KVM selftests", self.work.join("new"));
        let directory = self.work.join("links").join(SELFTESTS);
        let mut goals = vec!["install", "TARGETS=kvm", "FORCE_TARGETS=1"];
        let programs = self.work.join("build/kselftest");
        let has_earlier = programs.exists();
        remove(&new)?;
        if !self.run(&make(&directory, &goals), what)? {
            remove(&new)?;
            // No program or object file of an earlier build may stand for what does not compile now.
            if has_earlier {
                remove(&programs)?;
            }
            goals.push("--ignore-errors");
            self.run(&make(&directory, &goals), what)?;
        }
        match broken(&new, &self.log()?) {
            Some(broken) => fs::write(new.join(DOES_NOT_COMPILE), broken)?,
            None => bail!("{what}: {}", self.explain()?),
        }
        let (install, old) = (self.work.join("install"), self.work.join("old"));
        remove(&old)?;
        // There is none the first time. Who runs it finds the new one at once.
        fs::rename(&install, &old).ok();
        fs::rename(&new, &install).with_context(|| format!("rename {}", new.display()))?;
        remove(&old)
    }

    /// Runs a command as [`Self::run`] does; if it fails, the error explains why.
    fn must(&self, command: &Expression, what: &str) -> Result<()> {
        let is_done = self.run(command, what)?;
        ensure!(is_done, "{what}: {}", self.explain()?);
        Ok(())
    }

    /// Runs a command with its output in the log, and says what it does. Returns whether it succeeded.
    fn run(&self, command: &Expression, what: &str) -> Result<bool> {
        (self.say)(what);
        let begin = Instant::now();
        let log = create(&self.work.join("log"))?;
        // Both go to the file that stdout is, so stderr is joined to it first.
        let command = command.stderr_to_stdout().stdout_file(log).stdin_null();
        let command = command.full_env(self.environment()).unchecked();
        let child = command.start().context(what.to_owned())?;
        while child.wait_timeout(PROGRESS)?.is_none() {
            let log = self.log()?;
            let last = log.trim_end().rsplit(['/', '\n']).next();
            let last = last.filter(|last| !last.is_empty()).map(shown);
            let last = last.map_or_else(String::new, |last| format!(", {last}"));
            (self.say)(&format!("{what}: {} s{last}", begin.elapsed().as_secs()));
        }
        Ok(child.into_output()?.status.success())
    }

    fn environment(&self) -> Vec<(OsString, OsString)> {
        let mut environment = self.variables.clone();
        for name in ["PATH", "HOME", "TMPDIR"] {
            environment.extend(env::var_os(name).map(|value| (name.into(), value)));
        }
        environment.extend([
            ("LC_ALL".into(), "C".into()),
            ("ARCH".into(), self.srcarch.into()),
            ("KBUILD_OUTPUT".into(), self.work.join("build").into()),
            ("KSFT_INSTALL_PATH".into(), self.work.join("new").into()),
            // make asks git for the kernel's version: no repository around this directory is the kernel's.
            ("GIT_CEILING_DIRECTORIES".into(), self.work.into()),
        ]);
        environment
    }

    /// The log, with paths as they are in the tree.
    fn log(&self) -> Result<String> {
        let log = fs::read(self.work.join("log")).context("read the log")?;
        let work = format!("{}/", self.work.display());
        let log = String::from_utf8_lossy(&log).replace(&work, "");
        Ok(log.replace("links/tools/", "tools/"))
    }

    /// What went wrong, and where the whole log is.
    fn explain(&self) -> Result<String> {
        let (said, log) = (explain(&self.log()?), self.work.join("log"));
        Ok(format!("{said}(the whole log is {})", log.display()))
    }
}

/// `make` in a directory, with each job's output in one piece, so that a compiler's message is, too.
fn make(directory: &Path, goals: &[&str]) -> Expression {
    let jobs = format!("-j{}", num_cpus::get());
    let mut args: Vec<OsString> = vec!["-C".into(), directory.into(), jobs.into()];
    args.extend(["--output-sync=target", "--no-print-directory"].map(Into::into));
    args.extend(goals.iter().map(Into::into));
    cmd("make", args)
}

/// Those of [`VARIABLES`] for make that are set, with the usual `CROSS_COMPILE` for another architecture (Rust's name)
/// than this one.
///
/// # Errors
/// A program is missing.
pub(super) fn variables(architecture: &str) -> Result<Vec<(OsString, OsString)>> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    let given = |name: &&str| Some((name.into(), set(name)?));
    let mut variables: Vec<_> = VARIABLES[1..].iter().filter_map(given).collect();
    let mut programs = vec!["make".to_owned(), "rsync".to_owned()];
    // With LLVM, one compiler builds for all.
    if set("LLVM").is_none() {
        let is_native = architecture == consts::ARCH;
        let usual = (!is_native).then(|| format!("{architecture}-linux-gnu-"));
        let prefix = set("CROSS_COMPILE").unwrap_or(usual.unwrap_or_default().into());
        programs.push(format!("{}gcc", prefix.to_string_lossy()));
        variables.push(("CROSS_COMPILE".into(), prefix));
    }
    require(&programs)?;
    Ok(variables)
}

/// Fails unless every program can be run, and says which packages have those that cannot.
fn require(programs: &[String]) -> Result<()> {
    let is_missing = |program: &&String| {
        let asked = cmd!(*program, "--version").stdout_null().stderr_null();
        asked.unchecked().run().is_err()
    };
    let package = |program: &String| match program.strip_suffix("-gcc") {
        Some(target) => format!("gcc-{}", target.replace('_', "-")),
        None => program.clone(),
    };
    let missing: Vec<_> = programs.iter().filter(is_missing).map(package).collect();
    let packages = missing.join(" ");
    ensure!(
        missing.is_empty(),
        "cannot build the KVM selftests before `apt install {packages}` (Debian)"
    );
    Ok(())
}

/// A line for each selftest that is listed but was not installed; `None` where no program was.
fn broken(install: &Path, log: &str) -> Option<String> {
    let list = fs::read_to_string(install.join("kselftest-list.txt")).ok()?;
    let names = list.lines().filter_map(|line| line.strip_prefix("kvm:"));
    let is_there = |name: &&str| install.join("kvm").join(name).exists();
    let (there, missing): (Vec<_>, Vec<_>) = names.partition(is_there);
    let has_program = there.iter().any(|name| !name.ends_with(".sh"));
    let line = |name: &&str| format!("{name}: {}\n", shown(error_of(name, log)));
    has_program.then(|| missing.iter().map(line).collect())
}

/// Why a selftest was not made: the first error between make's last word before it gave the selftest up and that.
fn error_of<'a>(name: &str, log: &'a str) -> &'a str {
    let lines: Vec<_> = log.lines().collect();
    let ends = ["", ".o"].map(|ending| format!("/{name}{ending}] Error "));
    let is_end = |line: &&str| ends.iter().any(|end| line.contains(end));
    let end = lines.iter().position(is_end).unwrap_or(lines.len());
    let own = lines[..end].rsplit(|line| line.starts_with("make")).next();
    let mut candidates = own.into_iter().chain([&lines[..end]]).flatten();
    let error = candidates.find(|line| is_error(line));
    error.copied().unwrap_or("make does not say why")
}

/// Whether a compiler or a linker says here what is wrong; the linker's words come before gcc's remark that it failed.
fn is_error(line: &str) -> bool {
    let signs = ["error:", "undefined reference", "cannot find -l"];
    signs.iter().any(|sign| line.contains(sign)) && !line.starts_with("collect2:")
}

/// The packages that are missing, and the lines from the first error on, or the last ones.
fn explain(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    let mut said = String::new();
    for (what, package) in PACKAGES {
        let is_miss = |line: &&str| line.contains(what) && line.contains("No such file");
        if lines.iter().any(is_miss) {
            said += &format!("`apt install {package}` (Debian)\n");
        }
    }
    let first = lines.iter().position(|line| is_error(line));
    let first = first.unwrap_or(lines.len().saturating_sub(LINES));
    for line in lines[first..].iter().take(LINES) {
        said += &format!("{}\n", shown(line));
    }
    said
}

/// The beginning of a line: a compiler's command has thousands of characters.
fn shown(line: &str) -> String {
    printable_within(line.as_bytes(), 250)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_the_missing_packages_and_ten_lines_from_the_first_error_on() {
        let noise = "  CC  x\n".repeat(100);
        let error = "a.c:1:2: fatal error: uuid/uuid.h: No such file or directory";
        let long = "x".repeat(10_000);
        let explained = explain(&format!("{noise}{error}\n{long}\n{noise}"));
        let lines: Vec<_> = explained.lines().collect();
        assert_eq!(lines[..2], ["`apt install uuid-dev` (Debian)", error]);
        assert!(lines[2].len() < 300 && lines.len() == 1 + LINES);
    }

    #[test]
    fn a_failure_without_a_compiler_error_is_the_end_of_the_log() {
        let log = format!("{}tar: Error is not recoverable", "x\n".repeat(20));
        let explained = explain(&log);
        assert_eq!(explained.lines().count(), LINES);
        assert!(explained.ends_with("tar: Error is not recoverable\n"));
        assert_eq!(explain(""), "");
    }

    #[test]
    fn each_selftest_has_its_own_error() {
        let log = "a.c:1: error: first\nmake[1]: [x: /b/a.o] Error 1 (ignored)\n\
            gcc b\nb.c:2: warning: x\nld: b.c:2: undefined reference to `f'\ncollect2: error: ld\n\
            make[1]: [x: /b/kvm/b] Error 1 (ignored)\n";
        assert_eq!(error_of("a", log), "a.c:1: error: first");
        assert_eq!(error_of("b", log), "ld: b.c:2: undefined reference to `f'");
        assert_eq!(error_of("needs_all", log), "a.c:1: error: first");
    }

    #[test]
    fn missing_programs_are_named_by_their_packages() {
        let programs = ["sh", "no-such-program", "riscv64_none-gcc"].map(str::to_owned);
        assert_eq!(
            require(&programs).unwrap_err().to_string(),
            "cannot build the KVM selftests before `apt install no-such-program gcc-riscv64-none` (Debian)"
        );
    }
}
