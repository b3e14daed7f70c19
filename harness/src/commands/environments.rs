//! The commands about environments that run nothing: to show them, to plan a run, and to put the host back.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::embedded::Embedded;
use crate::environment::{self, Definition, Environments, HOST, MadeUp, once};
use crate::model::case::Case;
use crate::model::host::Root;
use crate::plan::definitions;
use crate::show::print;

/// `kvm-tests environments`
#[derive(Debug, Clone, Args)]
pub struct EnvironmentsOptions {
    #[command(flatten)]
    made_up: MadeUp,

    /// An environment file, or a directory searched for them; repeatable
    #[arg(long, value_name = "PATH")]
    config: Vec<PathBuf>,
}

/// `kvm-tests environments`: each one, and what would be done to this host for it.
///
/// # Errors
/// Something is wrong with the configuration, or the output cannot be written.
pub fn show(
    options: &EnvironmentsOptions,
    embedded: &Embedded,
    root: Root,
) -> anyhow::Result<ExitCode> {
    let definitions = definitions(embedded, &options.config)?;
    let made_up = definitions.selected(&[], &options.made_up)?;
    let environments = Environments::new(root);
    let mut text = format!("this host: {}\n", environments.platform());
    for definition in made_up.iter().chain(definitions.iter()) {
        text += &described(&environments, definition);
    }
    text += "\nfeatures, for --set FEATURE=VALUE and the key `features`:\n";
    text += &environment::features_in_markdown();
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// `--dry-run`: what would be done to this host for each environment of the run, and what would run there.
///
/// # Errors
/// The output cannot be written.
pub fn dry_run(
    root: &Root,
    definitions: &[Definition],
    cases: &[Case],
) -> anyhow::Result<ExitCode> {
    let environments = Environments::new(root.clone());
    let mut text = String::new();
    for definition in definitions {
        let name =
            |case: &&Case| case.name.environment.as_deref().unwrap_or(HOST) == definition.name;
        let count = cases.iter().filter(name).count();
        text += &described(&environments, definition);
        text += &format!("  run      {count} cases\n");
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// `kvm-tests restore`: puts back what a killed run has left changed.
///
/// # Errors
/// What could not be put back, or why it was not tried.
pub fn restore(root: Root) -> anyhow::Result<ExitCode> {
    let mut say = once(|message| eprintln!("{message}"));
    let restored = Environments::new(root).restore(|message| {
        say(message);
        ControlFlow::Continue(())
    });
    print(&match restored? {
        Some(environment) => format!("restored: this host was left in {environment}\n"),
        None => "nothing to restore: this host is as it was\n".to_owned(),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// `kvm-tests restore --check`: says whether the host is as it was, and fails where it is not.
///
/// # Errors
/// That cannot be told.
pub fn check_restored(root: Root) -> anyhow::Result<ExitCode> {
    let changed = Environments::new(root).changed()?;
    match &changed {
        Some(how) => print(&format!("{how}; to put it back: kvm-tests restore\n"))?,
        None => print("this host is as it was\n")?,
    }
    Ok(ExitCode::from(u8::from(changed.is_some())))
}

fn described(environments: &Environments, definition: &Definition) -> String {
    let mut text = format!("\n{}: {}\n", definition.name, definition.description);
    for setting in definition.settings() {
        text += &format!("  wants    {setting}\n");
    }
    text + &format!("  here     {}\n", environments.plan(definition))
}
