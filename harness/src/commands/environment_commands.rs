//! The commands about environments that run no case: to show them, to plan a run, and to put the host back.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;

use anyhow::{Context, anyhow};

use crate::cli::EnvironmentsOptions;
use crate::environment::definition::{Definition, HOST};
use crate::environment::root::Root;
use crate::environment::{Environments, feature, once};
use crate::model::case::Case;
use crate::plan::{self, Embedded};

/// `kvm-tests environments`: each one, and what would be done to this host for it.
///
/// # Errors
/// Something is wrong with the configuration, or the output cannot be written.
pub fn show(options: &EnvironmentsOptions, embedded: &Embedded) -> anyhow::Result<ExitCode> {
    let definitions = plan::environments(embedded, &options.config)?;
    let made_up = definitions.selected(&[], &options.made_up)?;
    let environments = Environments::new(Root::from_env());
    let mut text = format!("this host: {}\n", environments.platform());
    for definition in made_up.iter().chain(definitions.iter()) {
        text += &described(&environments, definition);
    }
    text += "\nfeatures, for --set FEATURE=VALUE and the key `features`:\n";
    text += &feature::markdown();
    print(&text)
}

/// `--dry-run`: what would be done to this host for each environment of the run, and what would run there.
///
/// # Errors
/// The output cannot be written.
pub fn dry_run(definitions: &[Definition], cases: &[Case]) -> anyhow::Result<ExitCode> {
    let environments = Environments::new(Root::from_env());
    let mut text = String::new();
    for definition in definitions {
        let is_there =
            |case: &&Case| case.name.environment.as_deref().unwrap_or(HOST) == definition.name;
        let count = cases.iter().filter(is_there).count();
        text += &described(&environments, definition);
        text += &format!("  run      {count} cases\n");
    }
    print(&text)
}

/// `kvm-tests restore`: puts back what a killed run has left changed.
///
/// # Errors
/// What could not be put back, or why it was not tried.
pub fn restore() -> anyhow::Result<ExitCode> {
    let environments = Environments::new(Root::from_env());
    let mut say = once(|message| eprintln!("{message}"));
    let wait = |message: &str| {
        say(message);
        ControlFlow::Continue(())
    };
    let restored = environments
        .restore(wait)
        .map_err(|refusal| anyhow!("{refusal}"))?;
    print(&match restored {
        Some(environment) => format!("restored: this host was left in {environment}\n"),
        None => "nothing to restore: this host is as it was\n".to_owned(),
    })
}

fn described(environments: &Environments, definition: &Definition) -> String {
    let plan = environments.plan(definition);
    let mut text = format!("\n{}: {}\n", definition.name, definition.description);
    for setting in definition.settings() {
        text += &format!("  wants    {setting}\n");
    }
    text + &format!("  here     {plan}\n")
}

fn print(text: &str) -> anyhow::Result<ExitCode> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("print"),
        _ => Ok(ExitCode::SUCCESS),
    }
}
