//! The library behind `kvm-tests`: from selftest binaries and configuration files to results.
//!
//! `docs/architecture.md` has the house in one page.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Context;

use crate::cli::ProgramCommand;
use crate::embedded::SMOKE_SELFTEST;
use crate::model::host::Root;

mod cli;
mod commands;
mod compare;
mod embedded;
mod environment;
mod evidence;
mod exec;
mod fleet;
mod kernel_log;
pub mod kernel_src;
mod log;
mod model;
mod options;
mod plan;
mod report;
mod run;
mod show;
mod supervise;

pub use crate::embedded::{Embedded, SmokeSelftest};

/// The names of the cases that are known when the program is built for the architecture `target`, as Rust names it.
///
/// # Errors
/// Everything that is wrong with the configuration, a line each.
pub fn case_names(embedded: &Embedded<'_>, target: &str) -> anyhow::Result<Vec<String>> {
    let root = Root::from_env();
    let host = environment::probe(&root);
    plan::names(
        embedded,
        target,
        &host,
        &environment::Environments::new(root),
    )
}

/// The test target `kvm`: runs what follows `cargo test --`.
pub fn test_target(embedded: &Embedded) -> ExitCode {
    act(embedded, |args| {
        let options = cli::parse_test_target(args)?;
        Ok(ProgramCommand::Run(Box::new(options)))
    })
}

/// The program `kvm-tests`.
pub fn program(embedded: &Embedded) -> ExitCode {
    act(embedded, cli::parse_program)
}

fn act(
    embedded: &Embedded,
    parse: impl FnOnce(&[OsString]) -> Result<ProgramCommand, clap::Error>,
) -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    // The hidden roles come first: they must have no thread, and the user's arguments are none of their business.
    if supervise::is_supervisor(args.iter().cloned()) {
        return supervise::main();
    }
    if args.get(1).is_some_and(|role| role == SMOKE_SELFTEST) {
        let name = args.get(2).map(|name| name.to_string_lossy());
        return embedded.run_selftest(&name.unwrap_or_default());
    }
    // Where that fails, the run can be ended by SIGKILL all the same.
    supervise::accept_signals().ok();
    let not_started = not_started(&args);
    let command = match parse(&args) {
        Ok(command) => command,
        Err(error) => {
            // Where not even this can be printed, the exit status says it.
            drop(error.print());
            return ExitCode::from(if error.use_stderr() { not_started } else { 0 });
        }
    };
    let result = match command {
        ProgramCommand::Run(options) => run::run(&options, embedded, &args),
        ProgramCommand::Report(options) => commands::report(&options),
        ProgramCommand::Known(options) => commands::known(&options),
        ProgramCommand::Merge(options) => commands::merge(&options),
        ProgramCommand::Compare(options) => commands::compare(&options),
        ProgramCommand::With(options) => commands::with(&options, embedded, Root::from_env()),
        ProgramCommand::Environments(options) => {
            commands::show(&options, embedded, Root::from_env())
        }
        ProgramCommand::Restore { check: true } => commands::check_restored(Root::from_env()),
        ProgramCommand::Restore { check: false } => commands::restore(Root::from_env()),
        ProgramCommand::Build(options) => commands::build(&options),
        ProgramCommand::Completions { shell } => printed(Ok(cli::completions(shell))),
        ProgramCommand::Man { command } => printed(cli::manual(command.as_deref())),
        ProgramCommand::Kselftest(options) => kselftest(&options, embedded, &args),
        ProgramCommand::Schema { of } => commands::schema(of),
    };
    result.unwrap_or_else(|error| {
        let message = model::text::printable(format!("{error:#}").as_bytes());
        message.lines().for_each(|line| eprintln!("error: {line}"));
        ExitCode::from(not_started)
    })
}

fn printed(text: anyhow::Result<String>) -> anyhow::Result<ExitCode> {
    show::print(&text?)?;
    Ok(ExitCode::SUCCESS)
}

/// The exit status where nothing could be started.
fn not_started(args: &[OsString]) -> u8 {
    let is_bisect = |arg: &OsString| arg.to_string_lossy().starts_with("--git-bisect");
    match args.get(1) {
        // Whatever else is wrong with the arguments, no step of a bisection may be called bad for it.
        _ if args.iter().any(is_bisect) => run::UNTESTABLE,
        // run_kselftest.sh has one for all that goes wrong.
        Some(command) if command == "kselftest" => 1,
        _ => run::EXIT_NOT_STARTED,
    }
}

fn kselftest(
    options: &commands::KselftestOptions,
    embedded: &Embedded,
    command_line: &[OsString],
) -> anyhow::Result<ExitCode> {
    let Some(args) = commands::kselftest(options)? else {
        return Ok(ExitCode::SUCCESS);
    };
    let options = cli::parse_test_target(&args).context("understand the options behind `--`")?;
    run::run(&options, embedded, command_line)
}
