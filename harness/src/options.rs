//! The options of a run: which cases, how, and what to print.

use std::ffi::OsString;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::parser::ValueSource;
use serde::{Deserialize, Serialize};

use crate::environment::MadeUp;
use crate::model::planned::Shard;
use crate::model::time;
use crate::show::{Color, Format, Levels, Rule};

/// What a case may take by default, in seconds, where neither its suite nor the command line says otherwise.
///
/// The same as upstream's `settings` file for these selftests.
pub const DEFAULT_TIMEOUT_S: u64 = 120;

/// The options that say which cases a run has. One that is missing here makes `compare` call cases vanished that were not
/// selected; one too many would hide those that have vanished.
const SELECTING: [&str; 19] = [
    "filters",
    "exact",
    "skip",
    "tag",
    "skip_tag",
    "quick",
    "changed",
    "kernel_tree",
    "ignored",
    "include_ignored",
    "config",
    "environment",
    "set",
    "param",
    "rerun",
    "git_bisect",
    "shard",
    "plan",
    "tests",
];

/// The options of a run, or of the test target.
pub fn command() -> clap::Command {
    Options::augment_args(clap::Command::new("kvm")).args_override_self(true)
}

/// Of the options that a run was given, those that say which cases it has, with their values, in any order.
pub fn selecting(given: &[OsString]) -> Vec<(&'static str, Vec<OsString>)> {
    let args = std::iter::once("kvm".into()).chain(given.iter().cloned());
    // Another version may have written them.
    let Ok(matches) = command().ignore_errors(true).try_get_matches_from(args) else {
        return Vec::new();
    };
    let is_given = |option: &&str| matches.value_source(option) == Some(ValueSource::CommandLine);
    let values = |option| {
        let values = matches.get_raw(option).into_iter().flatten();
        let mut values = Vec::from_iter(values.map(ToOwned::to_owned));
        values.sort();
        (option, values)
    };
    SELECTING.into_iter().filter(is_given).map(values).collect()
}

/// Guests of this host that the cases run in, instead of in this host.
#[derive(Debug, Clone, Default, Args)]
pub struct Guests {
    /// Boot this kernel in guests and run the cases there, each environment in a guest of its own: a tree that is built (its
    /// selftests run where no others are given), or an image with --modules. Nothing here is changed, and nobody need be root
    #[arg(long, value_name = "TREE", conflicts_with_all = ["place", "places", "resume", "plan_only", "dry_run", "stream"])]
    pub kernel: Option<PathBuf>,

    /// The directory with lib/modules of the --kernel that is an image (INSTALL_MOD_PATH of make modules_install)
    #[arg(long, value_name = "DIR", requires = "kernel")]
    pub modules: Option<PathBuf>,

    /// Have make build the --kernel tree first
    #[arg(long, requires = "kernel", conflicts_with = "modules")]
    pub build: bool,
}

impl Guests {
    /// Where the sources of the kernel tree are.
    pub fn sources(&self) -> Option<PathBuf> {
        let tree = self.kernel.as_ref().filter(|tree| tree.is_dir())?;
        // An O= directory has a link to them.
        let elsewhere = Some(tree.join("source")).filter(|source| source.is_dir());
        elsewhere.or_else(|| Some(tree.clone()))
    }
}

/// Which cases to run, how, and what to print. The test target `kvm` and `kvm-tests run` take the same.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Run the cases whose names contain one of these (`/` may stand for `::`)
    #[arg(value_name = "FILTER")]
    pub filters: Vec<String>,

    /// A FILTER or --skip must be the whole name
    #[arg(long)]
    pub exact: bool,

    /// Leave out the cases whose names contain this; repeatable
    #[arg(long, value_name = "FILTER")]
    pub skip: Vec<String>,

    /// Run the cases that have one of these tags; repeatable
    #[arg(long, value_name = "TAG")]
    pub tag: Vec<String>,

    /// Leave out the cases that have this tag; repeatable
    #[arg(long, value_name = "TAG")]
    pub skip_tag: Vec<String>,

    /// Leave out what takes long: the same as --skip-tag perf --skip-tag slow
    #[arg(long)]
    pub quick: bool,

    /// Run the selftests that a patch series concerns, by the paths that git says it changed: `REV..`, `A..B`, or `REV` with
    /// what is not committed
    #[arg(long, value_name = "REV..")]
    pub changed: Option<String>,

    /// The git checkout of the kernel that --changed looks at (also --kernel-src or KERNEL_SRC)
    #[arg(long, value_name = "DIR", requires = "changed")]
    pub kernel_tree: Option<PathBuf>,

    /// Run only the ignored cases
    #[arg(long)]
    pub ignored: bool,

    /// Run the ignored cases too
    #[arg(long)]
    pub include_ignored: bool,

    /// List the cases and touch nothing
    #[arg(long)]
    pub list: bool,

    /// How to print
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,

    /// One character a case: the same as --format terse
    #[arg(short, long, conflicts_with = "format")]
    pub quiet: bool,

    /// How many cases run side by side; the CPUs where not given (also RUST_TEST_THREADS)
    #[arg(long, value_name = "N")]
    pub test_threads: Option<NonZeroUsize>,

    /// Print each case's output when it has ended: the same as --report all=full
    #[arg(long = "nocapture", visible_alias = "no-capture")]
    pub no_capture: bool,

    /// Print the output of the cases that passed, too: the same as --report pass=full
    #[arg(long)]
    pub show_output: bool,

    /// What to show of a case when it has ended, by its status: pass, skip, fail, or of failures only failed, timed_out or
    /// no_run; all. LEVEL is off, status (its line), stdout, stderr or full. Repeatable; later ones hold. The end of the
    /// run names every failure in any case
    #[arg(long, value_name = "STATUS=LEVEL", value_delimiter = ',')]
    pub report: Vec<Rule>,

    /// Whether to colour
    #[arg(long, value_enum, default_value_t)]
    pub color: Color,

    /// Write libtest's lines to this file instead of the standard output
    #[arg(long, value_name = "PATH")]
    pub logfile: Option<PathBuf>,

    /// Accepted as libtest has it (`-Z unstable-options`); what it unlocks there needs no key here
    #[arg(short = 'Z', value_name = "FLAG", value_parser = ["unstable-options"])]
    pub unstable: Vec<String>,

    /// Run in a random order
    #[arg(long)]
    pub shuffle: bool,

    /// Run in the random order of this seed
    #[arg(long, value_name = "SEED")]
    pub shuffle_seed: Option<u64>,

    /// Accepted as libtest has it: durations are always reported
    #[arg(long, hide = true)]
    pub report_time: bool,

    /// Accepted as libtest has it: these are all tests
    #[arg(long, hide = true)]
    pub test: bool,

    /// As libtest has it: run the benchmarks instead of the tests; there are none
    #[arg(long, hide = true)]
    pub bench: bool,

    /// Where the selftest binaries are: an in-tree build, an OUTPUT= build or an installed tree; repeatable
    /// (also KVM_SELFTESTS)
    #[arg(long, value_name = "DIR")]
    pub selftests: Vec<PathBuf>,

    /// Build the selftests of this kernel tree, or tarball of one, and run them, as the variable KERNEL_SRC has it done when
    /// the program is built
    #[arg(long, value_name = "DIR", conflicts_with = "selftests")]
    pub kernel_src: Option<PathBuf>,

    /// A suite or environment file, or a directory searched for them; repeatable
    #[arg(long, value_name = "PATH")]
    pub config: Vec<PathBuf>,

    /// A file of known failures: a case that fails as it is known to do does not fail the run; repeatable
    #[arg(long, value_name = "FILE")]
    pub known: Vec<PathBuf>,

    /// Apply this environment and run in it; repeatable, globs; `host` is the host as it is
    #[arg(long, value_name = "NAME")]
    pub environment: Vec<String>,

    #[command(flatten)]
    pub made_up: MadeUp,

    /// Say what would be done to this host for the environments, and do nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Go on with a run that was interrupted or killed, or whose host died, in its directory and as its command line had
    /// it: runs what is NO_RUN, and what ran when it died last and alone
    #[arg(long, value_name = "RUN", conflicts_with_all = [
        "filters", "exact", "skip", "tag", "skip_tag", "quick", "changed", "kernel_tree", "ignored", "include_ignored", "list", "shuffle", "shuffle_seed", "bench", "selftests", "kernel_src",
        "config", "known", "environment", "set", "param", "dry_run", "output", "overwrite", "timeout", "iterations", "rerun", "git_bisect", "shard",
    ])]
    pub resume: Option<PathBuf>,

    /// Run what did not pass in this earlier run (its directory, or `latest`), and what it did not have
    #[arg(long, value_name = "RUN", conflicts_with = "list")]
    pub rerun: Option<PathBuf>,

    /// For `git bisect run`: run what failed in this earlier run. The exit status is 0 where all of it passes, 1 where some
    /// of it fails as it did there, and 125 otherwise: skipped, another failure, could not be run
    #[arg(long, value_name = "RUN", conflicts_with_all = ["list", "rerun", "baseline", "shard", "dry_run"])]
    pub git_bisect: Option<PathBuf>,
    /// Run only this part of the cases: K/N, of N parts of about one size, or environment=NAME. Every machine splits alike;
    /// `kvm-tests merge` makes one run of the parts
    #[arg(long, value_name = "SHARD")]
    pub shard: Option<Shard>,

    /// Write to this file (`-`: the standard output) what is to run, for --plan, and run nothing
    #[arg(long, value_name = "PLAN", conflicts_with_all = ["shard", "list", "dry_run", "resume", "plan", "git_bisect"])]
    pub plan_only: Option<PathBuf>,

    /// Run what this file (`-`: the standard input) says: the cases, and the options that it was written with. The selftests
    /// must be the same
    #[arg(long, value_name = "PLAN", conflicts_with_all = [
        "filters", "exact", "skip", "tag", "skip_tag", "quick", "changed", "kernel_tree", "ignored", "include_ignored", "list", "shuffle", "shuffle_seed", "bench",
        "environment", "set", "param", "dry_run", "resume", "rerun", "git_bisect", "timeout", "iterations",
    ])]
    pub plan: Option<PathBuf>,

    /// Execute the cases elsewhere: COMMAND is a shell command in which {} stands for another one, as in 'ssh amd {}'. With
    /// several places each gets one environment after another (or a share of the only one); NAME*N are N places of one
    /// kind, NAME alone is one of places.toml. Repeatable
    #[arg(long, value_name = "[NAME[*N]=]COMMAND", conflicts_with_all = ["resume", "plan_only", "dry_run", "stream"])]
    pub place: Vec<String>,

    /// Where places are described; all of them where --place names none
    #[arg(long, value_name = "FILE", conflicts_with_all = ["resume", "plan_only", "dry_run", "stream"])]
    pub places: Option<PathBuf>,

    /// Copy this program to each place before it is executed there, and leave nothing of it behind. Where it is not static,
    /// the libraries there must be like those here
    #[arg(long, conflicts_with = "kernel")]
    pub copy: bool,

    #[command(flatten)]
    pub guests: Guests,

    /// Be the other side of --place: the plan comes by the standard input, and everything that happens is told on the standard
    /// output. The run ends with the standard input
    #[arg(long, hide = true, requires = "plan", conflicts_with_all = ["output", "logfile", "baseline"])]
    pub stream: bool,

    /// Keep the results here; refused where it exists
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,

    /// Replace the --output directory of an earlier run
    #[arg(long, requires = "output")]
    pub overwrite: bool,

    /// Say at the end what changed since this earlier run (its directory, or its run.json), as `kvm-tests compare` does,
    /// for the cases selected; where something got worse the exit status is 101, even where nothing failed
    #[arg(long, value_name = "RUN")]
    pub baseline: Option<PathBuf>,

    /// Kill a case that sets no timeout of its own after this time
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_TIMEOUT_S, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    pub timeout: u64,

    /// Run every selected case this often, as one queue
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub iterations: u32,

    /// Start no more cases once one has failed: the same as --max-fail 1
    #[arg(long, conflicts_with = "max_fail")]
    pub fail_fast: bool,

    /// Start no more cases once N have failed: what runs goes on to its end, and the rest is NO_RUN
    #[arg(long, value_name = "N")]
    pub max_fail: Option<NonZeroU32>,

    /// End the run after this time, such as 45m, as Ctrl-C would: it tears down, puts the host back and writes its reports,
    /// which takes some seconds. What has not ended is NO_RUN
    #[arg(long, value_name = "DURATION", value_parser = time::parse)]
    pub time_limit: Option<Duration>,

    /// Run each case that has failed N times more, alone, at the end of the run: it stays FAILED, and says how often it
    /// failed (`failed 1 of 4`)
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = clap::value_parser!(u32).range(..=100))]
    pub retry_failed: u32,

    #[command(flatten)]
    pub kselftest: KselftestRun,

    /// These options as they were given.
    #[arg(skip)]
    pub given: Vec<OsString>,
}

impl Options {
    /// How to print, `--quiet` considered.
    pub fn format(&self) -> Format {
        if self.quiet {
            Format::Terse
        } else {
            self.format
        }
    }

    /// What to show of cases; libtest's shorthands come before what `--report` says.
    pub fn shown(&self) -> Levels {
        let show_output = self.show_output.then_some(&Rule::SHOW_OUTPUT);
        let no_capture = self.no_capture.then_some(&Rule::NO_CAPTURE);
        Levels::new(
            show_output
                .into_iter()
                .chain(no_capture)
                .chain(&self.report),
        )
    }

    /// After how many failures no more cases are started.
    pub fn max_fail(&self) -> Option<NonZeroU32> {
        let first = self.fail_fast.then_some(NonZeroU32::MIN);
        self.max_fail.or(first)
    }

    /// The exit status of a run in which something failed: libtest's, or that of run_kselftest.sh.
    pub fn exit_failed(&self) -> u8 {
        if self.kselftest.tests.is_empty() {
            101
        } else {
            1
        }
    }

    /// Whether the cases are executed elsewhere.
    pub fn has_places(&self) -> bool {
        !self.place.is_empty() || self.places.is_some() || self.guests.kernel.is_some()
    }

    /// The timeout of cases that set none.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

/// What `kvm-tests kselftest` asks of a run of an installed tree, whose directory is `--selftests`. These options are hidden:
/// they stand in the journal, where `--resume` finds them.
#[derive(Debug, Clone, Args)]
pub struct KselftestRun {
    /// The tests that run, and nothing else, each as JSON.
    #[arg(
        long = "kselftest-test",
        hide = true,
        requires = "selftests",
        conflicts_with = "config"
    )]
    #[arg(value_parser = |text: &str| serde_json::from_str::<InstalledTest>(text))]
    pub tests: Vec<InstalledTest>,

    /// What they print goes to the end of this file or, where it is a directory, to files of their names in it.
    #[arg(long = "kselftest-log", hide = true)]
    pub log: Option<PathBuf>,

    /// That tests failed is no reason for another exit status than 0.
    #[arg(long = "kselftest-no-error-on-fail", hide = true)]
    pub no_error_on_fail: bool,
}

/// A test of an installed tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstalledTest {
    /// The directory that it is in, below the tree's.
    pub collection: String,
    /// Its file's name.
    pub test: String,
    /// How many seconds it may take; 0 is any number.
    pub timeout: u32,
    /// What it is called with.
    pub args: Vec<String>,
}

impl InstalledTest {
    /// Its name as kselftest-list.txt has it.
    pub fn name(&self) -> String {
        format!("{}:{}", self.collection, self.test)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_of_an_option_is_taken_for_a_filter() {
        let of = |given: &[&str]| selecting(&Vec::from_iter(given.iter().map(OsString::from)));
        let options = command();
        let ids = options
            .get_arguments()
            .map(|option| option.get_id().as_str());
        let ids = Vec::from_iter(ids);
        assert!(SELECTING.iter().all(|option| ids.contains(option)));
        let with_value = options.get_arguments();
        let with_value = with_value.filter(|option| option.get_action().takes_values());
        for option in with_value.filter_map(|option| Some((option.get_id(), option.get_long()?))) {
            let mut found = of(&["a", &format!("--{}", option.1), "7"]);
            found.retain(|(found, _)| option.0 != found);
            assert_eq!(found, of(&["a"]), "{option:?}");
        }
    }
}
