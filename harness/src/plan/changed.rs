//! `--changed`: the selftests that a patch series concerns, by the paths that git says it changed.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use glob::Pattern;
use serde::Deserialize;

use super::selftests::{identifier, other_names};
use crate::embedded::SMOKE_SELFTEST;
use crate::model::case::{Case, Command};
use crate::model::host::Arch;
use crate::model::text::{one_line, plural};
use crate::model::value::{Glob, OneOrMore};
use crate::options::Options;

/// Where the selftests' sources are in a kernel tree.
const SOURCES: &str = "tools/testing/selftests/kvm/";

/// How many of the changed files are named.
const NAMED: usize = 12;

/// The key whose tables, `[[changed]]`, say which paths concern which selftests.
pub(super) const CHANGED: &str = "changed";

/// What a change of these paths concerns. Of several whose paths match, the first holds.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct Concern {
    /// Globs of paths in the kernel tree; `*` also stands for directories.
    paths: OneOrMore<Glob>,
    /// Globs of selftests' names.
    selftests: OneOrMore<Glob>,
}

/// What a patch series concerns.
#[derive(Debug)]
pub(super) struct Changed {
    /// Of the files that concern any: the path, and globs of selftests' names.
    chosen: Vec<(String, Vec<Pattern>)>,
    /// What was looked at.
    title: String,
    /// How many other files there are.
    others: usize,
}

impl Changed {
    /// What `--changed` asks for, for the architecture `target`.
    ///
    /// # Errors
    /// There is no kernel tree, it is no git checkout, or git does not know the revision.
    pub(super) fn of(
        options: &Options,
        concerns: &[Concern],
        target: Option<Arch>,
    ) -> anyhow::Result<Option<Self>> {
        let Some(revision) = &options.changed else {
            return Ok(None);
        };
        let variable = || std::env::var_os("KERNEL_SRC").filter(|value| !value.is_empty());
        let given = options.kernel_tree.as_ref().or(options.kernel_src.as_ref());
        let tree = given.cloned().or_else(|| variable().map(PathBuf::from));
        let tree = tree.context("--changed: where is the kernel tree? Give --kernel-tree DIR")?;
        let paths = changed_paths(&tree, revision)?;
        let chosen: Vec<_> = paths
            .iter()
            .filter_map(|path| Some((path.clone(), concerned(path, concerns, target)?)))
            .collect();
        Ok(Some(Self {
            title: format!("{revision} of {}", tree.display()),
            others: paths.len() - chosen.len(),
            chosen,
        }))
    }

    /// Whether it concerns the selftest of a case.
    pub(super) fn concerns(&self, case: &Case) -> bool {
        let Some(name) = selftest_of(case) else {
            return false;
        };
        let names: Vec<_> = other_names(&name).chain([&*name]).collect();
        let mut globs = self.chosen.iter().flat_map(|(_, globs)| globs);
        globs.any(|glob| names.iter().any(|name| glob.matches(name)))
    }

    /// What was chosen, and why.
    pub(super) fn describe(&self, cases: usize, all: usize) -> Vec<String> {
        let files = plural(self.chosen.len(), "file");
        let title = format!("{files} in {}: {cases} of {all} cases", self.title);
        let named = self.chosen.iter().take(NAMED).map(|(path, globs)| {
            let globs: Vec<_> = globs.iter().map(Pattern::as_str).collect();
            format!("{}: {}", one_line(path), globs.join(", "))
        });
        let more = self.chosen.len().saturating_sub(NAMED);
        let more = (more > 0).then(|| format!("and {}", plural(more, "more file")));
        let others = plural(self.others, "other file");
        let others = (self.others > 0).then(|| format!("{others}: no selftest known for it here"));
        let title = std::iter::once(one_line(&title));
        title.chain(named).chain(more).chain(others).collect()
    }
}

/// The selftests that a change of this path concerns; `None` where it concerns none.
fn concerned(path: &str, concerns: &[Concern], target: Option<Arch>) -> Option<Vec<Pattern>> {
    let is_elsewhere = |part: &str| Arch::from_name(part).is_some_and(|arch| Some(arch) != target);
    if path.split('/').any(is_elsewhere) {
        return None;
    }
    if let Some(source) = path.strip_prefix(SOURCES) {
        let name = source.rsplit('/').next().unwrap_or_default();
        let stem = name.strip_suffix(".c").or(name.strip_suffix(".sh"));
        let is_shared = source.starts_with("lib/") || source.starts_with("include/");
        // The library, a header or a makefile is a part of every selftest.
        let glob = match stem.filter(|_| !is_shared) {
            Some(stem) => Pattern::escape(&identifier(stem)),
            None => "*".to_owned(),
        };
        return Pattern::new(&glob).ok().map(|glob| vec![glob]);
    }
    let is_here = |one: &&Concern| one.paths.0.iter().any(|glob| glob.0.matches(path));
    let concern = concerns.iter().find(is_here)?;
    let globs = concern.selftests.0.iter().map(|glob| glob.0.clone());
    Some(globs.collect())
}

/// The name of the selftest that a case runs.
fn selftest_of(case: &Case) -> Option<String> {
    let file = match &case.command {
        Command::Program { args, .. } if args.first().is_some_and(|arg| arg == SMOKE_SELFTEST) => {
            Path::new(args.get(1)?)
        }
        Command::Program { path, .. } => path,
        // A line that begins with a selftest.
        Command::Shell(line) if case.needs_kvm() => Path::new(line.split_whitespace().next()?),
        Command::Shell(_) => return None,
    };
    Some(identifier(&file.file_name()?.to_string_lossy()))
}

/// The paths that differ, below the tree and relative to it.
fn changed_paths(tree: &Path, revision: &str) -> anyhow::Result<Vec<String>> {
    let shown = tree.display();
    if !tree.join(SOURCES).is_dir() {
        bail!("--changed: {shown} is no kernel tree: it has no {SOURCES}");
    }
    git(tree, &["rev-parse", "--is-inside-work-tree"])
        .with_context(|| format!("--changed: {shown} is no git checkout"))?;
    let diff = ["diff", "--name-only", "-z", "--no-renames", "--relative"];
    let diff = [&diff[..], &["--end-of-options", revision, "--"]].concat();
    let about = || format!("--changed {revision}: {shown}");
    let mut paths = git(tree, &diff).with_context(about)?;
    // What is not committed: new files, too.
    if !revision.contains("..") {
        let new = ["ls-files", "--others", "--exclude-standard", "-z"];
        paths.append(&mut git(tree, &new).with_context(about)?);
    }
    let paths = paths
        .split(|&byte| byte == 0)
        .filter(|path| !path.is_empty());
    Ok(paths
        .map(|path| String::from_utf8_lossy(path).into_owned())
        .collect())
}

/// What git prints.
fn git(tree: &Path, args: &[&str]) -> anyhow::Result<Vec<u8>> {
    // A hook of another repository says where that is.
    let git = duct::cmd("git", args).dir(tree).env_remove("GIT_DIR");
    let git = git
        .stdin_null()
        .stdout_capture()
        .stderr_capture()
        .unchecked();
    let output = git.run().context("run git")?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    bail!(
        "git: {}",
        said.lines().next().unwrap_or("it failed without a word")
    )
}
