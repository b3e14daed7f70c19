//! Finds out what must be known at build time: the embedded files, and a stub for each case known by now.

use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use harness::{discover, stubs};

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let suites = files(&root, "kvm-tests/suites")?;
    let environments = files(&root, "kvm-tests/environments")?;

    let mut source = String::new();
    for (constant, files) in [("SUITES", &suites), ("ENVIRONMENTS", &environments)] {
        let kind = constant.to_lowercase();
        writeln!(source, "/// The shipped {kind}: path and text.\nconst {constant}: &[(&str, &str)] = &[")?;
        for (path, _) in files {
            writeln!(source, "({path:?}, include_str!({:?})),", root.join(path))?;
        }
        writeln!(source, "];")?;
    }
    fs::write(out.join("files.rs"), source)?;

    let directories = Vec::new();
    let texts: Vec<_> = suites.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let names =
        discover::names(&directories, &smoke_selftests(&root)?, &texts, &root.join("kvm-tests/local"))?;
    fs::write(out.join("stubs.rs"), stubs::render(names.iter().map(String::as_str)))?;
    Ok(())
}

/// The TOML files of a directory: path below `root`, and text.
fn files(root: &Path, directory: &str) -> Result<Vec<(String, String)>, Box<dyn Error>> {
    println!("cargo::rerun-if-changed={directory}");
    let mut files = Vec::new();
    for entry in fs::read_dir(root.join(directory))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            files.push((format!("{directory}/{name}"), fs::read_to_string(&path)?));
        }
    }
    files.sort();
    Ok(files)
}

/// The smoke selftests: each `*_test.rs` is one.
fn smoke_selftests(root: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    println!("cargo::rerun-if-changed=kvm-tests/smoke");
    let stem = |entry: fs::DirEntry| Some(entry.file_name().to_str()?.strip_suffix(".rs")?.to_owned());
    let stems: Vec<_> = fs::read_dir(root.join("kvm-tests/smoke"))?.collect::<Result<_, _>>()?;
    Ok(stems.into_iter().filter_map(stem).filter(|stem| stem.ends_with("_test")).collect())
}
