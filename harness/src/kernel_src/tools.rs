//! The programs that building takes: whether they are there, what environment they get, and what a failure of one says.

use std::collections::HashMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::variables;

/// How much of a log a failure shows.
const LINES_SHOWN: usize = 40;

/// Fails unless every program is in `PATH`, and says which packages have those that are not.
pub(super) fn require(programs: &[&str]) -> Result<()> {
    let path = env::var_os("PATH").unwrap_or_default();
    let missing: Vec<_> = programs
        .iter()
        .filter(|program| !is_in_path(program, &path))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing
        .iter()
        .map(|program| (**program).to_owned())
        .collect::<Vec<_>>()
        .join(", ");
    let packages = missing
        .iter()
        .map(|program| package(program))
        .collect::<Vec<_>>()
        .join(" ");
    bail!("cannot build the KVM selftests without {names} (Debian: apt install {packages})")
}

/// The environment for them: what programs need to run at all, and the variables meant for make. The rest of the
/// user's (`O`, `ARCH`, `KBUILD_OUTPUT`, `MAKEFLAGS`) and of cargo's would change what is built, or where.
pub(super) fn environment() -> HashMap<OsString, OsString> {
    let passed = ["PATH", "HOME", "TMPDIR"]
        .into_iter()
        .filter_map(|name| Some((name.into(), env::var_os(name)?)));
    passed
        .chain(variables())
        .chain([("LC_ALL".into(), "C".into())])
        .collect()
}

/// Runs a command with its output in the file `log`; if it fails, the error shows what matters of that.
pub(super) fn run(command: &duct::Expression, program: &str, log: &Path) -> Result<()> {
    let file = File::create(log).with_context(|| format!("create {}", log.display()))?;
    // Both go to the file that stdout is, so stderr is joined to it first.
    let output = command
        .stderr_to_stdout()
        .stdout_file(file)
        .stdin_null()
        .unchecked()
        .run();
    let status = output.with_context(|| format!("start {program}"))?.status;
    if status.success() {
        return Ok(());
    }
    let text = fs::read(log).with_context(|| format!("read {}", log.display()))?;
    bail!(
        "{}",
        explain(
            &String::from_utf8_lossy(&text),
            &format!("{status}; the whole log is {}", log.display())
        )
    )
}

/// The first error in a log, then its end.
fn explain(log: &str, what: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    // The linker's own words come before gcc's remark that it failed; make and tar have other signs.
    let signs = [": error:", "undefined reference", "***", "rror"];
    let is_remark = |line: &str| line.starts_with("collect2:");
    let first_with = |sign: &&str| {
        lines
            .iter()
            .find(|line| line.contains(*sign) && !is_remark(line))
    };
    let first = signs
        .iter()
        .find_map(first_with)
        .or(lines.last())
        .unwrap_or(&"it printed nothing");
    let end = &lines[lines.len().saturating_sub(LINES_SHOWN)..];
    format!(
        "{first}\n({what}, and its last lines are:)\n{}",
        end.join("\n")
    )
}

fn is_in_path(program: &str, path: &OsStr) -> bool {
    let is_executable = |path: &Path| {
        fs::metadata(path)
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    // `join` leaves an absolute path (a compiler's, from `LLVM`) as it is.
    env::split_paths(path).any(|directory| is_executable(&directory.join(program)))
}

/// Debian's package of a program.
fn package(program: &str) -> &str {
    match program {
        "xz" => "xz-utils",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compilers_first_error_comes_before_the_end_of_the_log() {
        let noise = "  CC  x\n".repeat(100);
        let log = format!(
            "a.c:1:2: error: first\n{noise}a.c:9:9: error: second\nmake: *** [a.o] Error 1\n"
        );
        let explained = explain(&log, "exit status 2");
        let lines: Vec<_> = explained.lines().collect();
        assert_eq!(
            lines[..2],
            [
                "a.c:1:2: error: first",
                "(exit status 2, and its last lines are:)"
            ]
        );
        assert_eq!(lines.len(), 2 + LINES_SHOWN);
        assert_eq!(lines.last(), Some(&"make: *** [a.o] Error 1"));
    }

    #[test]
    fn a_failure_without_a_compiler_error_still_starts_with_its_reason() {
        let first = |log| explain(log, "").lines().next().unwrap().to_owned();
        assert_eq!(
            first("CC x\nmake: *** No rule to make target 'y'.  Stop.\nx"),
            "make: *** No rule to make target 'y'.  Stop."
        );
        assert_eq!(
            first("xz: unexpected end of input\ntar: Error is not recoverable\n"),
            "tar: Error is not recoverable"
        );
        let linker =
            "ld: a.c:7: undefined reference to `f'\ncollect2: error: ld returned 1 exit status\n";
        assert_eq!(first(linker), "ld: a.c:7: undefined reference to `f'");
        assert_eq!(first(""), "it printed nothing");
    }

    #[test]
    fn a_program_is_found_only_where_it_is_executable() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("make"), "").unwrap();
        assert!(!is_in_path("make", directory.path().as_os_str()));
        fs::set_permissions(
            directory.path().join("make"),
            fs::Permissions::from_mode(0o755),
        )
        .unwrap();
        assert!(is_in_path("make", directory.path().as_os_str()));
    }

    #[test]
    fn missing_programs_are_named_with_their_packages() {
        let error = require(&["sh", "no-such-program"]).unwrap_err();
        let expected = "cannot build the KVM selftests without no-such-program (Debian: apt install no-such-program)";
        assert_eq!(error.to_string(), expected);
        assert_eq!(package("xz"), "xz-utils");
    }
}
