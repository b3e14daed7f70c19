//! `kvm-tests with ENVIRONMENT -- COMMAND`: any command in an environment.

use std::ffi::OsString;
use std::ops::ControlFlow;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

use anyhow::{Context, bail};
use clap::Args;
use duct::unix::HandleExt;
use duct::{Handle, cmd};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::embedded::Embedded;
use crate::environment::{Environments, MadeUp, once};
use crate::model::host::Root;
use crate::plan::definitions;

/// `kvm-tests with`
#[derive(Debug, Clone, Args)]
pub struct WithOptions {
    /// The environment's name; left out where --set or --param make one up
    #[arg(value_name = "ENVIRONMENT", required_unless_present_any = ["set", "param"])]
    environment: Option<String>,

    #[command(flatten)]
    made_up: MadeUp,

    /// An environment file, or a directory searched for them; repeatable
    #[arg(long, value_name = "PATH")]
    config: Vec<PathBuf>,

    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Changes the host, runs the command, puts the host back, and returns the command's exit status.
///
/// # Errors
/// The environment could not be entered (nothing was run), or not be left.
pub fn with(options: &WithOptions, embedded: &Embedded, root: Root) -> anyhow::Result<ExitCode> {
    let definitions = definitions(embedded, &options.config)?;
    let names: Vec<String> = options.environment.iter().cloned().collect();
    let selected = definitions.selected(&names, &options.made_up)?;
    let [definition] = selected.as_slice() else {
        bail!(
            "one environment at a time: {} were asked for",
            selected.len()
        );
    };
    // Set before the host is changed: from then on no signal may end this process before the host is put back.
    let forwarding = Forwarding::start()?;
    if let Some(announcement) = root.announcement() {
        eprintln!("{announcement}");
    }
    let mut say = once(|message| eprintln!("{message}"));
    let entered = Environments::new(root).enter(definition, |message| {
        say(message);
        match forwarding.came() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    let entered = entered?;
    entered.notes.iter().for_each(|note| eprintln!("{note}"));
    let status = forwarding.run(options);
    entered.leave()?;
    status
}

/// Passes signals on to the command; this process itself goes on.
struct Forwarding {
    command: Arc<OnceLock<Handle>>,
    came: Arc<AtomicBool>,
}

impl Forwarding {
    fn start() -> anyhow::Result<Self> {
        let forwarding = Self {
            command: Arc::default(),
            came: Arc::default(),
        };
        let (command, came) = (
            Arc::clone(&forwarding.command),
            Arc::clone(&forwarding.came),
        );
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("set signal handlers")?;
        thread::spawn(move || {
            for signal in signals.forever() {
                came.store(true, Ordering::SeqCst);
                // A terminal's Ctrl-C has reached the command already, being of the same process group. It fails only
                // where the command has just ended.
                if let Some(command) = command.get().filter(|_| signal != SIGINT) {
                    command.send_signal(signal).ok();
                }
            }
        });
        Ok(forwarding)
    }

    fn came(&self) -> bool {
        self.came.load(Ordering::SeqCst)
    }

    fn run(&self, options: &WithOptions) -> anyhow::Result<ExitCode> {
        let (program, args) = options.command.split_first().context("no command")?;
        if self.came() {
            bail!("interrupted before the command was started");
        }
        let started = cmd(program, args).unchecked().start();
        let started = started.with_context(|| format!("run {}", program.to_string_lossy()))?;
        let command = self.command.get_or_init(|| started);
        let status = command.wait().context("wait for the command")?.status;
        let code = status
            .code()
            .or_else(|| status.signal().map(|signal| 128 + signal));
        Ok(ExitCode::from(u8::try_from(code.unwrap_or(1)).unwrap_or(1)))
    }
}
