//! `kvm-tests kselftest`: what the kernel's run_kselftest.sh takes, made a run of this program.

mod install;
mod list;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Args;

use crate::model::case::KVM;
use crate::model::file;
use crate::model::problem::{excerpt, nearest};
use crate::options::InstalledTest;
use crate::show::print;

/// `kvm-tests kselftest`
#[derive(Debug, Clone, Args)]
pub struct KselftestOptions {
    /// Where the installed tree is: the directory of kselftest-list.txt
    #[arg(long, value_name = "DIR", default_value = ".")]
    tree: PathBuf,

    /// Print only the results; what the tests print goes to output.log in the tree
    #[arg(short, long, conflicts_with = "per_test_log")]
    summary: bool,

    /// Print only the results; what a test prints goes to a file of its name in DIR
    #[arg(short, long, value_name = "DIR", num_args = 0..=1, default_missing_value = "/tmp")]
    per_test_log: Option<PathBuf>,

    /// Run this test; repeatable
    #[arg(short, long, value_name = "COLLECTION:TEST", value_delimiter = ' ')]
    test: Vec<String>,

    /// Do not run this test; repeatable
    #[arg(
        short = 'S',
        long,
        value_name = "COLLECTION:TEST",
        value_delimiter = ' '
    )]
    skip: Vec<String>,

    /// Run all tests of this collection; repeatable. Without -c and -t these are the tests of kvm
    #[arg(short, long, value_name = "COLLECTION", value_delimiter = ' ')]
    collection: Vec<String>,

    /// List the tests that there are
    #[arg(short, long)]
    list: bool,

    /// List the tests that would run, and run none
    #[arg(short, long)]
    dry_run: bool,

    /// Exit with 0 even where tests failed
    #[arg(short = 'f', long)]
    no_error_on_fail: bool,

    /// End a test after this time, whatever the collection's `settings` say; 0 is never
    #[arg(short, long, value_name = "SECONDS")]
    override_timeout: Option<u32>,

    /// Refused: a test that needs a network namespace of its own is for the kernel's own script
    #[arg(short, long)]
    netns: bool,

    /// Put a run_kselftest.sh into the tree DIR that calls this program; the kernel's own becomes run_kselftest.sh.orig
    #[arg(long, value_name = "DIR", exclusive = true)]
    install: Option<PathBuf>,

    /// Put the kernel's own run_kselftest.sh back
    #[arg(long, value_name = "DIR", exclusive = true)]
    uninstall: Option<PathBuf>,

    /// Options of `kvm-tests run`, such as --test-threads, --output, --environment or --resume
    #[arg(last = true, value_name = "OPTION")]
    run: Vec<OsString>,
}

impl KselftestOptions {
    /// Whether they leave to the run which tests it has, and how.
    fn are_default(&self) -> bool {
        let lists = [&self.test, &self.skip, &self.collection];
        lists.into_iter().all(Vec::is_empty)
            && !(self.summary || self.no_error_on_fail)
            && self.per_test_log.is_none()
            && self.override_timeout.is_none()
    }
}

/// Does what `options` ask for. Where that is a run, returns the command line that means it for the test target.
///
/// # Errors
/// The tree cannot be read, or does not have what is asked for.
pub fn kselftest(options: &KselftestOptions) -> anyhow::Result<Option<Vec<OsString>>> {
    if let Some(tree) = &options.install {
        return install::install(tree).map(|()| None);
    }
    if let Some(tree) = &options.uninstall {
        return install::uninstall(tree).map(|()| None);
    }
    ensure!(
        !options.netns,
        "--netns is not supported, as KVM's selftests use no network: the kernel's own script has it"
    );
    let tree = options.tree.canonicalize();
    let tree = tree.with_context(|| format!("find the tree {}", options.tree.display()))?;
    let (listed, broken) = list::read(&tree)?;
    // A comment, as it may stand among the lines of TAP.
    let broken = broken.iter();
    broken.for_each(|problem| eprintln!("# {problem}; it is left out"));
    if options.list {
        return names_of(&listed).map(|()| None);
    }
    let chosen = choose(options, &listed)?;
    if options.dry_run {
        return names_of(chosen).map(|()| None);
    }
    let resolve = |test| list::resolve(test, &tree, options.override_timeout);
    let tests: Vec<_> = chosen
        .into_iter()
        .map(resolve)
        .collect::<anyhow::Result<_>>()?;
    command_line(options, &tree, &tests).map(Some)
}

fn names_of<'t>(tests: impl IntoIterator<Item = &'t InstalledTest>) -> anyhow::Result<()> {
    let lines = tests.into_iter().map(|test| test.name() + "\n");
    print(&lines.collect::<String>())
}

/// The tests that are asked for, in the order of the list.
fn choose<'l>(
    options: &KselftestOptions,
    listed: &'l [InstalledTest],
) -> anyhow::Result<Vec<&'l InstalledTest>> {
    let (collections, tests, skip) = (&options.collection, &options.test, &options.skip);
    let known_tests: Vec<_> = listed.iter().map(InstalledTest::name).collect();
    let known_collections: Vec<_> = listed.iter().map(|test| test.collection.clone()).collect();
    let no_collections = collections.iter();
    let no_collections =
        no_collections.filter_map(|name| unknown("collection", name, &known_collections));
    let no_tests = tests.iter().chain(skip);
    let no_tests = no_tests.filter_map(|name| unknown("test", name, &known_tests));
    let unknown: Vec<_> = no_collections.chain(no_tests).collect();
    ensure!(unknown.is_empty(), "{}", unknown.join("\n"));
    let is_chosen = |test: &&InstalledTest| {
        let is_asked_for = match collections.is_empty() && tests.is_empty() {
            true => test.collection == KVM,
            false => collections.contains(&test.collection) || tests.contains(&test.name()),
        };
        is_asked_for && !skip.contains(&test.name())
    };
    let chosen: Vec<_> = listed.iter().filter(is_chosen).collect();
    ensure!(
        !chosen.is_empty(),
        "nothing is to be run; --list shows all tests"
    );
    Ok(chosen)
}

/// What is wrong with `name`, if it is not `known`.
fn unknown(kind: &str, name: &str, known: &[String]) -> Option<String> {
    let nearest = nearest(name, known.iter().map(String::as_str));
    let nearest = nearest.map(|nearest| format!("did you mean `{nearest}`?"));
    let hint = nearest.unwrap_or_else(|| "--list shows all tests".to_owned());
    let is_known = known.iter().any(|known| known == name);
    (!is_known).then(|| format!("no such {kind} `{}`; {hint}", excerpt(name)))
}

/// What the test target is to be called with, for these tests.
fn command_line(
    options: &KselftestOptions,
    tree: &Path,
    tests: &[InstalledTest],
) -> anyhow::Result<Vec<OsString>> {
    let mut line: Vec<OsString> = ["kvm", "--format=ktap"].map(OsString::from).into();
    let has = |name: &str| {
        let is_it = |option: &OsString| option.to_string_lossy().starts_with(name);
        options.run.iter().any(is_it)
    };
    ensure!(
        !has("--selftests"),
        "--selftests: --tree says where the tests are"
    );
    if has("--resume") {
        // What is resumed knows its tests.
        ensure!(
            options.are_default(),
            "--resume: the run goes on with its own -t, -c, -S, -s, -p, -f and -o: leave them out"
        );
    } else {
        line.extend(["--selftests".into(), tree.into()]);
        for test in tests {
            line.push("--kselftest-test".into());
            line.push(serde_json::to_string(test)?.into());
        }
        if let Some(log) = log(options, tree).context("make room for what the tests print")? {
            line.extend(["--kselftest-log".into(), log.into()]);
        }
        if options.no_error_on_fail {
            line.push("--kselftest-no-error-on-fail".into());
        }
    }
    line.extend(options.run.iter().cloned());
    Ok(line)
}

/// Makes the file or the directory that what the tests print goes to, where it does not go to the standard output.
fn log(options: &KselftestOptions, tree: &Path) -> io::Result<Option<PathBuf>> {
    match &options.per_test_log {
        Some(directory) => {
            // The script goes to the tree first.
            let directory = tree.join(directory);
            file::make_directories(&directory)?;
            Ok(Some(directory))
        }
        None if options.summary => {
            let path = tree.join("output.log");
            file::replace(&path, |_| Ok(())).map(|()| Some(path))
        }
        None => Ok(None),
    }
}
