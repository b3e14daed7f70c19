//! The library behind `kvm-tests`: from selftest binaries and configuration files to results.
//!
//! Data flows one way: sources are discovered, become cases, are planned and ordered, run by libtest-mimic's
//! threads, and end as outcomes that the reports show.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::cli::ProgramCommand;
use crate::environment::Environments;
use crate::environment::root::Root;
use crate::model::host::Host;
use crate::plan::{Embedded, SMOKE_SELFTEST};

pub mod cli;
pub mod commands;
pub mod compare;
pub mod environment;
pub mod evidence;
pub mod exec;
pub mod kernel_log;
pub mod kernel_src;
pub mod log;
pub mod memory;
pub mod model;
pub mod plan;
pub mod report;
pub mod run;
pub mod show;
pub mod supervise;

/// The test target `kvm`: runs what follows `cargo test --`.
pub fn test_target(embedded: &Embedded<'_>) -> ExitCode {
    act(embedded, |args| {
        cli::parse_test_target(args)
            .map(Box::new)
            .map(ProgramCommand::Run)
    })
}

/// The program `kvm-tests`.
pub fn program(embedded: &Embedded<'_>) -> ExitCode {
    act(embedded, cli::parse_program)
}

/// The names of the cases that are known when the program is built for the architecture `target`, as Rust names it: for
/// a build script, which makes stubs of them that IDEs find. They are those on this host, and in those environments that
/// it can be in.
///
/// # Errors
/// Everything that is wrong with the configuration, a line each.
pub fn case_names(embedded: &Embedded<'_>, target: &str) -> anyhow::Result<Vec<String>> {
    let environments = Environments::new(Root::from_env());
    plan::names(embedded, target, &Host::probe(), &environments)
}

fn act(
    embedded: &Embedded<'_>,
    parse: impl FnOnce(&[OsString]) -> Result<ProgramCommand, clap::Error>,
) -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    // The hidden roles come first: they must have no thread, and the user's arguments are none of their business.
    if supervise::keeper::is_keeper(args.iter().cloned()) {
        return supervise::keeper::main();
    }
    if let [_, role, name, ..] = args.as_slice()
        && role == SMOKE_SELFTEST
    {
        return embedded.run_selftest(&name.to_string_lossy());
    }
    let command = match parse(&args) {
        Ok(command) => command,
        Err(error) => {
            // Where not even this can be printed, the exit status says it.
            drop(error.print());
            return ExitCode::from(
                u8::try_from(error.exit_code()).unwrap_or(run::EXIT_NOT_STARTED),
            );
        }
    };
    let result = match command {
        ProgramCommand::Run(options) => run::run(&options, embedded, &args),
        ProgramCommand::Report { run } => report::rewrite(&run),
        ProgramCommand::Compare(options) => compare::compare(&options),
        ProgramCommand::With(options) => commands::with::with(&options, embedded),
        ProgramCommand::Environments(options) => {
            commands::environment_commands::show(&options, embedded)
        }
        ProgramCommand::Restore => commands::environment_commands::restore(),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            let message = model::printable::printable(format!("{error:#}").as_bytes());
            message.lines().for_each(|line| eprintln!("error: {line}"));
            ExitCode::from(run::EXIT_NOT_STARTED)
        }
    }
}
