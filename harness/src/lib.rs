//! The library behind `kvm-tests`: from selftest binaries and configuration files to results.
//!
//! Data flows one way: sources are discovered, become cases, are planned and ordered, run by libtest-mimic's
//! threads, and end as outcomes that the reports show.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::cli::ProgramCommand;
use crate::embedded::{Embedded, SMOKE_SELFTEST};

pub mod announcement;
pub mod arch;
pub mod assertion;
mod attempt;
pub mod case;
pub mod cli;
pub mod compare;
pub mod config;
pub mod console;
pub mod core_dump;
pub mod definitions;
pub mod discover;
pub mod embedded;
pub mod entry;
pub mod environment;
pub mod environment_commands;
pub mod event;
pub mod evidence;
pub mod execute;
pub mod fields;
pub mod forward;
pub mod gate;
pub mod header;
pub mod heartbeat;
pub mod history;
pub mod host;
pub mod inquiry;
pub mod interruption;
pub mod journal;
pub mod keeper;
pub mod keepers;
pub mod kernel_log;
pub mod kernel_src;
pub mod keyboard;
pub mod ktap;
pub mod left_behind;
pub mod libtest_json;
pub mod line;
pub mod list;
pub mod long_suite;
pub mod matrix;
pub mod memory;
pub mod name;
pub mod neighbours;
pub mod nextest;
pub mod no_links;
pub mod node;
pub mod order;
pub mod outcome;
pub mod outputs;
pub mod pace;
pub mod placeholder;
pub mod printable;
pub mod problem;
pub mod proposal;
pub mod record;
pub mod replay;
pub mod report;
pub mod results;
pub mod resume;
pub mod run;
pub mod running;
pub mod select;
pub mod selftests;
pub mod settings;
pub mod shared_run;
pub mod shown;
pub mod size;
pub mod slots;
pub mod source;
pub mod standing;
pub mod stay;
pub mod stubs;
pub mod suite_file;
pub mod suite_run;
pub mod suite_toml;
pub mod summary;
pub mod tail;
pub mod taint;
pub mod testcases;
pub mod traces;
pub mod trial;
pub mod verdict;
pub mod with;

/// The test target `kvm`: runs what follows `cargo test --`.
pub fn test_target(embedded: &Embedded) -> ExitCode {
    act(embedded, |args| cli::parse_test_target(args).map(Box::new).map(ProgramCommand::Run))
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
    if keeper::is_keeper(args.iter().cloned()) {
        return keeper::main();
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
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(run::EXIT_NOT_STARTED));
        }
    };
    let result = match command {
        ProgramCommand::Run(options) => run::run(&options, embedded, &args),
        ProgramCommand::Report { run } => report::rewrite(&run),
        ProgramCommand::Compare(options) => compare::compare(&options),
        ProgramCommand::With(options) => with::with(&options, embedded),
        ProgramCommand::Environments(options) => environment_commands::show(&options, embedded),
        ProgramCommand::Restore => environment_commands::restore(),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            let message = printable::printable(format!("{error:#}").as_bytes());
            message.lines().for_each(|line| eprintln!("error: {line}"));
            ExitCode::from(run::EXIT_NOT_STARTED)
        }
    }
}
