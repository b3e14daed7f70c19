//! What an installed tree says of its tests: kselftest-list.txt, each collection's `settings`, and the environment.

use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path};

use anyhow::{Context, anyhow};

use crate::model::problem::{Problem, WrittenAt, excerpt};
use crate::options::InstalledTest;
use crate::plan::INSTALLED_LIST;

/// How many seconds a test may take where no `settings` say so (tools/testing/selftests/kselftest/runner.sh).
const DEFAULT_TIMEOUT_S: u32 = 45;

/// Reads the list of `tree`, as it is now: each test once, in its order, and the lines that name none.
///
/// # Errors
/// It cannot be read.
pub(super) fn read(tree: &Path) -> anyhow::Result<(Vec<InstalledTest>, Vec<Problem>)> {
    let path = tree.join(INSTALLED_LIST);
    let context = || format!("read {}, the list of an installed tree", path.display());
    let text = fs::read(&path).with_context(context)?;
    let (mut tests, mut broken) = (Vec::new(), Vec::new());
    for (line, number) in text.split(|&byte| byte == b'\n').zip(1..) {
        let line = String::from_utf8_lossy(line.trim_ascii());
        match parse(&line) {
            Some(test) if !tests.contains(&test) => tests.push(test),
            None if !line.is_empty() => {
                let message = format!("`{}` is no COLLECTION:TEST", excerpt(&line));
                broken.push(at(&path, number).problem(message));
            }
            _ => {}
        }
    }
    Ok((tests, broken))
}

fn parse(line: &str) -> Option<InstalledTest> {
    let (collection, test) = line.split_once(':')?;
    // What the script's shell would split, and what would lead out of the tree, is no name.
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || c == char::REPLACEMENT_CHARACTER;
    let is_name = |part: Component<'_>| matches!(part, Component::Normal(_));
    let is_place = !collection.is_empty() && Path::new(collection).components().all(is_name);
    let is_file = !test.is_empty() && !test.starts_with('.') && !test.contains(['/', ':']);
    (is_place && is_file && !line.contains(is_odd)).then(|| InstalledTest {
        collection: collection.to_owned(),
        test: test.to_owned(),
        timeout: 0,
        args: Vec::new(),
    })
}

/// Fills in how long `test` may take, and what it is called with.
///
/// # Errors
/// Its collection's `settings` cannot be read, or the variable is not UTF-8.
pub(super) fn resolve(
    test: &InstalledTest,
    tree: &Path,
    timeout: Option<u32>,
) -> anyhow::Result<InstalledTest> {
    let settings = tree.join(&test.collection).join("settings");
    let variable = variable(&test.test);
    let args = std::env::var_os(&variable).unwrap_or_default();
    let args = args
        .to_str()
        .with_context(|| format!("{variable} is not UTF-8"))?;
    if !args.is_empty() {
        let (name, args) = (test.name(), excerpt(args));
        eprintln!("# {name} is called with {args} ({variable})");
    }
    Ok(InstalledTest {
        timeout: timeout.map_or_else(|| read_timeout(&settings), Ok)?,
        // As the script's shell does it: at blanks, without quotes.
        args: args.split_whitespace().map(str::to_owned).collect(),
        ..test.clone()
    })
}

/// `timeout=SECONDS` of a collection's `settings`, the last one where there are more.
fn read_timeout(path: &Path) -> anyhow::Result<u32> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(DEFAULT_TIMEOUT_S),
        text => text.with_context(|| format!("read {}", path.display()))?,
    };
    let timeout = |line: &str| line.trim().strip_prefix("timeout=").map(str::to_owned);
    let lines = text.lines().zip(1..);
    let timeouts = lines.filter_map(|(line, number)| Some((timeout(line)?, number)));
    let Some((seconds, number)) = timeouts.last() else {
        return Ok(DEFAULT_TIMEOUT_S);
    };
    seconds.parse().map_err(|_| {
        let message = format!("`{}` is no number of seconds", excerpt(&seconds));
        anyhow!("{}", at(path, number).problem(message))
    })
}

/// The variable with the arguments of a test.
fn variable(test: &str) -> String {
    let is_kept = |c: char| c.is_ascii_alphanumeric();
    let name = test.to_ascii_uppercase().replace(|c| !is_kept(c), "_");
    format!("KSELFTEST_{name}_ARGS")
}

fn at(path: &Path, line: usize) -> WrittenAt {
    WrittenAt {
        path: path.into(),
        position: Some((line, 1)),
    }
}
