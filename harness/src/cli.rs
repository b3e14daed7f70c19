//! The command line: libtest's own options as libtest has them, and ours.

use std::ffi::OsString;

use anyhow::Context;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::commands;
use crate::options::{self, Options};

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
    With(commands::WithOptions),
    /// Show each environment, and what would be done to this host for it, without touching anything
    Environments(commands::EnvironmentsOptions),
    /// Put back what a killed run has left changed
    Restore {
        /// Only say whether this host is as it was, and exit with 1 where it is not; nothing is changed
        #[arg(long)]
        check: bool,
    },
    /// Write the reports of a run again, also of one that was killed: what had not ended is NO_RUN
    Report(commands::ReportOptions),
    /// Print entries of known failures for what failed in a run, to be edited: how a new machine starts
    Known(commands::KnownOptions),
    /// Make one run of several: shards, runs of several hosts, merged ones. What their plan has and none of them ran is NO_RUN.
    /// Exits with 101 where something failed, is missing, or could not be read
    Merge(commands::MergeOptions),
    /// Say what changed between two runs. Exits with 0 where nothing got worse, with 1 where something did (a new or a
    /// different failure, more failures among iterations than chance explains, or a case that ran before and is now
    /// skipped or gone), and with 2 where they cannot be compared
    Compare(commands::CompareOptions),
    /// Build the KVM selftests of a kernel tree for this machine, without writing into it, and print where they are
    Build(commands::BuildOptions),
    /// Print what completes these commands in a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page of this program, or of one of its commands, for man(1)
    Man {
        /// The command
        command: Option<String>,
    },
    /// Run an installed tree of kselftests as the kernel's run_kselftest.sh does: its options, its output, its exit status
    Kselftest(commands::KselftestOptions),
    /// Print the JSON schema of run.json, or of a journal's lines
    Schema {
        /// Which of them
        #[arg(value_enum, default_value = "run")]
        of: commands::SchemaOf,
    },
}

/// The options of the test target `kvm`.
///
/// # Errors
/// Wrong usage; also, as clap has it, a call for `--help`.
pub fn parse_test_target(args: &[OsString]) -> Result<Options, clap::Error> {
    let command = options::command()
        .about("Runs the Linux kernel's KVM selftests as cargo test's trials")
        .override_usage("cargo test -- [OPTIONS] [FILTER]...");
    let options = Options::from_arg_matches(&command.try_get_matches_from(args)?)?;
    Ok(Options {
        given: args.get(1..).unwrap_or_default().to_vec(),
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
        options.given = args.get(2..).unwrap_or_default().to_vec();
    }
    Ok(command)
}

/// What completes the program's commands in a shell.
pub fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Program::command(), "kvm-tests", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The manual page of the program, or of the command of this name.
///
/// # Errors
/// There is no such command.
pub fn manual(command: Option<&str>) -> anyhow::Result<String> {
    let mut program = Program::command();
    // So a command knows its whole name.
    program.build();
    let page = match command {
        None => program,
        Some(name) => {
            let found = program.find_subcommand(name).cloned();
            found.with_context(|| format!("there is no command `{name}`"))?
        }
    };
    let name = page.get_bin_name().unwrap_or("kvm-tests").replace(' ', "-");
    let mut text = Vec::new();
    Man::new(page.display_name(name)).render(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::outcome::Status;
    use crate::show::Format;
    use crate::show::Level;

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
    fn kcidb_needs_to_know_who_reports() {
        let parse = |more: &[&str]| {
            let args = ["kvm-tests", "report", "run"].iter().chain(more);
            parse_program(&args.map(OsString::from).collect::<Vec<_>>())
        };
        assert!(parse(&[]).is_ok() && parse(&["--format", "tmt"]).is_ok());
        assert!(parse(&["--format", "kcidb", "--origin", "lab", "--build-id", "b"]).is_ok());
        for wrong in [
            "--format=kcidb --build-id=b",
            "--format=kcidb --origin=Lab --build-id=b",
            "--format=x",
        ] {
            let words: Vec<_> = wrong.split(' ').collect();
            assert_eq!(parse(&words).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }

    #[test]
    fn zero_test_threads_is_an_error() {
        assert_eq!(parse(&["--test-threads", "0"]).unwrap_err().exit_code(), 2);
        assert_eq!(parse(&["--test-threads=0"]).unwrap_err().exit_code(), 2);
    }
}
