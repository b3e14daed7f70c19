//! `kvm-tests with ENVIRONMENT -- COMMAND`: any command in an environment.

use std::ops::ControlFlow;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread;

use anyhow::{Context, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cli::WithOptions;
use crate::environment::root::Root;
use crate::environment::{Environments, once};
use crate::plan::{self, Embedded};

/// Changes the host, runs the command, puts the host back, and returns the command's exit status.
///
/// # Errors
/// The environment could not be entered (nothing was run), or not be left.
pub fn with(options: &WithOptions, embedded: &Embedded) -> anyhow::Result<ExitCode> {
    let definitions = plan::environments(embedded, &options.config)?;
    let names: Vec<String> = options.environment.iter().cloned().collect();
    let selected = definitions.selected(&names, &options.made_up)?;
    let [definition] = selected.as_slice() else {
        bail!(
            "one environment at a time: {} were asked for",
            selected.len()
        );
    };
    // Set before the host is changed: from then on no signal may end this process before the host is put back.
    let signals = Forwarding::start()?;
    let root = Root::from_env();
    root.announcement()
        .iter()
        .for_each(|line| eprintln!("{line}"));
    let mut say = once(|message| eprintln!("{message}"));
    let wait = |message: &str| {
        say(message);
        if signals.came() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let entered = Environments::new(root)
        .enter(definition, wait)
        .map_err(|refusal| anyhow!("{refusal}"))?;
    entered.notes.iter().for_each(|note| eprintln!("{note}"));
    let status = run(options, &signals);
    entered.leave().map_err(|refusal| anyhow!("{refusal}"))?;
    status
}

fn run(options: &WithOptions, signals: &Forwarding) -> anyhow::Result<ExitCode> {
    let (program, args) = options.command.split_first().context("no command")?;
    if signals.came() {
        bail!("interrupted before the command was started");
    }
    let child = Command::new(program).args(args).spawn();
    let mut child = child.with_context(|| format!("run {}", program.display()))?;
    signals.forward_to(child.id().cast_signed());
    let status = child.wait().context("wait for the command")?;
    signals.forward_to(0);
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(1);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

/// Passes signals on to the command; this process itself goes on.
struct Forwarding {
    child: Arc<AtomicI32>,
    came: Arc<AtomicBool>,
}

impl Forwarding {
    fn start() -> anyhow::Result<Self> {
        let forwarding = Self {
            child: Arc::default(),
            came: Arc::default(),
        };
        let (child, came) = (Arc::clone(&forwarding.child), Arc::clone(&forwarding.came));
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("set signal handlers")?;
        thread::spawn(move || {
            for signal in signals.forever() {
                came.store(true, Ordering::SeqCst);
                pass_on(child.load(Ordering::SeqCst), signal);
            }
        });
        Ok(forwarding)
    }

    fn came(&self) -> bool {
        self.came.load(Ordering::SeqCst)
    }

    fn forward_to(&self, child: i32) {
        self.child.store(child, Ordering::SeqCst);
    }
}

fn pass_on(child: i32, signal: i32) {
    // A terminal's Ctrl-C has reached the command already, being of the same process group.
    let signal = if signal == SIGTERM {
        Signal::TERM
    } else if signal == SIGHUP {
        Signal::HUP
    } else {
        return;
    };
    if let Some(child) = Pid::from_raw(child) {
        // It fails only where the command has ended just now.
        kill_process(child, signal).ok();
    }
}
