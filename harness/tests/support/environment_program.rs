//! The engine of environments by itself, for trying it out: `plan`, `with … -- COMMAND…`, `restore` and `probe`; and
//! `as_user … -- COMMAND…`, which is `with` for a user who may change nothing.
//!
//! Each SETTING is `FEATURE=VALUE`, `MODULE.PARAMETER=VALUE` or the path of an environment's file; with none of them it
//! is the host as it is.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use harness::environment::definition::Definition;
use harness::environment::root::Root;
use harness::environment::{Environments, Refusal, definition_toml};
use harness::plan::files::EnvironmentSource;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let root = Root::from_env();
    if let Some(announcement) = root.announcement() {
        eprintln!("{announcement}");
    }
    let is_user = args.first().is_some_and(|arg| arg == "as_user");
    let environments = Environments::new(if is_user { root.unprivileged() } else { root });
    let settings: Vec<String> = args
        .iter()
        .skip(1)
        .take_while(|arg| *arg != "--")
        .cloned()
        .collect();
    let command = args
        .iter()
        .position(|arg| arg == "--")
        .map_or(&[][..], |at| &args[at + 1..]);
    match args.first().map(String::as_str) {
        Some("probe") => println!("{}", environments.platform()),
        Some("plan") => match define(&settings) {
            Ok(definition) => println!("{}: {}", definition.name, environments.plan(&definition)),
            Err(problems) => return usage(&problems),
        },
        Some("restore") => match environments.restore(say()) {
            Ok(restored) => println!("restored {restored:?}"),
            Err(refusal) => return refused(&refusal),
        },
        Some("with" | "as_user") if !command.is_empty() => match define(&settings) {
            Ok(definition) => return with(&environments, &definition, command),
            Err(problems) => return usage(&problems),
        },
        _ => {
            return usage(&[
                "plan|with|as_user|restore|probe [SETTING]... [-- COMMAND...]".to_owned(),
            ]);
        }
    }
    ExitCode::SUCCESS
}

fn with(environments: &Environments, definition: &Definition, command: &[String]) -> ExitCode {
    let entered = match environments.enter(definition, say()) {
        Ok(entered) => entered,
        Err(refusal) => return refused(&refusal),
    };
    for note in &entered.notes {
        eprintln!("note: {note}");
    }
    let status = Command::new(&command[0]).args(&command[1..]).status();
    if let Err(refusal) = entered.leave() {
        return refused(&refusal);
    }
    match status {
        Ok(status) => ExitCode::from(u8::try_from(status.code().unwrap_or(255)).unwrap_or(255)),
        Err(error) => usage(&[format!("{}: {error}", command[0])]),
    }
}

fn define(settings: &[String]) -> Result<Definition, Vec<String>> {
    if let Some(path) = settings.iter().find(|setting| !setting.contains('=')) {
        let text =
            std::fs::read_to_string(path).map_err(|error| vec![format!("read {path}: {error}")])?;
        return definition_toml::read(&EnvironmentSource {
            path: PathBuf::from(path),
            text,
        })
        .map_err(|problems| problems.iter().map(ToString::to_string).collect());
    }
    if settings.is_empty() {
        return Ok(Definition::host());
    }
    let is_param = |setting: &&String| {
        setting
            .split('=')
            .next()
            .is_some_and(|name| name.contains('.'))
    };
    let (params, sets): (Vec<&String>, Vec<&String>) = settings.iter().partition(is_param);
    let owned = |options: Vec<&String>| options.into_iter().cloned().collect::<Vec<_>>();
    Definition::from_options(&owned(sets), &owned(params))
}

/// Says each thing that is waited for once.
fn say() -> impl FnMut(&str) -> ControlFlow<()> {
    let mut said = String::new();
    move |message| {
        if said != message {
            eprintln!("{message}");
            message.clone_into(&mut said);
        }
        ControlFlow::Continue(())
    }
}

fn refused(refusal: &Refusal) -> ExitCode {
    let kind = match refusal {
        Refusal::Impossible(_) => "impossible",
        Refusal::Refused(_) => "refused",
        Refusal::Failed(_) => "failed",
        Refusal::Interrupted => "interrupted",
    };
    eprintln!("{kind}: {refusal}");
    ExitCode::from(101)
}

fn usage(problems: &[String]) -> ExitCode {
    eprintln!("{}", problems.join("\n"));
    ExitCode::from(2)
}
