//! The command line: libtest's own options as libtest has them, and ours.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::compare;
use crate::show::shown::{Rule, Shown};

/// What a case may take by default, in seconds, where neither its suite nor the command line says otherwise.
///
/// The same as upstream's `settings` file for these selftests.
pub const DEFAULT_TIMEOUT_S: u64 = 120;

/// What the program `kvm-tests` is asked to do.
#[derive(Debug, Parser)]
#[command(
    name = "kvm-tests",
    version,
    about = "Runs the Linux kernel's KVM selftests"
)]
pub struct Program {
    /// What to do.
    #[command(subcommand)]
    pub command: ProgramCommand,
}

/// The program's subcommands.
#[derive(Debug, Subcommand)]
pub enum ProgramCommand {
    /// Run tests: the same as `cargo test --`
    Run(Box<Options>),
    /// Apply an environment, run a command in it, and put the host back; returns the command's exit status
    With(WithOptions),
    /// Show each environment, and what would be done to this host for it, without touching anything
    Environments(EnvironmentsOptions),
    /// Put back what a killed run has left changed
    Restore,
    /// Write the reports of a run again, also of one that was killed: what had not ended is NO_RUN
    Report {
        /// The run's directory, or its run.json
        run: PathBuf,
    },
    /// Say what changed between two runs. Exits with 0 where nothing got worse, with 1 where something did (a new or a
    /// different failure, more failures among iterations than chance explains, or a case that ran before and is now
    /// skipped or gone), and with 2 where they cannot be compared
    Compare(compare::Options),
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

    /// A suite or environment file, or a directory searched for them; repeatable
    #[arg(long, value_name = "PATH")]
    pub config: Vec<PathBuf>,

    /// Apply this environment and run in it; repeatable, globs; `host` is the host as it is
    #[arg(long, value_name = "NAME")]
    pub environment: Vec<String>,

    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "clap would take it for the help of the whole command"
    )]
    pub made_up: MadeUp,

    /// Say what would be done to this host for the environments, and do nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Go on with a run that was interrupted or killed, or whose host died, in its directory and as its command line had
    /// it: runs what is NO_RUN, and what ran when it died last and alone
    #[arg(long, value_name = "RUN", conflicts_with_all = [
        "filters", "exact", "skip", "tag", "skip_tag", "quick", "ignored", "include_ignored", "list", "shuffle", "shuffle_seed", "bench", "selftests",
        "config", "environment", "set", "param", "dry_run", "output", "overwrite", "timeout", "iterations",
    ])]
    pub resume: Option<PathBuf>,

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

    /// These options as they were given, with what is not UTF-8 replaced.
    #[arg(skip)]
    pub given: Vec<String>,
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
    pub fn shown(&self) -> Shown {
        let show_output = self.show_output.then_some(&Rule::SHOW_OUTPUT);
        let no_capture = self.no_capture.then_some(&Rule::NO_CAPTURE);
        Shown::new(
            show_output
                .into_iter()
                .chain(no_capture)
                .chain(&self.report),
        )
    }

    /// The timeout of cases that set none.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

/// `kvm-tests with`
#[derive(Debug, Clone, Args)]
pub struct WithOptions {
    /// The environment's name; left out where --set or --param make one up
    #[arg(value_name = "ENVIRONMENT", required_unless_present_any = ["set", "param"])]
    pub environment: Option<String>,

    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "clap would take it for the help of the whole command"
    )]
    pub made_up: MadeUp,

    /// An environment file, or a directory searched for them; repeatable
    #[arg(long, value_name = "PATH")]
    pub config: Vec<PathBuf>,

    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// `kvm-tests environments`
#[derive(Debug, Clone, Args)]
pub struct EnvironmentsOptions {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "clap would take it for the help of the whole command"
    )]
    pub made_up: MadeUp,

    /// An environment file, or a directory searched for them; repeatable
    #[arg(long, value_name = "PATH")]
    pub config: Vec<PathBuf>,
}

/// An environment made up on the command line.
#[derive(Debug, Clone, Default, Args)]
pub struct MadeUp {
    /// Run in an environment made up on the spot; repeatable (see `kvm-tests environments` for the features)
    #[arg(long, value_name = "FEATURE=VALUE")]
    pub set: Vec<String>,

    /// The same, for any parameter of a module; repeatable
    #[arg(long, value_name = "MODULE.PARAM=VALUE")]
    pub param: Vec<String>,
}

/// `--format`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// One line a case
    #[default]
    Pretty,
    /// One character a case
    Terse,
    /// libtest's JSON, one object a line
    Json,
}

/// `--color`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Color {
    /// Where it is a terminal
    #[default]
    Auto,
    /// In any case
    Always,
    /// Not at all
    Never,
}

/// The options of the test target `kvm`.
///
/// # Errors
/// Wrong usage; also, as clap has it, a call for `--help`.
pub fn parse_test_target(args: &[OsString]) -> Result<Options, clap::Error> {
    let command = Options::augment_args(clap::Command::new("kvm"))
        .about("Runs the Linux kernel's KVM selftests as cargo test's trials")
        .override_usage("cargo test -- [OPTIONS] [FILTER]...")
        .args_override_self(true);
    let options = Options::from_arg_matches(&command.try_get_matches_from(args)?)?;
    Ok(Options {
        given: lossy(args.get(1..).unwrap_or_default()),
        ..options
    })
}

/// The command of the program `kvm-tests`.
///
/// # Errors
/// Wrong usage; also, as clap has it, a call for `--help` or `--version`.
pub fn parse_program(args: &[OsString]) -> Result<ProgramCommand, clap::Error> {
    let command = Program::command().args_override_self(true);
    let mut command = Program::from_arg_matches(&command.try_get_matches_from(args)?)?.command;
    if let ProgramCommand::Run(options) = &mut command {
        // The subcommand comes first: the program has no options of its own that go before it.
        options.given = lossy(args.get(2..).unwrap_or_default());
    }
    Ok(command)
}

fn lossy(args: &[OsString]) -> Vec<String> {
    args.iter()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::outcome::Status;
    use crate::show::shown::Level;

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Program::command().debug_assert();
    }

    fn parse(args: &[&str]) -> Result<Options, clap::Error> {
        let args: Vec<OsString> = std::iter::once("kvm")
            .chain(args.iter().copied())
            .map(Into::into)
            .collect();
        parse_test_target(&args)
    }

    #[test]
    fn what_an_ide_passes_is_understood() {
        let options = parse(&[
            "a::b",
            "--exact",
            "-Z",
            "unstable-options",
            "--format=json",
            "--nocapture",
            "--show-output",
        ])
        .unwrap();
        assert_eq!(options.format(), Format::Json);
        assert!(options.no_capture && options.exact && options.show_output);
    }

    #[test]
    fn what_is_shown_is_one_option_and_two_shorthands() {
        let shown = |args: &[&str]| {
            let shown = parse(args).unwrap().shown();
            [Status::Passed, Status::Skipped, Status::TimedOut].map(|status| shown.of(status))
        };
        assert_eq!(shown(&[]), [Level::Status; 3]);
        assert_eq!(shown(&["--nocapture"]), [Level::Full; 3]);
        assert_eq!(
            shown(&["--show-output"]),
            [Level::Full, Level::Status, Level::Status]
        );
        let both = [
            "--report",
            "fail=stderr",
            "--report",
            "pass=off,skip=status",
        ];
        assert_eq!(shown(&both), [Level::Off, Level::Status, Level::Stderr]);
        assert_eq!(
            shown(&["--report=skip=off", "--nocapture"]),
            [Level::Full, Level::Off, Level::Full]
        );
        assert_eq!(parse(&["--report", "fail"]).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn the_reports_of_a_run_are_asked_for_by_its_directory() {
        let args = ["kvm-tests", "report", "target/kvm-tests/latest"].map(OsString::from);
        let command = parse_program(&args).unwrap();
        assert!(
            matches!(command, ProgramCommand::Report { run } if run.ends_with("kvm-tests/latest"))
        );
    }

    #[test]
    fn zero_test_threads_is_an_error() {
        assert_eq!(parse(&["--test-threads", "0"]).unwrap_err().exit_code(), 2);
        assert_eq!(parse(&["--test-threads=0"]).unwrap_err().exit_code(), 2);
    }
}
