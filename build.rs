//! Finds out what must be known at build time: the selftests of `KERNEL_SRC`, the embedded files, and a stub for each
//! case known by now.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use harness::kernel_src;
use harness::{Embedded, SmokeSelftest};

fn main() -> ExitCode {
    match prepare() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn prepare() -> anyhow::Result<()> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").context("find the package")?);
    let out = PathBuf::from(env::var("OUT_DIR").context("find the place for what is generated")?);
    println!("cargo::rerun-if-changed=build.rs");

    let built = build_selftests(&out)?;
    let suites = files(&root, "kvm-tests/suites")?;
    let environments = files(&root, "kvm-tests/environments")?;
    let embedded = [
        constant(&root, "SUITES", &suites)?,
        constant(&root, "ENVIRONMENTS", &environments)?,
    ]
    .concat();
    fs::write(out.join("files.rs"), embedded).context("write files.rs")?;

    let names = names(&root, built.as_deref(), &suites, &environments).unwrap_or_else(|error| {
        // The program says the same when it runs, and does not start.
        format!("{error:#}")
            .lines()
            .for_each(|line| println!("cargo::warning={line}"));
        Vec::new()
    });
    fs::write(
        out.join("stubs.rs"),
        kernel_src::stubs(names.iter().map(String::as_str)),
    )
    .context("write stubs.rs")
}

/// Builds the selftests of `KERNEL_SRC`, if that is set, and tells both targets where they are.
fn build_selftests(out: &Path) -> anyhow::Result<Option<PathBuf>> {
    for variable in kernel_src::VARIABLES {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let Some(kernel_src) = env::var_os("KERNEL_SRC").filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let architecture = env::var("CARGO_CFG_TARGET_ARCH").context("find the architecture")?;
    let cache = kernel_src::cache_directory(out);
    let built = kernel_src::build(&kernel_src, &cache, &architecture, &progress())?;
    for path in &built.watched {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    println!(
        "cargo::rustc-env=KVM_TESTS_BUILT_SELFTESTS={}",
        built.selftests.display()
    );
    Ok(Some(built.selftests))
}

/// Shows what a build that takes long is doing: on Cargo's own stderr, since Cargo shows nothing of a build script before
/// its end. Only on a terminal or a pipe: whoever opens a file or an editor's socket anew writes into what Cargo writes.
fn progress() -> impl Fn(&str) {
    let stderr = format!("/proc/{}/fd/2", std::os::unix::process::parent_id());
    let is_stream = fs::metadata(&stderr).is_ok_and(|metadata| {
        metadata.file_type().is_char_device() || metadata.file_type().is_fifo()
    });
    let file = is_stream.then(|| fs::OpenOptions::new().append(true).open(&stderr).ok());
    let file = file.flatten();
    move |what: &str| {
        if let Some(mut file) = file.as_ref() {
            // Cargo's progress bar stands in this line of a terminal, and comes again below.
            let clear = if file.is_terminal() { "\r\x1b[K" } else { "" };
            // Where it cannot be shown, it is in the log.
            writeln!(file, "{clear}{:>12} {what}", "KVM").ok();
        }
    }
}

/// The names of the cases that are known by now.
fn names(
    root: &Path,
    built: Option<&Path>,
    suites: &[(String, String)],
    environments: &[(String, String)],
) -> anyhow::Result<Vec<String>> {
    println!("cargo::rerun-if-env-changed=KVM_SELFTESTS");
    let given = env::var_os("KVM_SELFTESTS").unwrap_or_default();
    let local = root.join("kvm-tests/local");
    for path in env::split_paths(&given).chain([local.clone()]) {
        if path.exists() {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    // None of them is run here.
    let never: fn() -> ExitCode = || ExitCode::FAILURE;
    let smoke = smoke_selftests(root)?;
    let smoke: Vec<SmokeSelftest<'_>> = smoke.iter().map(|name| (name.as_str(), never)).collect();
    let (suites, environments) = (borrowed(suites), borrowed(environments));
    let embedded = Embedded {
        selftests: &smoke,
        suites: &suites,
        environments: &environments,
        built_selftests: built.and_then(Path::to_str),
        local: local.to_str(),
    };
    let target = env::var("CARGO_CFG_TARGET_ARCH").context("find the architecture")?;
    harness::case_names(&embedded, &target)
}

fn borrowed(files: &[(String, String)]) -> Vec<(&str, &str)> {
    let file = files.iter();
    file.map(|(path, text)| (path.as_str(), text.as_str()))
        .collect()
}

/// The TOML files of a directory: path below `root`, and text.
fn files(root: &Path, directory: &str) -> anyhow::Result<Vec<(String, String)>> {
    println!("cargo::rerun-if-changed={directory}");
    let mut files = Vec::new();
    for entry in fs::read_dir(root.join(directory)).with_context(|| format!("read {directory}"))? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let text =
                fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            files.push((format!("{directory}/{name}"), text));
        }
    }
    files.sort();
    Ok(files)
}

/// The source of a constant with the paths and the texts of `files`.
fn constant(root: &Path, name: &str, files: &[(String, String)]) -> anyhow::Result<String> {
    let mut source = String::new();
    writeln!(
        source,
        "/// The shipped {}: path and text of each.",
        name.to_lowercase()
    )?;
    writeln!(source, "const {name}: &[(&str, &str)] = &[")?;
    for (path, _) in files {
        writeln!(source, "({path:?}, include_str!({:?})),", root.join(path))?;
    }
    writeln!(source, "];")?;
    Ok(source)
}

/// The smoke selftests: each `*_test.rs` is one.
fn smoke_selftests(root: &Path) -> anyhow::Result<Vec<String>> {
    println!("cargo::rerun-if-changed=kvm-tests/smoke");
    let mut stems = Vec::new();
    for entry in fs::read_dir(root.join("kvm-tests/smoke")).context("read kvm-tests/smoke")? {
        let name = entry?.file_name().into_string().unwrap_or_default();
        stems.extend(
            name.strip_suffix(".rs")
                .filter(|stem| stem.ends_with("_test"))
                .map(str::to_owned),
        );
    }
    Ok(stems)
}
