//! Unloads and loads modules, and believes only what can be read afterwards.

use std::thread;
use std::time::Instant;

use super::host_lock::POLL;
use super::journal::Arguments;
use super::kernel_log::{KernelLog, said};
use super::module::{Module, Presence};
use super::plan::in_use;
use super::program;
use super::root::Root;

/// How often loading is tried again when somebody else, such as udev, has loaded a module first.
const ATTEMPTS: usize = 3;

/// Loads and unloads modules.
#[derive(Debug)]
pub struct Loader<'a> {
    root: &'a Root,
    log: KernelLog,
}

impl<'a> Loader<'a> {
    /// One for this host.
    pub fn new(root: &'a Root) -> Self {
        Self {
            root,
            log: KernelLog::from_now_on(root),
        }
    }

    /// What the kernel has said of late, as the end of a sentence: since this was last asked, or since the modules were
    /// last loaded or unloaded.
    pub fn kernel_said(&mut self) -> String {
        said(&self.log.news())
    }

    /// Unloads modules, given in the order of their loading, and loads them again with arguments.
    ///
    /// # Errors
    /// What failed; any of the modules may be missing then.
    pub fn reload(&mut self, modules: &[&str], arguments: &Arguments) -> Result<(), String> {
        for _ in 1..ATTEMPTS {
            self.unload(modules)?;
            self.log.news();
            match self.load(modules, arguments) {
                // It came from elsewhere, and without these arguments.
                Err(Failure::LoadedAlready(_)) => {}
                Err(Failure::Other(reason)) => return Err(reason),
                Ok(()) => return Ok(()),
            }
        }
        self.unload(modules)?;
        self.load(modules, arguments)
            .map_err(|failure| match failure {
                Failure::LoadedAlready(name) => {
                    format!("something else keeps loading {name} first")
                }
                Failure::Other(reason) => reason,
            })
    }

    /// Unloads those of the modules that are loaded, the last first.
    ///
    /// # Errors
    /// What is in use, and by whom, or why else it failed.
    pub fn unload(&mut self, modules: &[&str]) -> Result<(), String> {
        for name in modules.iter().rev() {
            self.unload_one(name)?;
        }
        Ok(())
    }

    fn unload_one(&mut self, name: &str) -> Result<(), String> {
        let start = Instant::now();
        loop {
            let module = Module::of_sysfs(self.root, name);
            match module.presence {
                Presence::Available | Presence::Absent => return Ok(()),
                Presence::BuiltIn => {
                    return Err(format!("{name} is built in, and cannot be unloaded"));
                }
                Presence::Loaded { .. } => {}
            }
            let used = in_use(self.root, std::slice::from_ref(&module));
            if used.is_none() {
                // rmmod rather than `modprobe -r`, which would also unload what the module stands on.
                let failure = self.run("rmmod", &[name])?;
                if !is_loaded(self.root, name) {
                    return Ok(());
                }
                if start.elapsed() > self.root.settle_time {
                    let failure = failure.unwrap_or_else(|| "it is still there".to_owned());
                    return Err(format!("unload {name}: {failure}{}", self.kernel_said()));
                }
            } else if start.elapsed() > self.root.settle_time {
                return Err(used.unwrap_or_default());
            }
            thread::sleep(POLL);
        }
    }

    fn load(&mut self, modules: &[&str], arguments: &Arguments) -> Result<(), Failure> {
        for name in modules {
            // `--first-time`: arguments for a module that is loaded already would be dropped without a word.
            let mut command = vec!["--first-time".to_owned(), (*name).to_owned()];
            let given = arguments.get(*name).into_iter().flatten();
            command.extend(given.map(|(parameter, value)| format!("{parameter}={value}")));
            let was_loaded = is_loaded(self.root, name);
            let failure = self.run("modprobe", &command).map_err(Failure::Other)?;
            match failure {
                _ if was_loaded => return Err(Failure::LoadedAlready((*name).to_owned())),
                None if is_loaded(self.root, name) => {}
                Some(_) if is_loaded(self.root, name) => {
                    return Err(Failure::LoadedAlready((*name).to_owned()));
                }
                failure => {
                    let failure = failure.unwrap_or_else(|| {
                        "it says that it did, but the module is not there".to_owned()
                    });
                    let arguments = command[1..].join(" ");
                    return Err(Failure::Other(format!(
                        "modprobe {arguments}: {failure}{}",
                        self.kernel_said()
                    )));
                }
            }
        }
        Ok(())
    }

    /// Runs a program; how it failed, if it did.
    fn run<S: AsRef<std::ffi::OsStr>>(
        &self,
        name: &str,
        args: &[S],
    ) -> Result<Option<String>, String> {
        let program = self
            .root
            .program(name)
            .ok_or_else(|| format!("there is no {name} in PATH: install kmod"))?;
        let ended = program::run(&program, args, self.root.program_time)
            .map_err(|error| format!("run {}: {error}", program.display()))?;
        Ok((!ended.success()).then(|| ended.complaint(self.root.program_time)))
    }
}

enum Failure {
    /// Somebody else has loaded this module in between.
    LoadedAlready(String),
    Other(String),
}

fn is_loaded(root: &Root, name: &str) -> bool {
    root.path(format!("/sys/module/{name}")).is_dir()
}
